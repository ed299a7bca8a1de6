"""JSON documents and JSON lines: lists, mappings, COCO and LVIS, SA-Co Gold, Silver and VEval, RefCOCO's refs.

A document is read as a stream of ijson's events in one pass; of its objects only scalars and lists of phrases are kept,
one object at a time, so that masks and boxes cost time but no memory.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any

import ijson

from litetext.errors import PromptError
from litetext.prompts.fields import (
    MAX_PHRASES,
    NESTED,
    STRONG_NAMES,
    TEXT_NAMES,
    Place,
    TextField,
    category_name,
    check_chosen,
    checked_count,
    is_index,
    plain_name,
    quoted,
    shown,
    watched,
    wrong_column,
)
from litetext.prompts.opening import NoColumnsError, Opened, ReadOptions, half_character, not_utf8, text_lines

# Which list of a mapping is meant: the first of these that has text, then COCO's categories, then all other lists.
_LISTS = (
    *("images", "video_np_pairs", "prompts", "texts", "phrases", "captions", "sentences", "expressions", "queries"),
    *("noun_phrases", "refs"),
)
_MAX_LISTS = 100_000  # ImageNet-21k has 21,841 classes
_PASSED_OVER = ("info", "licenses", "videos")
_PIECE = 2**16
_MAX_VALUE = 64 * 2**20  # bytes of a string or number: pictures in base64 have some
_MAX_DEPTH = 3  # of lists of phrases in objects in such lists: RefCOCO's sentences are at 2
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F])|.)", re.DOTALL)
_ESCAPE_LENGTH = 12  # bytes of a pair

Events = Iterator[tuple[str, Any]]
Part = tuple[list[str], Mapping[str, int]]
"""Notes on how a part of a document was read, and its phrases with their counts."""


def read_jsonl(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The phrases of JSON lines: each a string or an object with a text field."""
    place = Place(opened.where)
    fields = TextField(TEXT_NAMES, options, place, is_table=True)
    lines = (line for place.line, line in enumerate(text_lines(opened), 1) if not line.isspace())
    rows = (row for line in lines for row in fields.phrases(_parsed(line, place)))
    yield from watched(rows, opened.notes, fields.chosen)
    check_chosen([fields], opened.where)
    opened.notes.extend(fields.guesses())


