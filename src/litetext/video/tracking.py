"""What every way of tracking gives and takes: frames in, tracked frames out, phrases that come and go."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture of a clip.

    Attributes:
        index: its number in the clip, from 0; frames that are left out are counted.
        time: seconds since the beginning of the clip.
        pixels: uint8 [H, W, 3], RGB, upright.
    """

    index: int
    time: float
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """The N things that are seen in a frame, each with the id that it has in the whole clip.

    Attributes:
        index: number of the frame, as `Frame` has it.
        time: seconds, as `Frame` has it.
        ids: int64 [N], from 1; never used again for another thing, whatever its phrase.
        prompts: the phrase of each.
        scores: float32 [N], from 0 to 1.
        masks: bool [N, H, W], none of them empty.

    Raises:
        ArrayError: the shapes do not fit together, or an id is there twice.
    """

    index: int
    time: float
    ids: npt.NDArray[np.int64]
    prompts: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check what every reader relies on."""
        count = len(self.ids)
        if self.masks.ndim != 3 or not count == len(self.prompts) == len(self.scores) == len(self.masks):
            shapes = f"ids {self.ids.shape}, scores {self.scores.shape}, masks {self.masks.shape}"
            raise ArrayError(f"not N ids, scores and masks [N, H, W]: {shapes}, {len(self.prompts)} phrases")
        if len(np.unique(self.ids)) != count:
            raise ArrayError(f"an id is there twice in frame {self.index}")

    def __repr__(self) -> str:
        """One line."""
        things = ", ".join(f"{phrase} {number}" for number, phrase in zip(self.ids.tolist(), self.prompts, strict=True))
        return f"TrackedFrame({self.index}: {things or 'nothing'})"

    def __len__(self) -> int:
        """The number of things N."""
        return len(self.ids)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """The box around each mask, float32 [N, 4]: left, top, right, bottom in pixels, the last two exclusive."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for box, mask in zip(boxes, self.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if len(rows):
                box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes


class Tracker(Protocol):
    """Follows the things that phrases name through the frames of one clip, in constant memory.

    What it answers for a frame depends on this frame and those before it, and on those of its delay: it is the same
    whether the clip comes from a file or a camera.
    """

    def add(self, prompts: Iterable[str]) -> None:
        """Look for these phrases too, from the next frame on; those that are there already stay as they are."""

    def drop(self, prompts: Iterable[str]) -> None:
        """Look for these phrases no longer; their things end, and their ids are not used again."""

    def step(self, frame: Frame) -> Sequence[TrackedFrame]:
        """Take the next frame; what is settled by now is returned, in order: none, one or several earlier frames."""

    def finish(self) -> Sequence[TrackedFrame]:
        """The frames that were held back, after the last `step`."""

    def state(self) -> dict[str, Any]:
        """Everything that later answers depend on, in nested dicts and lists of tensors, numbers, strings and None."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, in a tracker that was made in the same way."""


def track_frames(tracker: Tracker, frames: Iterable[Frame]) -> Iterator[TrackedFrame]:
    """The tracked frames of a clip, one for each frame and in their order; a frame is decoded when it is asked for."""
    for frame in frames:
        yield from tracker.step(frame)
    yield from tracker.finish()


def copy_state(value: Any, device: Any = None) -> Any:
    """A copy of a state: new dicts and lists; arrays and tensors, never changed in place, are shared or moved."""
    if isinstance(value, dict):
        return {key: copy_state(part, device) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [copy_state(part, device) for part in value]
    return value.to(device) if device is not None and hasattr(value, "to") else value
