"""Which column or field holds a prompt, which one its count: known names, what values look like, and checked values.

Readers raise a `PromptError` for what they cannot take for prompts; `read_prompts` says of which kinds.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litetext.errors import PromptError
from litetext.prompts.opening import NoColumnsError, ReadOptions

# The first known name that is there wins. The strong ones say that the value is a prompt; the weak ones, a class.
STRONG_NAMES = (
    *("text_input", "noun_phrase", "prompt", "phrase", "text", "caption", "expression", "sentence", "query"),
    *("prompts", "phrases", "texts", "captions", "expressions", "sentences", "queries", "noun_phrases"),
    *("referring_expression", "text_prompt", "sent", "raw"),
)
TEXT_NAMES = (
    *STRONG_NAMES,
    *("category_name", "category", "class_name", "display_name", "displayname", "class", "label", "name"),
)
COUNT_NAMES = (
    *("count", "counts", "n", "freq", "frequency", "occurrences", "instance_count", "image_count"),
    *("num", "total", "n_instances", "n_images"),
)
MAX_COUNT = 10**18
WARNING = "warning: "  # begins the notes on a column that hardly holds prompts
_FEW = 20  # as many rows for each distinct text, and at most _MOST_FEW of them: rather classes than prompts
_MOST_FEW = 100
_SAMPLE = 200  # texts that are looked at, as many as lines of a table
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
MAX_PHRASES = 100_000  # of one object: captions of a picture are five, but a small packed file may have millions
NESTED: Any = object()  # stands for a list or an object that was passed over
_IN_NAMES = tuple(name for name in STRONG_NAMES if name not in ("sent", "raw"))  # words of a longer name
_SENSE = re.compile(r"\.[nvasr]\.\d\d$")
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])")  # between the words of promptText
_PICTURE = r"[^\s].*\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|npy|mp4|avi|mov)"
PICTURE = re.compile(_PICTURE, re.ASCII | re.IGNORECASE)
_REFERENCE = re.compile(
    rf"[a-z][a-z0-9+.-]*://\S+|www\.\S+|(?:\.{{0,2}}/|[a-z]:\\)\S*|{_PICTURE}"  # an address, a path, a name of a file
    r"|(?=(?:[^\d\s]*\d){3})[\w./:#-]+",  # an id: one word of letters with three digits
    re.ASCII | re.IGNORECASE,
)


def plain_name(name: str) -> str:
    """A column's name as the lists of known names spell it."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def spelled(name: str) -> str:
    """The words of a column's name in lower case with a ``_`` before, between and after them: ``_prompt_text_``."""
    return f"_{'_'.join(_WORD.findall(_HUMP.sub('_', name)))}_".lower()


def find_column(wanted: str, names: Sequence[str], where: str) -> str | None:
    """The name that the user means: as it stands, else whatever its case, else by some of its words; None: none.

    Raises:
        PromptError: several fit.
    """
    if wanted in names or not _WORD.search(wanted):
        return wanted if wanted in names else None
    words = spelled(wanted)
    for fits in (words.__eq__, lambda name: words in name):
        found = [name for name in dict.fromkeys(names) if fits(spelled(name))]
        if len(found) > 1:
            raise PromptError(f"'{wanted}' may be {quoted(found, ' or ')}", where=where, hint="give the whole name")
        if found:
            return found[0]
    return None


def asked_columns(options: ReadOptions, names: Sequence[str], where: str) -> list[str | None]:
    """The columns of text and count that the user asks for; None: none is. A `PromptError` if one is not there."""
    asked = (options.column, options.count_column)
    found = [None if wanted is None else find_column(wanted, names, where) for wanted in asked]
    for wanted, name in zip(asked, found, strict=True):
        if wanted is not None and name is None:
            raise wrong_column(wanted, names, where)
    return found


def strength(name: str) -> tuple[int, int] | None:
    """How well a name says that prompts stand below it, the lowest first; None: it does not.

    First the strong names, then those that end in one (``User prompt``), then those that hold one (``Prompt (EN)``).
    """
    if (plain := plain_name(name)) in STRONG_NAMES:
        return 0, STRONG_NAMES.index(plain)
    words = spelled(name)
    held = [place for place, strong in enumerate(_IN_NAMES) if f"_{strong}_" in words]
    ends = any(words.endswith(f"_{_IN_NAMES[place]}_") for place in held)
    return (1 if ends else 2, held[0]) if held else None


def best_known(
    names: Sequence[str], known: Sequence[str], usable: Callable[[int], bool], part: Callable[[int], bool] | None = None
) -> int | None:
    """Index of the usable name that stands first among the known ones; None: there is none.

    If ``part`` is given, the names of which it is true count too where a strong name is among their words, before the
    weak ones.
    """
    ranks: list[tuple[tuple[int, int], int]] = []
    for index, name in enumerate(names):
        rank = strength(name)
        if plain_name(name) in known:
            ranks.append(((0 if rank and not rank[0] else 3, known.index(plain_name(name))), index))
        elif rank and part is not None and part(index):
            ranks.append((rank, index))
    return next((index for _, index in sorted(ranks) if usable(index)), None)