def _parsed(line: str, place: Place) -> Any:
    hint = "write one JSON value a line; a document over many lines is format json"
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        what = f"broken JSON ({error.msg}, column {error.pos + 1})"
        raise PromptError(what, where=str(place), hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise PromptError(f"broken JSON ({error})", where=str(place), hint=hint) from error


def read_json(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The phrases of a JSON document: a list as it comes, a mapping counted at its end."""
    place = Place(opened.where)
    events = chain.from_iterable(_batches(opened, place))
    event, value = next(events)
    if event == "start_array":
        fields = TextField(TEXT_NAMES, options, place, is_table=True)
        items = (item for place.item, item in enumerate(_items(events, options), 1))
        rows = (row for item in items for row in fields.phrases(item))
        yield from watched(rows, opened.notes, fields.chosen)
        check_chosen([fields], opened.where)
        opened.notes.extend(fields.guesses())
    elif event == "start_map":
        mapping = _Mapping(options, place)
        mapping.fill(events)
    else:
        hint = "write a list of strings"
        raise PromptError(f"{shown(value)} is no list or mapping of prompts", where=opened.where, hint=hint)
    for _ in events:  # lets the parser find what may follow the document
        pass
    if event == "start_map":
        notes, counts = mapping.prompts()
        opened.notes.extend(notes)
        yield from counts.items()


def _batches(opened: Opened, place: Place) -> Iterator[Sequence[tuple[str, Any]]]:
    """The events of the parser, fed line by line so that the place of an error is known; a batch for each line."""
    found = ijson.sendable_list()
    parser = ijson.basic_parse_coro(found, use_float=True)
    ended, silent = False, 0
    try:
        for piece in _pieces(opened):
            place.line += ended
            ended = piece.endswith(b"\n")
            if _has_half_character(piece):
                raise half_character("JSON", str(place))
            parser.send(piece)
            silent = 0 if found else silent + len(piece)
            if silent > _MAX_VALUE:
                what = f"a value of more than {_MAX_VALUE // 2**20} MiB"
                raise PromptError(what, where=str(place), hint="leave it out")
            yield found
            found.clear()
        parser.close()
        yield found
    except UnicodeDecodeError as error:  # the bytes of half a character, which the parser lets pass
        raise not_utf8("bytes that are", f"{opened.where} line {place.line}") from error
    except ijson.JSONError as error:
        reason = str(error).splitlines()[0].partition(" error: ")[2].rstrip(".") or str(error)
        where = f"{opened.where} line {place.line}"
        if "UTF8" in reason:
            raise not_utf8("bytes that are", where) from error
        raise PromptError(f"broken JSON ({reason})", where=where, hint="fix that line") from error


def _pieces(opened: Opened) -> Iterator[bytes]:
    r"""The bytes line by line, long lines in pieces; a piece does not end in an escape such as ``\ud83d\ude00``."""
    for piece in iter(partial(opened.file.readline, _PIECE), b""):
        for _ in range(16):  # a longer row of escapes is no text
            if b"\\" not in piece[-_ESCAPE_LENGTH:] or piece.endswith(b"\n"):
                break
            piece += opened.file.readline(_ESCAPE_LENGTH)  # noqa: PLW2901
        yield piece


def _has_half_character(piece: bytes) -> bool:
    """Whether there is an escape of half a pair of surrogates; the parser would make a question mark of it."""
    return _SURROGATE.search(piece) is not None and any(found["half"] for found in _ESCAPE.finditer(piece))


def _skip(events: Events) -> None:
    """Pass over the rest of a list or an object."""
    depth = 1
    for event, _ in events:
        if event == "number":  # first, since masks are long lists of them
            continue
        if event in ("start_map", "start_array"):
            depth += 1
        elif event in ("end_map", "end_array"):
            depth -= 1
            if not depth:
                return


def _scalar(event: str, value: Any, events: Events) -> Any:
    if event not in ("start_map", "start_array"):
        return value
    _skip(events)
    return NESTED


def _items(events: Events, options: ReadOptions, depth: int = 1) -> Iterator[Any]:
    """The items of a list: scalars, and objects with their scalars and lists of phrases."""
    for event, value in events:
        if event == "end_array":
            return
        yield _object(events, options, depth) if event == "start_map" else _scalar(event, value, events)


def _object(events: Events, options: ReadOptions, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event, key in events:
        if event == "end_map":
            break
        event, value = next(events)  # noqa: PLW2901 - a key's value follows it
        may_be_text = depth < _MAX_DEPTH and (key == options.column or plain_name(key) in TEXT_NAMES)
        if event == "start_array" and may_be_text:
            items = _items(events, options, depth + 1)
            found[key] = list(islice(items, MAX_PHRASES + 1))  # one more is refused by TextField
            for _ in items:
                pass
        else:
            found[key] = _scalar(event, value, events)
    return found


@dataclass(slots=True)
class _Listing:
    """The phrases of one list in a mapping with their counts, and the first thing in it that is no phrase."""

    fields: TextField
    counts: Counter[str] = field(default_factory=Counter)
    error: PromptError | None = None

    def add(self, item: Any) -> None:
        if self.error is None:
            try:
                for text, count in self.fields.phrases(item):
                    self.counts[text] += count
            except PromptError as error:  # only matters if this list turns out to be the one
                self.error = error


class _Mapping:
    """A JSON object at the top of a document, counted while it is read; which part of it is meant shows at the end."""

    def __init__(self, options: ReadOptions, place: Place) -> None:
        self.options = options
        self.place = place
        self.lists: dict[str, _Listing] = {}
        self.scalars: dict[str, Any] = {}
        self.names: dict[Any, str] = {}  # of categories, by id
        self.annotated: Counter[Any] = Counter()  # annotations by category id
        self.guesses = options.column is None and options.count_column is None

    def fill(self, events: Events) -> None:
        """Read the object to its end."""
        for event, key in events:
            if event == "end_map":
                break
            event, value = next(events)  # noqa: PLW2901 - a key's value follows it
            if event == "start_array" and key not in _PASSED_OVER:
                for number, item in enumerate(_items(events, self.options), 1):
                    self.place.item = number
                    self._add(key, item)
                self.place.item = 0
            else:
                if key in self.scalars:
                    raise PromptError(f"the key {shown(key)} stands twice", where=str(self.place), hint="leave one")
                self.scalars[key] = _scalar(event, value, events)

    def _add(self, key: str, item: Any) -> None:
        """Count an item of the list ``key``."""
        if isinstance(item, dict):
            if self.guesses and self._add_category(key, item):
                return
        elif key == "images":  # names of files
            return
        if key not in self.lists:
            if len(self.lists) == _MAX_LISTS:
                raise PromptError(f"more than {_MAX_LISTS} lists", where=str(self.place), hint="write one list")
            names = STRONG_NAMES if key in ("images", "annotations") else TEXT_NAMES
            options = replace(self.options, column=None) if key == self.options.column else self.options
            self.lists[key] = _Listing(TextField(names, options, self.place))
        self.lists[key].add(item)

    def _add_category(self, key: str, item: Mapping[str, Any]) -> bool:
        """Count an item that names a category or refers to one by its id; False: it does neither."""
        if key == "annotations" and item.get("category_id") is not None:
            self.annotated[item["category_id"]] += 1
            return True
        if key != "categories" or "id" not in item or not isinstance(item.get("name"), str):
            return False
        name = category_name(item["name"])
        if self.names.setdefault(item["id"], name) != name:
            what = f"two categories with the id {shown(item['id'])}, '{self.names[item['id']]}' and '{name}'"
            raise PromptError(what, where=str(self.place), hint="give each an id of its own")
        return True

    def prompts(self) -> Part:
        """The part that is meant."""
        for notes, counts in self._parts():
            if counts:
                return notes, counts
        check_chosen([listing.fields for listing in self.lists.values()], self.place.source)
        for listing in self.lists.values():
            if listing.error is not None:
                raise listing.error
        if self.options.column is not None:
            names = [*self.lists, *self.scalars]
            raise wrong_column(self.options.column, names, self.place.source, NoColumnsError)
        return [], {}

    def _parts(self) -> Iterator[Part]:
        """What could be meant, the likeliest first."""
        for key in _LISTS:
            yield self._listed(key)
        how = "counted by annotation" if self.annotated else "each counted once"
        yield [f"names of categories, {how}"], self._categories()
        yield self._listed(*(key for key, listing in self.lists.items() if listing.counts))
        if not self.lists and self.scalars:
            yield self._named_scalars()
        lone = _Listing(TextField(TEXT_NAMES, self.options, self.place))
        lone.add(self.scalars)
        yield lone.fields.guesses(), lone.counts

    def _listed(self, *keys: str) -> Part:
        """The phrases of lists together; several only where all are of one kind, as in {class: [descriptions]}."""
        chosen = {key: self.lists[key] for key in keys if key in self.lists}
        counts: Counter[str] = Counter()
        for listing in chosen.values():
            if listing.error is not None:
                raise listing.error
            counts.update(listing.counts)
        # Numbers as keys: ImageNet's {"0": [id, name], ...}.
        mixed = len({listing.fields.text for listing in chosen.values()}) > 1 or all(map(str.isdecimal, chosen))
        if len(chosen) > 1 and mixed:
            what = f"{len(chosen)} lists of text ({quoted(chosen)}), and it is not clear which are prompts"
            raise PromptError(what, where=self.place.source, hint="name one with column, or write one list of strings")
        if not counts or self.options.column in chosen:
            return [], counts
        others = [key for key, listing in self.lists.items() if listing.counts and key not in chosen]
        notes = next(iter(chosen.values())).fields.guesses()
        if len(chosen) > 1:
            notes.insert(0, f"all {len(chosen)} lists: {quoted(chosen)}")
        elif others or keys[0] not in _LISTS:
            notes.insert(0, f"list {quoted(chosen)}")
        return [*notes, *([f"passed over: {quoted(others)}"] if others else [])], counts

    def _categories(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for identity, count in (self.annotated or dict.fromkeys(self.names, 1)).items():
            if identity not in self.names:
                what = f"category id {shown(identity)} is used but has no name"
                raise PromptError(what, where=self.place.source, hint="add it to 'categories'")
            counts[self.names[identity]] += count
        return counts

    def _named_scalars(self) -> Part:
        """A mapping of nothing but class numbers to names, names to counts, or names to class numbers."""
        values = list(self.scalars.values())
        if self.guesses and all(isinstance(value, str) for value in values) and all(map(str.isdecimal, self.scalars)):
            return ["names of class numbers, each counted once"], dict.fromkeys(values, 1)
        if self.options.column is not None or not all(type(value) in (int, float) for value in values):
            return [], {}
        counts = {key: checked_count(value, f"{self.place.source} '{key}'") for key, value in self.scalars.items()}
        if is_index(list(counts.values())):
            return ["the numbers are those of classes, each name counted once"], dict.fromkeys(counts, 1)
        return ["names with their counts"], {key: count for key, count in counts.items() if count}
