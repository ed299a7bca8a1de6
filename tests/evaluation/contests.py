"""Teachers and students without a model: they answer what a table says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.evaluation.labeled_pairs import LabeledPair
from litetext.sam3.images import read_image
from litetext.sam3.masks import Masks, encode_masks
from litetext.sam3.segmenter import ImageEmbedding, SegmentOptions

SIDE = 10
Stripes = Sequence[tuple[int, int]]
Answer = tuple[int, str]  # number of the picture, phrase


def stripes(ranges: Stripes) -> npt.NDArray[np.bool_]:
    """Masks bool [N, 10, 10] of the pixels first..last-1, counted along the rows."""
    masks = np.zeros((len(ranges), SIDE * SIDE), dtype=np.bool_)
    for mask, (first, last) in zip(masks, ranges, strict=True):
        mask[first:last] = True
    return masks.reshape(len(ranges), SIDE, SIDE)


def as_masks(masks: npt.NDArray[np.bool_], prompt: str) -> Masks:
    count = len(masks)
    return Masks(masks, np.zeros((count, 4), np.float32), np.ones(count, np.float32), prompt)


def known(picture: int, phrase: str, *truths: Stripes) -> LabeledPair:
    """A pair of a grey picture whose grey is its number, with the truth of each annotator."""
    image = np.full((SIDE, SIDE, 3), picture, dtype=np.uint8)
    return LabeledPair(f"{picture}.png", image, phrase, tuple(tuple(encode_masks(stripes(one))) for one in truths))


class Scripted:
    """Answers by the number of the picture and the phrase; what the table does not have is not found."""

    def __init__(self, answers: Mapping[Answer, Stripes], prompt_batch: int = 8) -> None:
        self.answers = answers
        self.options = SegmentOptions(prompt_batch=prompt_batch)
        self.embedded: list[int] = []
        self.asked: list[list[str]] = []

    def embed(self, image: Any) -> ImageEmbedding:
        self.embedded.append(read_image(image).getpixel((0, 0))[0])
        return ImageEmbedding((SIDE, SIDE), self.embedded[-1])

    def segment_embedding(self, embedding: ImageEmbedding, prompts: Sequence[str]) -> list[Masks]:
        self.asked.append(list(prompts))
        return [as_masks(stripes(self.answers.get((embedding.vision, one), ())), one) for one in prompts]
