"""JSON files of COCO's kind: objects with checked fields, whose errors name the file and the place in it, and masks.

Masks in COCO's three notations are checked before pycocotools sees them: its C code trusts what it is given.

A compressed RLE writes run lengths in column-major order, background first, each as the difference to the run two
before, in groups of five bits with one bit that says whether more follow, and a sign. Source: ``rleFrString`` of
pycocotools.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from reprlib import repr as shown
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.arrays import MOST_RATIO, MOST_UNPACKED
from litetext.errors import EvaluationError, PromptError
from litetext.prompts.opening import open_source
from litetext.sam3.masks import Code

PairId = int | str | tuple[int | str, int]  # SA-Co Gold's; of COCO a picture and a category
# Compressed RLE ({"size": [height, width], "counts": bytes}), or polygons, which need the size of the image.
Segmentation = Mapping[str, Any] | list[Any]

MAX_PIXELS = 2**31 - 1  # of a mask: pycocotools counts pixels in 32 bits
_MAX_OUTLINE = 2**20  # pixels along the polygons of a mask: pycocotools keeps five points for each
_MAX_COORDINATE = 2**24  # pixels from the origin to a point of a polygon: times five, it has to fit into 32 bits
_MAX_DIGITS = 7  # characters of five bits, so many hold 32 bits and a sign
_BLOCK = 2**18  # characters that are decoded at once, to bound the memory


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def _is_text(value: Any) -> bool:
    """Whether it is a string without lone surrogates, which no encoding takes."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value))


Kind = Literal["id", "integer", "real", "text", "flag"]
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda value: type(value) is int or _is_text(value), "an integer or a string"),
    "integer": (lambda value: type(value) is int, "an integer"),
    "real": (_is_finite, "a finite number"),
    "text": (lambda value: _is_text(value) and bool(value.strip()), "a text"),
    "flag": (lambda value: type(value) in (int, bool) and value in (0, 1), "0 or 1"),  # as COCO writes booleans
}


class Entry(NamedTuple):
    """An object in the list ``key`` of a file. Each method raises an `EvaluationError` if a field is not as it says."""

    file: Path
    key: str
    position: int
    fields: Mapping[str, Any]

    def take(self, key: str, kind: Kind | None = None) -> Any:
        """A field of that kind; None: whatever it is."""
        try:
            value = self.fields[key]
        except KeyError:
            raise EvaluationError(f"no '{key}'", where=self.place, hint="every entry of that list needs one") from None
        if kind is not None and not _KINDS[kind][0](value):
            raise self.wrong(key, f"give {_KINDS[kind][1]}")
        return value

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of ``bbox`` in pixels."""
        value = self.take("bbox")
        if not isinstance(value, list) or len(value) != 4 or not all(map(_is_finite, value)) or min(value[2:]) < 0:
            raise self.wrong("bbox", "give x, y, width, height")
        left, top, width, height = value
        return left, top, width, height

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels, at most `MAX_PIXELS`, if the entry has both."""
        height, width = self.fields.get("height"), self.fields.get("width")
        if height is None or width is None:
            return None
        are_whole = type(height) is int and type(width) is int
        if not are_whole or min(height, width) < 1 or height * width > MAX_PIXELS:
            message = f"the size is {shown(height)} x {shown(width)}"
            raise EvaluationError(message, where=self.place, hint=f"give pixels, {MAX_PIXELS} at most")
        return height, width

    def wrong(self, key: str, hint: str) -> EvaluationError:
        """The error for a field with a value that it should not have."""
        return EvaluationError(f"'{key}' is {shown(self.fields[key])}", where=self.place, hint=hint)

    @property
    def place(self) -> str:
        """The file and the place in it, for messages."""
        return f"{self.file}, {self.key}[{self.position}]"


def read_json(path: Path) -> Any:
    """What a JSON file holds; it may be compressed (.gz, .zst).

    Raises:
        EvaluationError: no such file, not JSON, a key twice in one object, or it unpacks to more than `MOST_UNPACKED`
            bytes and more than `MOST_RATIO` times its own.
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise EvaluationError(what, where=str(path), hint="check the path")
    limit = max(MOST_UNPACKED, MOST_RATIO * path.stat().st_size)
    try:
        with open_source(path) as opened:
            data = opened.file.read(limit + 1)
    except PromptError as error:
        raise EvaluationError(error.what, where=error.where, hint=error.hint) from error
    if len(data) > limit:
        raise EvaluationError(f"it unpacks to more than {limit} bytes", where=str(path), hint="unpack it yourself")
    try:
        return json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"not JSON ({error})", where=str(path), hint="write the file again") from error


def read_truth(path: Path) -> Mapping[str, Any]:
    """The document of an annotator, or of a set of videos."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise EvaluationError("not a COCO object", where=str(path), hint="give a file of ground truth")
    return document