def holds_words(cells: Sequence[str]) -> bool:
    """Whether more than half of the cells that are not empty are words, not numbers or references."""
    filled = [cell for cell in cells if cell]
    return 2 * sum(not NUMBER.fullmatch(cell) and not looks_like_reference(cell) for cell in filled) > len(filled)


def has_few(total: int, distinct: int) -> bool:
    """Whether so few distinct texts in so many rows are rather those of classes."""
    return distinct <= _MOST_FEW and _FEW * distinct <= total


def guess_notes(
    options: ReadOptions, text: str, count: str | None, names: Iterable[str], others: Iterable[str], *, kind: str
) -> list[str]:
    """Notes on the columns or fields of text and count that the user did not ask for by these names.

    Of the ``others`` those are told that by their names could be the text, of all ``names`` those that could be counts.
    """
    notes = []
    if options.column != text:
        rivals = [other for other in others if options.column is None and strength(other) is not None]
        notes.append(f"text in {kind} '{text}'" + (f" (not {quoted(rivals, ' or ')})" if rivals else ""))
    if count is None:
        ignored = (name for name in names if name != text and plain_name(name) in COUNT_NAMES)
        notes += [f"'{name}' is not counted (no whole numbers)" for name in ignored]
    elif options.count_column != count:
        notes.append(f"counts in {kind} '{count}'")
    return notes


def watched(
    rows: Iterable[tuple[str, int]], notes: list[str], chosen: Callable[[], tuple[str, Sequence[str], bool]]
) -> Iterator[tuple[str, int]]:
    """The rows; a warning joins the notes at their end if they are few texts over and over, numbers or references.

    ``chosen`` is called then: the column or field of the text, others that hold words, and whether rows have counts.
    """
    head: list[str] = []
    distinct: set[str] = set()
    total = 0
    for text, count in rows:
        if len(head) < _SAMPLE:
            head.append(text.strip())
        if len(distinct) <= _MOST_FEW:
            distinct.add(text)
        total += count
        yield text, count
    name, others, is_counted = chosen() if head else ("", (), False)
    what = ""
    if others and not is_counted and has_few(total, len(distinct)):
        what = f"only {len(distinct)} distinct texts in {total:,} rows"
    elif head and not holds_words(head):
        what = "hardly any words, but numbers, ids, paths or addresses"
    if what:
        more = f"; other columns: {quoted(others)} (to read one: FILE:column=NAME)" if others else ""
        notes.append(f"{WARNING}'{name}' holds {what}{more}")


def quoted(names: Iterable[str], separator: str = ", ") -> str:
    """Names for a message, the first of many."""
    listed = list(names)
    return separator.join(f"'{name[:40]}'" for name in listed[:6]) + (", ..." if len(listed) > 6 else "")


def looks_like_reference(text: str) -> bool:
    """Whether a text is an address, a path, the name of a picture or an id rather than words."""
    return _REFERENCE.fullmatch(text.strip()) is not None


def best_text(names: Sequence[str], columns: Sequence[Sequence[str]], count: int | None = None) -> int | None:
    """Index of the column that holds the text: of a known name, else mostly words; None: none was recognized.

    Columns of references (see `looks_like_reference`) come after all others. Of each column some cells are given; that
    at ``count`` holds counts.
    """
    filled = [[cell for cell in column if cell] for column in columns]
    many = [not has_few(len(cells), len(set(cells))) for cells in filled]
    texts = [[cell for cell in column if not NUMBER.fullmatch(cell)] for column in filled]
    references = [2 * sum(map(looks_like_reference, cells)) > len(cells) for cells in texts]
    rest = [index for index in range(len(names)) if index != count]
    for wanted in (False, True):
        fitting = [index for index in rest if references[index] is wanted]
        named = {index for index in fitting if texts[index] or not columns[index]}
        known = best_known(names, TEXT_NAMES, named.__contains__, many.__getitem__)
        mostly = (index for index in fitting if 2 * len(texts[index]) > len(filled[index]))
        found = next(mostly, None) if known is None else known
        if found is not None:
            return found
    return rest[0] if len(rest) == 1 else None


def is_index(numbers: Sequence[int]) -> bool:
    """Whether the numbers beside phrases are those of classes, and not counts.

    That is: 0 to the last one; or 1 to the last one, rising, or many (counts 3, 1, 2 are no wonder); or rising with few
    gaps (COCO's).
    """
    size = len(numbers)
    distinct = sorted(set(numbers))
    if len(distinct) < max(size, 2):
        return False
    rising = distinct == list(numbers)
    if distinct[-1] == size - 1:  # with 0, which as a count would lose the phrase
        return True
    return (distinct[-1] == size and (rising or size > 5)) or (rising and size > 2 and distinct[-1] < 2 * size)


