"""Masklets: records and files say what was tracked, in memory that does not grow with the clip."""

import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from litetext.sam3.masks import decode_masks
from litetext.video.masklets import (
    Record,
    Totals,
    check_record,
    read_info,
    read_masklets,
    to_record,
    to_tracked,
    write_counts,
    write_masklets,
    write_tracks,
)
from litetext.video.tracking import TrackedFrame, track_frames
from tests.video.fakes import FakeClip, FakeTracker

PHRASES = ["red car", 'a "dog", big', "absent"]


@pytest.fixture(scope="module")
def tracked() -> list[TrackedFrame]:
    return list(track_frames(FakeTracker(PHRASES[:2]), FakeClip(9)))


@pytest.fixture(scope="module")
def records(tracked: list[TrackedFrame]) -> list[Record]:
    places = {phrase: place for place, phrase in enumerate(PHRASES)}
    return [json.loads(json.dumps(to_record(frame, places))) for frame in tracked]


@pytest.fixture(scope="module")
def totals(records: list[Record]) -> Totals:
    made = Totals(PHRASES)
    for record in records:
        made.add(record)
    return made


def test_a_record_is_the_frame(tracked: list[TrackedFrame], records: list[Record]) -> None:
    assert len(records) == 8
    for frame, record in zip(tracked, records, strict=True):
        back = to_tracked(check_record(record), PHRASES)
        assert (back.index, back.time, back.prompts) == (frame.index, frame.time, frame.prompts)
        for name in ("ids", "scores", "masks"):
            np.testing.assert_array_equal(getattr(back, name), getattr(frame, name), strict=True)


def test_a_frame_without_things(records: list[Record]) -> None:
    none = TrackedFrame(3, 0.1, np.zeros(0, np.int64), (), np.zeros(0, np.float32), np.zeros((0, 4, 5), np.bool_))
    record = to_record(none, {})
    assert to_tracked(record, []).masks.shape == (0, 4, 5)
    empty = Totals(["dog"])
    empty.add(record)
    assert empty.table() == [{"phrase": "dog", "tracks": 0, "first": None, "last": None, "frames": 0, "best": None}]


@pytest.mark.parametrize("name", ["frame", "scores", "counts"])
def test_a_damaged_record_is_found(records: list[Record], name: str) -> None:
    with pytest.raises(ValueError, match="checksum"):
        check_record({**records[0], name: 1})
    with pytest.raises(ValueError, match="checksum"):
        check_record({key: value for key, value in records[0].items() if key != name})


def test_totals(tracked: list[TrackedFrame], totals: Totals) -> None:
    cars = [frame.scores[index] for frame in tracked for index, p in enumerate(frame.prompts) if p == "red car"]
    first, second, third = totals.table()
    expected = {"phrase": "red car", "tracks": 2, "first": 0, "last": 8, "frames": 8, "best": float(max(cars))}
    assert first == expected
    assert second["tracks"] == 2
    assert (third["tracks"], third["best"]) == (0, None)


@pytest.mark.parametrize("most", [1, 1000, 10**9])
def test_masklets_of_records(tracked: list[TrackedFrame], records: list[Record], totals: Totals, most: int) -> None:
    masklets = list(read_masklets(lambda: records, totals, most))
    assert [masklet.id for masklet in masklets] == [1, 2, 101, 102]
    for masklet in masklets:
        scores = []
        for frame, code in zip(tracked, masklet.masks, strict=True):
            place = np.flatnonzero(frame.ids == masklet.id)
            assert (code is not None) == bool(len(place))
            if code is not None:
                scores.append(float(frame.scores[place[0]]))
                assert frame.prompts[place[0]] == masklet.prompt
                np.testing.assert_array_equal(decode_masks([code], (16, 24)), frame.masks[place])
        assert masklet.score == pytest.approx(np.mean(scores))


