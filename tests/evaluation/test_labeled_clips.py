"""Clips of files, what trackers find in them, and predictions that resume."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("trackeval")
from litetext.errors import EvaluationError, ImageError, OutputError
from litetext.evaluation import labeled_pairs as module
from litetext.evaluation.labeled_pairs import LabeledClip, find_masklets, read_clips, share_embeddings, track_clip
from litetext.evaluation.predict import PredictionPlan, plan_predictions, predict
from litetext.evaluation.veval import evaluate_veval
from litetext.sam3.segmenter import ImageEmbedding, Segmenter
from tests.evaluation.films import FRAMES, SCRIPT, SIDE, Replay, film, write_films

MAKER = {"model": "fake", "method": "replay"}
NOBODY: Any = None  # the segmenter of a tracker that needs none


@pytest.fixture(autouse=True)
def replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_segmenter: Segmenter, prompts: Iterable[str], _method: str) -> Replay:
        return Replay(prompts)

    monkeypatch.setattr(module, "make_tracker", make)


def plan(folder: Path, output: Path, held: ExitStack | None = None, **maker: str) -> PredictionPlan:
    return plan_predictions(folder / "gt.json", [folder / "videos"], output, {**MAKER, **maker}, held, read=read_clips)


def change(truth: Path, key: str, **fields: Any) -> None:
    document = json.loads(truth.read_bytes())
    document[key][1].update(fields)
    truth.write_text(json.dumps(document), encoding="utf-8")


def test_clips_of_files(tmp_path: Path) -> None:
    clips = read_clips(write_films(tmp_path), [tmp_path, tmp_path / "videos"])
    assert [(clip.number, clip.name, clip.length) for clip in clips] == [(n, f"film{n}", FRAMES) for n in (1, 2, 3)]
    assert clips[0].phrases == {5: "dog"}
    assert clips[1].phrases == {5: "dog", 6: "cat", 7: "bus"}
    assert [len(clips[1].truths[category]) for category in (5, 6, 7)] == [2, 1, 0]
    assert [clips[1].read(frame)[0, 0, 0] for frame in (4, 0)] == [4, 0]


def test_each_frame_is_read_once_for_all_trackers() -> None:
    read: list[int] = []
    clip = film()

    def look(frame: int) -> Any:
        read.append(frame)
        return clip.read(frame)

    watched = LabeledClip(1, "x", FRAMES, look, clip.phrases, clip.truths)
    one, other = track_clip([Replay(SCRIPT), Replay(SCRIPT, {"cat": SCRIPT["cat"]}, 0.5)], watched)
    assert read == list(range(FRAMES))
    assert [(found.id, found.prompt, found.score) for found in other] == [(1, "cat", 0.5)]
    assert [code is None for code in other[0].masks] == [False, True, False, True, False, False]
    assert [found.prompt for found in one] == ["dog", "dog", "cat"]


def test_what_is_predicted_is_right(tmp_path: Path) -> None:
    truth, output = write_films(tmp_path), tmp_path / "found.json"
    predict(plan(tmp_path, output), NOBODY, find=find_masklets)
    found = json.loads(output.read_bytes())
    assert len(found) == 2 + 3 + 3
    assert all(one.keys() == {"video_id", "category_id", "score", "bboxes", "areas", "segmentations"} for one in found)
    assert found[0]["bboxes"][1] == [3, 0, 6, 6]
    (cat, _) = [one for one in found if one["category_id"] == 6]
    assert cat["bboxes"][1] is cat["areas"][1] is cat["segmentations"][1] is None
    assert cat["areas"][0] == 36
    scores = evaluate_veval(truth, output).headline
    assert [scores[name] for name in ("cgf1", "phota", "teta", "map")] == pytest.approx([100] * 4, abs=0.1)


def test_a_phrase_of_two_categories_has_its_masklets_in_both() -> None:
    clip = film({"dog": SCRIPT["dog"]})
    twice = LabeledClip(4, "x", FRAMES, clip.read, {1: "dog", 2: "dog"}, {})
    found = find_masklets(NOBODY, twice)
    assert [(one["video_id"], one["category_id"]) for one in found] == [(4, 1), (4, 2), (4, 1), (4, 2)]


@pytest.mark.parametrize("stop_at", range(3))
def test_stopped_at_a_video_and_gone_on(tmp_path: Path, stop_at: int) -> None:
    write_films(tmp_path)
    whole, output = tmp_path / "whole.json", tmp_path / "found.json"
    predict(plan(tmp_path, whole), NOBODY, find=find_masklets)
    seen: list[str] = []

    def find(segmenter: Segmenter, clip: LabeledClip) -> list[dict[str, Any]]:
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(clip.name)
        return find_masklets(segmenter, clip)

    with pytest.raises(KeyboardInterrupt):
        predict(plan(tmp_path, output), NOBODY, find=find)
    assert not output.exists()
    with ExitStack() as held:
        rest = plan(tmp_path, output, held)
        assert rest.finished == stop_at
        predict(rest, NOBODY, find=find_masklets)
    assert output.read_bytes() == whole.read_bytes()
    assert plan(tmp_path, output).is_complete
    with pytest.raises(OutputError, match="method was replay, and is other now"):
        plan(tmp_path, output, method="other")


@pytest.mark.parametrize("name", ["../film2/0.png", "/film2/0.png", 5, ["film2/0.png"], ""])
def test_file_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: Any) -> None:
    truth = write_films(tmp_path)
    change(truth, "videos", file_names=[name] * FRAMES)
    with pytest.raises(EvaluationError, match=r"file_names.*videos\[1\]"):
        read_clips(truth, [tmp_path / "videos"])


def test_frames_that_are_not_there_are_named_before_anything_is_done(tmp_path: Path) -> None:
    truth = write_films(tmp_path)
    (tmp_path / "videos/film2/3.png").unlink()
    with pytest.raises(ImageError, match=r"1 of 18 .*film2/3\.png' of the video 2, .*--videos"):
        read_clips(truth, [tmp_path / "videos"])
    with pytest.raises(ImageError, match=r"no such folder.*--videos"):
        read_clips(truth, [tmp_path / "nowhere"])


def test_a_frame_of_another_size_or_broken_is_named(tmp_path: Path) -> None:
    (first, *_) = read_clips(write_films(tmp_path), [tmp_path / "videos"])
    Image.new("RGB", (SIDE, SIDE + 1)).save(tmp_path / "videos/film1/2.png")
    (tmp_path / "videos/film1/3.png").write_bytes(b"no picture")
    for frame, message in ((2, f"{SIDE} x {SIDE + 1} pixels"), (3, r"3\.png")):
        with pytest.raises(ImageError, match=message):
            first.read(frame)


def test_segmenters_that_share_embed_a_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def embed(_self: Segmenter, image: Any) -> ImageEmbedding:
        seen.append(image)
        return ImageEmbedding((1, 1), len(seen))

    monkeypatch.setattr(Segmenter, "__init__", lambda self, *parts: setattr(self, "parts", parts))
    monkeypatch.setattr(Segmenter, "embed", embed)
    given: list[Any] = []
    for name in "ab":
        one = Segmenter(name)  # type: ignore[arg-type]
        given.append(one)
    first, second = share_embeddings(*given)
    pictures = [np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)]
    embedded = [[one.embed(picture).vision for one in (first, second)] for picture in pictures]
    assert embedded == [[1, 1], [2, 2]]
    assert [id(image) for image in seen] == [id(picture) for picture in pictures]
