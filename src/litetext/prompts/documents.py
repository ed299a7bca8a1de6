"""JSON documents and JSON lines: lists, mappings, COCO and LVIS, SA-Co Gold, Silver and VEval, RefCOCO's refs.

A document is read as a stream of ijson's events in one pass; of its objects only scalars and lists of phrases are kept,
one object at a time, so that masks and boxes cost time but no memory.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import ijson

from litetext.errors import PromptError
from litetext.prompts.fields import NESTED, Place, TextField, category_name, checked_count, shown
from litetext.prompts.names import STRONG_NAMES, TEXT_NAMES, plain_name, wrong_column
from litetext.prompts.opening import Opened, ReadOptions, not_utf8, text_lines

# Which list of a mapping is meant: the first of these that has text, then COCO's categories, then any other list.
_LISTS = (
    *("images", "video_np_pairs", "prompts", "texts", "phrases", "captions", "sentences", "expressions", "queries"),
    *("noun_phrases", "refs"),
)
_PASSED_OVER = ("info", "licenses", "videos")
_PIECE = 2**16

Events = Iterator[tuple[str, Any]]


def read_jsonl(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The phrases of JSON lines: each a string or an object with a text field.

    Raises:
        PromptError: a line is not JSON or holds no text, a wrong field, a bad count.
    """
    place = Place(opened.where)
    fields = TextField(TEXT_NAMES, options, place)
    for place.line, line in enumerate(text_lines(opened), 1):
        if line.isspace():
            continue
        yield from fields.phrases(_parsed(line, place))
    _check_chosen([fields], opened.where)


def _parsed(line: str, place: Place) -> Any:
    mend = "write one JSON value a line; a document over many lines is format json"
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        what = f"broken JSON ({error.msg}, column {error.pos + 1})"
        raise PromptError(what, where=str(place), mend=mend) from error
    except (ValueError, RecursionError) as error:
        raise PromptError(f"broken JSON ({error})", where=str(place), mend=mend) from error


def _check_chosen(listed: Sequence[TextField], where: str) -> None:
    """Raise a `PromptError` when there were objects, but no text field in any of them."""
    seen = [name for fields in listed for name in fields.seen]
    if seen and all(fields.text is None for fields in listed):
        raise wrong_column(listed[0].options.column or "", list(dict.fromkeys(seen)), where)


