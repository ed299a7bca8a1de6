"""Clips: what their plots promise, and that the same arguments give the same bytes."""

import numpy as np
import pytest

from litetext.errors import OptionError
from litetext.micro.clips import LENGTHS, MIN_PIXELS, PLOTS, Plot, make_clip
from litetext.micro.concepts import held_out_nouns
from litetext.micro.glyphs import COLOURS


@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot(plot: Plot) -> None:
    for seed in range(4):
        clip = make_clip(seed, plot, split="test")
        assert len(clip) == LENGTHS[plot]
        assert 2 <= len(clip.phrases) <= 3
        assert len({phrase.text for phrase in clip.phrases}) == len(clip.phrases)
        absent = clip.phrases[-1]
        assert absent.kind in ("absent", "hard")
        assert not absent.names.any()
        for frame, (pixels, masks) in enumerate(clip):
            assert pixels.shape == (160, 160, 3)
            assert pixels.dtype == np.uint8
            assert np.sum(masks, axis=0).max() <= 1  # disjoint
            for phrase in clip.phrases:
                true = clip.true_masks(phrase, frame, masks)
                assert all(mask.sum() >= MIN_PIXELS for mask in true.values())
        assert all(phrase.names.any() for phrase in clip.phrases[:-1])


def test_the_same_arguments_give_the_same_bytes_and_frames_can_be_drawn_in_any_order() -> None:
    one, other = make_clip(5, "shaky"), make_clip(5, "shaky")
    frames = [pixels for pixels, _ in one]
    assert [phrase.text for phrase in one.phrases] == [phrase.text for phrase in other.phrases]
    for frame in (11, 3):
        assert np.array_equal(other.draw(frame)[0], frames[frame])
    assert not np.array_equal(make_clip(5, "shaky", split="test").draw(0)[0], frames[0])


def test_twins_cross() -> None:
    clip = make_clip(1, "crossing")
    first, second = clip.things[-2:]
    assert (first.concept, first.colour) == (second.concept, second.colour)
    apart = first.path[:, :2] - second.path[:, :2]
    assert (apart[0] @ apart[-1]) < 0  # they have changed sides
    assert clip.phrases[0].names.all(axis=1).tolist()[-2:] == [True, True]


@pytest.mark.parametrize("plot", ["hidden", "returning"])
def test_the_first_thing_is_gone_for_a_while(plot: Plot) -> None:
    clip = make_clip(2, plot)
    seen = [masks[0].sum() >= MIN_PIXELS for _, masks in clip]
    assert all(seen[:3])
    assert all(seen[-3:])
    assert seen.count(False) >= 3


def test_a_cut_ends_everything() -> None:
    clip = make_clip(3, "cut")
    at = max(thing.start for thing in clip.things)
    assert 0 < at < len(clip)
    assert {thing.stop for thing in clip.things if thing.start == 0} == {at}
    _, masks = clip.draw(at)
    assert not any(mask.any() for mask, thing in zip(masks, clip.things, strict=True) if thing.start == 0)


def test_a_changing_phrase_is_true_at_first_and_not_at_last() -> None:
    for seed in range(6):
        clip = make_clip(seed, "changing")
        names = clip.phrases[0].names[0]
        assert names[0]
        assert not names[-1]
        assert np.count_nonzero(np.diff(names)) == 1


def test_training_says_no_held_out_noun() -> None:
    texts = [phrase.text for seed in range(40) for phrase in make_clip(seed, "ordinary").phrases]
    drop = {"a", "an", "the", *COLOURS}
    said = {" ".join(word for word in text.split() if word not in drop) for text in texts}
    assert len(said) > 60
    assert not said & held_out_nouns()


@pytest.mark.parametrize(
    "wrong",
    [{"plot": "chase"}, {"size": 20}, {"length": 2}, {"seed": -1}, {"plot": "returning", "length": 8, "size": 48}],
)
def test_wrong_arguments(wrong: dict[str, int | str]) -> None:
    with pytest.raises(OptionError):
        make_clip(**{"seed": 0, "plot": "ordinary", **wrong})  # type: ignore[arg-type]
