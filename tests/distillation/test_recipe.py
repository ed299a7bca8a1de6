"""Recipes say what differs from the defaults; what they cannot mean is refused by name."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from litetext.distillation.recipe import DistillRecipe, TrainingOptions, read_recipe
from litetext.encoders.config import StudentConfig
from litetext.errors import OptionError

pytestmark = pytest.mark.torch


def test_nothing_said_is_the_defaults() -> None:
    assert DistillRecipe.of({}) == DistillRecipe() == read_recipe(None)
    assert DistillRecipe().student.config(256) == StudentConfig.of("s0", 16, padding="masked")


def test_a_file_and_what_comes_before_it(tmp_path: Path) -> None:
    path = tmp_path / "s0.toml"
    path.write_text(
        "[student]\npreset = 'xs'\nrank = 0\n[data]\nhold_out = ['gold.json']\n[losses]\nkeys = 1\n[training]\nrate = 1"
    )
    recipe = read_recipe(path, {"training": {"seed": 3, "rate": None}, "student": {"context_length": 8}})
    assert recipe.training == TrainingOptions(rate=1.0, seed=3)
    assert recipe.data.hold_out == ("gold.json",)
    assert recipe.losses.keys == 1.0
    config = recipe.student.config(64)
    assert (config.name, config.rank, config.context_length, config.output) == ("xs", None, 8, 64)
    assert DistillRecipe.of(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"trainning": {}}, "no section is called 'trainning', here; did you mean 'training'?"),
        ({"training": {"epoch": 1}}, r"no key is called 'epoch', here, \[training\]; did you mean 'epochs'?"),
        ({"losses": {"cosin": 1}}, "did you mean 'cosine'"),
        ({"training": 3}, "training is not a section"),
        ({"training": {"epochs": "3"}}, "epochs is '3'.*give a whole number"),
        ({"training": {"epochs": True}}, "epochs is True"),
        ({"data": {"sources": "a.txt"}}, "give a list of texts"),
        ({"training": {"epochs": 0}}, r"epochs is 0, here, \[training\]; give 1 or more"),
        ({"training": {"batch": 2, "accumulate": 3}}, "a batch of 2 in 3 parts"),
        ({"training": {"ema": 1.0}}, "ema is 1.0; give 0 to|ema is 1.0, here"),
        ({"training": {"rate": float("nan")}}, "rate is nan"),
        ({"training": {"dtype": "fp8"}}, "no number type is called 'fp8'"),
        ({"student": {"preset": "teacher"}}, "no student is called 'teacher'"),
        ({"student": {"positions": "guess"}}, "positions 'guess'"),
        ({"student": {"rank": 4096}}, "a token table of rank 4096"),
        ({"student": {"width": 30}}, "a width of 30 for 8 heads"),
        ({"student": {"width": -4}}, "width is -4"),
        ({"data": {"validation": 1.0}}, "a share of 1.0 for validation"),
        ({"losses": {"mse": 0, "cosine": 0}}, "no loss ties the student"),
        ({"validation": {"best": "loss!"}}, "no figure is called 'loss!'"),
    ],
)
def test_mistakes_are_named(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DistillRecipe.of(tables, "here")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot read the recipe"):
        read_recipe(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("[training\n")
    with pytest.raises(OptionError, match=r"not TOML .*bad.toml; see docs/distill.md"):
        read_recipe(tmp_path / "bad.toml")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf[training]\nepochs = 3\n")
    assert read_recipe(tmp_path / "r.toml").training.epochs == 3
