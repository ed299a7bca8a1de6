"""Masks: what a segmenter finds for one phrase on one image, their COCO code (RLE) and their overlap."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.errors import ArrayError, ImageError, MissingExtraError

if TYPE_CHECKING:
    from PIL import Image
    from supervision import Detections

    from litetext.sam3.images import ImageSource

Code = Mapping[str, Any]  # a mask as compressed RLE: size [height, width], counts as bytes
MAX_FLOATS = 2**24  # 64 MiB of float32: what a resized mask may take at once before it becomes bool
SHOWN = 1024  # pixels of the longer side of what a notebook shows: it keeps each picture in its file


@dataclass(frozen=True, eq=False)
class Masks:
    """N instances of a phrase on an image of H x W pixels; iterating gives (mask, box, score) of each.

    Attributes:
        masks: bool [N, H, W].
        boxes: float32 [N, 4], left, top, right, bottom in pixels, as the model gives them: not clipped to the image.
        scores: float32 [N], from 0 to 1.
        prompt: the phrase.
        image: what was segmented, as it was given: nothing is copied, a path is read again to draw. None: not known.

    Raises:
        ArrayError: the shapes do not fit together, the masks are not bool, or boxes or scores are not finite.
    """

    masks: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    prompt: str
    image: "ImageSource | None" = None

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

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], float]]:
        """Mask [H, W], box [4] and score of each instance."""
        return zip(self.masks, self.boxes, self.scores.tolist(), strict=True)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self.masks.shape[1], self.masks.shape[2]

    def to_coco(self, image_id: int, category_id: int) -> list[dict[str, Any]]:
        """The instances as COCO annotations: compressed RLE (its counts as a string), box as x, y, width, height."""
        codes = encode_masks(self.masks)
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                "segmentation": {"size": list(self.size), "counts": code["counts"].decode("ascii")},
                "bbox": [left, top, right - left, bottom - top],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "score": score,
            }
            for (mask, box, score), code in zip(self, codes, strict=True)
            for left, top, right, bottom in [box.tolist()]
        ]

    def to_supervision(self, class_id: int = 0) -> "Detections":
        """The instances as `supervision.Detections`; the phrase is in ``data["class_name"]``."""
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

    def draw(self, image: "ImageSource | None" = None) -> "Image.Image":
        """The image with the masks drawn over it, each with its phrase and score, as a new RGB image.

        None for ``image`` takes the one that was segmented.
        """
        return ImageMasks([self]).draw(image)

    def __repr__(self) -> str:
        """One line."""
        found = f"{len(self)} found, best score {self.scores.max():.2f}" if len(self) else "none found"
        return f"Masks('{self.prompt}': {found}, {self.size[1]} x {self.size[0]} pixels)"

    def _repr_png_(self) -> bytes | None:
        return ImageMasks([self])._repr_png_()


class ImageMasks(list[Masks]):
    """The masks of several phrases on one image: a list of `Masks` that a notebook shows as one picture."""

    def draw(self, image: "ImageSource | None" = None) -> "Image.Image":
        """The image with all masks drawn over it in a color for each phrase; None takes the one that was segmented."""
        from litetext.sam3.drawing import draw_instances
        from litetext.sam3.images import read_image

        known = [masks.image for masks in self if masks.image is not None]
        if image is None and not known:
            raise ImageError("masks of an image that is not known", hint="give the image that was segmented")
        picture = read_image(known[0] if image is None else image)
        for height, width in (masks.size for masks in self):
            if (height, width) != (picture.height, picture.width):
                message = f"masks of {width} x {height} pixels on an image of {picture.width} x {picture.height}"
                raise ImageError(message, hint="give the image that was segmented")
        return draw_instances(picture, self)

    def _repr_png_(self) -> bytes | None:
        """The picture; None, so that the text is shown, where the image is not known or not there any more."""
        try:
            picture = self.draw()
        except (ImageError, ValueError):  # ValueError: a PIL image that was closed since
            return None
        picture.thumbnail((SHOWN, SHOWN))
        picture.save(file := io.BytesIO(), "PNG")
        return file.getvalue()


def encode_masks(masks: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Masks, bool [N, H, W], as compressed RLE: ``size`` [H, W], ``counts`` as bytes."""
    return [dict(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))) for mask in masks]


