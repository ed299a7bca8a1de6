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

from litetext.checkpoints.hub import name_source
from litetext.errors import EvaluationError, ImageError, OptionError, OutputError
from litetext.evaluation import predict as module
from litetext.evaluation.coco import read_predictions
from litetext.evaluation.predict import Picture, PredictionPlan, finish_predictions, options_for, predict
from litetext.export.segment_runtime import open_segmenter
from litetext.resume_log import ResumeLog
from litetext.sam3.images import read_image
from litetext.sam3.segmenter import Segmenter
from tests.evaluation import worlds
from tests.evaluation.worlds import PAIRS, FakeSegmenter, Job, run, write_world

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
def job(tmp_path: Path) -> Job:
    return write_world(tmp_path)


def change(job: Job, index: int, **fields: Any) -> None:
    """Change an entry of the images; None removes a field."""
    document = json.loads(job.truth.read_bytes())
    entry = {**document["images"][index], **fields}
    document["images"][index] = {key: value for key, value in entry.items() if value is not None}
    job.truth.write_text(json.dumps(document), encoding="utf-8")


def test_each_picture_is_seen_once_and_asked_everything(job: Job) -> None:
    segmenter = run(job)
    assert segmenter.embedded == [(6, 8), (5, 4), (3, 7)]
    assert segmenter.asked == [["dog", "white dog", "dog"], ["cat", "né"], ["dog"]]


def test_what_is_written(job: Job) -> None:
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
def test_stopped_at_a_picture_and_gone_on(job: Job, stop_at: int) -> None:
    run(replace(job, output=job.output.with_name("other.json")))
    with pytest.raises(StopError):
        run(job, FakeSegmenter(stop_at, stop))
    assert not job.output.exists()
    assert job.plan().finished == stop_at
    assert len(run(job).embedded) == 3 - stop_at
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()


