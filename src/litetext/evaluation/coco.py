"""Files of SA-Co Gold and COCO: the ground truth of an annotator, and predictions as COCO results or as a data set.

An "image" of Gold's files is an (image, phrase) pair: the same picture stands there once for each phrase. Of a plain
COCO or LVIS file each picture makes a pair with each category that was looked for in it. In a data set
with scores, as `litetext segment` writes it, ``images`` are pictures and ``categories`` are phrases; the names tell
which is which: ``file_name`` and ``text_input`` of the ground truth.
"""

import gc
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from reprlib import repr as shown
from typing import Any

from litetext.errors import EvaluationError, OptionError
from litetext.evaluation.coco_json import (
    Entry,
    PairId,
    Segmentation,
    by_id,
    check_masks,
    encode,
    entries,
    read_json,
    read_truth,
)
from litetext.prompts.fields import category_name
from litetext.sam3.masks import Code

_GOLD = {"text_input", "is_instance_exhaustive"}  # what the pairs of SA-Co Gold have, and pictures of COCO have not
PairMasks = Mapping[PairId, Sequence[Segmentation]]  # no entry for a pair without any


@dataclass(frozen=True, eq=False)
class Annotations:
    """The ground truth of one annotator."""

    name: str  # of the file
    pairs: Mapping[PairId, Entry]  # the entry of every pair: ``file_name``, ``text_input`` (the phrase), size
    exhaustive: frozenset[PairId]  # the pairs in which every instance is annotated as an instance of its own
    masks: PairMasks  # without crowds
    crowds: PairMasks  # masks that cover several instances
    categories: frozenset[int]  # the category numbers of the file; empty if it lists none
    pictures: frozenset[PairId] | None = None  # the ids of the pictures of plain COCO; None: it is SA-Co Gold
    rule: str = ""  # which pairs plain COCO was taken for, in words

    def size(self, pair: PairId) -> tuple[int, int] | None:
        """Height and width of the image of a pair in pixels, if the file has them."""
        return self.pairs[pair].size

    def codes(self, pair: PairId) -> list[Code]:
        """The true masks of a pair as compressed RLE."""
        return _codes(self.masks, pair, self.size(pair), self.name)

    def crowd_codes(self, pair: PairId) -> list[Code]:
        """The crowds of a pair as compressed RLE."""
        return _codes(self.crowds, pair, self.size(pair), self.name)


@dataclass(frozen=True, eq=False)
class Predictions:
    """COCO results."""

    name: str  # of the file
    masks: PairMasks  # those of the threshold's score or better
    scores: Mapping[PairId, Sequence[float]]  # of those masks
    pairs: frozenset[PairId]  # of all predictions, poor ones too
    categories: frozenset[int]  # of all predictions
    asked: frozenset[PairId] | None  # the pairs that were segmented; None if the file does not list them

    def codes(self, pair: PairId, size: tuple[int, int] | None) -> list[Code]:
        """The masks of a pair as compressed RLE; polygons need the size of the image."""
        return _codes(self.masks, pair, size, self.name)


Truth = Path | Annotations
"""Ground truth of an annotator: a file, or what was read of it."""


