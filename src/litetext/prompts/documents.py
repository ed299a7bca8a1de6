"""JSON documents and JSON lines: lists, mappings, COCO and LVIS, SA-Co Gold, Silver and VEval, RefCOCO's refs.

A document is read as a stream of ijson's events in one pass; of its objects only scalars and lists of phrases are kept,
one object at a time, so that masks and boxes cost time but no memory.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import ijson

from litetext.errors import PromptError
from litetext.prompts.fields import MAX_PHRASES, NESTED, Place, TextField, check_chosen, shown
from litetext.prompts.mappings import Mapping
from litetext.prompts.names import TEXT_NAMES, plain_name
from litetext.prompts.opening import Opened, ReadOptions, half_character, not_utf8, text_lines

_PASSED_OVER = ("info", "licenses", "videos")
_PIECE = 2**16
_MAX_VALUE = 64 * 2**20  # bytes of a string or number: pictures in base64 have some
_MAX_DEPTH = 3  # of lists of phrases in objects in such lists: RefCOCO's sentences are at 2
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F])|.)", re.DOTALL)
_ESCAPE_LENGTH = 12  # bytes of a pair

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
        check_chosen([fields], opened.where)
        opened.notes.extend(fields.guesses())
    elif event == "start_map":
        mapping = Mapping(options, place)
        _fill(mapping, events)
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


def _fill(mapping: Mapping, events: Events) -> None:
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
            if key in mapping.scalars:
                raise PromptError(f"the key {shown(key)} stands twice", where=str(place), hint="leave one")
            mapping.scalars[key] = _scalar(event, value, events)
