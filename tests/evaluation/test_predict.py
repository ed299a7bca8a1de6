"""Predictions of a small world: each picture seen once, in COCO's format, and the same whatever stops them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("PIL")
from PIL import Image
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError, ImageError, OptionError, OutputError
from litetext.evaluation.coco import read_predictions
from litetext.evaluation.predict import PredictionJob, identify, options_for, plan_predictions, predict, read_pictures
from litetext.sam3.images import read_image
from litetext.sam3.segmenter import Segmenter
from tests.evaluation import worlds
from tests.evaluation.worlds import PAIRS, FakeSegmenter, run, write_world

ROOT = Path(__file__).parents[2]


def decode(segmentation: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 and NumPy 2
        return coco_mask.decode(segmentation)


class StopError(Exception):
    pass


def stop() -> None:
    raise StopError


@pytest.fixture
def job(tmp_path: Path) -> PredictionJob:
    return write_world(tmp_path)


def change(job: PredictionJob, index: int, **fields: Any) -> None:
    """Change an entry of the images; None removes a field."""
    document = json.loads(job.truth.read_bytes())
    entry = {**document["images"][index], **fields}
    document["images"][index] = {key: value for key, value in entry.items() if value is not None}
    job.truth.write_text(json.dumps(document), encoding="utf-8")


def test_each_picture_is_seen_once_and_asked_everything(job: PredictionJob) -> None:
    segmenter = run(job)
    assert segmenter.embedded == [(6, 8), (5, 4), (3, 7)]
    assert segmenter.asked == [["dog", "white dog"], ["dog"], ["cat", "né"], ["dog"]]  # at most two at once


def test_what_is_written(job: PredictionJob) -> None:
    run(job)
    found = json.loads(job.output.read_bytes())
    fake = FakeSegmenter()
    expected = []
    for name in ("a.png", "sub/b.png", "c.png"):
        embedding = fake.embed(read_image(job.images[0] / name))
        for pair, _, phrase in (one for one in PAIRS if one[1] == name):
            (masks,) = fake.segment_embedding(embedding, [phrase])
            expected += [(pair, *one) for one in zip(masks.masks, masks.boxes, masks.scores, strict=True)]
    assert len(found) == len(expected) > 3
    for one, (pair, mask, (left, top, right, bottom), score) in zip(found, expected, strict=True):
        assert set(one) == {"image_id", "category_id", "segmentation", "score", "bbox"}
        assert (one["image_id"], one["category_id"], one["score"]) == (pair, 1, float(score))
        np.testing.assert_array_equal(decode(one["segmentation"]), mask)
        assert one["segmentation"]["counts"].isascii()
        assert one["bbox"] == pytest.approx([left, top, right - left, bottom - top])
    assert read_predictions(job.output, 0.5).pairs == {pair for pair, *_ in expected}


@pytest.mark.parametrize("stop_at", range(3))
def test_stopped_at_a_picture_and_gone_on(job: PredictionJob, stop_at: int) -> None:
    run(replace(job, output=job.output.with_name("other.json")))
    with pytest.raises(StopError):
        run(job, FakeSegmenter(stop_at, stop))
    assert not job.output.exists()
    assert plan_predictions(job).finished == stop_at
    assert len(run(job).embedded) == 3 - stop_at
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()


def test_killed_at_each_picture_and_gone_on(job: PredictionJob) -> None:
    run(replace(job, output=job.output.with_name("other.json")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    for fail_at in (1, 1):  # one picture further each time
        command = [sys.executable, "-m", worlds.__name__, str(job.truth.parent), str(fail_at)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not job.output.exists()
    assert plan_predictions(job).finished == 2
    run(job)
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()


@settings(max_examples=25)
@given(cuts=st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_cut_anywhere_again_and_again(tmp_path_factory: pytest.TempPathFactory, cuts: list[float]) -> None:
    job = write_world(tmp_path_factory.mktemp("world"))
    run(replace(job, output=job.output.with_name("other.json")))
    for cut in cuts:
        with pytest.raises(StopError):
            run(job, FakeSegmenter(3 - plan_predictions(job).finished - 1, stop))
        path = plan_predictions(job).journal.path
        content = path.read_bytes()
        path.write_bytes(content[: round(cut * len(content))])
    run(job)
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()


def test_a_second_process_is_refused_at_once_and_harms_nothing(job: PredictionJob) -> None:
    def second() -> None:
        with pytest.raises(OutputError, match=r"another process writes these predictions, .*found.json.journal"):
            run(job, other)

    other = FakeSegmenter()
    run(replace(job, output=job.output.with_name("other.json")))
    run(job, FakeSegmenter(2, second))
    assert other.embedded == []
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()
    assert not list(job.output.parent.glob("*.journal"))


def test_an_empty_journal_of_a_killed_run_is_none(job: PredictionJob) -> None:
    run(job)
    with ExitStack() as held:
        plan = plan_predictions(replace(job, output=job.output.with_name("new.json")), held)
        assert plan.journal.path.read_bytes() == b""
    assert not plan.journal.path.exists()
    job.output.with_name("found.json.journal").touch()
    assert plan_predictions(job).is_complete


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "sub/../../secret.png", "..\\secret.png"])
def test_names_that_lead_out_of_the_folder(job: PredictionJob, name: str) -> None:
    (job.truth.parent / "secret.png").write_bytes((job.images[0] / "a.png").read_bytes())
    change(job, 2, file_name=name)
    with pytest.raises(EvaluationError, match=r"'file_name' is .*secret.png', .*gold.json, images\[2\]"):
        plan_predictions(job)


def test_done_is_done(job: PredictionJob) -> None:
    run(job)
    plan = plan_predictions(job)
    assert (plan.is_complete, plan.pictures) == (True, ())
    before = job.output.stat().st_mtime_ns
    assert run(job).embedded == []
    assert job.output.stat().st_mtime_ns == before


@pytest.mark.parametrize("other", ["threshold", "annotations", "images"])
def test_predictions_of_another_run_are_not_mixed_in(job: PredictionJob, tmp_path: Path, other: str) -> None:
    with pytest.raises(StopError):
        run(job, FakeSegmenter(1, stop))
    if other == "threshold":
        job = replace(job, maker={**job.maker, "threshold": "0.1"})
    elif other == "annotations":
        change(job, 0, text_input="puppy")
    else:
        (tmp_path / "images").rename(tmp_path / "elsewhere")
        job = replace(job, images=(tmp_path / "elsewhere",))
    with pytest.raises(EvaluationError, match=f"it belongs to another run: {other} was"):
        plan_predictions(job)


def test_a_missing_picture_is_named_before_anything_is_done(job: PredictionJob) -> None:
    (job.images[0] / "c.png").unlink()
    message = r"1 of 3 pictures are missing, the first is 'c.png' of the pair 'x', .*images; --images is the folder"
    with pytest.raises(ImageError, match=message):
        plan_predictions(job)
    assert not plan_files(job)


def plan_files(job: PredictionJob) -> list[str]:
    return [path.name for path in job.output.parent.iterdir() if path.name.startswith(job.output.name)]


def test_pictures_in_two_folders(job: PredictionJob, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (job.images[0] / "c.png").rename(tmp_path / "more" / "c.png")
    pictures = read_pictures(job.truth, [*job.images, tmp_path / "more"])
    assert [one.file for one in pictures] == [
        job.images[0] / "a.png",
        job.images[0] / "sub/b.png",
        tmp_path / "more/c.png",
    ]
    with pytest.raises(ImageError, match="no such folder, nowhere"):
        read_pictures(job.truth, [*job.images, Path("nowhere")])


def test_a_picture_of_another_size(job: PredictionJob) -> None:
    Image.new("RGB", (4, 6)).save(job.images[0] / "sub/b.png")
    with pytest.raises(ImageError, match=r"4 x 6 pixels where the annotations say 4 x 5, .*b.png, pair 11; give"):
        run(job)
    assert plan_predictions(job).finished == 1  # what came before is kept


def test_a_picture_whose_size_is_not_said(job: PredictionJob) -> None:
    for index in (1, 4):
        change(job, index, height=None)
    Image.new("RGB", (4, 6)).save(job.images[0] / "sub/b.png")
    assert run(job).embedded == [(6, 8), (6, 4), (3, 7)]


def test_a_broken_picture(job: PredictionJob) -> None:
    (job.images[0] / "c.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"not an image, .*c.png"):
        run(job)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"file_name": None}, r"no 'file_name', .*gold.json, images\[2\]"),
        ({"text_input": " "}, r"'text_input' is ' ', .*images\[2\]; give a text"),
        ({"text_input": 3}, r"'text_input' is 3"),
        ({"id": 10}, r"the id 10 is there twice, .*images\[2\]"),
        ({"id": None}, r"no 'id'"),
        ({"height": 7}, r"another size in .*images\[0\], .*images\[2\]; fix width and height"),
        ({"height": -7}, r"the size is -7 x 8"),
    ],
)
def test_annotations_that_cannot_be_asked(job: PredictionJob, fields: dict[str, Any], message: str) -> None:
    change(job, 2, **fields)
    with pytest.raises(EvaluationError, match=message):
        plan_predictions(job)


def test_files_that_are_not_there(job: PredictionJob, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no such file, nowhere.json"):
        plan_predictions(replace(job, truth=Path("nowhere.json")))
    with pytest.raises(EvaluationError, match="a folder where predictions are to be written"):
        plan_predictions(replace(job, output=tmp_path))
    job.truth.write_text("[]", encoding="utf-8")
    with pytest.raises(EvaluationError, match="not a COCO object"):
        plan_predictions(job)


def test_scores_of_exactly_the_threshold_are_kept() -> None:
    for threshold in (0.5, 0.3, 0.01):
        options = options_for(threshold)
        assert np.float32(threshold) > np.float32(options.threshold)
        assert np.nextafter(np.float32(threshold), np.float32(0)) <= np.float32(options.threshold)
    assert options_for(0).threshold == 0
    for threshold in (0.51, -0.1, float("nan")):
        with pytest.raises(OptionError, match=r"give 0 to 0.5"):
            options_for(threshold)


def test_a_model_is_known_by_its_files(tmp_path: Path) -> None:
    assert identify("facebook/sam3") == "facebook/sam3"
    folder = tmp_path / "model"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"1")
    names = [identify(str(weights)), identify(str(folder))]
    assert names[0].startswith("model.safetensors (")
    os.utime(weights, (1, 1))
    assert [identify(str(weights)), identify(str(folder))] == names  # touched
    shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    assert identify(str(tmp_path / "elsewhere" / "model")) == names[1]
    weights.write_bytes(b"2")  # as large as before
    assert identify(str(weights)) != names[0]
    weights.write_bytes(b"22")
    assert identify(str(weights)) != names[0]
    assert identify(str(folder)) != names[1]


def test_progress_is_told(job: PredictionJob) -> None:
    told: list[tuple[str, float]] = []
    predict(plan_predictions(job), FakeSegmenter(), lambda stage, share: told.append((stage, share)))
    assert told == [("predicting", 0.0), ("predicting", 1 / 3), ("predicting", 2 / 3), ("predicting", 1.0)]


@pytest.mark.torch
@pytest.mark.usefixtures("no_network")
def test_a_real_segmenter(job: PredictionJob, host_folder: Path) -> None:
    segmenter = Segmenter.from_pretrained(str(host_folder), device="cpu", options=options_for(0.05))
    predict(plan_predictions(job), segmenter)
    found = json.loads(job.output.read_bytes())
    assert found
    for pair, name, phrase in PAIRS:
        (masks,) = segmenter(job.images[0] / name, [phrase])
        ours = [one for one in found if one["image_id"] == pair]
        assert [one["score"] for one in ours] == pytest.approx(masks.scores.tolist(), abs=1e-5)
        for one, mask in zip(ours, masks.masks, strict=True):
            np.testing.assert_array_equal(decode(one["segmentation"]), mask)
