"""A COCO data set with scores, as `litetext segment` writes it, as predictions for SA-Co Gold.

Its ``images`` are pictures and its ``categories`` are phrases; Gold's "images" are pairs of both. Names tell which is
which: ``file_name`` and ``text_input`` of the ground truth.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from reprlib import repr as shown
from typing import Any, NamedTuple

from litetext.errors import EvaluationError
from litetext.evaluation.coco_json import Entry, PairId, by_id, entries


class DataSet(NamedTuple):
    """What a data set says of the pairs of a ground truth.

    Attributes:
        found: its annotations, each with its pair; those of no pair are left out.
        asked: the pairs whose picture and phrase are both in it.
    """

    found: list[tuple[PairId, Entry]]
    asked: frozenset[PairId]


def match_names(document: Mapping[str, Any], path: Path, truth: Mapping[PairId, Entry]) -> DataSet:
    """Find the pairs of a data set by the names of its pictures and phrases.

    A picture is that of a pair if its path is, or ends with, the pair's ``file_name``; a phrase is that of a pair if it
    is its ``text_input``.

    Args:
        document: the data set.
        path: its file.
        truth: the pairs of the ground truth.

    Raises:
        EvaluationError: a list or a field is missing or something else, or a pair is not the only one of its names.
    """
    pairs: dict[tuple[str, str], PairId] = {}
    for pair, entry in truth.items():
        key = PurePath(entry.text("file_name")).as_posix(), entry.text("text_input")
        if pairs.setdefault(key, pair) != pair:
            raise _ambiguous(f"the pairs {shown(pairs[key])} and {shown(pair)} have one picture and phrase", entry)
    names = {name for name, _ in pairs}
    images, phrases = by_id(entries(document, "images", path)), by_id(entries(document, "categories", path))
    image_of = _by_name((_ending(entry.text("file_name"), names), entry) for entry in images.values())
    phrase_of = _by_name((entry.text("name"), entry) for entry in phrases.values())
    pair_of = {
        (image_of[name], phrase_of[phrase]): pair
        for (name, phrase), pair in pairs.items()
        if name in image_of and phrase in phrase_of
    }
    found = []
    for entry in entries(document, "annotations", path):
        image, category = entry.number("image_id"), entry.integer("category_id")
        if image not in images or category not in phrases:
            raise EvaluationError("no image or category has its id", where=entry.place, hint="fix its ids")
        if (image, category) in pair_of:
            found.append((pair_of[image, category], entry))
    return DataSet(found, frozenset(pair_of.values()))


def _ending(name: str, names: set[str]) -> str | None:
    """The longest ending of a path that is among the names."""
    parts = PurePath(name).parts
    endings = (PurePath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((ending for ending in endings if ending in names), None)


def _by_name(named: Iterable[tuple[str | None, Entry]]) -> dict[str, PairId]:
    """The id of each name; no two have the same name."""
    found: dict[str, PairId] = {}
    for name, entry in named:
        if name is not None:
            if name in found:
                raise _ambiguous(f"two of its {entry.key} are {shown(name)}", entry)
            found[name] = entry.number("id")
    return found


def _ambiguous(what: str, entry: Entry) -> EvaluationError:
    return EvaluationError(what, where=entry.place, hint="give COCO results, whose image_id is the id of a pair")
