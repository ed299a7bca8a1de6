"""Ways of tracking by name, and phrases that come and go while a clip runs."""

import re
from typing import Any

import pytest

pytest.importorskip("torch")

from litetext.errors import LiteTextError, OptionError
from litetext.video.methods import DEFAULT_METHOD, METHODS, Tracking, choose_method, make_tracker
from tests.video.fakes import FakeClip, FakeTracker

pytestmark = pytest.mark.torch


def test_names() -> None:
    assert choose_method("auto") == DEFAULT_METHOD in METHODS
    for method in METHODS:
        assert choose_method(method) == method
    with pytest.raises(OptionError, match="magic"):
        choose_method("magic")


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "no phrase"),
        ([" "], {}, "empty phrase"),
        (["dog"], {"threshold": 1.5}, "threshold"),
        (["dog"], {"threshold": 0.5, "options": object()}, "threshold"),
    ],
)
def test_what_makes_no_sense(prompts: Any, options: dict[str, Any], message: str) -> None:
    segmenter: Any = None
    with pytest.raises(LiteTextError, match=message):
        make_tracker(segmenter, prompts, **options)


def test_a_threshold_is_where_tracks_begin() -> None:
    from litetext.sam3.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained("micro", device="cpu")
    assert make_tracker(segmenter, "dog", threshold=0.2).options.begin == 0.2  # type: ignore[attr-defined]
    with pytest.raises(LiteTextError, match=re.escape("--method association")):
        make_tracker(segmenter, "dog", "tracker")


def test_phrases_come_and_go_while_a_clip_runs() -> None:
    frames: Any = FakeClip(9)
    with Tracking(frames, FakeTracker(["dog"], delay=0)) as tracking:
        assert set(next(tracking).prompts) == {"dog"}
        tracking.add("cat")
        assert set(next(tracking).prompts) == {"dog", "cat"}
        tracking.drop(["dog"])
        assert {prompt for frame in tracking for prompt in frame.prompts} == {"cat"}
        with pytest.raises(OptionError):
            tracking.add(" ")


def test_frames_are_decoded_when_they_are_asked_for() -> None:
    decoded: list[int] = []
    frames: Any = FakeClip(9)
    frames.on_frame = decoded.append
    tracking = Tracking(frames, FakeTracker(["dog"], delay=0))
    assert decoded == []
    next(tracking)
    assert decoded == [0]