def decode_masks(codes: Sequence[Code], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Compressed RLE of masks of that height and width as bool [N, H, W]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools asks NumPy 2 in the manner of NumPy 1
        decoded = [coco_mask.decode(code) for code in codes]
    return np.array(decoded, dtype=np.bool_).reshape(len(codes), *size)


def mask_ious(predictions: Sequence[Code], truths: Sequence[Code]) -> npt.NDArray[np.float64]:
    """IoU [P, G] of compressed RLE masks; at most 0 where two masks have different sizes."""
    if not predictions or not truths:
        return np.zeros((len(predictions), len(truths)))
    ious: npt.NDArray[np.float64] = coco_mask.iou(list(predictions), list(truths), [0] * len(truths))
    return ious


@dataclass(frozen=True, eq=False)
class RawMasks:
    """What a model says of B phrases on an image before any threshold, Q candidates for each.

    Attributes:
        classes: float32 [B, Q], how sure the model is of each, given that the phrase is there at all.
        boxes: float32 [B, Q, 4], left, top, right, bottom from 0 to 1.
        masks: logits [B, Q, h, w], an array or a tensor on any device.
        presence: float32 [B, 1], how sure the model is that the phrase is there; 1 where the classes say that, too.
    """

    classes: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    masks: Any
    presence: npt.NDArray[np.float32] | float = 1.0

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Class times presence, float32 [B, Q]."""
        return self.classes * self.presence

    def logits(self, row: int, kept: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The mask logits of some candidates of a phrase, float32 [N, h, w]; no others leave their device."""
        chosen = self.masks[row, kept]
        return np.asarray(chosen if isinstance(chosen, np.ndarray) else chosen.float().cpu().numpy(), dtype=np.float32)


def to_masks(
    raw: RawMasks, prompts: Sequence[str], size: tuple[int, int], threshold: float, mask_threshold: float
) -> list[Masks]:
    """Masks of B phrases on one image, as SAM3 makes them, best scores first.

    Args:
        raw: what the model says.
        prompts: B of them.
        size: height and width of the image in pixels.
        threshold: scores must be above it.
        mask_threshold: a pixel is in where the resized probability is above it.
    """
    height, width = size
    scale = np.array([width, height, width, height], dtype=np.float32)
    results = []
    for row, (prompt, scores) in enumerate(zip(prompts, raw.scores, strict=True)):
        kept = np.argsort(-scores, kind="stable")[: int((scores > threshold).sum())]
        masks = resize_masks(raw.logits(row, kept), size, mask_threshold)
        results.append(Masks(masks, raw.boxes[row, kept] * scale, scores[kept], prompt))
    return results


def resize_masks(logits: npt.NDArray[Any], size: tuple[int, int], threshold: float) -> npt.NDArray[np.bool_]:
    """Where the probability of logits [N, h, w], resized bilinearly, is above a threshold: bool [N, H, W].

    As `torch.nn.functional.interpolate` with ``align_corners=False`` computes it, but only around cells that are above
    the threshold themselves: a mean of its neighbors is above it nowhere else.
    """
    masks = np.zeros((len(logits), *size), dtype=np.bool_)
    for mask, one in zip(masks, logits, strict=True):
        with np.errstate(over="ignore"):
            probabilities = 1 / (1 + np.exp(-one.astype(np.float32)))
        inside = probabilities > threshold
        if inside.any():
            spans = [_span(inside.any(axis=1 - axis), size[axis]) for axis in (0, 1)]
            _resize_within(mask, probabilities, spans[0], spans[1], threshold)
    return masks


def _resize_within(
    mask: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float32], rows: slice, columns: slice, threshold: float
) -> None:
    """Write into a part of a mask [H, W] where the resized probability is above a threshold."""
    low, high, share = (one[columns] for one in _neighbors(probabilities.shape[1], mask.shape[1]))
    wide = probabilities[:, low] * (1 - share) + probabilities[:, high] * share  # [h, columns]
    low, high, share = _neighbors(probabilities.shape[0], mask.shape[0])
    step = max(1, MAX_FLOATS // max(1, wide.shape[1]))
    for start in range(rows.start, rows.stop, step):
        part = slice(start, min(start + step, rows.stop))
        weight = share[part, None]
        mask[part, columns] = wide[low[part]] * (1 - weight) + wide[high[part]] * weight > threshold


def _span(inside: npt.NDArray[np.bool_], count: int) -> slice:
    """Of an axis that is resized to ``count``, the part that cells [n] which are inside have a share in."""
    cells = np.flatnonzero(inside)
    low, high, _ = _neighbors(len(inside), count)
    reached = np.flatnonzero((high >= cells[0]) & (low <= cells[-1]))
    # A smaller size may skip them.
    return slice(int(reached[0]), int(reached[-1]) + 1) if reached.size else slice(0, 0)


@lru_cache(maxsize=64)
def _neighbors(old: int, new: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Of each of ``new`` places the two cells of ``old`` on either side, and the share of the second one."""
    scale = np.float32(old) / np.float32(new)
    places = np.maximum(scale * (np.arange(new, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    low = np.minimum(places.astype(np.int64), old - 1)
    return low, np.minimum(low + 1, old - 1), places - low.astype(np.float32)
