"""JSON files of COCO's kind: lists of objects, each of which names itself when it lacks something."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.errors import EvaluationError

PairId = int | str


@dataclass(frozen=True)
class Entry:
    """An object in a list of a file.

    Attributes:
        file: the file.
        key: the list's name.
        index: the place in the list.
        fields: what stands there.
    """

    file: Path
    key: str
    index: int
    fields: Mapping[str, Any]

    def take(self, key: str) -> Any:
        """A field, whatever it is.

        Raises:
            EvaluationError: there is none.
        """
        try:
            return self.fields[key]
        except KeyError:
            raise EvaluationError(f"no '{key}'", where=self.place, mend="every entry of that list needs one") from None

    def number(self, key: str) -> PairId:
        """The number of a pair, which may be a string.

        Raises:
            EvaluationError: there is none.
        """
        value = self.take(key)
        if not isinstance(value, int | str):
            raise EvaluationError(f"'{key}' is {value!r}", where=self.place, mend="give an integer or a string")
        return value

    def integer(self, key: str) -> int:
        """A whole number.

        Raises:
            EvaluationError: there is none.
        """
        value = self.take(key)
        if not isinstance(value, int):
            raise EvaluationError(f"'{key}' is {value!r}", where=self.place, mend="give an integer")
        return value

    def text(self, key: str) -> str:
        """A string that is not blank.

        Raises:
            EvaluationError: there is none.
        """
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            raise EvaluationError(f"'{key}' is {value!r}", where=self.place, mend="give a text")
        return value

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels, where they are said.

        Raises:
            EvaluationError: they are not pixels.
        """
        sides = self.fields.get("height"), self.fields.get("width")
        if None in sides:
            return None
        height, width = sides
        if not isinstance(height, int) or not isinstance(width, int) or height < 1 or width < 1:
            raise EvaluationError(f"the size is {height!r} x {width!r}", where=self.place, mend="give pixels")
        return height, width

    @property
    def place(self) -> str:
        """The file and the place in it, for messages."""
        return f"{self.file}, {self.key}[{self.index}]"


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        EvaluationError: no such file, or not JSON.
    """
    if not path.is_file():
        raise EvaluationError("no such file", where=str(path), mend="check the path")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"not JSON ({error})", where=str(path), mend="write the file again") from error


def read_annotator(path: Path) -> Mapping[str, Any]:
    """The document of an annotator: a COCO object.

    Raises:
        EvaluationError: no such file, not JSON, or something else.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise EvaluationError("not a COCO object", where=str(path), mend="give the JSON of an annotator's ground truth")
    return document


def entries(document: Mapping[str, Any], key: str, path: Path) -> Iterator[Entry]:
    """The entries of a list of a document.

    Raises:
        EvaluationError: no such list, or something in it is not an object.
    """
    found = document.get(key)
    if not isinstance(found, list):
        raise EvaluationError(f"no list '{key}'", where=str(path), mend="give a COCO file of SA-Co Gold")
    for index, fields in enumerate(found):
        if not isinstance(fields, dict):
            raise EvaluationError(f"{key}[{index}] is not an object", where=str(path), mend="write the file again")
        yield Entry(path, key, index, fields)
