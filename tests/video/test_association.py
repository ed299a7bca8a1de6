"""Tracking by detection: moving squares with known answers, properties, and clips of the micro world."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.errors import OptionError
from litetext.sam3.masks import RawMasks
from litetext.sam3.segmenter import SegmentOptions
from litetext.video.association import AssociationOptions, Associator
from litetext.video.tracking import Frame, TrackedFrame, Tracker, track_frames

SIZE, QUERIES = 32, 8
Squares = Sequence[tuple[float, float, float]]  # top, left and score of each square of six cells a side


class FakeSegmenter:
    """Finds what a script of frames says: the first number in a frame's pixels is its place in the script."""

    def __init__(self, script: Sequence[dict[str, Squares]], batch: int = 2) -> None:
        self.script, self.options = script, SegmentOptions(prompt_batch=batch)
        self.embedded, self.largest = 0, 0
        self.encoder = Numbering()

    def embed(self, pixels: np.ndarray) -> Any:
        self.embedded += 1
        self.now = self.script[int(pixels[0, 0, 0]) + 256 * int(pixels[0, 0, 1])]
        return SimpleNamespace(size=pixels.shape[:2])

    @property
    def engine(self) -> Any:
        return self

    def run(self, _: Any, rows: Sequence[np.ndarray]) -> RawMasks:
        self.largest = max(self.largest, len(rows))
        scores = np.zeros((len(rows), QUERIES), np.float32)
        masks = np.full((len(rows), QUERIES, SIZE, SIZE), -9.0, np.float32)
        for row, values in enumerate(rows):
            phrase = self.encoder.read[int(values[0, 0])]
            for query, (top, left, score) in enumerate(self.now.get(phrase, ())):
                scores[row, query] = score
                where = (slice(max(0, round(start)), max(0, round(start) + 6)) for start in (top, left))
                masks[row, query, *where] = 9.0
        return RawMasks(scores, np.zeros((len(rows), QUERIES, 4), np.float32), masks)


class Numbering:
    """Features that say when a phrase was read."""

    name, context_length, width = "numbers", 8, 4

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]) -> Any:
        first = len(self.read)
        self.read += texts
        numbers = np.arange(first, len(self.read), dtype=np.float32)
        return np.tile(numbers[:, None, None], (1, 2, 4)), np.ones((len(texts), 2), np.bool_)


def make(script: Sequence[dict[str, Squares]], prompts: Iterable[str] = ("box",), **options: Any) -> Associator:
    chosen = AssociationOptions(refine_edges=False, **options)  # the pictures are flat
    return Associator(FakeSegmenter(script), list(prompts), chosen)  # type: ignore[arg-type]


def frame(index: int, color: int = 0, size: tuple[int, int] = (64, 64)) -> Frame:
    pixels = np.full((*size, 3), color, dtype=np.uint8)
    pixels[0, 0] = index % 256, index // 256, 0
    return Frame(index, index / 10, pixels)


def run(tracker: Tracker, count: int, start: int = 0) -> list[TrackedFrame]:
    return list(track_frames(tracker, (frame(index) for index in range(start, start + count))))


def places(frames: Sequence[TrackedFrame]) -> list[dict[int, tuple[int, int]]]:
    """The top and left of each id, in cells."""
    return [
        {number: (int(box[1]) // 2, int(box[0]) // 2) for number, box in zip(one.ids.tolist(), one.boxes, strict=True)}
        for one in frames
    ]


def same(some: Sequence[TrackedFrame], others: Sequence[TrackedFrame]) -> bool:
    return len(some) == len(others) and all(
        one.index == other.index
        and one.prompts == other.prompts
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "scores", "masks"))
        for one, other in zip(some, others, strict=True)
    )


def test_a_square_keeps_its_id() -> None:
    found = places(run(make([{"box": [(10, 2 + step, 0.9)]} for step in range(12)]), 12))
    assert found == [{1: (10, 2 + step)} for step in range(12)]


