"""Which field of a JSON object holds the text of a prompt, which one its count, and checked values of both."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litetext.errors import PromptError
from litetext.prompts.names import (
    COUNT_NAMES,
    MAX_COUNT,
    STRONG_NAMES,
    TEXT_NAMES,
    bad_count,
    best_known,
    ignored_counts,
    plain_name,
    wrong_column,
)
from litetext.prompts.opening import ReadOptions

MAX_PHRASES = 100_000  # of one object: captions of a picture are five, but a small packed file may have millions
NESTED: Any = object()  # stands for a list or an object that was passed over

Phrases = list[tuple[str, int]]


@dataclass(slots=True)
class Place:
    """Where the reader is, for messages."""

    source: str
    line: int = 1
    item: int = 0  # of the list, from 1; 0: outside of lists

    def __str__(self) -> str:
        return f"{self.source} line {self.line}" + (f" item {self.item}" if self.item else "")


@dataclass(slots=True)
class TextField:
    """Which fields of the objects in a list hold text and count: those asked for, or else the best known of the first.

    Attributes:
        names: the names of text fields to choose from.
        options: what the user asked for.
        place: where the reader is.
        text: the field of the text, once it is known.
        count: the field of the count; None: every item counts once.
        seen: the fields of the objects without text.
        ignored: fields with the name of a count that are not counted.
    """

    names: Sequence[str]
    options: ReadOptions
    place: Place
    text: str | None = None
    count: str | None = None
    seen: dict[str, None] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def guesses(self) -> list[str]:
        """What is told to the user: the fields that were not asked for."""
        if self.text is None:
            return []
        text = [f"text in field '{self.text}'"] if self.options.column is None else []
        if self.options.count_column is not None:
            return text
        return [*text, *([f"counts in field '{self.count}'"] if self.count else map(ignored_counts, self.ignored))]

    def phrases(self, item: Any) -> Phrases:
        """The phrases of an item with its count: of a string, of an object (one text, or a list of them), none of null.

        Raises:
            PromptError: the item or its text is something else, or its count is bad.
        """
        if not isinstance(item, dict):
            if item is not None and self.options.column is not None:
                raise self._error(f"no field '{self.options.column}' in {shown(item)}")
            return [(self._checked(item), 1)] if item is not None else []
        value = self._value(item)
        if isinstance(value, list) and len(value) > MAX_PHRASES:
            raise self._error(f"an object with more than {MAX_PHRASES} phrases")
        inner = [_inner(entry) for entry in value] if isinstance(value, list) else [value]
        texts = [self._checked(text) for text in inner if text is not None]
        count = self._count(item) if texts else 0
        if self.text == "name" and "id" in item and self.options.column is None:
            texts = [category_name(text) for text in texts]
        return [(text, count) for text in texts] if count else []

    def _value(self, item: Mapping[str, Any]) -> Any:
        if self.text is None:
            self._choose(item)
        return None if self.text is None else item.get(self.text)

    def _choose(self, item: Mapping[str, Any]) -> None:
        fields = list(item)
        column, count_column = self.options.column, self.options.count_column

        def may_be_text(index: int) -> bool:  # class numbers are often called "label"
            return plain_name(fields[index]) in STRONG_NAMES or isinstance(item[fields[index]], str | list | None)

        best = best_known(fields, self.names, may_be_text) if column is None else _index(fields, column)
        if best is None:
            self.seen |= dict.fromkeys(fields)
        elif item[fields[best]] is not None:
            self.text, self.count = fields[best], count_column
            if count_column is None:
                known = best_known(fields, COUNT_NAMES, lambda index: _whole(item[fields[index]]) is not None)
                self.count = None if known is None else fields[known]
                self.ignored = [name for name in fields if plain_name(name) in COUNT_NAMES and name != self.text]

    def _count(self, item: Mapping[str, Any]) -> int:
        if self.count is None or (self.options.count_column is None and item.get(self.count) is None):
            return 1
        return checked_count(item.get(self.count), self.place)

    def _checked(self, text: Any) -> str:
        if isinstance(text, str):
            return text
        raise self._error(f"{shown(text)} is not text")

    def _error(self, what: str) -> PromptError:
        return PromptError(what, where=str(self.place), hint="write strings, or name the field of the text")


def _index(fields: Sequence[str], name: str) -> int | None:
    return fields.index(name) if name in fields else None


def _inner(entry: Any) -> Any:
    """The text of an entry in an object's list of phrases, for example ``sent`` of RefCOCO's sentences."""
    if not isinstance(entry, dict):
        return entry
    fields = list(entry)
    best = best_known(fields, TEXT_NAMES, lambda index: isinstance(entry[fields[index]], str))
    return NESTED if best is None else entry[fields[best]]


def check_chosen(listed: Sequence[TextField], where: str) -> None:
    """Raise a `PromptError` when there were objects, but no text field in any of them."""
    seen = [name for fields in listed for name in fields.seen]
    if seen and all(fields.text is None for fields in listed):
        raise wrong_column(listed[0].options.column or "", list(dict.fromkeys(seen)), where)


def category_name(name: str) -> str:
    """A category's name as a phrase: LVIS and others write underscores for spaces."""
    return name.replace("_", " ")


def checked_count(value: Any, where: object) -> int:
    """The value, if it is a whole number from 0 on.

    Raises:
        PromptError: it is anything else.
    """
    whole = _whole(value)
    if whole is None or not 0 <= whole < MAX_COUNT:
        raise bad_count(value, str(where))
    return whole


def _whole(value: Any) -> int | None:
    """A whole number, also one written as 3.0 (as pandas does); None: it is anything else."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def shown(value: Any) -> str:
    """A value in a message."""
    return "a list or object" if value is NESTED or isinstance(value, list | dict) else json.dumps(value)[:40]
