"""A short run of both stages: it resumes to the same weights, keeps its curve and refuses what does not fit."""

import copy
import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.micro import training
from recipes.micro.__main__ import main
from recipes.micro.batches import BatchOptions, BatchStream, make_dense_scene
from recipes.micro.forward import AuxiliaryHeads, weigh
from recipes.micro.model import make_model
from recipes.micro.training import MicroRecipe, Stage, whiten_patches
from recipes.micro.validation import MOST_BYTES, save_weights
from safetensors.torch import save_file

from litetext.errors import OptionError
from litetext.micro.concepts import concepts
from litetext.micro.model import SIZE, VISION_WIDTH
from litetext.micro.scenes import SceneOptions
from tests.micro.models import fresh_model

BATCH = BatchOptions(2, 0, 5, 1, 1)
STAGE = Stage("contrast", 110, 1e-3, 0.1, BATCH, warmup_steps=10)


def test_the_rate_rises_and_falls() -> None:
    rates = [STAGE.lr_at(step) for step in range(110)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == max(rates) == pytest.approx(1e-3)
    assert rates[60] == pytest.approx(1e-3 * (0.1 + 0.9 / 2))
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_steps_are_found_in_their_stage() -> None:
    recipe = MicroRecipe(stages=(STAGE, Stage("set", 5, 1e-3, 0.1, BATCH)))
    assert recipe.steps == 115
    assert [recipe.locate(step) for step in (0, 109, 110, 114)] == [(0, 0), (0, 109), (1, 0), (1, 4)]
    with pytest.raises(OptionError, match="ends before step"):
        recipe.locate(115)


def test_refused() -> None:
    with pytest.raises(OptionError, match="without steps"):
        MicroRecipe(stages=())
    with pytest.raises(OptionError, match="without steps"):
        MicroRecipe(stages=(Stage("set", 0, 1e-3, 0.1, BATCH),))
    with pytest.raises(OptionError, match="save_every 0"):
        MicroRecipe(save_every=0)


def test_the_recipe_names_words_before_masks() -> None:
    assert [stage.losses for stage in MicroRecipe().stages][:2] == ["contrast", "set"]


pytestmark = [pytest.mark.torch, pytest.mark.slow]

WORDS = BatchOptions(pictures=2, phrases=0, nouns=12, coloured=1, strange=2, dense=0.5)
SETS = BatchOptions(pictures=2, phrases=2, nouns=12, coloured=1, strange=2)
GUESSES = BatchOptions(pictures=2, phrases=2, nouns=12, coloured=1, strange=2, guesses=3, points=8)
RECIPE = MicroRecipe(
    stages=(
        Stage("contrast", 2, 1e-3, 0.1, WORDS, warmup_steps=1),
        Stage("set", 2, 1e-3, 0.1, SETS, warmup_steps=1, backbone_lr_scale=0.5),
    ),
    validate_every=2,
    validation_pairs=6,
    save_every=1,
    threads=1,
)


class StopError(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("run")
    return folder, training.train(folder, RECIPE, workers=0).state_dict()


def test_the_curve_is_kept(whole: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = whole
    with (folder / "curve.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert rows[0]["cgf1"] == "", "there is nothing to segment with before the set losses"
    assert 0 <= float(rows[1]["cgf1"]) <= 100
    assert float(rows[0]["loss"]) == pytest.approx(float(rows[0]["contrast"]) + float(rows[0]["concept"]), rel=1e-4)
    assert json.loads((folder / "recipe.json").read_text("utf-8"))["stages"][1]["losses"] == "set"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_stopped_run_ends_in_the_same_weights(whole: tuple[Path, dict[str, Any]], tmp_path: Path, steps: int) -> None:
    def stop(_: str, share: float) -> None:
        if share * RECIPE.steps > steps:  # the step is done, but not saved
            raise StopError

    with pytest.raises(StopError):
        training.train(tmp_path, RECIPE, workers=0, progress=stop)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == steps
    resumed = training.train(tmp_path, RECIPE, workers=0).state_dict()
    for name, value in whole[1].items():
        assert torch.equal(resumed[name], value), name
    assert (tmp_path / "curve.csv").read_text("utf-8").count("\n") == 3


def test_training_changes_what_it_should(whole: tuple[Path, dict[str, Any]]) -> None:
    before = make_model(RECIPE.seed).state_dict()
    changed = {name for name, value in whole[1].items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("geometry_encoder") for name in changed)
    for part in ("vision_encoder.backbone", "detr_encoder", "detr_decoder", "mask_decoder", "dot_product_scoring"):
        assert any(name.startswith(part) for name in changed), part
    table = "text_encoder.text_model.embeddings.token_embedding.weight"
    rows = (whole[1][table] != before[table]).any(dim=1)
    assert 10 < int(rows.sum()) < 400  # of 49,408: only tokens that occurred


@pytest.mark.parametrize("guesses", [0, 4])
def test_one_batch_can_be_learnt_by_heart(guesses: int) -> None:
    stage = Stage("set", 40, 2e-3, 1.0, BatchOptions(2, 2, 8, 0, 0, guesses=guesses), warmup_steps=2)
    model = make_model(1)
    run = training.Run(model, AuxiliaryHeads(VISION_WIDTH, len(concepts())), ())
    run.optimizers = training.make_optimizers(run, RECIPE)
    batch = BatchStream(0, stage.batch)[0]
    losses = [training.take_step(run, RECIPE, stage, step, batch) for step in range(14)]
    assert losses[-1]["loss"] < 0.75 * losses[0]["loss"]
    assert losses[-1]["concept"] < losses[0]["concept"]
    assert ("guess" in losses[-1]) == bool(guesses)
    if guesses:
        assert losses[-1]["guess"] < losses[0]["guess"]
    assert run.step == 14


def test_the_sum_is_weighted() -> None:
    one = torch.ones(())
    assert weigh({"contrast": one, "l1": 2 * one}).item() == 11
    with pytest.raises(KeyError):
        weigh({"unheard": one})


def test_a_loss_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    run = training.Run(make_model(0), AuxiliaryHeads(VISION_WIDTH, len(concepts())), ())
    run.optimizers = training.make_optimizers(run, RECIPE)
    monkeypatch.setitem(training._LOSSES, "set", lambda *_: {"l1": torch.tensor(float("nan"), requires_grad=True)})
    with pytest.raises(OptionError, match="loss of step 0 is nan"):
        training.take_step(run, RECIPE, RECIPE.stages[1], 0, BatchStream(0, SETS)[0])


def test_another_recipe_is_refused(whole: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(OptionError, match="another recipe"):
        training.train(whole[0], MicroRecipe(seed=9), workers=0)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(OptionError, match=r"not a checkpoint, .*checkpoint\.pt; remove it"):
        training.train(tmp_path, RECIPE, workers=0)


def test_the_last_stage_from_trained_weights(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    half = {name: value.half().contiguous() for name, value in whole[1].items()}
    (tmp_path / "weights").mkdir()
    save_file(half, tmp_path / "weights" / "model.safetensors")
    recipe = replace(
        RECIPE, stages=(*RECIPE.stages[:1], Stage("set", 1, 1e-4, 0.1, GUESSES, warmup_steps=1, train_text=False))
    )
    model = training.train(tmp_path / "run", recipe, start=tmp_path / "weights", workers=0)
    with (tmp_path / "run" / "curve.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "3", "the first stage is left out"
    assert min(float(row[name]) for name in ("guess", "edge", "point_dice")) > 0
    far = {name: (value - half[name].float()).abs().max().item() for name, value in model.state_dict().items()}
    assert 0 < max(far.values()) < 1e-3, "one step from the weights that were given"
    text = [one for name, one in far.items() if name.startswith("text_")]
    assert len(text) > 10
    assert not any(text), "the text tower was not to be trained"
    with pytest.raises(OptionError, match="another recipe"):
        training.train(tmp_path / "run", recipe, workers=0)


def test_weights_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no weights of the micro model, .*model\.safetensors"):
        training.train(tmp_path / "run", RECIPE, start=tmp_path, workers=0)
    save_file({"one": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(OptionError, match="no weights of the micro model"):
        training.train(tmp_path / "run2", RECIPE, start=tmp_path, workers=0)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run2").exists()


def test_whitened_patches() -> None:
    model = copy.deepcopy(fresh_model())
    whiten_patches(model, 0)
    projection = model.vision_encoder.backbone.embeddings.patch_embeddings.projection
    options = SceneOptions(size=SIZE)
    pixels = [torch.from_numpy(make_dense_scene(seed, options).pixels) for seed in range(20)]
    batch = torch.stack(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        seen = projection(batch).transpose(0, 1).flatten(1)  # [C, N]
    spread = seen.var(dim=1)
    assert 0.5 < spread[:2].mean() < 1.5  # the mean colour of a patch, which would drown all else
    assert bool((spread < 2).all())
    cross = torch.corrcoef(seen[:8]).fill_diagonal_(0)
    assert float(cross.abs().max()) < 0.2


def test_saved_weights_load_as_any_host(tmp_path: Path) -> None:
    from litetext.sam3.segmenter import Segmenter

    model = fresh_model()
    size = save_weights(model, tmp_path / "weights")
    assert size < MOST_BYTES
    assert next(model.parameters()).dtype == torch.float32  # the model itself stays as it is
    segmenter = Segmenter.from_pretrained(tmp_path / "weights")
    assert segmenter.detector.dtype == torch.float32
    kept = segmenter.detector.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(kept[name], value.half().float()), name
    picture = make_dense_scene(0, SceneOptions(size=SIZE)).pixels
    assert len(segmenter(picture, ["red car", "dog"])) == 2
    # A scene of the model's size goes in as training puts it in.
    pixels = segmenter.processor(images=picture, return_tensors="pt")["pixel_values"]
    assert float((pixels[0] - (torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1)).abs().max()) < 1e-5


def test_the_command_line_names_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}", encoding="utf-8")
    assert main(["train", "-o", str(tmp_path)]) == 1
    assert "another recipe" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["train", "-o", str(tmp_path / "run"), "--start", str(tmp_path / "empty")]) == 1
    assert "config.json" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