def read_json(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The phrases of a JSON document: a list as it comes, a mapping counted at its end.

    Raises:
        PromptError: broken JSON (with its line), no list or mapping, no text in it, a wrong field, a bad count.
    """
    place = Place(opened.where)
    events = chain.from_iterable(_batches(opened, place))
    event, value = next(events)
    if event == "start_array":
        fields = TextField(TEXT_NAMES, options, place)
        for place.item, item in enumerate(_items(events, options), 1):
            yield from fields.phrases(item)
        _check_chosen([fields], opened.where)
    elif event == "start_map":
        mapping = _Mapping(options, place)
        _fill(mapping, events)
    else:
        mend = "write a list of strings"
        raise PromptError(f"{shown(value)} is no list or mapping of prompts", where=opened.where, mend=mend)
    for _ in events:  # lets the parser find what may follow the document
        pass
    if event == "start_map":
        yield from mapping.prompts().items()


def _batches(opened: Opened, place: Place) -> Iterator[Sequence[tuple[str, Any]]]:
    """The events of the parser, fed line by line so that the place of an error is known; a batch for each line."""
    found = ijson.sendable_list()
    parser = ijson.basic_parse_coro(found, use_float=True)
    ended = False
    try:
        for piece in iter(partial(opened.file.readline, _PIECE), b""):
            place.line += ended
            ended = piece.endswith(b"\n")
            parser.send(piece)
            yield found
            found.clear()
        parser.close()
        yield found
    except ijson.JSONError as error:
        reason = str(error).splitlines()[0].partition(" error: ")[2].rstrip(".") or str(error)
        where = f"{opened.where} line {place.line}"
        if "UTF8" in reason:
            raise not_utf8("bytes that are", where) from error
        raise PromptError(f"broken JSON ({reason})", where=where, mend="mend that line") from error


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


def _items(events: Events, options: ReadOptions) -> Iterator[Any]:
    """The items of a list: scalars, and objects with their scalars and lists of phrases."""
    for event, value in events:
        if event == "end_array":
            return
        yield _object(events, options) if event == "start_map" else _scalar(event, value, events)


def _object(events: Events, options: ReadOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event, key in events:
        if event == "end_map":
            break
        event, value = next(events)  # noqa: PLW2901 - a key's value follows it
        if event == "start_array" and (key == options.column or plain_name(key) in TEXT_NAMES):
            found[key] = list(_items(events, options))
        else:
            found[key] = _scalar(event, value, events)
    return found


@dataclass(slots=True)
class _Listing:
    """The phrases of one list in a mapping with their counts, and the first thing in it that is no phrase."""

    fields: TextField
    counts: dict[str, int] = field(default_factory=dict)
    error: PromptError | None = None

    def add(self, item: Any) -> None:
        if self.error is not None:
            return
        try:
            for text, count in self.fields.phrases(item):
                self.counts[text] = self.counts.get(text, 0) + count
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
        self.annotated: dict[Any, int] = {}  # annotations by category id
        self.paired: dict[Any, int] = {}  # pairs of video and phrase by category id
        self.by_category = options.column is None and options.count_column is None

    def add(self, key: str, item: Any) -> None:
        """Count an item of the list ``key``."""
        if isinstance(item, dict):
            if self.by_category and self._add_category(key, item):
                return
        elif key == "images":  # names of files
            return
        if key not in self.lists:
            names = STRONG_NAMES if key in ("images", "annotations") else TEXT_NAMES
            options = replace(self.options, column=None) if key == self.options.column else self.options
            self.lists[key] = _Listing(TextField(names, options, self.place))
        self.lists[key].add(item)

    def _add_category(self, key: str, item: Mapping[str, Any]) -> bool:
        """Count an item that speaks of a category by its id; False: it does not."""
        identity = item.get("category_id")
        if key == "categories" and "id" in item and isinstance(item.get("name"), str):
            self.names[item["id"]] = category_name(item["name"])
            return True
        if key == "annotations" and identity is not None:
            self.annotated[identity] = self.annotated.get(identity, 0) + 1
            return True
        if key == "video_np_pairs" and identity is not None and not isinstance(item.get("noun_phrase"), str):
            self.paired[identity] = self.paired.get(identity, 0) + 1
            return True
        return False

    def prompts(self) -> Mapping[str, int]:
        """The phrases of the part that is meant, with their counts.

        Raises:
            PromptError: that part holds something else than text, or there are objects without a known text field.
        """
        found = next(filter(None, self._parts()), None)
        if found is not None:
            return found
        _check_chosen([listing.fields for listing in self.lists.values()], self.place.source)
        for listing in self.lists.values():
            if listing.error is not None:
                raise listing.error
        if self.options.column is not None:
            raise wrong_column(self.options.column, [*self.lists, *self.scalars], self.place.source)
        return {}

    def _parts(self) -> Iterator[Mapping[str, int]]:
        """What could be meant, the likeliest first."""
        yield self._listed("images") or self._listed("video_np_pairs") or self._named(self.paired)
        for key in _LISTS:
            yield self._listed(key)
        yield self._named(self.annotated or dict.fromkeys(self.names, 1))
        for key, listing in self.lists.items():
            if listing.counts:
                yield self._listed(key)
        yield self._counted_scalars()
        lone = _Listing(TextField(TEXT_NAMES, self.options, self.place))
        lone.add(self.scalars)
        yield lone.counts

    def _listed(self, key: str) -> Mapping[str, int]:
        listing = self.lists.get(key)
        if listing is None:
            return {}
        if listing.error is not None:
            raise listing.error
        return listing.counts

    def _named(self, counts: Mapping[Any, int]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for identity, count in counts.items():
            if identity not in self.names:
                what = f"category id {shown(identity)} is used but has no name"
                raise PromptError(what, where=self.place.source, mend="add it to 'categories'")
            name = self.names[identity]
            found[name] = found.get(name, 0) + count
        return found

    def _counted_scalars(self) -> Mapping[str, int]:
        """A mapping of phrases to counts, and of nothing else."""
        numbers = all(type(value) in (int, float) for value in self.scalars.values())
        if self.lists or not numbers or self.options.column is not None:
            return {}
        found = {key: checked_count(value, f"{self.place.source} '{key}'") for key, value in self.scalars.items()}
        return {key: count for key, count in found.items() if count}


def _fill(mapping: _Mapping, events: Events) -> None:
    place = mapping.place
    for event, key in events:
        if event == "end_map":
            break
        event, value = next(events)  # noqa: PLW2901 - a key's value follows it
        if event == "start_array" and key not in _PASSED_OVER:
            for place.item, item in enumerate(_items(events, mapping.options), 1):
                mapping.add(key, item)
            place.item = 0
        else:
            mapping.scalars[key] = _scalar(event, value, events)