def test_squares_that_cross_keep_their_ids_though_one_hides_the_other() -> None:
    script: list[dict[str, Squares]] = []
    for step in range(16):
        right, left = (8, float(step), 0.9), (9, 15.0 - step, 0.9)
        script.append({"box": [right] if abs(right[1] - left[1]) < 4 else [left, right]})
    found = places(run(make(script), 16))
    first, last = found[0], found[-1]
    assert sorted(first) == sorted(last) == [1, 2]
    assert {number for one in found for number in one} == {1, 2}
    for number, (_, place) in first.items():
        assert (place < 8) != (last[number][1] < 8)  # it is on the other side now


def test_a_gap_is_bridged_and_not_drawn() -> None:
    script: list[dict[str, Squares]] = [{} if 5 <= step < 9 else {"box": [(10, 2.0 + step, 0.9)]} for step in range(14)]
    assert [list(one) for one in places(run(make(script), 14))] == [[] if 5 <= step < 9 else [1] for step in range(14)]


def test_what_is_gone_for_longer_than_patience_is_another_thing() -> None:
    script: list[dict[str, Squares]] = [{} if 5 <= step < 12 else {"box": [(10, 10, 0.9)]} for step in range(18)]
    assert list(places(run(make(script, patience=3), 18))[-1]) == [2]
    assert list(places(run(make(script, patience=9), 18))[-1]) == [1]


def test_a_cut_ends_everything() -> None:
    tracker = make([{"box": [(10, 10, 0.9)]}] * 12)
    frames = list(track_frames(tracker, (frame(index, 0 if index < 6 else 200) for index in range(12))))
    assert [one.ids.tolist() for one in frames] == [[1]] * 6 + [[2]] * 6


def test_a_track_begins_at_a_high_score_and_goes_on_at_a_lower_one() -> None:
    scores = [0.4, 0.9, 0.9, 0.9, 0.3, 0.9, 0.1, 0.9]
    found = run(make([{"box": [(10, 10, score)]} for score in scores]), len(scores))
    assert [len(one) for one in found] == [0, 1, 1, 1, 1, 1, 0, 1]
    assert found[4].scores[0] == pytest.approx(0.3, abs=1e-3)


def test_what_is_too_short_or_too_uncertain_is_withdrawn() -> None:
    flash: list[dict[str, Squares]] = [{"box": [(10, 10, 0.9)] if step in (4, 5) else []} for step in range(20)]
    assert all(not len(one) for one in run(make(flash), 20))
    assert sum(len(one) for one in run(make(flash, hits=1), 20)) == 2
    weak: list[dict[str, Squares]] = [{"box": [(10, 10, 0.6)]}] * 20
    assert all(not len(one) for one in run(make(weak), 20))
    assert all(len(one) for one in run(make(weak, sure=0.5), 20))


@pytest.mark.parametrize("count", [1, 2])
def test_a_clip_too_short_for_hits_shows_what_was_always_there(count: int) -> None:
    assert [one.ids.tolist() for one in run(make([{"box": [(10, 10, 0.9)]}] * count), count)] == [[1]] * count


def test_duplicates_are_removed_within_a_phrase_only() -> None:
    twice: Squares = [(10, 10, 0.9), (10, 10, 0.8)]
    found = run(make([{"box": twice, "square": twice}] * 6, ("box", "square")), 6)
    assert [(one.ids.tolist(), one.prompts) for one in found] == [([1, 2], ("box", "square"))] * 6


def test_phrases_come_and_go_and_ids_do_not_come_back() -> None:
    tracker = make([{"box": [(10, 10, 0.9)], "dot": [(20, 20, 0.9)]}] * 30, hits=1, delay=0)
    assert run(tracker, 3)[-1].ids.tolist() == [1]
    tracker.add(["dot", "box"])
    assert run(tracker, 3)[-1].ids.tolist() == [1, 2]
    tracker.drop(["box"])
    assert run(tracker, 3)[-1].ids.tolist() == [2]
    tracker.add(["box"])
    assert sorted(run(tracker, 3)[-1].ids.tolist()) == [2, 3]


def test_without_phrases_or_detections_frames_are_empty() -> None:
    assert [len(one) for one in run(make([{}] * 5, ()), 5)] == [0] * 5
    found = run(make([{}] * 5), 5)
    assert [one.masks.shape for one in found] == [(0, 64, 64)] * 5