def test_killed_at_each_picture_and_gone_on(job: Job) -> None:
    run(replace(job, output=job.output.with_name("other.json")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    for fail_at in (1, 1):  # one picture further each time
        command = [sys.executable, "-m", worlds.__name__, str(job.truth.parent), str(fail_at)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not job.output.exists()
    assert job.plan().finished == 2
    run(job)
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()


@settings(max_examples=25)
@given(cuts=st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_cut_anywhere_again_and_again(tmp_path_factory: pytest.TempPathFactory, cuts: list[float]) -> None:
    job = write_world(tmp_path_factory.mktemp("world"))
    run(replace(job, output=job.output.with_name("other.json")))
    for cut in cuts:
        with pytest.raises(StopError):
            run(job, FakeSegmenter(3 - job.plan().finished - 1, stop))
        path = job.plan().log.path
        content = path.read_bytes()
        path.write_bytes(content[: round(cut * len(content))])
    run(job)
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()


def test_a_second_process_is_refused_at_once_and_harms_nothing(job: Job) -> None:
    def second() -> None:
        with pytest.raises(OutputError, match=r"another process writes these predictions, .*found.json.journal"):
            run(job, other)

    other = FakeSegmenter()
    run(replace(job, output=job.output.with_name("other.json")))
    run(job, FakeSegmenter(2, second))
    assert other.embedded == []
    assert job.output.read_bytes() == job.output.with_name("other.json").read_bytes()
    assert not list(job.output.parent.glob("*.journal"))


def test_an_empty_journal_of_a_killed_run_is_none(job: Job) -> None:
    run(job)
    with ExitStack() as held:
        plan = replace(job, output=job.output.with_name("new.json")).plan(held)
        assert plan.log.path.read_bytes() == b""
    assert not plan.log.path.exists()
    job.output.with_name("found.json.journal").touch()
    assert job.plan().is_complete


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "sub/../../secret.png", "..\\secret.png"])
def test_names_that_lead_out_of_the_folder(job: Job, name: str) -> None:
    (job.truth.parent / "secret.png").write_bytes((job.images[0] / "a.png").read_bytes())
    change(job, 2, file_name=name)
    with pytest.raises(EvaluationError, match=r"'file_name' is .*secret.png', .*gold.json, images\[2\]"):
        job.plan()


def test_done_is_done(job: Job) -> None:
    run(job)
    plan = job.plan()
    assert (plan.is_complete, plan.pictures) == (True, ())
    before = job.output.stat().st_mtime_ns
    assert run(job).embedded == []
    assert job.output.stat().st_mtime_ns == before


@pytest.mark.parametrize("other", ["threshold", "annotations", "images"])
def test_predictions_of_another_run_are_not_mixed_in(job: Job, tmp_path: Path, other: str) -> None:
    with pytest.raises(StopError):
        run(job, FakeSegmenter(1, stop))
    if other == "threshold":
        job = replace(job, maker={**job.maker, "threshold": "0.1"})
    elif other == "annotations":
        change(job, 0, text_input="puppy")
    else:
        (tmp_path / "images").rename(tmp_path / "elsewhere")
        job = replace(job, images=(tmp_path / "elsewhere",))
    with pytest.raises(OutputError, match=f"another run .*: {other} was"):
        job.plan()


def test_a_missing_picture_is_named_before_anything_is_done(job: Job) -> None:
    (job.images[0] / "c.png").unlink()
    message = r"1 of 3 pictures are missing, the first is 'c.png' of the pair 'x', .*images; --images is the folder"
    with pytest.raises(ImageError, match=message):
        job.plan()
    assert not plan_files(job)


def plan_files(job: Job) -> list[str]:
    return [path.name for path in job.output.parent.iterdir() if path.name.startswith(job.output.name)]


def test_pictures_in_two_folders(job: Job, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (job.images[0] / "c.png").rename(tmp_path / "more" / "c.png")
    plan = replace(job, images=(*job.images, tmp_path / "more")).plan()
    assert [one.file for one in plan.pictures] == [
        job.images[0] / "a.png",
        job.images[0] / "sub/b.png",
        tmp_path / "more/c.png",
    ]
    with pytest.raises(ImageError, match="no such folder, nowhere"):
        replace(job, images=(*job.images, Path("nowhere"))).plan()


def test_a_picture_of_another_size(job: Job) -> None:
    Image.new("RGB", (4, 6)).save(job.images[0] / "sub/b.png")
    with pytest.raises(ImageError, match=r"4 x 6 pixels where the annotations have 4 x 5, .*b.png, pair 11; give"):
        run(job)
    assert job.plan().finished == 1  # what came before is kept


def test_a_picture_whose_size_is_not_said(job: Job) -> None:
    for index in (1, 4):
        change(job, index, height=None)
    Image.new("RGB", (4, 6)).save(job.images[0] / "sub/b.png")
    assert run(job).embedded == [(6, 8), (6, 4), (3, 7)]


def test_a_broken_picture(job: Job) -> None:
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
def test_annotations_that_cannot_be_asked(job: Job, fields: dict[str, Any], message: str) -> None:
    change(job, 2, **fields)
    with pytest.raises(EvaluationError, match=message):
        job.plan()


def test_files_that_are_not_there(job: Job, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no such file, nowhere.json"):
        replace(job, truth=Path("nowhere.json")).plan()
    with pytest.raises(OutputError, match="a folder where predictions are to be written"):
        replace(job, output=tmp_path).plan()
    job.truth.write_text("[]", encoding="utf-8")
    with pytest.raises(EvaluationError, match="not a COCO object"):
        job.plan()


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
    assert name_source("facebook/sam3") == "facebook/sam3"
    folder = tmp_path / "model"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(b"1")
    names = [name_source(str(weights)), name_source(str(folder))]
    assert names[0].startswith("model.safetensors (")
    os.utime(weights, (1, 1))
    assert [name_source(str(weights)), name_source(str(folder))] == names  # touched
    shutil.copytree(folder, tmp_path / "elsewhere" / "model")
    assert name_source(str(tmp_path / "elsewhere" / "model")) == names[1]
    weights.write_bytes(b"2")  # as large as before
    assert name_source(str(weights)) != names[0]
    weights.write_bytes(b"22")
    assert name_source(str(weights)) != names[0]
    assert name_source(str(folder)) != names[1]


def test_progress_is_told(job: Job) -> None:
    told: list[tuple[str, float]] = []
    predict(job.plan(), FakeSegmenter(), lambda stage, share: told.append((stage, share)))
    assert told == [("predicting", 0.0), ("predicting", 1 / 3), ("predicting", 2 / 3), ("predicting", 1.0)]


def test_a_real_segmenter(job: Job) -> None:
    segmenter = Segmenter(open_segmenter("micro", threads=1), options=options_for(0.0))
    predict(job.plan(), segmenter)
    found = json.loads(job.output.read_bytes())
    assert found
    for pair, name, phrase in PAIRS:
        (masks,) = segmenter(job.images[0] / name, [phrase])
        ours = [one for one in found if one["image_id"] == pair]
        assert [one["score"] for one in ours] == pytest.approx(masks.scores.tolist(), abs=1e-5)
        for one, mask in zip(ours, masks.masks, strict=True):
            np.testing.assert_array_equal(decode(one["segmentation"]), mask)


PICTURES: dict[str, list[dict[str, Any]]] = {
    "a.png": [{"image_id": 1, "score": 0.9}, {"image_id": "n\u00e9\n", "score": 0.1}],
    "b.png": [],
    "c.png": [{"image_id": 3, "score": 0.75}],
}


def plan_of(output: Path, pictures: Any = PICTURES) -> PredictionPlan:
    log = ResumeLog(output.with_name(f"{output.name}.journal"), module.TOOL, {"model": "caf\udce9"}, "")
    return PredictionPlan(output, tuple(Picture(name, output, None, {}) for name in pictures), 0, log, False)


def log_all(plan: PredictionPlan, names: Any = PICTURES) -> None:
    for name in names:
        plan.log.append({"picture": name, "predictions": PICTURES[name]})


def test_finished_predictions_stand_one_a_line(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "deep" / "found.json")
    log_all(plan)
    finish_predictions(plan)
    assert json.loads(plan.output.read_bytes()) == [one for some in PICTURES.values() for one in some]
    assert len(plan.output.read_text(encoding="utf-8").splitlines()) == 2 + 3
    assert sorted(path.name for path in plan.output.parent.iterdir()) == ["found.json", "found.json.run"]
    empty = plan_of(tmp_path / "empty.json", {})
    finish_predictions(empty)
    assert json.loads(empty.output.read_bytes()) == []


@pytest.mark.parametrize("step", ["atomic_file", "write_text", "unlink"])
def test_stopped_while_it_finishes(job: Job, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "unlink":
            patch.setattr(Path, "unlink", interrupt)
        else:
            patch.setattr(module, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict(job.plan(), FakeSegmenter())
    assert (job.plan().is_complete, job.plan().finished) == (False, 3)
    assert run(job).embedded == []
    assert job.plan().is_complete


@pytest.mark.parametrize("names", [["a.png", *PICTURES], [*PICTURES, "c.png"], ["a.png", "b.png"]])
def test_a_log_that_another_process_wrote_to(names: list[str], tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "found.json")
    log_all(plan, names)
    with pytest.raises(OutputError, match=r"the log was changed meanwhile, .*journal"):
        finish_predictions(plan)
    assert not plan.output.exists()


def test_finished_predictions_of_another_run_are_not_overwritten(job: Job) -> None:
    run(job)
    with pytest.raises(OutputError, match=r"model was fake, and is other now, .*found.json; .*another --pred"):
        replace(job, maker={**job.maker, "model": "other"}).plan()
    job.output.write_text("[]", encoding="utf-8")
    with pytest.raises(OutputError, match="changed since"):
        job.plan()
    made = job.output.with_name("found.json.run")
    for text in ("{", "[]", "{}", '{"run": 3, "predictions": ""}', '{"run": "text", "predictions": ""}'):
        made.write_text(text, encoding="utf-8")
        with pytest.raises(OutputError, match=r"unknown run, .*found.json; give another --pred"):
            job.plan()
    job.output.unlink()
    with pytest.raises(OutputError, match=r"would be overwritten, .*found.json.run"):
        job.plan()
