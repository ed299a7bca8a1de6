"""A whole distillation: what is learnt and written, what goes on bit for bit, what is refused and what is kept."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.distillation.distill import distill  # noqa: E402
from litetext.distillation.trainer import Trainer  # noqa: E402
from litetext.distillation.validator import Host  # noqa: E402
from litetext.errors import CacheError, EncoderError, LiteTextError, OptionError, TrainingError  # noqa: E402
from litetext.features.protocol import TextEncoder  # noqa: E402
from litetext.features.store import FeatureCache  # noqa: E402
from tests.distillation.runs import assert_same, make_cache, recipe_of, weights_of  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cache(tmp_path_factory.mktemp("cache") / "features")


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    distill(recipe_of(cache), folder)
    return folder


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Have the step after so many of them fail."""
    take = Trainer.take_step

    def take_or_stop(self: Trainer, *arguments: Any) -> dict[str, float]:
        if self.run.progress.step == step:
            raise KeyboardInterrupt
        return take(self, *arguments)

    monkeypatch.setattr(Trainer, "take_step", take_or_stop)


def test_it_learns_and_writes_what_it_says(cache: Path, whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        *("student.safetensors", "last.ckpt", "curve.csv", "curve.png", "summary.json", "MODEL_CARD.md"),
    }
    summary = json.loads((whole / "summary.json").read_text())
    lines = (whole / "curve.csv").read_text().splitlines()
    assert len(lines) == 4  # a title, before the first step, after each epoch
    assert summary["best"]["cosine"] > float(lines[1].split(",")[lines[0].split(",").index("cosine")]) + 0.1
    assert summary["steps"] == summary["steps_of_recipe"] == 2 * -(-summary["phrases"]["train"] // 4)
    assert summary["phrases"]["train"] + summary["phrases"]["validation"] == 17
    assert "growing" in summary["growth"]
    assert "**No phrases of an evaluation set were held out**" in (whole / "MODEL_CARD.md").read_text()
    student = load_encoder(whole / "student.safetensors", device="cpu")
    assert (student.context_length, student.width) == (16, 8)
    features = student.encode(["red dog"])
    teacher = FeatureCache.open(cache).features(["red dog"])
    assert torch.cosine_similarity(features.values, teacher.values, dim=2).mean() > 0.3


@pytest.mark.parametrize("step", [0, 3])
def test_stopped_anywhere_it_goes_on_bit_for_bit(cache: Path, whole: Path, tmp_path: Path, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            distill(recipe_of(cache), tmp_path)
    distill(recipe_of(cache), tmp_path)
    assert_same(tmp_path, whole)


def test_a_finished_run_is_left_alone(cache: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "take_step", None)
    before = (whole / "last.ckpt").stat().st_mtime_ns
    assert distill(recipe_of(cache), whole).rows[-1]["epoch"] == 2
    assert (whole / "last.ckpt").stat().st_mtime_ns == before


def test_another_recipe_is_refused_by_what_differs(cache: Path, whole: Path) -> None:
    with pytest.raises(TrainingError, match=r"training.rate was 0.01, is 0.02"):
        distill(recipe_of(cache, training={"rate": 0.02}), whole)


def test_held_out_phrases_are_neither_trained_on_nor_validated_with(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "gold.txt").write_text("RED  dog\nold cat\nunicorn\n")
    recipe = recipe_of(cache, data={"hold_out": [str(tmp_path / "gold.txt")]}, training={"epochs": 1})
    report = distill(recipe, tmp_path / "run")
    assert not {"red dog", "old cat"} & {*report.data.train, *report.data.validation}
    assert len(report.data.train) + len(report.data.validation) == 15
    assert "- `gold.txt`: 3 phrases, of which 2 were in the corpus." in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert report.to_json()["held_out"] == [{"name": "gold.txt", "phrases": 3, "removed": 2}]


def spoil_weights(trainer: Trainer) -> None:
    trainer.run.student.projector.bias.fill_(torch.nan)


def spoil_average(trainer: Trainer) -> None:
    trainer.run.average.tensors["projector.bias"].fill_(torch.inf)


def spoil_gradient(trainer: Trainer) -> None:
    trainer.run.student.projector.bias.register_hook(lambda gradient: gradient * torch.nan)


@pytest.mark.parametrize(
    ("spoils", "message"),
    [
        (("take_step", spoil_weights), "the loss of step 3 is nan, "),
        (("take_step", spoil_gradient), "the gradient of step 3 is nan, "),
        (("validate", spoil_average), "the student's features of the validation phrases are not finite, "),
    ],
)
def test_what_is_not_finite_ends_it_and_what_was_kept_stays(
    cache: Path, whole: Path, tmp_path: Path, spoils: tuple[str, Callable[[Trainer], None]], message: str
) -> None:
    method, spoil = spoils
    real = getattr(Trainer, method)

    def poison(self: Trainer, *arguments: Any) -> Any:
        if self.run.progress.step >= 2:
            with torch.no_grad():
                spoil(self)
        return real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, method, poison)
        with pytest.raises(TrainingError, match=f"^{message}{tmp_path}") as caught:
            distill(recipe_of(cache), tmp_path)
    assert "\n" not in str(caught.value)
    assert all(bool(tensor.isfinite().all()) for tensor in weights_of(tmp_path).values())
    distill(recipe_of(cache), tmp_path)
    assert_same(tmp_path, whole)


def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_whole(
    cache: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            distill(recipe_of(cache), tmp_path)
    kept = (tmp_path / "last.ckpt").read_bytes()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(TrainingError, match=r"no space left on device.*run it again") as caught:
            distill(recipe_of(cache), tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "last.ckpt").read_bytes() == kept
    assert not list(tmp_path.glob(".*"))
    distill(recipe_of(cache), tmp_path)
    assert_same(tmp_path, whole)


def test_a_poisoned_cache_is_refused_before_anything_is_written(cache: Path, tmp_path: Path) -> None:
    poisoned = make_cache(tmp_path / "features")
    shard = next(poisoned.glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CacheError, match="its checksum is not the manifest's"):
        distill(recipe_of(poisoned), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_stops_when_nothing_is_gained(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(cache, training={"epochs": 9}, validation={"patience": 1, "gain": 10})
    report = distill(recipe, tmp_path)
    assert report.stopped_early
    assert report.growth == "cosine stopped growing after epoch 0 of 1, which ended the training."
    assert report.steps[0] * 9 == report.steps[1]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_learns_too(cache: Path, tmp_path: Path, dtype: str) -> None:
    report = distill(recipe_of(cache, training={"dtype": dtype}), tmp_path)
    assert report.best["cosine"] > report.rows[0]["cosine"] + 0.1
    assert {tensor.dtype for tensor in weights_of(tmp_path).values()} == {torch.float32, torch.float64, torch.int64}


def test_from_a_student(cache: Path, whole: Path, tmp_path: Path) -> None:
    init = str(whole / "student.safetensors")
    report = distill(recipe_of(cache, student={"init": init}, training={"epochs": 1, "rate": 1e-9}), tmp_path / "run")
    assert report.rows[0]["cosine"] == pytest.approx(json.loads((whole / "summary.json").read_text())["best"]["cosine"])
    with pytest.raises(EncoderError, match=r"cannot start one of tiny .*token_table"):
        distill(recipe_of(cache, student={"init": init, "rank": 3}), tmp_path / "other")
    with pytest.raises(EncoderError, match="16 rows for a context of 8"):
        distill(recipe_of(cache, student={"init": init, "context_length": 8}), tmp_path / "short")


def test_the_figures_of_a_host_decide(cache: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def evaluate(student: TextEncoder) -> dict[str, float]:
        asked.append(student.name)
        return {"cgf1": 10.0 - len(asked)}

    recipe = recipe_of(cache, validation={"best": "cgf1"})
    with pytest.raises(OptionError, match="nothing to evaluate on"):
        distill(recipe, tmp_path)
    report = distill(recipe, tmp_path, Host("fake", evaluate=evaluate))
    assert [row["cgf1"] for row in report.rows] == [9.0, 8.0, 7.0]
    assert report.best["epoch"] == 0
    assert "| cgf1 | 9 |" in report.card()


def test_losses_of_a_decoder_need_one(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="weights for keys, values, but no decoder; give a host"):
        distill(recipe_of(cache, losses={"keys": 1, "values": 1}), tmp_path)


def test_a_folder_with_something_else_is_left_alone(cache: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").write_bytes(b"mine")
    with pytest.raises(TrainingError, match=r"a student, but without last.ckpt"):
        distill(recipe_of(cache), tmp_path)
    (tmp_path / "student.safetensors").unlink()
    (tmp_path / "last.ckpt").write_bytes((whole / "last.ckpt").read_bytes()[:-100])
    with pytest.raises(LiteTextError, match="not a checkpoint"):
        distill(recipe_of(cache), tmp_path)


def test_every_changed_bit_of_a_checkpoint_is_refused(cache: Path, tmp_path: Path) -> None:
    """Or it is one that nothing reads, and the run is the same: padding between the parts, times of day."""
    recipe = recipe_of(cache)
    distill(recipe, tmp_path / "run")
    path, whole = tmp_path / "run" / "last.ckpt", weights_of(tmp_path / "run")
    data = path.read_bytes()
    refused = 0
    places = range(0, len(data), len(data) // 60)
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            distill(recipe, tmp_path / "run")
        except TrainingError as error:
            assert "last.ckpt" in str(error)  # noqa: PT017
            refused += 1
        else:
            found = weights_of(tmp_path / "run")
            assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert refused > 0.9 * len(places)
