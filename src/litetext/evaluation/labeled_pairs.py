"""(Picture, phrase) pairs with known masks, wherever they come from, and what segmenters find on them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Self

from litetext.errors import EncoderError, EvaluationError, ImageError
from litetext.evaluation.cgf1 import CgF1, PairCounts, Tally, choose_best, count_pair, exhaustive_pairs, score
from litetext.evaluation.coco import read_annotations
from litetext.evaluation.coco_json import PairId
from litetext.evaluation.predict import Picture, find_pictures
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.sam3.images import ImageSource
from litetext.sam3.masks import Code, Masks, encode_masks, mask_ious
from litetext.sam3.segmenter import Segmenter

Truths = tuple[tuple[Code, ...], ...]


@dataclass(frozen=True, eq=False)
class LabeledPair:
    """A picture, a phrase, and which masks are right."""

    picture: str  # the name of the picture; those of one picture have the same
    image: ImageSource
    phrase: str
    truths: Truths  # the true masks by each annotator, at least one, as compressed RLE of the picture's size

    def count(self, codes: Sequence[Code]) -> PairCounts:
        """The counts of predicted masks, against the annotator with the highest F1."""
        return choose_best([count_pair(mask_ious(codes, true)) for true in self.truths])


@dataclass(frozen=True, eq=False)
class GoldPairs:
    """The pairs of a set of SA-Co Gold; a picture is read when its turn comes, and let go after it."""

    pictures: tuple[Picture, ...]  # every picture with those of its pairs that all annotators call exhaustive
    truths: Mapping[PairId, Truths]

    @classmethod
    def read(cls, annotators: Sequence[Path], images: Sequence[Path]) -> Self:
        """Read the files of all annotators, with the phrases of the first, and look for each picture in the folders."""
        if not annotators:
            raise EvaluationError("no ground truth", hint="give the file of an annotator or more")
        listed = [read_annotations(path) for path in annotators]
        truths = {
            pair: tuple(tuple(annotator.codes(pair)) for annotator in listed) for pair in exhaustive_pairs(listed)
        }
        pictures = (
            replace(picture, phrases={pair: phrase for pair, phrase in picture.phrases.items() if pair in truths})
            for picture in find_pictures(listed[0].pairs, images)
        )
        return cls(tuple(picture for picture in pictures if picture.phrases), truths)

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.truths)

    def __iter__(self) -> Iterator[LabeledPair]:
        """The pairs, those of a picture one after another."""
        for picture in self.pictures:
            image = picture.read()
            for pair, phrase in picture.phrases.items():
                for height, width in (code["size"] for codes in self.truths[pair] for code in codes):
                    if (height, width) != (image.height, image.width):
                        message = f"{image.width} x {image.height} pixels where a true mask has {width} x {height}"
                        raise ImageError(message, where=str(picture.file), hint="give the picture that was annotated")
                yield LabeledPair(picture.name, image, phrase, self.truths[pair])


def segment_pairs(
    segmenters: Sequence[Segmenter], pairs: Iterable[LabeledPair]
) -> Iterator[tuple[LabeledPair, tuple[Masks, ...]]]:
    """Each pair with the masks that each segmenter finds on it; only those of a batch of phrases are held at once.

    The segmenters are one host with several text encoders: the first embeds each picture, for all. The pairs of a
    picture come one after another.
    """
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        listed = list(group)
        embedding, phrases = segmenters[0].embed(listed[0].image), [pair.phrase for pair in listed]
        found = (segmenter.segment_embedding(embedding, phrases) for segmenter in segmenters)
        for pair, *masks in zip(listed, *found, strict=True):
            yield pair, tuple(masks)


def score_encoder(host: Segmenter, encoder: TextEncoder, pairs: Iterable[LabeledPair]) -> CgF1:
    """Scores of a host that reads the phrases with an encoder."""
    found = segment_pairs([host.with_encoder(encoder)], pairs)
    return score(Tally.of(pair.count(encode_masks(masks.masks)) for pair, (masks,) in found))


@dataclass(frozen=True)
class NullTextEncoder:
    """Stands for a host's text encoder if only others are evaluated: a large one is then never loaded."""

    width: int
    name: str = "no text encoder"
    context_length: int = 2

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Refuse."""
        raise EncoderError(f"{len(texts)} texts for a host without a text encoder", hint="give it one")