def test_frames_of_another_size_are_answered_at_theirs() -> None:
    tracker = make([{"box": [(10, 10, 0.9)]}] * 6)
    sizes = [(64, 64), (64, 64), (48, 80), (96, 32), (64, 64), (64, 64)]
    found = list(track_frames(tracker, (frame(index, size=size) for index, size in enumerate(sizes))))
    assert [one.masks.shape[1:] for one in found] == sizes
    assert {number for one in found for number in one.ids.tolist()} == {1}


def test_a_phrase_is_encoded_once_a_frame_embedded_once_and_phrases_go_in_batches() -> None:
    tracker = make([{"box": [(10, 10, 0.9)]}] * 6, ("box", "dot", "star"))
    segmenter: Any = tracker.segmenter
    run(tracker, 6)
    assert (segmenter.encoder.read, segmenter.embedded, segmenter.largest) == (["box", "dot", "star"], 6, 2)


@pytest.mark.parametrize(
    "options", [{"begin": 1.0}, {"go_on": -0.1}, {"go_on": 0.6}, {"hits": 0}, {"delay": -1}, {"patience": -1}]
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        AssociationOptions(**options)


square = st.tuples(st.integers(0, 26), st.integers(0, 26), st.sampled_from([0.15, 0.3, 0.6, 0.8, 0.95]))
scripts = st.lists(
    st.fixed_dictionaries({name: st.lists(square, max_size=4) for name in ("box", "dot")}), min_size=1, max_size=14
)


@settings(max_examples=40)
@given(scripts, st.data())
def test_restored_at_any_frame_it_answers_the_same(script: Any, data: st.DataObject) -> None:
    whole = run(make(script, ("box", "dot")), len(script))
    at = data.draw(st.integers(0, len(script)))
    first, second = make(script, ("box", "dot")), make(script, ("box", "dot"))
    before = [one for index in range(at) for one in first.step(frame(index))]
    state = first.state()
    run(first, len(script) - at, at)  # what goes on afterwards leaves the state as it was
    second.restore(state)
    assert same(whole, before + run(second, len(script) - at, at))


@settings(max_examples=40)
@given(scripts, st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_matter(script: Any, random: Any) -> None:
    mixed = [{name: random.sample(found, len(found)) for name, found in one.items()} for one in script]
    assert same(run(make(script, ("box", "dot")), len(script)), run(make(mixed, ("box", "dot")), len(script)))


@settings(max_examples=40)
@given(scripts)
def test_ids_begin_at_one_and_belong_to_one_phrase(script: Any) -> None:
    owners: dict[int, str] = {}
    last = 0
    for one in run(make(script, ("box", "dot"), hits=1, delay=0, sure=0.0), len(script)):
        assert len(set(one.ids.tolist())) == len(one)
        for number, prompt in zip(one.ids.tolist(), one.prompts, strict=True):
            assert owners.setdefault(number, prompt) == prompt
        new = sorted(number for number in one.ids.tolist() if number > last)
        assert new == list(range(last + 1, last + 1 + len(new)))
        last += len(new)


def test_the_state_of_a_long_stream_does_not_grow() -> None:
    rng = np.random.default_rng(0)
    script: list[dict[str, Squares]] = [
        {"box": [(*rng.integers(0, 26, 2), 0.95), (10, 10, 0.9 if step % 50 < 30 else 0.0)]} for step in range(2000)
    ]
    tracker = make(script)
    largest: dict[int, int] = {}
    for index in range(2000):
        tracker.step(frame(index))
        state = tracker.state()
        largest[index // 500] = max(largest.get(index // 500, 0), len(state["tracks"]) + len(state["held"]))
    assert max(largest.values()) <= 1.25 * largest[0]
    assert max(largest.values()) < 60


@pytest.mark.slow
def test_micro_clips_are_tracked() -> None:
    pytest.importorskip("trackeval")
    from benchmarks.video import measure_plot

    from litetext.sam3.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained("micro", "micro-student", device="cpu")
    for plot, least in (("crossing", 0.5), ("hidden", 0.5)):
        scores = measure_plot(segmenter, "association", plot, range(3), split="validation")
        assert scores["hota"]["value"] > least
