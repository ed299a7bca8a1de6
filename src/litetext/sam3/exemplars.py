"""Boxes that show a segmenter what is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Boxes that show what is meant, beside the phrase.

    Attributes:
        boxes: K boxes, left, top, right, bottom in pixels of the image.
        positive: for each box whether it shows what is meant (True) or what is not; None: all do.

    Raises:
        OptionError: not boxes [K, 4] with at least one pixel each, or another number of marks than boxes.
    """

    boxes: npt.ArrayLike
    positive: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        boxes = self.corners
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise OptionError(f"exemplars of shape {list(boxes.shape)}", hint="give [[left, top, right, bottom], ...]")
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise OptionError("an exemplar without an area", hint="give left < right and top < bottom")
        if len(self.marks) != len(boxes):
            raise OptionError(f"{len(self.marks)} marks for {len(boxes)} exemplars", hint="give one for each box")

    @property
    def corners(self) -> npt.NDArray[np.float64]:
        """The boxes, float64 [K, 4]."""
        return np.asarray(self.boxes, dtype=np.float64)

    @property
    def marks(self) -> npt.NDArray[np.int64]:
        """1 for what is meant and 0 for what is not, int64 [K]."""
        if self.positive is None:
            return np.ones(len(self.corners), dtype=np.int64)
        return np.asarray(self.positive, dtype=np.int64)

    def to_host(self, size: tuple[int, int], count: int, like: "Tensor") -> dict[str, "Tensor"]:
        """The boxes as a host reads them: centre, width and height as shares of the image, the same for each phrase.

        Args:
            size: height and width of the image in pixels.
            count: B phrases.
            like: says device and number type.

        Returns:
            ``input_boxes`` [B, K, 4] and ``input_boxes_labels`` int64 [B, K].
        """
        import torch

        height, width = size
        left, top, right, bottom = (self.corners / [width, height, width, height]).T
        shares = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=1)
        boxes = torch.from_numpy(shares).to(like)
        marks = torch.from_numpy(self.marks).to(like.device)
        return {
            "input_boxes": boxes.expand(count, -1, -1).contiguous(),
            "input_boxes_labels": marks.expand(count, -1).contiguous(),
        }