def test_the_json(tmp_path: Path, tracked: list[TrackedFrame], records: list[Record], totals: Totals) -> None:
    path = tmp_path / "masklets.json"
    write_masklets(path, {"made": "by us"}, "clip", lambda: records, totals)
    document = json.loads(path.read_bytes())
    assert read_info(path) == document["info"] == {"made": "by us"}
    (video,) = document["videos"]
    assert (video["height"], video["width"], video["length"]) == (16, 24, 8)
    assert video["frame_indices"] == [0, 1, 2, 3, 4, 6, 7, 8]
    assert [category["name"] for category in document["categories"]] == PHRASES
    assert [pair["num_masklets"] for pair in document["video_np_pairs"]] == [2, 2, 0]
    assert [one["id"] for one in document["annotations"]] == [1, 2, 101, 102]
    for one in document["annotations"]:
        assert len(one["segmentations"]) == len(one["bboxes"]) == len(one["areas"]) == 8
        for frame, code, box, area in zip(tracked, one["segmentations"], one["bboxes"], one["areas"], strict=True):
            place = np.flatnonzero(frame.ids == one["id"])
            if not len(place):
                assert (code, box, area) == (None, None, None)
                continue
            left, top, right, bottom = frame.boxes[place[0]]
            assert box == [left, top, right - left, bottom - top]
            assert area == frame.masks[place[0]].sum()


def test_nothing_tracked_is_valid_json(tmp_path: Path) -> None:
    write_masklets(tmp_path / "m.json", {}, "clip", list, Totals(["dog"]))
    document = json.loads((tmp_path / "m.json").read_bytes())
    assert document["annotations"] == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"info": {}}', b'{"info": 3,\n', b"\xff\xfe,"])
def test_another_file_is_none_of_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises((ValueError, TypeError)):
        read_info(tmp_path / "m.json")


def test_the_csv_files(tmp_path: Path, tracked: list[TrackedFrame], records: list[Record]) -> None:
    write_tracks(tmp_path / "tracks.csv", lambda: records)
    rows = list(csv.reader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert len(rows) == sum(map(len, tracked))
    things = [(frame, place) for frame in tracked for place in range(len(frame))]
    for row, (frame, place) in zip(rows, things, strict=True):
        left, top, right, bottom = frame.boxes[place]
        assert [int(cell) for cell in row[:6]] == [frame.index + 1, frame.ids[place], left, top, 3, 4]
        assert (right - left, bottom - top) == (3, 4)
        assert float(row[6]) == pytest.approx(frame.scores[place], abs=1e-6)
        assert row[7:] == [str(PHRASES.index(frame.prompts[place]) + 1), "-1"]
    write_counts(tmp_path / "counts.csv", lambda: records, PHRASES)
    header, *counts = csv.reader((tmp_path / "counts.csv").read_text().splitlines())
    assert header == ["frame", "time", *PHRASES]
    assert [row[2:] for row in counts] == [["1", "1", "0"], ["2", "2", "0"]] * 4
    assert [int(row[0]) for row in counts] == [1, 2, 3, 4, 5, 7, 8, 9]


def made_up(frames: int) -> Iterator[dict[str, Any]]:
    """Records of four things at once, each of them there for 50 frames, with long codes."""
    for index in range(frames):
        ids = [index // 50 * 4 + number for number in range(1, 5)]
        counts = [f"PPYo{'1O' * 400}{number % 10}" for number in ids]
        size, scores = [1000, 1000], [0.75] * 4
        yield {
            "frame": index,
            "time": 0.0,
            "size": size,
            "ids": ids,
            "phrases": [0] * 4,
            "scores": scores,
            "counts": counts,
        }


def test_memory_does_not_grow_with_frames_and_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycocotools import mask as coco_mask

    monkeypatch.setattr(coco_mask, "toBbox", lambda codes: np.zeros((len(codes), 4)))
    monkeypatch.setattr(coco_mask, "area", lambda codes: np.zeros(len(codes), dtype=int))
    peaks = []
    for frames in (500, 2000):
        totals = Totals(["thing"])
        for record in made_up(frames):
            totals.add(record)
        tracemalloc.start()
        for masklet in read_masklets(lambda: made_up(frames), totals, 2**18):  # noqa: B023 - used up at once
            assert sum(mask is not None for mask in masklet.masks) == 50
        write_tracks(tmp_path / "tracks.csv", lambda: made_up(frames))  # noqa: B023
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    assert peaks[1] < 2**20  # of 6.4 MB of codes
