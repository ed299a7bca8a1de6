"""Tables of prompts: CSV, TSV, Parquet and Arrow; which column holds the text, which one the counts."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import polars as pl

from litetext.errors import PromptError
from litetext.prompts.names import (
    COUNT_NAMES,
    TEXT_NAMES,
    bad_count,
    best_known,
    plain_name,
    wrong_column,
)
from litetext.prompts.opening import Opened, ReadOptions, on_disk, text_lines

_SAMPLE = 200  # lines that the layout of a file is guessed from
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)
_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)

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

    Raises:
        PromptError: a wrong column, a bad count, broken quotes or bytes.
    """
    lines = text_lines(opened)
    sample = list(islice(lines, _SAMPLE))
    delimiter = next((sign for sign in ",;|\t" if _fits(sample, sign)), ",")
    rows = _csv_rows(chain(sample, lines), delimiter, opened.where)
    return _read_rows(rows, options, opened.where)


def read_tsv(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Rows of cells between tabs; a quote is plain text, unless quotes are clearly the file's rule.

    That is: all cells of the first row are quoted, or only with quotes have all rows the same width.

    Raises:
        PromptError: a wrong column, a bad count, broken quotes or bytes.
    """
    lines = text_lines(opened)
    sample = list(islice(lines, _SAMPLE))
    everything = chain(sample, lines)
    if _is_quoted(sample):
        return _read_rows(_csv_rows(everything, "\t", opened.where), options, opened.where)
    rows = ((number, _tsv_cells(line)) for number, line in enumerate(everything, 1))
    return _read_rows(rows, options, opened.where)


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
    if len(sample) == _SAMPLE:
        widths = widths[:-1]  # the sample may end inside a record
    return len(set(widths)) == 1 and widths[0] > 1


def _csv_rows(lines: Iterator[str], delimiter: str, where: str) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    start = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            mend = "mend the quotes there (a quote inside quotes is doubled)"
            raise PromptError(f"broken CSV ({error})", where=f"{where} line {start}", mend=mend) from error
        yield start, row
        start = reader.line_num + 1


def _read_rows(rows: Iterator[Row], options: ReadOptions, where: str) -> Iterator[tuple[str, int]]:
    filled = (row for row in rows if any(map(str.strip, row[1])))
    sample = list(islice(filled, _SAMPLE))
    if not sample:
        return
    layout = _layout([cells for _, cells in sample], options, where)
    for line, cells in chain(sample[layout.header :], filled):
        text = cells[layout.text] if layout.text < len(cells) else ""
        if not text.strip():
            continue
        number = "1" if layout.count is None else cells[layout.count].strip() if layout.count < len(cells) else ""
        if not _COUNT.fullmatch(number):
            raise bad_count(number, f"{where} line {line}")
        if count := int(number):
            yield text, count


def _layout(rows: Sequence[Sequence[str]], options: ReadOptions, where: str) -> _Layout:
    columns = _columns(rows)
    header = _has_header(rows[0], columns, options)
    names = [name.strip() for name in rows[0]] if header else [str(number + 1) for number in range(len(columns))]
    if header:
        columns = [column[1:] for column in columns]
    for wanted in (options.column, options.count_column):
        if wanted is not None and wanted not in names:
            raise wrong_column(wanted, names, where if header else f"{where} (no header)")
    count = _count_column(names, columns, header) if options.count_column is None else names.index(options.count_column)
    if options.column is not None:
        text = names.index(options.column)
        return _Layout(text, None if text == count else count, header)
    guess = _text_column(names, columns, count)
    if guess is None:
        raise wrong_column("", names, where)
    return _Layout(guess, count, header)


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The sample by columns; a cell that a row lacks is empty."""
    width = max(map(len, rows))
    return [[row[index].strip() if index < len(row) else "" for row in rows] for index in range(width)]


def _has_header(first: Sequence[str], columns: Sequence[Sequence[str]], options: ReadOptions) -> bool:
    """Whether the first row holds names: a known one, one asked for, or one above nothing but numbers."""
    cells = [cell.strip() for cell in first]
    if options.column in cells or options.count_column in cells:
        return True
    if any(map(_NUMBER.fullmatch, cells)):
        return False
    if any(plain_name(cell) in TEXT_NAMES + COUNT_NAMES for cell in cells):
        return True
    return any(column[0] and len(column) > 1 and all(map(_NUMBER.fullmatch, column[1:])) for column in columns)


def _count_column(names: Sequence[str], columns: Sequence[Sequence[str]], header: bool) -> int | None:
    whole = [bool(column) and all(map(_COUNT.fullmatch, column)) for column in columns]
    if header:
        return best_known(names, COUNT_NAMES, lambda index: whole[index])
    if len(columns) != 2:
        return None
    if whole[1]:
        return 1
    # Counts may come first (sort | uniq -c), but numbers that only rise are an index.
    return 0 if whole[0] and not _rises(columns[0]) else None


def _rises(column: Sequence[str]) -> bool:
    return len(column) > 1 and all(int(a) < int(b) for a, b in pairwise(column))


def _text_column(names: Sequence[str], columns: Sequence[Sequence[str]], count: int | None) -> int | None:
    texts = [[cell for cell in column if cell and not _NUMBER.fullmatch(cell)] for column in columns]
    known = best_known(names, TEXT_NAMES, lambda index: index != count and (bool(texts[index]) or not columns[index]))
    if known is not None:
        return known
    rest = [index for index in range(len(columns)) if index != count]
    mostly = (index for index in rest if 2 * len(texts[index]) > len([cell for cell in columns[index] if cell]))
    return next(mostly, rest[0] if len(rest) == 1 else None)


def read_parquet(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Distinct texts of a Parquet file with their counts, in the order of their first rows.

    Raises:
        PromptError: not Parquet, a wrong column, a bad count.
    """
    with on_disk(opened) as path:
        yield from _read_frame(
            lambda _: pl.scan_parquet(path, glob=False, hive_partitioning=False), options, opened.where
        )


def read_arrow(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Distinct texts of an Arrow (IPC) file or stream; of a stream, the chosen columns are held in memory.

    Raises:
        PromptError: not Arrow, a wrong column, a bad count.
    """
    with on_disk(opened) as path:

        def scan_stream(columns: Sequence[str]) -> pl.LazyFrame:
            if columns:
                return pl.read_ipc_stream(path, columns=list(columns)).lazy()
            return pl.read_ipc_stream(path, n_rows=0).lazy()

        is_stream = not opened.file.peek().startswith(b"ARROW1")
        yield from _read_frame(
            scan_stream if is_stream else lambda _: pl.scan_ipc(path, glob=False), options, opened.where
        )


def _read_frame(
    scan: Callable[[Sequence[str]], pl.LazyFrame], options: ReadOptions, where: str
) -> Iterator[tuple[str, int]]:
    """The prompts of a frame; ``scan`` gives it with at least the named columns, or (none named) with its schema."""
    try:
        schema = scan(()).collect_schema()
        text, count = _frame_columns(schema, options, where)
        table = _grouped(scan([text, count] if count else [text]), text, count).collect(engine="streaming")
    except _POLARS_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PromptError(f"not a readable table ({reason})", where=where, mend="write the file again") from error
    wrong = table["wrong"].drop_nulls().to_list()
    if wrong:
        raise PromptError("the count is missing or negative", where=f"{where} row {min(wrong)}", mend="mend it")
    for phrase, total in table.select("text", "count").iter_rows():
        if total:
            yield phrase, total


def _frame_columns(schema: pl.Schema, options: ReadOptions, where: str) -> tuple[str, str | None]:
    names, types = list(schema), list(schema.values())
    is_text = [kind in (pl.String, pl.Categorical, pl.Enum) for kind in types]
    for wanted, fits, kind in (
        (options.column, is_text, "text"),
        (options.count_column, [kind.is_integer() for kind in types], "whole numbers"),
    ):
        if wanted is not None and wanted not in names:
            raise wrong_column(wanted, names, where)
        if wanted is not None and not fits[names.index(wanted)]:
            raise PromptError(f"column '{wanted}' holds {schema[wanted]}, not {kind}", where=where, mend="name another")
    text = options.column
    if text is None:
        known = best_known(names, TEXT_NAMES, lambda index: is_text[index])
        if known is None and True not in is_text:
            raise wrong_column("", names, where)
        text = names[is_text.index(True) if known is None else known]
    if options.count_column is not None:
        return text, options.count_column
    count = best_known(names, COUNT_NAMES, lambda index: types[index].is_integer())
    return text, None if count is None else names[count]


def _grouped(frame: pl.LazyFrame, text: str, count: str | None) -> pl.LazyFrame:
    """Columns text, count (summed), row (the first, from 1) and wrong (the first row with a bad count, or null).

    Grouped without an order and sorted afterwards, so that polars can stream and holds the distinct texts only.
    """
    counts = pl.lit(1, pl.Int64) if count is None else pl.col(count).cast(pl.Int64)
    rows = frame.select(pl.col(text).cast(pl.String).alias("text"), counts.alias("count")).with_row_index("row", 1)
    wrong = pl.col("count").is_null() | (pl.col("count") < 0)
    return (
        rows.filter(pl.col("text").str.strip_chars() != "")
        .group_by("text")
        .agg(pl.col("count").sum(), pl.col("row").min(), pl.col("row").filter(wrong).min().alias("wrong"))
        .sort("row")
    )
