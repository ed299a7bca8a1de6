"""The tracker of `transformers` behind our protocol, with random weights: what holds whatever the weights are.

Untrained, it loses a thing in the next frame, so that each frame begins tracks; `surer` never loses one, but what it
follows has any shape. Between them all books are written.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from litetext.errors import EncoderError, OptionError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.features.protocol import TextFeatures  # noqa: E402
from litetext.features.ragged import pad  # noqa: E402
from litetext.micro.clips import make_clip  # noqa: E402
from litetext.micro.tracker_model import join_tracker, micro_video_config  # noqa: E402
from litetext.sam3.host import load_host, load_processor  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402
from litetext.video.postprocess import own_kernels  # noqa: E402
from litetext.video.snapshots import read_snapshot, write_snapshot  # noqa: E402
from litetext.video.tracker import ModelTracker, TrackerOptions  # noqa: E402
from litetext.video.tracking import Frame, TrackedFrame, track_frames  # noqa: E402

PHRASES = ["the shark", "the television", "the red cat"]
LOOSE = TrackerOptions(threshold=0.05, new_threshold=0.3, most_things=3, unconfirmed=1000, recondition_every=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Of an untrained tracker; the text is read by the small student, and the detector has no tower."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Sam3VideoModel(micro_video_config())
    tensors = {f"tracker_model.{name}": tensor for name, tensor in model.tracker_model.state_dict().items()}
    host = join_tracker(load_host("micro", text_tower=False, device="cpu"), tensors)
    encoder = load_encoder("micro-student", device="cpu")
    return Segmenter(host, encoder, load_processor("micro", host))


@pytest.fixture(scope="module")
def surer(segmenter: Segmenter) -> Segmenter:
    tracker = segmenter.host.tracker_model
    tensors = {f"tracker_model.{name}": tensor.clone() for name, tensor in tracker.state_dict().items()}
    tensors["tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias"] += 50.0
    host = join_tracker(segmenter.detector, tensors)
    return Segmenter(host, segmenter.encoder, segmenter.processor)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    clip = make_clip(3, "ordinary", length=24)
    return [Frame(2 * number, number / 12, pixels) for number, (pixels, _) in enumerate(clip)]


def follow(tracker: ModelTracker, frames: Sequence[Frame]) -> list[TrackedFrame]:
    return list(track_frames(tracker, frames))


def same(one: Sequence[TrackedFrame], other: Sequence[TrackedFrame]) -> bool:
    return len(one) == len(other) and all(
        (a.index, a.time, a.prompts) == (b.index, b.time, b.prompts)
        and np.array_equal(a.ids, b.ids)
        and np.array_equal(a.scores, b.scores)
        and np.array_equal(a.masks, b.masks)
        for a, b in zip(one, other, strict=True)
    )


def saved(state: dict[str, Any]) -> Any:
    """A state after a file."""
    with TemporaryDirectory() as folder:
        write_snapshot(Path(folder) / "snapshot", state)
        return read_snapshot(Path(folder) / "snapshot")


class Counting:
    """An encoder that notes what it reads, and gives arrays as an exported one or a bank does."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.read = encoder, list[str]()
        self.name, self.context_length, self.width = "counting", encoder.context_length, encoder.width

    def encode(self, texts: Sequence[str]) -> Any:
        self.read += texts
        return self.encoder.encode(texts).numpy()


def test_every_frame_comes_out_in_order_with_ids_that_grow_without_a_gap(
    segmenter: Segmenter, surer: Segmenter, frames: list[Frame]
) -> None:
    for model in (segmenter, surer):
        tracked = follow(ModelTracker(model, PHRASES, LOOSE), frames[:8])
        assert [(one.index, one.time) for one in tracked] == [(frame.index, frame.time) for frame in frames[:8]]
        firsts = list(dict.fromkeys(number for one in tracked for number in one.ids.tolist()))
        assert firsts == list(range(1, len(firsts) + 1))
        assert len(firsts) > 1
        for one in tracked:
            assert one.masks.shape[1:] == frames[0].pixels.shape[:2]
            assert one.masks.any(axis=(1, 2)).all()
            assert ((one.scores > 0) & (one.scores <= 1)).all()
            for phrase in set(one.prompts):  # no two things of a phrase share a pixel
                rows = [place for place, prompt in enumerate(one.prompts) if prompt == phrase]
                assert one.masks[rows].sum(axis=0).max() == 1


