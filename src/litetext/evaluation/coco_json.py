"""JSON files of COCO's kind: lists of objects with checked fields; errors name the file and the place in it."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from reprlib import repr as shown
from typing import Any, Literal, NamedTuple

from litetext.arrays import MOST_RATIO, MOST_UNPACKED
from litetext.errors import EvaluationError, PromptError
from litetext.evaluation.rle import MAX_PIXELS
from litetext.prompts.opening import open_source

PairId = int | str | tuple[int | str, int]  # SA-Co Gold's; of COCO a picture and a category


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


def read_annotator(path: Path) -> Mapping[str, Any]:
    """The document of an annotator."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise EvaluationError("not a COCO object", where=str(path), hint="give the JSON of an annotator's ground truth")
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
