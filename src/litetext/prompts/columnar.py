"""Parquet and Arrow with polars: read by the child process of `isolated`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from litetext.errors import PromptError, first_line
from litetext.prompts.fields import (
    COUNT_NAMES,
    MAX_COUNT,
    asked_columns,
    best_known,
    best_text,
    guess_notes,
    holds_words,
    watched,
    wrong_column,
)
from litetext.prompts.opening import ReadOptions, checked_text

_TABLE_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_SAMPLE = 200  # rows that columns are guessed from, as in CSV
_ROWS = 10**7  # that any file may have,
_ROWS_PER_BYTE = 1000  # and more for each of its bytes: one phrase over and over takes two bytes for a thousand rows

Scan = Callable[[Sequence[str]], pl.LazyFrame]
"""Gives a table with at least the named columns, or (none named) with its schema."""


def start_threads() -> None:
    """Let polars start its threads and reserve what they need, before the memory is limited."""
    pl.LazyFrame({"text": ["a"]}).group_by("text").len().collect(engine="streaming")


def read_frame(kind: str, path: Path, options: ReadOptions, where: str, notes: list[str]) -> Iterator[tuple[str, int]]:
    """Distinct texts of a table with their counts, in the order of their first rows; of lists, each item is a text.

    The kind is ``parquet`` or ``arrow`` (IPC file or stream; of a stream, the chosen columns are held in memory). What
    was guessed is added to the notes.
    """
    scan = _scan(kind, path)
    try:
        rows = scan(()).select(pl.len()).collect().item()
        if rows > _ROWS + _ROWS_PER_BYTE * path.stat().st_size:
            what = f"{rows} rows, more than {_ROWS_PER_BYTE} for each byte of the file"
            raise PromptError(what, where=where, hint="write each phrase once, with its count")
        text, count, others = _columns(scan, options, where, notes)
        frame = scan([text, count] if count else [text])
        table = _grouped(frame, text, count).collect(engine="streaming")
    except _TABLE_ERRORS as error:
        reason = first_line(error)
        raise PromptError(f"not a readable table ({reason})", where=where, hint="write the file again") from error
    wrong = table["wrong"].min()
    if wrong is not None:
        what = "the count is missing, negative or no whole number"
        raise PromptError(what, where=f"{where} row {wrong!r}", hint="fix it")
    found = ((phrase, total) for phrase, total in table.select("text", "count").iter_rows() if total)
    for phrase, total in watched(found, notes, lambda: (text, others, count is not None)):
        yield checked_text(phrase, where), total


def _scan(kind: str, path: Path) -> Scan:
    if kind == "parquet":
        return lambda _: pl.scan_parquet(path, glob=False, hive_partitioning=False)
    with path.open("rb") as file:
        if file.read(6) == b"ARROW1":
            return lambda _: pl.scan_ipc(path, glob=False)
    return lambda names: pl.read_ipc_stream(path, columns=list(names) or None, n_rows=None if names else 0).lazy()


def _columns(scan: Scan, options: ReadOptions, where: str, notes: list[str]) -> tuple[str, str | None, list[str]]:
    """The columns of text and count, as asked for or guessed, and others that hold words."""
    schema = scan(()).collect_schema()
    text, count = asked_columns(options, list(schema), where)
    for name, kind in ((text, "text"), (count, "whole numbers")):
        if name is not None and not (_is_text(schema[name]) if kind == "text" else _is_whole(scan, schema, name)):
            raise PromptError(f"column '{name}' holds {schema[name]}, not {kind}", where=where, hint="name another")
    heads = {name: _head(scan, name) for name, kind in schema.items() if _is_text(kind)}
    if text is None:
        if not heads:
            raise wrong_column("", list(schema), where)
        text = list(heads)[best_text(list(heads), list(heads.values())) or 0]
    others = [name for name, cells in heads.items() if name != text and holds_words(cells)]
    if count is None:
        names = [name for name in schema if name != text]
        best = best_known(names, COUNT_NAMES, lambda index: _is_whole(scan, schema, names[index]))
        count = None if best is None else names[best]
    notes += guess_notes(options, text, count, schema, others, kind="column")
    return text, count, others


def _is_whole(scan: Scan, schema: pl.Schema, name: str) -> bool:
    """Whether a column holds whole numbers; pandas writes them as floats where one is missing."""
    kind = schema[name]
    return kind.is_integer() or (kind.is_float() and all(map(float.is_integer, _head(scan, name))))


def _is_text(kind: pl.DataType) -> bool:
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    return inner in (pl.String, pl.Categorical, pl.Enum)


def _head(scan: Scan, name: str) -> list[Any]:
    """The first values of a column that are not null; of lists, their items."""
    column = scan([name]).select(name).head(_SAMPLE).collect()[name]
    return (column.explode() if column.dtype.is_nested() else column).head(_SAMPLE).drop_nulls().to_list()


def _grouped(frame: pl.LazyFrame, text: str, count: str | None) -> pl.LazyFrame:
    """Columns text, count (summed), row (the first, from 1) and wrong (the first row with a bad count, or null).

    Grouped without an order and sorted afterwards, so that polars can stream and holds the distinct texts only.
    """
    schema = frame.collect_schema()
    number = pl.lit(1, pl.Int64) if count is None else pl.col(count)
    rows = frame.select(pl.col(text).alias("text"), number.alias("count")).with_row_index("row", 1)
    if schema[text].is_nested():
        rows = rows.explode("text")
    wrong = pl.col("count").is_null() | (pl.col("count") < 0) | (pl.col("count") >= MAX_COUNT)
    if count is not None and schema[count].is_float():
        wrong |= pl.col("count").is_nan() | (pl.col("count") != pl.col("count").floor())
    return (
        rows.with_columns(pl.col("text").cast(pl.String))
        .filter(pl.col("text").str.contains(r"\S"))  # no copy of the texts is made, as stripping them would
        .with_columns(wrong.alias("is_wrong"), pl.col("count").cast(pl.Int64, strict=False))
        .group_by("text")
        .agg(pl.col("count").sum(), pl.col("row").min(), pl.col("row").filter("is_wrong").min().alias("wrong"))
        .sort("row")
    )