def wrong_column(wanted: str, names: Sequence[str], where: str, kind: type[PromptError] = PromptError) -> PromptError:
    """The error for a column that is not there, or (``wanted`` is empty) for none that could be guessed."""
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    what = f"no column '{wanted}'" if wanted else "no column of text was recognized"
    return kind(what, where=where, hint=f"it has: {listed}" + ("" if wanted else "; name one with column"))


def bad_count(value: object, where: str) -> PromptError:
    """The error for a count that is not a positive integer."""
    what = f"count '{str(value)[:40]}' is not a positive integer"
    return PromptError(what, where=where, hint="fix it, or name another column")


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
    """Which fields of the objects in a list hold text and count: those asked for, or the best known of the first."""

    names: Sequence[str]  # the names of text fields to choose from
    options: ReadOptions  # what the user asked for
    place: Place  # where the reader is
    is_table: bool = False  # whether the list is the whole file, so that names may fit in parts
    text: str | None = None  # the field of the text, once it is known
    count: str | None = None  # the field of the count; None: every item counts once
    seen: dict[str, None] = field(default_factory=dict)  # the fields of the objects without text
    fields: list[str] = field(default_factory=list)  # of the object that they were chosen by
    others: list[str] = field(default_factory=list)  # fields that hold words as well

    def guesses(self) -> list[str]:
        """Notes on the fields that were not asked for."""
        if self.text is None:
            return []
        others = self.others if self.is_table else ()
        return guess_notes(self.options, self.text, self.count, self.fields, others, kind="field")

    def chosen(self) -> tuple[str, Sequence[str], bool]:
        """What `watched` asks for."""
        return self.text or "", self.others, self.count is not None

    def phrases(self, item: Any) -> list[tuple[str, int]]:
        """The phrases of an item with its count: of a string, of an object (a text or a list of them); none of null."""
        if not isinstance(item, dict):
            if item is not None and self.options.column is not None:
                raise self._error(f"no field '{self.options.column}' in {shown(item)}")
            return [(self._checked(item), 1)] if item is not None else []
        if self.text is None:
            self._choose(item)
        value = None if self.text is None else item.get(self.text)
        values = value if isinstance(value, list) else [value]
        if len(values) > MAX_PHRASES:
            raise self._error(f"an object with more than {MAX_PHRASES} phrases")
        texts = [self._checked(text) for text in map(_inner, values) if text is not None]
        count = self._count(item) if texts else 0
        if self.text == "name" and "id" in item and self.options.column is None:
            texts = [category_name(text) for text in texts]
        return [(text, count) for text in texts] if count else []

    def _choose(self, item: Mapping[str, Any]) -> None:
        fields = list(item)
        column = self.options.column

        def may_be_text(index: int) -> bool:  # class numbers are often called "label"
            return plain_name(fields[index]) in STRONG_NAMES or isinstance(item[fields[index]], str | list | None)

        words = [name for name, value in item.items() if isinstance(value, str) and holds_words([value])]
        if column is None:
            part = (lambda index: fields[index] in words) if self.is_table else None
            best = best_known(fields, self.names, may_be_text, part)
        else:
            name = self._asked(column, fields)
            best = None if name is None else fields.index(name)
        if best is None:
            self.seen |= dict.fromkeys(fields)
        elif item[fields[best]] is not None:
            self.text, self.count, self.fields = fields[best], None, fields
            if self.options.count_column is not None:
                self.count = self._asked(self.options.count_column, fields) or self.options.count_column
            self.others = [name for name in words if name not in (self.text, self.count)]
            if self.count is None:
                known = best_known(fields, COUNT_NAMES, lambda index: _whole(item[fields[index]]) is not None)
                self.count = None if known is None else fields[known]

    def _asked(self, wanted: str, fields: Sequence[str]) -> str | None:
        return find_column(wanted, fields, str(self.place)) if self.is_table or wanted in fields else None

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


def _inner(entry: Any) -> Any:
    """The text of an entry in an object's list of phrases, for example ``sent`` of RefCOCO's sentences."""
    if not isinstance(entry, dict):
        return entry
    fields = list(entry)
    best = best_known(fields, TEXT_NAMES, lambda index: isinstance(entry[fields[index]], str))
    return NESTED if best is None else entry[fields[best]]


def check_chosen(listed: Sequence[TextField], where: str) -> None:
    """Raise a `PromptError` when there were objects, but no text field in any of them.

    It is a `NoColumnsError` where they are not the rows of a table.
    """
    seen = [name for fields in listed for name in fields.seen]
    if seen and all(fields.text is None for fields in listed):
        kind = PromptError if listed[0].is_table and "sentences" not in seen else NoColumnsError  # RefCOCO's refs
        raise wrong_column(listed[0].options.column or "", list(dict.fromkeys(seen)), where, kind)


def category_name(name: str) -> str:
    """A category's name as a phrase: LVIS and others write underscores for spaces, and some WordNet's ``cat.n.01``."""
    return _SENSE.sub("", name).replace("_", " ")


def checked_count(value: Any, where: object) -> int:
    """The value, if it is a whole number from 0 on."""
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
