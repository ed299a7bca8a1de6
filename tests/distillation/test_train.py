"""A whole distillation: what is learnt and written, what goes on bit for bit, what is refused and what is kept."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

torch = pytest.importorskip("torch")
from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.distillation.data import split_phrases  # noqa: E402
from litetext.distillation.recipe import DistillRecipe  # noqa: E402
from litetext.distillation.train import Trainer, lr_ratio, train_student  # noqa: E402
from litetext.distillation.training_report import write_events  # noqa: E402
from litetext.distillation.validation import Host  # noqa: E402
from litetext.errors import CacheError, EncoderError, LiteTextError, OptionError, TrainingError  # noqa: E402
from litetext.features.protocol import TextEncoder  # noqa: E402
from litetext.features.store import FeatureStore  # noqa: E402
from tests.distillation.runs import RECIPE, assert_same, make_cache, recipe_of, rows_of, weights_of  # noqa: E402
from tests.distillation.test_kill import environment  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cache(tmp_path_factory.mktemp("cache") / "features")


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train_student(recipe_of(cache), folder)
    return folder


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a curve takes longer than the epochs do; that of ``whole`` is drawn."""
    monkeypatch.setattr("litetext.distillation.train.write_curve", lambda *_: None)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Have the step after so many of them fail."""
    take = Trainer.take_step

    def take_or_stop(self: Trainer, *arguments: Any) -> dict[str, float]:
        if self.state.progress.step == step:
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
    assert summary["growth"] == "The student of the last epoch is kept (2)."
    assert "**No phrases of an evaluation set were held out**" in (whole / "MODEL_CARD.md").read_text()
    student = load_encoder(whole / "student.safetensors", device="cpu")
    assert (student.context_length, student.width) == (16, 8)
    features = student.encode(["red dog"])
    teacher = FeatureStore.open(cache).features(["red dog"])
    assert torch.cosine_similarity(features.values, teacher.values, dim=2).mean() > 0.3


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (0, {}),
        (3, {}),
        (3, {"dtype": "bf16", "ema_decay": 0.5}),
        (5, {"dtype": "fp16", "accumulation_steps": 2}),
        (2, {"epochs": 9, "monitor": "cosine", "patience": 1, "min_delta": 10, "save_steps": 1}),
    ],
)
def test_stopped_anywhere_it_resumes_bit_for_bit(
    cache: Path, whole: Path, tmp_path: Path, step: int, changes: dict[str, Any]
) -> None:
    recipe = recipe_of(cache, **changes)
    if changes:
        whole = tmp_path / "whole"
        train_student(recipe, whole)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            train_student(recipe, tmp_path / "run")
    train_student(recipe, tmp_path / "run")
    assert_same(tmp_path / "run", whole)


def test_a_finished_run_is_left_alone(cache: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "take_step", None)
    before = (whole / "last.ckpt").stat().st_mtime_ns
    assert train_student(recipe_of(cache), whole).rows[-1]["epoch"] == 2
    assert (whole / "last.ckpt").stat().st_mtime_ns == before


def test_another_recipe_is_refused_by_what_differs(cache: Path, whole: Path) -> None:
    with pytest.raises(TrainingError, match=r"lr was 0.01, is 0.02"):
        train_student(recipe_of(cache, lr=0.02), whole)


def test_held_out_phrases_are_neither_trained_on_nor_validated_with(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "gold.txt").write_text("RED  dog\nold cat\nunicorn\n")
    recipe = recipe_of(cache, hold_out=[str(tmp_path / "gold.txt")], epochs=1)
    report = train_student(recipe, tmp_path / "run")
    assert not {"red dog", "old cat"} & {*report.split.train, *report.split.validation}
    assert len(report.split.train) + len(report.split.validation) == 15
    assert "- `gold.txt`: 3 phrases, of which 2 were in the corpus." in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert report.to_json()["held_out"] == [{"name": "gold.txt", "phrases": 3, "removed": 2}]


def spoil_weights(trainer: Trainer) -> None:
    trainer.state.student.projector.bias.fill_(torch.nan)


def spoil_average(trainer: Trainer) -> None:
    trainer.state.averaged.module.projector.bias.fill_(torch.inf)


def spoil_gradient(trainer: Trainer) -> None:
    trainer.state.student.projector.bias.register_hook(lambda gradient: gradient * torch.nan)


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
        if self.state.progress.step >= 2:
            with torch.no_grad():
                spoil(self)
        return real(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, method, poison)
        with pytest.raises(TrainingError, match=f"^{message}{tmp_path}") as caught:
            train_student(recipe_of(cache), tmp_path)
    assert "\n" not in str(caught.value)
    assert all(bool(tensor.isfinite().all()) for tensor in weights_of(tmp_path).values())
    train_student(recipe_of(cache), tmp_path)
    assert_same(tmp_path, whole)


def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_whole(
    cache: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train_student(recipe_of(cache), tmp_path)
    kept = (tmp_path / "last.ckpt").read_bytes()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(TrainingError, match=r"no space left on device") as caught:
            train_student(recipe_of(cache), tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "last.ckpt").read_bytes() == kept
    assert not list(tmp_path.glob(".*"))
    train_student(recipe_of(cache), tmp_path)
    assert_same(tmp_path, whole)


def test_a_poisoned_cache_is_refused_before_anything_is_written(cache: Path, tmp_path: Path) -> None:
    poisoned = make_cache(tmp_path / "features")
    shard = next(poisoned.glob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CacheError, match="checksum"):
        train_student(recipe_of(poisoned), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_stops_when_nothing_is_gained(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(cache, epochs=9, monitor="cosine", patience=1, min_delta=10)
    report = train_student(recipe, tmp_path)
    assert report.stopped_early
    assert report.growth == "cosine stopped improving after epoch 0 of 1, which ended the training."
    assert report.steps[0] * 9 == report.steps[1]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_learns_too(cache: Path, tmp_path: Path, dtype: str) -> None:
    report = train_student(recipe_of(cache, dtype=dtype), tmp_path)
    assert report.best["cosine"] > report.rows[0]["cosine"] + 0.1
    assert {tensor.dtype for tensor in weights_of(tmp_path).values()} == {torch.float32, torch.int64}


def test_from_a_student(cache: Path, whole: Path, tmp_path: Path) -> None:
    init = str(whole / "student.safetensors")
    report = train_student(recipe_of(cache, init=init, epochs=1, lr=1e-9), tmp_path / "run")
    assert report.rows[0]["cosine"] == pytest.approx(json.loads((whole / "summary.json").read_text())["best"]["cosine"])
    with pytest.raises(EncoderError, match=r"cannot start one of tiny .*token_table"):
        train_student(recipe_of(cache, init=init, rank=3), tmp_path / "other")
    with pytest.raises(EncoderError, match="16 rows for a context of 8"):
        train_student(recipe_of(cache, init=init, context_length=8), tmp_path / "short")


def test_the_figures_of_a_host_decide(cache: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def evaluate(student: TextEncoder) -> dict[str, float]:
        asked.append(student.name)
        return {"cgf1": 10.0 - len(asked)}

    recipe = recipe_of(cache, monitor="cgf1")
    with pytest.raises(OptionError, match="cgf1"):
        train_student(recipe, tmp_path)
    report = train_student(recipe, tmp_path, Host("fake", evaluate=evaluate))
    assert [row["cgf1"] for row in report.rows] == [9.0, 8.0, 7.0]
    assert report.best["epoch"] == 0
    assert "| cgf1 | 9 |" in report.card()


def test_losses_of_a_decoder_need_one(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="keys, values"):
        train_student(recipe_of(cache, losses={"keys": 1, "values": 1}), tmp_path)


def test_a_folder_with_something_else_is_left_alone(cache: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").write_bytes(b"mine")
    with pytest.raises(TrainingError, match=r"last.ckpt"):
        train_student(recipe_of(cache), tmp_path)
    (tmp_path / "student.safetensors").unlink()
    (tmp_path / "last.ckpt").write_bytes((whole / "last.ckpt").read_bytes()[:-100])
    with pytest.raises(LiteTextError, match="not a checkpoint"):
        train_student(recipe_of(cache), tmp_path)


def test_every_changed_bit_of_a_checkpoint_is_refused(cache: Path, tmp_path: Path) -> None:
    """Or it is one that nothing reads, and the run is the same: padding between the parts, times of day."""
    recipe = recipe_of(cache)
    train_student(recipe, tmp_path / "run")
    path, whole = tmp_path / "run" / "last.ckpt", weights_of(tmp_path / "run")
    data = path.read_bytes()
    refused = 0
    places = range(0, len(data), len(data) // 20)
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            train_student(recipe, tmp_path / "run")
        except TrainingError as error:
            assert "last.ckpt" in str(error)  # noqa: PT017
            refused += 1
        else:
            found = weights_of(tmp_path / "run")
            assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert refused > 0.9 * len(places)


def test_the_learning_rate_warms_up_and_falls() -> None:
    recipe = DistillRecipe(warmup_ratio=0.2, min_lr_ratio=0.1)
    ratios = [lr_ratio(step, 10, recipe) for step in range(11)]
    assert ratios[:3] == [0.5, 1.0, 1.0]
    assert ratios == [0.5, *sorted(ratios[1:], reverse=True)]
    assert ratios[10] == pytest.approx(0.1)


def prepare(cache: Path, folder: Path, **changes: Any) -> Trainer:
    store = FeatureStore.open(cache)
    recipe = recipe_of(cache, **changes)
    return Trainer(recipe, folder, store, split_phrases(store, recipe), device=torch.device("cpu"))


TEXTS = ["red dog", "dog", "the man to the left of the old tree", "cat", "big cup"]


def test_parts_of_a_batch_add_up_to_the_batch(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradients; batch statistics are of each part, so that the norms do not use them here."""
    results = []
    for steps in (1, 3):
        trainer = prepare(cache, tmp_path, accumulation_steps=steps)
        student = trainer.state.student.eval()
        parts = trainer.assemble(TEXTS, ["dog red", None, None, None, "cup big"])
        assert len(parts) == steps
        losses = trainer.backward(parts)
        results.append((losses, {name: one.grad for name, one in student.named_parameters()}))
    (losses, gradients), (sums, accumulated) = results
    assert sums == pytest.approx(losses)
    assert set(losses) == {"mse", "cosine", "consistency", "loss"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(accumulated[name], gradient, msg=name)


def test_permutations_leave_no_trace_in_the_running_statistics(cache: Path, tmp_path: Path) -> None:
    states = []
    for permuted in (["dog red", None], [None, None]):
        trainer = prepare(cache, tmp_path)
        trainer.backward(trainer.assemble(["red dog", "cat"], permuted))
        states.append(dict(trainer.state.student.named_buffers()))
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_an_overflow_in_float16_leaves_out_a_step(cache: Path, tmp_path: Path) -> None:
    trainer = prepare(cache, tmp_path, dtype="fp16")
    before, scale = trainer.state.student.projector.bias.clone(), trainer.state.scaler.get_scale()
    hook = trainer.state.student.projector.bias.register_hook(lambda gradient: gradient * torch.inf)
    trainer.take_step(TEXTS, [None] * 5)
    assert torch.equal(trainer.state.student.projector.bias, before)
    assert trainer.state.scaler.get_scale() == scale / 2
    hook.remove()
    trainer.take_step(TEXTS, [None] * 5)
    assert not torch.equal(trainer.state.student.projector.bias, before)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs gloo")
def test_two_processes_are_as_one_that_accumulates(cache: Path, tmp_path: Path) -> None:
    """Up to batch statistics, which are of each process; batches of five and four phrases are shared unevenly."""
    (tmp_path / "tiny.toml").write_text(RECIPE)
    command = ["distill", str(tmp_path / "tiny.toml"), "--features", str(cache), "--epochs", "2", "--device", "cpu"]
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "litetext"]
    done = subprocess.run(
        [sys.executable, *program, *command, "--batch-size", "5", "-o", str(tmp_path / "two"), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"last_improvement_epoch"') == 1
    one = prepare(cache, tmp_path / "one", warmup_ratio=0.05, batch_size=5, accumulation_steps=2)
    one.train()
    two, last = rows_of(tmp_path / "two"), rows_of(tmp_path / "one")
    assert [row["epoch"] for row in two] == [0, 1, 2]
    assert two[0] == pytest.approx(last[0], abs=1e-5)
    assert two[1]["loss"] == pytest.approx(last[1]["loss"], abs=1e-3)  # training uses the statistics of each part
    ours, theirs = weights_of(tmp_path / "two"), weights_of(tmp_path / "one")
    for name, tensor in theirs.items():
        if name.startswith(".student") and not name.endswith(("running_mean", "running_var", "tracked")):
            torch.testing.assert_close(without_keys(name, ours[name]), without_keys(name, tensor), atol=1e-4, rtol=1e-3)


def without_keys(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Without the biases of keys, which change nothing: their gradients are rounding, which Adam makes large."""
    return tensor.view(3, -1)[[0, 2]] if name.endswith("qkv.bias") else tensor


def test_events_where_tensorboard_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MagicMock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    assert write_events({"step": 4, "cosine": 0.5}, tmp_path)
    writer.SummaryWriter.assert_called_once_with(str(tmp_path / "tensorboard"), purge_step=4)
    writer.SummaryWriter().__enter__().add_scalar.assert_called_once_with("cosine", 0.5, 4)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert not write_events({"step": 4}, tmp_path)