@contextmanager
def without_gc() -> Iterator[None]:
    """No garbage collection, which would look again and again through what is read, a sixth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@without_gc()
def read_annotations(source: Truth, exhaustive: bool | None = None) -> Annotations:
    """Read the ground truth of one annotator, or a plain COCO or LVIS file; what was read already stays as it is.

    ``exhaustive`` says of plain COCO whether every category was looked for in every picture; None: each that is
    annotated anywhere was, except in LVIS, which lists what was looked for.
    """
    if isinstance(source, Annotations):
        return source
    document, path = read_truth(source), source
    images = by_id(entries(document, "images", path))
    listed = by_id(entries(document, "categories", path)) if "categories" in document else {}
    categories = frozenset(entry.take("id", "integer") for entry in listed.values())
    annotations = _by_category(entries(document, "annotations", path))
    by_id(entry for entry in annotations if "id" in entry.fields)  # no id is there twice
    is_plain = bool(listed) and not any(_GOLD & entry.fields.keys() for entry in images.values())
    of_pairs: list[tuple[PairId, Entry]] = []
    for entry in annotations:
        image = entry.take("image_id", "id")
        if image not in images:
            raise EvaluationError(f"no image has the id {shown(image)}", where=entry.place, hint="fix its image_id")
        has_category = is_plain or bool(categories and "category_id" in entry.fields)
        if has_category and entry.take("category_id", "integer") not in categories:
            raise EvaluationError("no category has that category_id", where=entry.place, hint="fix it")
        of_pairs.append(((image, entry.fields["category_id"]) if is_plain else image, entry))
    is_lvis = any("neg_category_ids" in entry.fields for entry in images.values())
    if exhaustive is not None and (is_lvis or not is_plain):
        what = "a file that says itself which phrases were looked for in a picture"
        raise OptionError(what, where=str(path), hint="leave out --exhaustive and --no-exhaustive")
    if is_plain:
        pairs, judged, rule = _category_pairs(images, listed, of_pairs, exhaustive, is_lvis=is_lvis)
    else:
        judged = {pair for pair, one in images.items() if one.take("is_instance_exhaustive", "flag")}
        pairs, rule = images, ""
    sizes = {pair: entry.size for pair, entry in pairs.items()}
    masks: defaultdict[PairId, list[Segmentation]] = defaultdict(list)
    crowds: defaultdict[PairId, list[Segmentation]] = defaultdict(list)
    for (pair, entry), mask in zip(of_pairs, _masks(of_pairs), strict=True):
        size = sizes[pair]
        if size is not None and isinstance(mask, dict) and tuple(mask["size"]) != size:
            message = f"a mask of {shown(mask['size'])} pixels where the image has {list(size)}"
            raise EvaluationError(message, where=_place(pair, entry), hint="fix the size of either")
        (crowds if _is_crowd(entry) else masks)[pair].append(mask)
    pictures = frozenset(images) if is_plain else None
    return Annotations(str(path), pairs, frozenset(judged), dict(masks), dict(crowds), categories, pictures, rule)


def _is_crowd(entry: Entry) -> bool:
    return bool("iscrowd" in entry.fields and entry.take("iscrowd", "flag"))


def _category_pairs(
    images: Mapping[PairId, Entry],
    categories: Mapping[PairId, Entry],
    of_pairs: Iterable[tuple[Any, Entry]],
    exhaustive: bool | None,
    *,
    is_lvis: bool,
) -> tuple[dict[PairId, Entry], set[PairId], str]:
    """The pairs of a plain COCO file, those in which every instance is annotated by itself, and the rule in words."""
    phrases = {number: category_name(entry.take("name", "text")) for number, entry in categories.items()}
    found: defaultdict[Any, dict[Any, bool]] = defaultdict(dict)  # by picture and category, whether there is a crowd
    for (image, category), entry in of_pairs:
        found[image][category] = found[image].get(category, False) or _is_crowd(entry)
    pairs, judged = dict[PairId, Entry](), set[PairId]()
    used = dict.fromkeys(number for numbers in found.values() for number in numbers)
    everywhere: Collection[Any] = {None: used or phrases, True: phrases, False: ()}[exhaustive]
    for image, entry in images.items():
        absent = _category_ids(entry, "neg_category_ids", phrases) if is_lvis else everywhere
        partial = _category_ids(entry, "not_exhaustive_category_ids", phrases)
        fields = {key: entry.fields[key] for key in ("id", "file_name", "height", "width") if key in entry.fields}
        if "file_name" not in fields and "coco_url" in entry.fields:  # LVIS: val2017/000000397133.jpg
            fields["file_name"] = "/".join(entry.take("coco_url", "text").split("/")[-2:])
        for category in dict.fromkeys((*found[image], *absent)):
            pair: Any = (image, category)
            pairs[pair] = entry._replace(fields={**fields, "text_input": phrases[category]})
            if category not in partial and not found[image].get(category):
                judged.add(pair)
    positive = sum(map(len, found.values()))
    rule = f"COCO: {len(pairs):,} pairs of {len(images):,} pictures and their categories, {positive:,} are annotated; "
    others = f"the others of the {len(everywhere):,} categories count as absent (--no-exhaustive: are not asked)"
    others = "no others are asked" if exhaustive is False else others
    rule += "the others are those of neg_category_ids" if is_lvis else others
    if partial_pairs := len(pairs) - len(judged):
        rule += f"; not scored, as some instances are not annotated singly: {partial_pairs:,}"
    return pairs, judged, rule


def _category_ids(entry: Entry, key: str, known: Mapping[PairId, str]) -> list[PairId]:
    """The categories in a list of a picture's entry, which may be missing."""
    listed = entry.fields.get(key, [])
    if not isinstance(listed, list) or not all(type(number) is int and number in known for number in listed):
        raise entry.wrong(key, "give ids of categories of the file")
    return listed