def test_a_phrase_is_read_once_and_a_frame_is_embedded_once(
    segmenter: Segmenter, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder: Any = Counting(segmenter.encoder)
    embedded = []
    stock = segmenter.detector.get_vision_features
    monkeypatch.setattr(segmenter.detector, "get_vision_features", lambda **given: embedded.append(1) or stock(**given))
    tracker = ModelTracker(Segmenter(segmenter.host, encoder, segmenter.processor), PHRASES[:2])
    tracked = follow(tracker, frames[:2])
    tracker.add([PHRASES[1], PHRASES[2]])
    tracked += follow(tracker, frames[2:4])
    assert encoder.read == PHRASES
    assert len(embedded) == 4
    assert same(tracked[:2], follow(ModelTracker(segmenter, PHRASES[:2]), frames[:2]))


def test_phrases_in_a_batch_find_what_they_find_alone(segmenter: Segmenter, frames: list[Frame]) -> None:
    """Also where a phrase of 32 tokens makes the others be padded."""
    long = " ".join(["the very long"] * 20)
    found = []
    for batch, phrases in ((1, PHRASES), (2, PHRASES), (8, [*PHRASES, long])):
        tracker = ModelTracker(segmenter, phrases, replace(LOOSE, threshold=0.0, prompt_batch=batch))
        pixels = segmenter.processor(images=frames[0].pixels, return_tensors="pt")["pixel_values"]
        with torch.inference_mode(), own_kernels():
            vision = segmenter.detector.get_vision_features(pixel_values=pixels)
            detections, owners = tracker._detect(vision, (160, 160))
        ours = [place for place, owner in enumerate(owners) if owner < len(PHRASES)]
        found.append((detections["mask"][ours], detections["scores"][ours], [owners[place] for place in ours]))
    alone = found[0]
    assert len(set(alone[2])) == len(PHRASES)
    for masks, scores, owners in found[1:]:
        assert owners == alone[2]
        torch.testing.assert_close(masks, alone[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(scores, alone[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [3, 5, 8, 16, 32])
def test_any_number_of_tokens_gives_the_same_masks(segmenter: Segmenter, frames: list[Frame], length: int) -> None:
    rows = [torch.as_tensor(row) for row in ModelTracker(segmenter, ["shark"])._features.values()]
    assert len(rows[0]) == 3
    embedding = segmenter.embed(frames[0].pixels)
    alone = segmenter.host_engine.run_features(embedding, TextFeatures(*pad(rows)))
    padded = segmenter.host_engine.run_features(embedding, TextFeatures(*pad(rows, least=length)))
    torch.testing.assert_close(padded.pred_masks, alone.pred_masks, rtol=0, atol=1e-3)
    assert ((padded.pred_masks > 0) != (alone.pred_masks > 0)).float().mean() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("options", [LOOSE, replace(LOOSE, delay=5, patience=2)])
def test_whoever_restores_a_state_answers_as_if_nothing_had_been(
    surer: Segmenter, frames: list[Frame], options: TrackerOptions
) -> None:
    def play(tracker: ModelTracker, first: int, last: int) -> list[TrackedFrame]:
        tracked = []
        for number in range(first, last):
            if number == 3:
                tracker.add(["the tree"])
            if number == 6:
                tracker.drop([PHRASES[0]])
            tracked += tracker.step(frames[number])
        return tracked

    whole = ModelTracker(surer, PHRASES, options)
    results = [play(whole, number, number + 1) for number in range(8)] + [list(whole.finish())]
    for stop in (2, 5):
        broken = ModelTracker(surer, PHRASES, options)
        play(broken, 0, stop)
        state = broken.state()
        before = saved(state)
        play(broken, stop, 8)  # which leaves the state as it was
        resumed = ModelTracker(surer, [], options)
        resumed.restore(saved(state))
        assert str(saved(state)) == str(before)
        rest = [*play(resumed, stop, 8), *resumed.finish()]
        assert same(rest, [one for part in results[stop:] for one in part])


@pytest.mark.slow
def test_what_is_forgotten_is_not_missed(
    surer: Segmenter, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conditioning frames apart, of which only the last ones are meant to be read."""
    options = replace(LOOSE, recondition_every=0, most_things=2)
    thrifty = follow(ModelTracker(surer, PHRASES, options), frames)
    monkeypatch.setattr(ModelTracker, "_forget", lambda _: None)
    assert same(thrifty, follow(ModelTracker(surer, PHRASES, options), frames))


@pytest.mark.slow
def test_what_is_kept_does_not_grow(surer: Segmenter, frames: list[Frame]) -> None:
    tracker = ModelTracker(surer, PHRASES, replace(LOOSE, recondition_every=1, most_things=2, patience=4, delay=3))
    sizes = []
    for number in range(44):
        tracker.step(replace(frames[number % 4], index=number))
        state = tracker.state()
        memories = [part for thing in state["output_dict_per_obj"].values() for part in thing.values()]
        assert max(len(part) for part in memories) <= 16
        sizes.append(sum(len(value) for value in state.values() if isinstance(value, dict | list)))
    assert max(sizes[24:]) <= max(sizes[4:24])
    config = tracker._model.tracker_model.config
    compact = next(iter(memories[0].values()))
    assert compact["maskmem_features"].untyped_storage().nbytes() == 16 * 16 * config.memory_encoder_output_channels * 2
    assert tracker._session.processed_frames is None


def test_things_that_are_not_seen_are_forgotten_and_there_are_never_too_many(
    segmenter: Segmenter, frames: list[Frame]
) -> None:
    options = replace(LOOSE, most_things=4, patience=2)
    tracker = ModelTracker(segmenter, PHRASES, options)
    for frame in frames[:8]:
        tracker.step(frame)
        assert len(tracker._session.obj_ids) <= 4
        assert all(tracker._number - 1 - last <= 2 for last in tracker._seen.values())
    assert tracker._shown > 4


def test_frames_are_held_back_by_the_delay_and_what_is_taken_back_is_in_none(
    surer: Segmenter, frames: list[Frame]
) -> None:
    at_once = follow(ModelTracker(surer, PHRASES, LOOSE), frames[:9])
    tracker = ModelTracker(surer, PHRASES, replace(LOOSE, delay=4))
    counts = [len(tracker.step(frame)) for frame in frames[:9]]
    assert counts == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert [one.index for one in tracker.finish()] == [frame.index for frame in frames[6:9]]
    assert not tracker.finish()
    patient = follow(ModelTracker(surer, PHRASES, replace(LOOSE, delay=4)), frames[:9])
    # Nothing confirms what has any shape: whatever it followed at first is taken back before it was ever shown.
    assert at_once[0].ids.tolist()
    assert sum(len(one) for one in patient) < sum(len(one) for one in at_once)


def test_phrases_come_and_go_and_ids_are_not_used_again(segmenter: Segmenter, frames: list[Frame]) -> None:
    tracker = ModelTracker(segmenter, PHRASES[:1])
    first = tracker.step(frames[0])[0]
    assert set(first.prompts) == {PHRASES[0]}
    tracker.drop(PHRASES)
    tracker.drop([PHRASES[0]])
    none = tracker.step(frames[1])[0]
    assert (len(none), none.masks.shape) == (0, (0, 160, 160))
    tracker.add(PHRASES[0])
    again = tracker.step(frames[2])[0]
    assert set(again.prompts) == {PHRASES[0]}
    assert again.ids.min() > first.ids.max()


def test_the_host_stays_as_it_was(segmenter: Segmenter, frames: list[Frame]) -> None:
    from transformers.models.sam3_video import modeling_sam3_video as video

    settings = {name: value for name, value in vars(segmenter.host).items() if not name.startswith("_")}
    kernels = video.cv_utils_kernel
    ModelTracker(segmenter, PHRASES, replace(LOOSE, delay=7)).step(frames[0])
    assert {name: value for name, value in vars(segmenter.host).items() if not name.startswith("_")} == settings
    assert type(segmenter.host) is transformers.Sam3VideoModel
    assert type(segmenter.host.tracker_model) is transformers.Sam3TrackerVideoModel
    assert video.cv_utils_kernel is kernels


def test_a_host_without_a_tracker_and_things_that_are_no_phrase() -> None:
    host = load_host("micro", device="cpu")
    with pytest.raises(EncoderError, match="this model has no tracker"):
        ModelTracker(Segmenter(host, processor=load_processor("micro", host)), PHRASES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.0},
        {"new_threshold": -0.1},
        {"duplicate_iou": 2},
        {"delay": 16},
        {"delay": -1},
        {"recondition_every": -1},
        {"fill_area": -1},
        {"unconfirmed": 0},
        {"patience": -1},
        {"most_things": 0},
        {"prompt_batch": 0},
    ],
)
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        TrackerOptions(**wrong)


def test_holes_are_filled_in_proportion_to_the_masks(segmenter: Segmenter) -> None:
    assert ModelTracker(segmenter)._model.fill_hole_area == 1
    assert ModelTracker(segmenter, (), TrackerOptions(fill_area=5))._model.fill_hole_area == 5