def entries(document: Mapping[str, Any], key: str, path: Path) -> Iterator[Entry]:
    """The entries of a list of a document."""
    listed = document.get(key)
    if not isinstance(listed, list):
        raise EvaluationError(f"no list '{key}'", where=str(path), hint="give a COCO file of SA-Co Gold")
    for index, fields in enumerate(listed):
        if not isinstance(fields, dict):
            raise EvaluationError(f"{key}[{index}] is not an object", where=str(path), hint="write the file again")
        yield Entry(path, key, index, fields)


def by_id(listed: Iterable[Entry]) -> dict[PairId, Entry]:
    """Entries by their ``id``."""
    by_number: dict[PairId, Entry] = {}
    for entry in listed:
        number = entry.take("id", "id")
        if number in by_number:
            raise EvaluationError(f"the id {shown(number)} is there twice", where=entry.place, hint="give each its own")
        by_number[number] = entry
    return by_number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {shown(next(key for key in keys if keys.count(key) > 1))} is twice in one object")
    return fields


def encode(segmentation: Segmentation, size: tuple[int, int] | None, where: str) -> Code:
    """A segmentation in any of COCO's notations as compressed RLE.

    Args:
        segmentation: RLE or polygons. Counts that are bytes are pycocotools' own, and taken as they are.
        size: height and width of the image in pixels, which polygons need.
        where: the pair and the file, for the message.
    """
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), bytes):
        return segmentation
    if not isinstance(segmentation, list):
        (code,) = check_masks([segmentation], lambda _: where)
        return code  # type: ignore[no-any-return]
    if size is None:
        raise EvaluationError("polygons of an image without a size", where=where, hint="give height and width")
    try:
        return dict(coco_mask.merge(coco_mask.frPyObjects(_check_polygons(segmentation), *size)))
    except ValueError as error:
        raise _not_a_mask(error, where) from error


def check_masks(masks: Sequence[Any], where: Callable[[int], str]) -> list[Any]:
    """Check the masks of a file, all compressed ones together.

    Args:
        masks: what stands under ``segmentation``: compressed RLE (counts is a string), uncompressed RLE (counts is a
            list), or polygons.
        where: the file and the pair of the mask of that index, for the message.

    Returns:
        For each mask compressed RLE whose counts are bytes, as pycocotools gives them, or its polygons.

    Raises:
        EvaluationError: something else; a size that is not positive or beyond `MAX_PIXELS`; runs that are negative or
            do not add up to height x width; polygons that are too long.
    """
    checked: list[Any] = []
    packed: list[int] = []
    for index, mask in enumerate(masks):
        try:
            checked.append(_check_polygons(mask) if isinstance(mask, list) else _check_rle(mask))
        except ValueError as error:
            raise _not_a_mask(error, where(index)) from error
        if not isinstance(mask, list) and isinstance(mask["counts"], str):
            packed.append(index)
    for block in _blocks(packed, [len(masks[index]["counts"]) for index in packed]):
        pixels = [masks[index]["size"][0] * masks[index]["size"][1] for index in block]
        bad = _find_bad([checked[index]["counts"] for index in block], pixels)
        if bad is not None:
            place, reason = bad
            raise _not_a_mask(reason, where(block[place]))
    return checked


def _not_a_mask(reason: object, where: str) -> EvaluationError:
    return EvaluationError(f"not a segmentation ({reason})", where=where, hint="give RLE or polygons of COCO")


def _check_rle(mask: Any) -> dict[str, Any]:
    """RLE with its size checked; uncompressed runs become a code, a compressed string is left to be decoded."""
    if not isinstance(mask, dict):
        raise ValueError(f"{shown(mask)} is neither RLE nor polygons")  # noqa: TRY004 - one class for all
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError(f"its size is {shown(size)}, not height and width in pixels")
    height, width = size
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise ValueError(f"its size is {shown(size)}, not height and width in pixels")
    if height * width > MAX_PIXELS:
        raise ValueError(f"its size is {shown(size)}, more than {MAX_PIXELS} pixels")
    if isinstance(counts, str):
        if not counts or not counts.isascii() or counts.startswith(("b'", 'b"')):
            raise ValueError(f"its counts are {shown(counts)}, not a string as pycocotools writes it, decoded as ASCII")
        return {"size": size, "counts": counts.encode("ascii")}
    if not isinstance(counts, list) or not counts or set(map(type, counts)) != {int}:
        raise ValueError(f"its counts are {shown(counts)}, neither a string nor a list of integers")
    if min(counts) < 0 or sum(counts) != height * width:
        raise ValueError(_sum_reason(min(counts), sum(counts), height * width))
    if 0 in counts[1:-1]:
        raise ValueError(_ZERO_RUN)
    return dict(coco_mask.frPyObjects({"size": size, "counts": counts}, height, width))


