"""(Picture, phrase) pairs whose truth is known, wherever they come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from PIL.Image import Image

from litetext.errors import EvaluationError, ImageError
from litetext.evaluation.cgf1 import exhaustive_pairs
from litetext.evaluation.coco import Annotations, encode, read_annotations
from litetext.evaluation.coco_json import PairId
from litetext.evaluation.predict import Picture, find_pictures, open_picture
from litetext.sam3.images import ImageSource

Code = Mapping[str, Any]  # a mask as compressed RLE
Truths = tuple[tuple[Code, ...], ...]


@dataclass(frozen=True, eq=False)
class LabeledPair:
    """A picture, a phrase, and which masks are right.

    Attributes:
        picture: the name of the picture; those of one picture have the same.
        image: the picture, as `read_image` takes it.
        phrase: what is asked.
        truths: the true masks by each annotator, at least one, as compressed RLE of the picture's size.
    """

    picture: str
    image: ImageSource
    phrase: str
    truths: Truths


@dataclass(frozen=True, eq=False)
class GoldPairs:
    """The pairs of a set of SA-Co Gold; a picture is read when its turn comes, and let go after it.

    Attributes:
        pictures: every picture with those of its pairs that all annotators call exhaustive.
        truths: the true masks of each pair, by each annotator.
    """

    pictures: tuple[Picture, ...]
    truths: Mapping[PairId, Truths]

    @classmethod
    def read(cls, annotators: Sequence[Path], images: Sequence[Path]) -> Self:
        """Read the annotations and look for every picture.

        Args:
            annotators: the file of each annotator; the first one says the phrases.
            images: folders that ``file_name`` starts in; the first that has the picture.

        Raises:
            EvaluationError: a file cannot be read, or the files do not belong together.
            ImageError: a picture is missing.
        """
        if not annotators:
            raise EvaluationError("no ground truth", hint="give the file of an annotator or more")
        listed = [read_annotations(path) for path in annotators]
        truths = {pair: tuple(_codes(one, pair) for one in listed) for pair in exhaustive_pairs(listed)}
        pictures = (
            replace(one, phrases={pair: phrase for pair, phrase in one.phrases.items() if pair in truths})
            for one in find_pictures({pair: one.entry for pair, one in listed[0].pairs.items()}, images)
        )
        return cls(tuple(one for one in pictures if one.phrases), truths)

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.truths)

    def __iter__(self) -> Iterator[LabeledPair]:
        """The pairs, those of a picture one after another.

        Raises:
            ImageError: a picture cannot be read, or has another size than the annotations say.
        """
        for picture in self.pictures:
            image = open_picture(picture)
            for pair, phrase in picture.phrases.items():
                _check_sizes(self.truths[pair], picture, image)
                yield LabeledPair(picture.name, image, phrase, self.truths[pair])


def _check_sizes(truths: Truths, picture: Picture, image: Image) -> None:
    """Refuse true masks of another size than the picture's, whose size the annotations may not say."""
    for code in (code for some in truths for code in some):
        height, width = code["size"]
        if (height, width) != (image.height, image.width):
            raise ImageError(
                f"{image.width} x {image.height} pixels where a true mask has {width} x {height}",
                where=str(picture.file),
                hint="give the picture that was annotated",
            )


def _codes(annotator: Annotations, pair: PairId) -> tuple[Code, ...]:
    """The true masks of a pair by an annotator."""
    size, where = annotator.pairs[pair].size, f"{annotator.name}, pair {pair!r}"
    return tuple(encode(mask, size, where) for mask in annotator.masks.get(pair, ()))
