"""What a segmenter answers for one phrase on one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from litetext.errors import ArrayError, ImageError, MissingExtraError

if TYPE_CHECKING:
    from PIL import Image
    from supervision import Detections

    from litetext.sam3.images import ImageSource


@dataclass(frozen=True, eq=False)
class Masks:
    """N instances of a phrase on an image of H x W pixels.

    Attributes:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], left, top, right, bottom in pixels, as the model says them: not clipped to the image.
        scores: float32 [N], from 0 to 1.
        prompt: the phrase.

    Raises:
        ArrayError: the shapes do not fit together, the masks are not bool, or boxes or scores are not finite.
    """

    masks: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    prompt: str

    def __post_init__(self) -> None:
        """Check what every reader relies on."""
        count = len(self.scores)
        if self.masks.ndim != 3 or len(self.masks) != count or self.boxes.shape != (count, 4) or self.scores.ndim != 1:
            shapes = f"masks {self.masks.shape}, boxes {self.boxes.shape}, scores {self.scores.shape}"
            raise ArrayError(f"not masks [N, H, W] with boxes [N, 4] and scores [N]: {shapes}")
        if self.masks.dtype != np.bool_:
            raise ArrayError(f"masks are {self.masks.dtype}, not bool")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.boxes).all()):
            raise ArrayError(f"boxes or scores of '{self.prompt}' that are not finite", hint="check the host's weights")

    def __len__(self) -> int:
        """The number of instances N."""
        return len(self.scores)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.masks.shape[1], self.masks.shape[2]

    def to_coco(self, image_id: int, category_id: int) -> list[dict[str, Any]]:
        """The instances as COCO annotations: compressed RLE (its counts as a string), box as x, y, width, height.

        Raises:
            MissingExtraError: pycocotools is not installed.
        """
        try:
            from pycocotools import mask as rle
        except ImportError as error:
            raise MissingExtraError("run-length encoding", "sam3") from error
        annotations = []
        for mask, (left, top, right, bottom), score in zip(self.masks, self.boxes.tolist(), self.scores, strict=True):
            code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "segmentation": {"size": list(self.size), "counts": code["counts"].decode("ascii")},
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "score": float(score),
                }
            )
        return annotations

    def to_supervision(self, class_id: int = 0) -> "Detections":
        """The instances as `supervision.Detections`; the phrase is in ``data["class_name"]``.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise MissingExtraError("Detections of supervision", "supervision") from error
        return Detections(
            xyxy=self.boxes.copy(),
            mask=self.masks.copy(),
            confidence=self.scores.copy(),
            class_id=np.full(len(self), class_id),
            data={"class_name": np.full(len(self), self.prompt)},
        )

    def draw(self, image: "ImageSource") -> "Image.Image":
        """The image with the masks laid over it, each with its phrase and score, as a new RGB image.

        Args:
            image: what was segmented.

        Raises:
            ImageError: the image cannot be read, or has another size.
        """
        return draw_all(image, [self])


def draw_all(image: "ImageSource", results: Sequence[Masks]) -> "Image.Image":
    """The image with the masks of several phrases; no two of the first twenty instances have the same colour.

    Raises:
        ImageError: the image cannot be read, or has another size than the masks.
    """
    from litetext.sam3.drawing import draw_instances
    from litetext.sam3.images import read_image

    picture = read_image(image)
    for result in results:
        if result.size != (picture.height, picture.width):
            height, width = result.size
            raise ImageError(
                f"masks of {width} x {height} pixels on an image of {picture.width} x {picture.height}",
                hint="give the image that was segmented",
            )
    return draw_instances(picture, results)
