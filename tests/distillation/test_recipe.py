"""A recipe has what differs from the defaults; what makes no sense is refused by name."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from litetext.distillation.losses import LossWeights
from litetext.distillation.recipe import TRAINING, DistillRecipe, read_recipe
from litetext.encoders.config import PRESETS, EncoderConfig
from litetext.errors import OptionError
from litetext.features.store import Teacher

pytestmark = pytest.mark.torch


def test_without_values_it_has_the_defaults() -> None:
    assert DistillRecipe.of({}) == DistillRecipe() == read_recipe(None)
    assert DistillRecipe().student_config(256) == EncoderConfig.of("s0", 16, padding="masked")


def test_a_file_and_what_overrides_it(tmp_path: Path) -> None:
    path = tmp_path / "s0.toml"
    path.write_text("preset = 'xs'\nrank = 0\nhold_out = ['gold.json']\nlr = 1\n[losses]\nkeys = 1")
    recipe = read_recipe(path, {"seed": 3, "lr": None, "context_length": 8})
    expected = DistillRecipe(
        preset="xs", rank=0, hold_out=("gold.json",), lr=1.0, seed=3, context_length=8, losses=LossWeights(keys=1.0)
    )
    assert recipe == expected
    config = recipe.student_config(64)
    assert (config.name, config.rank, config.context_length, config.output) == ("xs", None, 8, 64)
    assert DistillRecipe.of(asdict(recipe)) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 1}, "'epoch', here; did you mean 'epochs'?"),
        ({"bach_size": 1}, "'batch_size'?"),
        ({"losses": {"cosin": 1}}, "'cosine'?"),
        ({"losses": 3}, "losses is 3, here"),
        ({"losses": {"mse": 0, "cosine": 0}}, "mse, cosine, keys, values, scoring"),
        ({"epochs": "3"}, "epochs is '3'.*whole number"),
        ({"epochs": True}, "epochs is True"),
        ({"sources": "a.txt"}, "a list of texts"),
        ({"epochs": -1}, r"epochs is -1, here; give"),
        ({"batch_size": 2, "accumulation_steps": 3}, "accumulation_steps is 3"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": -1}, "lr is -1.0, here"),
        ({"dtype": "fp8"}, "'fp8', here; give one of fp32, bf16, fp16"),
        ({"preset": "teacher"}, "'teacher'"),
        ({"positions": "guess"}, "'guess'.*interpolate"),
        ({"rank": 4096}, "4096"),
        ({"width": 30}, "a width of 30 for 8 heads"),
        ({"width": -4}, "width is -4"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"monitor": "loss!"}, "'loss!', here; give one of last"),
        ({"gold": ["a.json"]}, "images"),
        ({"patience": 3}, "early stopping"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DistillRecipe.of(values, "here")


def teacher_of(width: int, context_length: int = 32) -> Teacher:
    return Teacher("t", "f" * 64, "k" * 64, context_length, width)


def test_what_is_left_open_is_chosen_for_the_teacher_and_the_phrases() -> None:
    small = DistillRecipe().fitted(teacher_of(64), 20_000)
    assert (small.preset, small.lr, small.batch_size, small.context_length) == ("micro-s", 6e-3, 128, 16)
    assert DistillRecipe().fitted(teacher_of(256), 20_000).preset == "s0"
    assert DistillRecipe(preset="micro-xs").fitted(teacher_of(64), 20_000).lr > small.lr  # a narrower student
    few, many = (DistillRecipe().fitted(teacher_of(64), count) for count in (1_000, 1_000_000))
    assert few.batch_size < small.batch_size == many.batch_size
    assert few.epochs > small.epochs > many.epochs >= 1
    given = DistillRecipe(preset="xs", lr=0.5, batch_size=7, epochs=3, context_length=9)
    assert given.fitted(teacher_of(64), 100) == given
    assert small.fitted(teacher_of(64), 20_000) == small  # a recipe that was written resumes
    assert DistillRecipe().fitted(teacher_of(64, 9), 100).context_length == 9
    with pytest.raises(OptionError, match="33 tokens for a teacher of 32"):
        DistillRecipe(context_length=33).fitted(teacher_of(64), 100)


def test_every_student_has_its_own_training() -> None:
    assert set(TRAINING) == {name for name, row in PRESETS.items() if row.kind == "student"}


def test_remarks_name_what_was_chosen_and_too_few_phrases() -> None:
    recipe = DistillRecipe(lr=1e-3)
    (chosen,) = recipe.fitted(teacher_of(64), 20_000).remarks(recipe, 20_000)
    assert "preset micro-s" in chosen
    assert "lr" not in chosen
    full = recipe.fitted(teacher_of(64), 300)
    assert [line.startswith("warning: 300 phrases") for line in full.remarks(full, 300)] == [True]


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"missing\.toml"):
        read_recipe(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("[losses\n")
    with pytest.raises(OptionError, match=r"bad\.toml"):
        read_recipe(tmp_path / "bad.toml")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbfepochs = 3\n")
    assert read_recipe(tmp_path / "r.toml").epochs == 3
