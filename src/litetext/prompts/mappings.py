"""A JSON object at the top of a document: which of its lists, or of its numbers, are the prompts."""

from collections import abc
from dataclasses import dataclass, field, replace
from typing import Any

from litetext.errors import PromptError
from litetext.prompts.fields import Place, TextField, category_name, check_chosen, checked_count, shown
from litetext.prompts.names import STRONG_NAMES, TEXT_NAMES, is_index, wrong_column
from litetext.prompts.opening import ReadOptions

# Which list of a mapping is meant: the first of these that has text, then COCO's categories, then any other list.
_LISTS = (
    *("images", "video_np_pairs", "prompts", "texts", "phrases", "captions", "sentences", "expressions", "queries"),
    *("noun_phrases", "refs"),
)
_MAX_LISTS = 100_000  # ImageNet-21k has 21,841 classes

Part = tuple[list[str], dict[str, int]]
"""What is told to the user of a part of the document, and its phrases with their counts."""


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


class Mapping:
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
            if len(self.lists) == _MAX_LISTS:
                raise PromptError(f"more than {_MAX_LISTS} lists", where=str(self.place), hint="write one list")
            names = STRONG_NAMES if key in ("images", "annotations") else TEXT_NAMES
            options = replace(self.options, column=None) if key == self.options.column else self.options
            self.lists[key] = _Listing(TextField(names, options, self.place))
        self.lists[key].add(item)

    def _add_category(self, key: str, item: abc.Mapping[str, Any]) -> bool:
        """Count an item that speaks of a category by its id; False: it does not."""
        identity = item.get("category_id")
        if key == "categories" and "id" in item and isinstance(item.get("name"), str):
            name = category_name(item["name"])
            if self.names.setdefault(item["id"], name) != name:
                what = f"two categories with the id {shown(item['id'])}, '{self.names[item['id']]}' and '{name}'"
                raise PromptError(what, where=str(self.place), hint="give each an id of its own")
            return True
        if key == "annotations" and identity is not None:
            self.annotated[identity] = self.annotated.get(identity, 0) + 1
            return True
        if key == "video_np_pairs" and identity is not None and not isinstance(item.get("noun_phrase"), str):
            self.paired[identity] = self.paired.get(identity, 0) + 1
            return True
        return False

    def prompts(self) -> tuple[list[str], dict[str, int]]:
        """What is told to the user of the part that is meant, and its phrases with their counts.

        Raises:
            PromptError: that part holds something else than text, it could not be told which part is meant, or there
                are objects without a known text field.
        """
        for notes, counts in self._parts():
            if counts:
                return notes, counts
        check_chosen([listing.fields for listing in self.lists.values()], self.place.source)
        for listing in self.lists.values():
            if listing.error is not None:
                raise listing.error
        if self.options.column is not None:
            raise wrong_column(self.options.column, [*self.lists, *self.scalars], self.place.source)
        return [], {}

    def _parts(self) -> abc.Iterator[Part]:
        """What could be meant, the likeliest first."""
        yield self._listed("images")
        yield self._listed("video_np_pairs")
        yield ["categories of the pairs of video and phrase"], self._named(self.paired)
        for key in _LISTS:
            yield self._listed(key)
        how = "counted by annotation" if self.annotated else "each counted once"
        yield [f"names of categories, {how}"], self._named(self.annotated or dict.fromkeys(self.names, 1))
        yield self._listed(*(key for key, listing in self.lists.items() if listing.counts))
        yield self._numbered()
        yield self._counted_scalars()
        lone = _Listing(TextField(TEXT_NAMES, self.options, self.place))
        lone.add(self.scalars)
        yield lone.fields.guesses(), lone.counts

    def _listed(self, *keys: str) -> Part:
        """The phrases of lists together; several only where all are of one kind, as in {class: [descriptions]}."""
        chosen = {key: self.lists[key] for key in keys if key in self.lists}
        counts: dict[str, int] = {}
        for listing in chosen.values():
            if listing.error is not None:
                raise listing.error
            for text, count in listing.counts.items():
                counts[text] = counts.get(text, 0) + count
        if len(chosen) > 1:
            self._check_alike(chosen)
        if not counts or self.options.column in chosen:
            return [], counts
        others = [key for key, listing in self.lists.items() if listing.counts and key not in chosen]
        notes = next(iter(chosen.values())).fields.guesses()
        if len(chosen) > 1:
            notes.insert(0, f"all {len(chosen)} lists: {_quoted(chosen)}")
        elif others or keys[0] not in _LISTS:
            notes.insert(0, f"list {_quoted(chosen)}")
        return [*notes, *([f"passed over: {_quoted(others)}"] if others else [])], counts

    def _check_alike(self, chosen: abc.Mapping[str, _Listing]) -> None:
        fields = {listing.fields.text for listing in chosen.values()}
        if len(fields) > 1 or all(map(str.isdecimal, chosen)):  # numbers: ImageNet's {"0": [id, name], ...}
            what = f"{len(chosen)} lists of text ({_quoted(chosen)}), and it could not be told which are prompts"
            raise PromptError(what, where=self.place.source, hint="name one with column, or write one list of strings")

    def _named(self, counts: abc.Mapping[Any, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for identity, count in counts.items():
            if identity not in self.names:
                what = f"category id {shown(identity)} is used but has no name"
                raise PromptError(what, where=self.place.source, hint="add it to 'categories'")
            name = self.names[identity]
            found[name] = found.get(name, 0) + count
        return found

    def _numbered(self) -> Part:
        """A mapping of class numbers to names, and of nothing else."""
        texts = list(self.scalars.values())
        if self.lists or not self.by_category or not all(isinstance(text, str) for text in texts):
            return [], {}
        if not all(map(str.isdecimal, self.scalars)):
            return [], {}
        return ["names of class numbers, each counted once"], dict.fromkeys(texts, 1)

    def _counted_scalars(self) -> Part:
        """A mapping of phrases to counts or to class numbers, and of nothing else."""
        numbers = all(type(value) in (int, float) for value in self.scalars.values())
        if self.lists or not numbers or self.options.column is not None:
            return [], {}
        found = {key: checked_count(value, f"{self.place.source} '{key}'") for key, value in self.scalars.items()}
        if is_index(list(found.values())):
            return ["the numbers are those of classes, each name counted once"], dict.fromkeys(found, 1)
        return ["names with their counts"], {key: count for key, count in found.items() if count}


def _quoted(names: abc.Iterable[str]) -> str:
    """Names for a message, the first of many."""
    listed = list(names)
    return ", ".join(f"'{name[:40]}'" for name in listed[:6]) + (", ..." if len(listed) > 6 else "")
