"""Tables of prompts: CSV and TSV; which column holds the text, which one the counts."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from litetext.errors import PromptError
from litetext.prompts.fields import (
    COUNT_NAMES,
    NUMBER,
    TEXT_NAMES,
    asked_columns,
    bad_count,
    best_known,
    best_text,
    guess_notes,
    holds_words,
    is_index,
    looks_like_reference,
    plain_name,
    spelled,
    strength,
    watched,
    wrong_column,
)
from litetext.prompts.opening import Opened, ReadOptions, text_lines

_SAMPLE = 200  # lines that the layout of a file is guessed from,
_SAMPLE_SIZE = 2**20  # and their characters, unless one line has more
_MAX_CELLS = 10_000  # of a row: no table of prompts has more, but a line of commas has millions
_COUNT = re.compile(r"(\d{1,18})(?:\.0*)?", re.ASCII)  # 3.0 is how pandas writes counts
_NAME_WORDS = {word for name in TEXT_NAMES for word in name.split("_")}
_SEPARATOR = re.compile(r"sep=([,;|\t])\s*", re.IGNORECASE)

Row = tuple[int, list[str]]
"""The line that a row begins on, and its cells."""


def read_csv(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Rows of a CSV file; the delimiter is a comma, unless only one of ``; | tab`` gives rows of one width.

    A first line ``sep=;``, as Excel writes it, says it too.
    """
    lines = enumerate(text_lines(opened), 1)
    sample = list(islice(lines, 1))
    declared = _SEPARATOR.fullmatch(sample[0][1]) if sample else None
    if declared:
        return _read_rows(_csv_rows(lines, declared[1], opened.where), options, opened)
    size = sum(len(line) for _, line in sample)
    while size < _SAMPLE_SIZE and len(sample) < _SAMPLE and (found := next(lines, None)):
        sample.append(found)
        size += len(found[1])
    is_cut = size >= _SAMPLE_SIZE or len(sample) == _SAMPLE
    delimiter = next((sign for sign in ",;|\t" if _fits([line for _, line in sample], sign, is_cut)), ",")
    if delimiter != ",":
        opened.notes.append("tabs between cells" if delimiter == "\t" else f"'{delimiter}' between cells")
    return _read_rows(_csv_rows(chain(sample, lines), delimiter, opened.where), options, opened)


def read_tsv(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Rows of cells between tabs; a quote is plain text."""
    rows = ((number, line.rstrip("\r\n").split("\t")) for number, line in enumerate(text_lines(opened), 1))
    return _read_rows(rows, options, opened)


def _fits(lines: Sequence[str], delimiter: str, is_cut: bool) -> bool:
    """Whether the lines, read as CSV, have one and the same number of cells, at least two."""
    try:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return False
    widths = widths[:-1] if is_cut else widths  # the sample may end inside a record
    return len(set(widths)) == 1 and widths[0] > 1


def _csv_rows(lines: Iterator[tuple[int, str]], delimiter: str, where: str) -> Iterator[Row]:
    last = 0

    def texts() -> Iterator[str]:
        nonlocal last
        for last, line in lines:  # noqa: B007 - the number of the last line that was read
            yield line

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    while True:
        start = last + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "fix the quotes there (a quote inside quotes is doubled)"
            raise PromptError(f"broken CSV ({error})", where=f"{where} line {start}", hint=hint) from error
        yield start, row


def _read_rows(rows: Iterator[Row], options: ReadOptions, opened: Opened) -> Iterator[tuple[str, int]]:
    filled = _filled_rows(rows, opened.where)
    sample = list(islice(filled, _SAMPLE))
    if not sample:
        return
    header, text, count, chosen = _layout([cells for _, cells in sample], options, opened)
    found = _phrases(chain(sample[header:], filled), text, count, opened.where)
    yield from watched(found, opened.notes, lambda: (*chosen, count is not None))


def _phrases(rows: Iterable[Row], text: int, count: int | None, where: str) -> Iterator[tuple[str, int]]:
    for line, cells in rows:
        phrase = cells[text] if text < len(cells) else ""
        if not phrase.strip():
            continue
        if count is None:
            yield phrase, 1
            continue
        number = cells[count].strip() if count < len(cells) else ""
        whole = _COUNT.fullmatch(number)
        if whole is None:
            raise bad_count(number, f"{where} line {line}")
        if int(whole[1]):
            yield phrase, int(whole[1])


def _filled_rows(rows: Iterator[Row], where: str) -> Iterator[Row]:
    for line, cells in rows:
        if len(cells) > _MAX_CELLS:
            what = f"a row of {len(cells)} cells, more than {_MAX_CELLS}"
            raise PromptError(what, where=f"{where} line {line}", hint="give a table of fewer columns")
        if any(map(str.strip, cells)):
            yield line, cells


def _layout(
    rows: Sequence[Sequence[str]], options: ReadOptions, opened: Opened
) -> tuple[bool, int, int | None, tuple[str, list[str]]]:
    """Whether the first row is a header, the columns of text and count, and the names of that and others of words.

    What was guessed goes to the notes.
    """
    columns = [[row[index].strip() if index < len(row) else "" for row in rows] for index in range(max(map(len, rows)))]
    header = _has_header(columns, options)
    names = [column[0] if header else str(number) for number, column in enumerate(columns, 1)]
    if header:
        columns = [column[1:] for column in columns]
    else:
        opened.notes.append("no header")
    where = opened.where if header else f"{opened.where} (no header)"
    text, count = (None if name is None else names.index(name) for name in asked_columns(options, names, where))
    count = _count_column(names, columns, header) if count is None else count
    text = best_text(names, columns, count) if text is None else text
    if text is None:
        raise wrong_column("", names, opened.where)
    count = None if text == count else count
    others = [name for place, name in enumerate(names) if place not in (text, count) and holds_words(columns[place])]
    counted = None if count is None else names[count]
    opened.notes.extend(guess_notes(options, names[text], counted, names, others, kind="column"))
    return header, text, count, (names[text], others)


def _has_header(columns: Sequence[Sequence[str]], options: ReadOptions) -> bool:
    """Whether the first row holds names: a known one, one asked for, or one above nothing but numbers or references."""
    cells = [column[0] for column in columns]
    if options.column in cells or options.count_column in cells:
        return True
    if any(map(NUMBER.fullmatch, cells)):
        return False
    wanted = [spelled(name) for name in (options.column, options.count_column) if name and not name.isdecimal()]
    words = list(map(spelled, cells))
    if any(name in cell for name in wanted for cell in words):
        return True
    if any(strength(cell) and _NAME_WORDS.issuperset(cell.strip("_").split("_")) for cell in words):  # Prompt text
        return True
    return any(plain_name(cell) in TEXT_NAMES + COUNT_NAMES for cell in cells) or any(
        column[0] and len(column) > 1 and all(map(kind, column[1:])) and not kind(column[0])
        for column in columns
        for kind in (NUMBER.fullmatch, looks_like_reference)
    )


def _count_column(names: Sequence[str], columns: Sequence[Sequence[str]], header: bool) -> int | None:
    whole = [bool(column) and all(map(_COUNT.fullmatch, column)) for column in columns]
    if header:
        return best_known(names, COUNT_NAMES, whole.__getitem__)
    if len(columns) != 2:
        return None
    # Counts may come first (sort | uniq -c); numbers of classes or rows are none.
    index = next((index for index in (1, 0) if whole[index]), None)
    numbers = [] if index is None else [int(cell.partition(".")[0]) for cell in columns[index]]
    return None if is_index(numbers) else index
