"""Tables of prompts: CSV and TSV; which column holds the text, which one the counts."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

from litetext.errors import PromptError
from litetext.prompts.names import (
    COUNT_NAMES,
    NUMBER,
    TEXT_NAMES,
    bad_count,
    best_known,
    best_text,
    ignored_counts,
    is_index,
    looks_like_reference,
    plain_name,
    wrong_column,
)
from litetext.prompts.opening import Opened, ReadOptions, text_lines

_SAMPLE = 200  # lines that the layout of a file is guessed from,
_SAMPLE_SIZE = 2**20  # and their characters, unless one line has more
_MOST_CELLS = 10_000  # of a row: no table of prompts has more, but a line of commas has millions
_COUNT = re.compile(r"(\d{1,18})(?:\.0*)?", re.ASCII)  # 3.0 is how pandas writes counts
_SEPARATOR = re.compile(r"sep=(.)\r?\n")  # how Excel is told the delimiter

Row = tuple[int, list[str]]
"""The line that a record starts on, and its cells."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a file of cells keeps what: the columns of text and count, and whether the first row names them."""

    text: int
    count: int | None
    header: bool


def read_csv(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Rows of a CSV file; the delimiter is a comma, unless only one of ``; | tab`` gives rows of one width.

    A first line ``sep=;``, as Excel writes it, says it too.

    Raises:
        PromptError: a wrong column, a bad count, broken quotes or bytes.
    """
    sample, lines, delimiter = _sampled(opened)
    if delimiter is None:
        delimiter = next((sign for sign in ",;|\t" if _fits(sample, sign)), ",")
        if delimiter != ",":
            opened.notes.append("tabs between cells" if delimiter == "\t" else f"'{delimiter}' between cells")
    return _read_rows(_csv_rows(lines, delimiter, opened.where), options, opened)


def read_tsv(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Rows of cells between tabs; a quote is plain text, unless quotes are clearly the file's rule.

    That is: all cells of the first row are quoted, or only with quotes have all rows the same width.

    Raises:
        PromptError: a wrong column, a bad count, broken quotes or bytes.
    """
    sample, lines, delimiter = _sampled(opened)
    if _is_quoted(sample):
        return _read_rows(_csv_rows(lines, delimiter or "\t", opened.where), options, opened)
    rows = ((number, _tsv_cells(line)) for number, line in lines)
    return _read_rows(rows, options, opened)


def _sampled(opened: Opened) -> tuple[list[str], Iterator[tuple[int, str]], str | None]:
    """The first lines; all lines with their numbers; the delimiter, if the first line says it (it is left out)."""
    numbered = enumerate(text_lines(opened), 1)
    first = list(islice(numbered, 1))
    told = _SEPARATOR.fullmatch(first[0][1]) if first else None
    sample = [] if told else first
    size = sum(len(line) for _, line in sample)
    while size < _SAMPLE_SIZE and len(sample) < _SAMPLE and (found := next(numbered, None)):
        sample.append(found)
        size += len(found[1])
    return [line for _, line in sample], chain(sample, numbered), told[1] if told else None


def _tsv_cells(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _is_quoted(sample: Sequence[str]) -> bool:
    plain = [_tsv_cells(line) for line in sample if not line.isspace()]
    if not plain:
        return False
    ragged = len({len(cells) for cells in plain}) > 1
    return all(re.fullmatch('".*"', cell) for cell in plain[0]) or (ragged and _fits(sample, "\t"))


def _fits(sample: Sequence[str], delimiter: str) -> bool:
    """Whether the lines, read as CSV, have one and the same number of cells, at least two."""
    try:
        widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
    except csv.Error:
        return False
    if len(sample) == _SAMPLE or sum(map(len, sample)) >= _SAMPLE_SIZE:
        widths = widths[:-1]  # the sample may end inside a record
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
    where = opened.where
    filled = (row for row in _checked_widths(rows, where) if any(map(str.strip, row[1])))
    sample = list(islice(filled, _SAMPLE))
    if not sample:
        return
    layout = _layout([cells for _, cells in sample], options, opened)
    for line, cells in chain(sample[layout.header :], filled):
        text = cells[layout.text] if layout.text < len(cells) else ""
        if not text.strip():
            continue
        if layout.count is None:
            yield text, 1
            continue
        number = cells[layout.count].strip() if layout.count < len(cells) else ""
        whole = _COUNT.fullmatch(number)
        if whole is None:
            raise bad_count(number, f"{where} line {line}")
        if count := int(whole[1]):
            yield text, count


def _checked_widths(rows: Iterable[Row], where: str) -> Iterator[Row]:
    for row in rows:
        if len(row[1]) > _MOST_CELLS:
            what = f"a row of {len(row[1])} cells, more than {_MOST_CELLS}"
            raise PromptError(what, where=f"{where} line {row[0]}", hint="give a table of fewer columns")
        yield row


def _layout(rows: Sequence[Sequence[str]], options: ReadOptions, opened: Opened) -> _Layout:
    columns = _columns(rows)
    header = _has_header(rows[0], columns, options)
    names = [name.strip() for name in rows[0]] if header else [str(number + 1) for number in range(len(columns))]
    if header:
        columns = [column[1:] for column in columns]
    where = opened.where if header else f"{opened.where} (no header)"
    for wanted in (options.column, options.count_column):
        if wanted is not None and wanted not in names:
            raise wrong_column(wanted, names, where)
    count = _count_column(names, columns, header) if options.count_column is None else names.index(options.count_column)
    text = best_text(names, columns, count) if options.column is None else names.index(options.column)
    if text is None:
        raise wrong_column("", names, opened.where)
    layout = _Layout(text, None if text == count else count, header)
    opened.notes.extend(_guesses(layout, names, options))
    return layout


def _guesses(layout: _Layout, names: Sequence[str], options: ReadOptions) -> Iterator[str]:
    """What is told to the user of a layout: what was not asked for."""
    if not layout.header:
        yield "no header"
    if options.column is None:
        yield f"text in column '{names[layout.text]}'"
    if options.count_column is not None:
        return
    if layout.count is not None:
        yield f"counts in column '{names[layout.count]}'"
    else:
        yield from (
            ignored_counts(name)
            for index, name in enumerate(names)
            if index != layout.text and (plain_name(name) in COUNT_NAMES)
        )


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The sample by columns; a cell that a row lacks is empty."""
    width = max(map(len, rows))
    return [[row[index].strip() if index < len(row) else "" for row in rows] for index in range(width)]


def _has_header(first: Sequence[str], columns: Sequence[Sequence[str]], options: ReadOptions) -> bool:
    """Whether the first row holds names: a known one, one asked for, or one above nothing but numbers."""
    cells = [cell.strip() for cell in first]
    if options.column in cells or options.count_column in cells:
        return True
    if any(map(NUMBER.fullmatch, cells)):
        return False
    if any(plain_name(cell) in TEXT_NAMES + COUNT_NAMES for cell in cells):
        return True
    return any(
        column[0] and len(column) > 1 and all(map(kind, column[1:])) and not kind(column[0])
        for column in columns
        for kind in (NUMBER.fullmatch, looks_like_reference)
    )


def _count_column(names: Sequence[str], columns: Sequence[Sequence[str]], header: bool) -> int | None:
    whole = [bool(column) and all(map(_COUNT.fullmatch, column)) for column in columns]
    if header:
        return best_known(names, COUNT_NAMES, lambda index: whole[index])
    if len(columns) != 2:
        return None
    if whole[1]:
        return None if is_index(_numbers(columns[1])) else 1
    # Counts may come first (sort | uniq -c), but numbers that only rise are an index.
    return 0 if whole[0] and not _rises(columns[0]) else None


def _numbers(column: Sequence[str]) -> list[int]:
    return [int(cell.partition(".")[0]) for cell in column]


def _rises(column: Sequence[str]) -> bool:
    return len(column) > 1 and all(a < b for a, b in pairwise(_numbers(column)))