def _check_polygons(polygons: list[Any]) -> list[Any]:
    """The polygons, if pycocotools can read them; else a ValueError."""
    # pycocotools reads a list of fours as boxes and stops the process at some other shapes.
    if not polygons or not all(isinstance(item, list) and len(item) >= 6 and len(item) % 2 == 0 for item in polygons):
        raise ValueError("polygons are lists x1, y1, x2, y2, ... of three points or more")
    outline = 0.0
    for polygon in polygons:
        if not set(map(type, polygon)) <= {int, float}:
            raise ValueError(f"a polygon has a coordinate that is not a number: {shown(polygon)}")
        low, high = min(polygon), max(polygon)
        if not -_MAX_COORDINATE <= low <= high <= _MAX_COORDINATE or math.isnan(sum(polygon)):
            raise ValueError(f"a polygon has a coordinate that is not finite or beyond {_MAX_COORDINATE}")
        longest = (high - low) * len(polygon)
        outline += longest if longest <= _MAX_OUTLINE else _outline(polygon)
    if outline > _MAX_OUTLINE and sum(map(_outline, polygons)) > _MAX_OUTLINE:
        raise ValueError(f"its outline is longer than {_MAX_OUTLINE} pixels")
    return polygons


def _outline(polygon: Sequence[float]) -> float:
    """Pixels along a closed polygon, as pycocotools walks it: the longer of the two sides of each step."""
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


_ZERO_RUN = "a run of length 0 that is neither the first nor the last"  # pycocotools stops there, with a wrong overlap


def _sum_reason(least: int, total: int, pixels: int) -> str:
    if least < 0:
        return f"a run of length {shown(least)}"
    return f"the runs add up to {shown(total)}, not to height x width = {pixels}"


def _blocks(items: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    """Neighbors together that have about `_BLOCK` characters; each item at least alone."""
    start, done = 0, 0
    for index, total in enumerate(accumulate(lengths), start=1):
        if total - done >= _BLOCK or index == len(items):
            yield items[start:index]
            start, done = index, total


def _find_bad(codes: Sequence[bytes], pixels: Sequence[int]) -> tuple[int, str] | None:
    """The first compressed RLE that is damaged and what is wrong with it; each string has a character or more."""
    digits = np.frombuffer(b"".join(codes), dtype=np.uint8) - np.uint8(ord("0"))  # 0 to 63, more where it wraps
    ends = np.cumsum([len(code) for code in codes])
    if digits.max() > 63:
        place = int((digits > 63).argmax())
        character = chr((int(digits[place]) + ord("0")) % 256)
        bad = int(np.searchsorted(ends, place, side="right"))
        return bad, f"its counts have the character {character!r}, which is not from '0' to 'o'"
    open_ended = digits[ends - 1] >= 32  # the bit that says more
    if open_ended.any():
        return int(open_ended.argmax()), "its counts end in the middle of a number"
    lasts = np.flatnonzero(digits < 32)
    lengths = np.diff(lasts, prepend=-1)
    stops = np.searchsorted(lasts, ends)
    starts = np.concatenate([[0], stops[:-1]])  # of each string, among the numbers
    if lengths.max() > _MAX_DIGITS:
        return _string_of(lengths > _MAX_DIGITS, starts), "its counts have a number of more than 32 bits"
    runs = _undo_differences(_numbers(digits, lasts, lengths), starts)
    totals = np.add.reduceat(runs, starts, dtype=np.int64)
    wrong = totals != np.array(pixels)
    if runs.min() < 0 or wrong.any():
        least = np.minimum.reduceat(runs, starts)
        bad = int((wrong | (least < 0)).argmax())
        return bad, _sum_reason(int(least[bad]), int(totals[bad]), pixels[bad])
    empty = runs == 0
    empty[starts] = empty[stops - 1] = False
    return (_string_of(empty, starts), _ZERO_RUN) if empty.any() else None


def _string_of(marked: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> int:
    """The string of the first marked number."""
    return int(np.searchsorted(starts, int(marked.argmax()), side="right")) - 1


def _numbers(
    digits: npt.NDArray[np.uint8], lasts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """The signed numbers, int32 [N], whose last digits are at those places; the lowest digit comes first.

    They wrap around as those of pycocotools do, so that what is checked is what it computes with.
    """
    signed = (digits[lasts].astype(np.int8) ^ 16) - 16  # the last digit has the sign: 16 to 31 are negative
    numbers = signed.astype(np.int32)
    for length in range(2, int(lengths.max()) + 1):
        longer = np.flatnonzero(lengths >= length)
        lower = digits[lasts[longer] - (length - 1)] & 31
        numbers[longer] = (numbers[longer] << 5) | lower
    return numbers


def _undo_differences(numbers: npt.NDArray[np.int32], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Run lengths, int32 [N], of strings that start there.

    From the fourth on, each is stored as the difference to the one two before. The chain of the odd places begins at
    the second run, that of the even places at the third: the first stands alone.
    """
    sums = np.zeros((len(numbers) + 1) // 2 * 2, dtype=np.int32)
    sums[: len(numbers)] = numbers
    sums[starts] = 0
    columns = sums.reshape(-1, 2)  # of every second number: whatever its start, a string has one chain in each
    np.cumsum(columns, axis=0, out=columns)
    for column in (0, 1):
        before = (starts + 1 - column) // 2  # numbers of the column before each string
        chain = np.concatenate([[0], columns[:, column]]).astype(np.int32)
        columns[:, column] -= np.repeat(chain[before], np.diff(before, append=len(columns)))
    sums[starts] = numbers[starts]
    return sums[: len(numbers)]
