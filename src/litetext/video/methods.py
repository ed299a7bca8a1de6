"""The ways of tracking by name, and a clip that is tracked while one iterates over it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from litetext.errors import OptionError
from litetext.sam3.segmenter import Segmenter, check_prompts
from litetext.video.tracking import TrackedFrame, Tracker, track_frames

if TYPE_CHECKING:
    from litetext.video.frames import Clip

METHODS = ("association", "tracker")
DEFAULT_METHOD = "association"


def choose_method(method: str) -> str:
    """The method that a name means: "auto" is the one that measures better; an `OptionError` for an unknown name."""
    if method not in ("auto", *METHODS):
        raise OptionError(f"no method '{method}'", hint=f"give auto, {' or '.join(METHODS)}")
    return DEFAULT_METHOD if method == "auto" else method


def make_tracker(
    segmenter: Segmenter,
    prompts: str | Iterable[str],
    method: str = "auto",
    *,
    threshold: float | None = None,
    refine_edges: bool | None = None,
    options: Any = None,
) -> Tracker:
    """A tracker for one clip.

    Args:
        segmenter: finds things in frames; for "tracker" its host is a video model.
        prompts: phrases to begin with.
        method: "association" (detections of each frame are joined), "tracker" (SAM3's own) or "auto".
        threshold: things are followed from a detection with a higher score on; None: as the method has it.
        refine_edges: masks follow the edges of the picture; None: if they are coarse, as `make_masks` has it.
        options: `AssociationOptions` or `TrackerOptions`, instead of these two; None: their defaults.

    Raises:
        OptionError: an unknown method, a phrase without a letter, none at all, or a threshold beside options.
        EncoderError: "tracker", and the segmenter's host has none.
    """
    name, phrases = choose_method(method), check_prompts(prompts)
    if not phrases:
        raise OptionError("no phrase", hint="say what to look for")
    if options is not None and (threshold, refine_edges) != (None, None):
        raise OptionError("a threshold or edges beside options that have them", hint="give either")
    if threshold is not None and not 0 <= threshold < 1:
        raise OptionError(f"a threshold of {threshold}", hint="give at least 0 and less than 1")
    if name == "association":
        from litetext.video.association import AssociationOptions, Associator

        chosen = AssociationOptions(refine_edges=refine_edges)
        if threshold is not None:
            go_on, sure = min(threshold, chosen.go_on), min(threshold, chosen.sure)
            chosen = replace(chosen, begin=threshold, go_on=go_on, sure=sure)
        return Associator(segmenter, phrases, options or chosen)
    from litetext.video.tracker import ModelTracker, TrackerOptions

    confirming = TrackerOptions(refine_edges=refine_edges)
    if threshold is not None:
        confirming = replace(confirming, new_threshold=threshold, threshold=min(threshold, confirming.threshold))
    return ModelTracker(segmenter, phrases, options or confirming)


class Tracking:
    """Iterate over it for the `TrackedFrame`s of a clip; a frame is decoded and tracked when it is asked for.

    A `with` block closes the clip at its end, and so does the last frame.
    """

    def __init__(self, clip: "Clip", tracker: Tracker) -> None:
        self.clip, self.tracker = clip, tracker
        self._frames = track_frames(tracker, clip)

    def __repr__(self) -> str:
        """One line."""
        frames = "" if self.clip.count is None else f", {self.clip.count} frames"
        return f"Tracking('{self.clip.name}'{frames}: iterate over it for TrackedFrame objects)"

    def __iter__(self) -> Iterator[TrackedFrame]:
        return self._frames

    def __next__(self) -> TrackedFrame:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, prompts: str | Iterable[str]) -> None:
        """Look for a phrase or several too, from the next frame on that is decoded."""
        self.tracker.add(check_prompts(prompts))

    def drop(self, prompts: str | Iterable[str]) -> None:
        """Look for a phrase or several no longer; their tracks end."""
        self.tracker.drop(check_prompts(prompts))

    def close(self) -> None:
        """Close the clip before its end."""
        self.clip.close()