@without_gc()
def read_predictions(path: Path, threshold: float, truth: Annotations | None = None) -> Predictions:
    """Read COCO results; a prediction without ``segmentation`` is the rectangle of its ``bbox``.

    Args:
        path: the JSON file. If the ground truth is known, it may also be a COCO data set with scores.
        threshold: predictions of this score or a higher one are kept.
        truth: what the predictions are for.
    """
    document = read_json(path)
    asked = None
    categories: frozenset[int] = frozenset()
    if isinstance(document, list):
        listed = _by_category(entries({"predictions": document}, "predictions", path))
        of_pairs: list[tuple[Any, Entry]] = [(entry.take("image_id", "id"), entry) for entry in listed]
        if truth is not None and truth.pictures is not None:
            named = [((image, entry.take("category_id", "integer")), entry) for image, entry in of_pairs]
            unasked = {pair for pair, _ in named if pair[0] in truth.pictures and pair[1] in truth.categories}
            unasked -= truth.pairs.keys()  # LVIS: the annotators did not look for that category
            of_pairs = [(pair, entry) for pair, entry in named if pair not in unasked]
        categories = frozenset(
            entry.take("category_id", "integer") for entry in listed if "category_id" in entry.fields
        )
    elif truth is not None and isinstance(document, dict) and "annotations" in document:
        of_pairs, asked = match_names(document, path, truth.pairs)
    else:
        raise EvaluationError("not a list of COCO results", where=str(path), hint="give [{image_id, score, ...}, ...]")
    kept = [(pair, entry) for pair, entry in of_pairs if entry.take("score", "real") >= threshold]
    masks, scores = defaultdict(list), defaultdict(list)
    for (pair, entry), mask in zip(kept, _masks(kept), strict=True):
        masks[pair].append(mask)
        scores[pair].append(entry.fields["score"])
    pairs = frozenset(pair for pair, _ in of_pairs)
    return Predictions(str(path), dict(masks), dict(scores), pairs, categories, asked)


def match_names(
    document: Mapping[str, Any], path: Path, truth: Mapping[PairId, Entry]
) -> tuple[list[tuple[PairId, Entry]], frozenset[PairId]]:
    """Find the pairs of a data set by the names of its pictures and phrases.

    A picture is that of a pair if its path is, or ends with, the pair's ``file_name``; a phrase is that of a pair if it
    is its ``text_input``.

    Returns:
        Its annotations, each with its pair, without those of no pair; and the pairs whose picture and phrase are in it.
    """
    pairs: dict[tuple[str, str], PairId] = {}
    for pair, entry in truth.items():
        key = PurePath(entry.take("file_name", "text")).as_posix(), entry.take("text_input", "text")
        if pairs.setdefault(key, pair) != pair:
            raise _ambiguous(f"the pairs {shown(pairs[key])} and {shown(pair)} have one picture and phrase", entry)
    names = {name for name, _ in pairs}
    images, phrases = by_id(entries(document, "images", path)), by_id(entries(document, "categories", path))
    image_of = _by_name((_ending(entry.take("file_name", "text"), names), entry) for entry in images.values())
    phrase_of = _by_name((entry.take("name", "text"), entry) for entry in phrases.values())
    pair_of = {
        (image_of[name], phrase_of[phrase]): pair
        for (name, phrase), pair in pairs.items()
        if name in image_of and phrase in phrase_of
    }
    matched = []
    for entry in entries(document, "annotations", path):
        image, category = entry.take("image_id", "id"), entry.take("category_id", "integer")
        if image not in images or category not in phrases:
            raise EvaluationError("no image or category has its id", where=entry.place, hint="fix its ids")
        if (image, category) in pair_of:
            matched.append((pair_of[image, category], entry))
    return matched, frozenset(pair_of.values())


def _codes(masks: PairMasks, pair: PairId, size: tuple[int, int] | None, name: str) -> list[Code]:
    if pair not in masks:
        return []
    where = f"{name}, pair {pair!r}"
    return [encode(mask, size, where) for mask in masks[pair]]


def _ending(name: str, names: set[str]) -> str | None:
    """The longest ending of a path that is among the names."""
    parts = PurePath(name).parts
    endings = (PurePath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((ending for ending in endings if ending in names), None)


def _by_name(named: Iterable[tuple[str | None, Entry]]) -> dict[str, PairId]:
    """The id of each name; no two have the same name."""
    ids: dict[str, PairId] = {}
    for name, entry in named:
        if name is not None:
            if name in ids:
                raise _ambiguous(f"two of its {entry.key} are {shown(name)}", entry)
            ids[name] = entry.take("id", "id")
    return ids


def _ambiguous(what: str, entry: Entry) -> EvaluationError:
    return EvaluationError(what, where=entry.place, hint="give COCO results, whose image_id is the id of a pair")


def _by_category(listed: Iterable[Entry]) -> list[Entry]:
    """Entries in the order of their categories, else of the file: where matchings tie, the order decides."""
    return sorted(
        listed, key=lambda entry: entry.take("category_id", "integer") if "category_id" in entry.fields else 0
    )


def _masks(of_pairs: Sequence[tuple[PairId, Entry]]) -> list[Segmentation]:
    """The checked masks of entries of pairs, in their order; an entry without one has the rectangle of its box."""
    given = [
        _rectangle(entry)
        if "segmentation" not in entry.fields and "bbox" in entry.fields
        else entry.take("segmentation")
        for _, entry in of_pairs
    ]
    return check_masks(given, lambda index: _place(*of_pairs[index]))


def _place(pair: PairId, entry: Entry) -> str:
    return f"{entry.place}, pair {shown(pair)}"


def _rectangle(entry: Entry) -> list[list[float]]:
    left, top, width, height = entry.box
    right, bottom = left + width, top + height
    return [[left, top, left, bottom, right, bottom, right, top]]
