"""Prompts from files: each is opened, its format recognized, and read by one function per format."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from litetext.errors import OptionError, PromptError
from litetext.prompts.apart import read_apart
from litetext.prompts.corpus import Prompt, PromptCorpus, checked_iterable
from litetext.prompts.documents import read_json, read_jsonl
from litetext.prompts.opening import (
    FORMATS,
    Opened,
    ReadOptions,
    Source,
    checked_text,
    open_source,
    refuse_columns,
    text_lines,
)
from litetext.prompts.pickles import read_pickle
from litetext.prompts.sources import dataset_files, ending_of, find_sources, format_of_name, holds_labels
from litetext.prompts.tabular import read_csv, read_tsv

__all__ = ["FORMATS", "READERS", "ReadOptions", "find_sources", "read_prompts", "read_txt"]

_DEFAULTS = ReadOptions()
# Files that are opened by mistake: their lines are no phrases.
_NOT_READ = (".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".md", ".rst", ".py", ".ipynb")
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\([ld]p\d*\r?\n")
_ARROW = (b"ARROW1\0\0", b"\xff\xff\xff\xff")
_BINARY = re.compile(
    rb"\x89PNG|\xff\xd8\xff|PK\x03\x04|\x7fELF|%PDF-|BZh\d1AY&SY|\xfd7zXZ|7z\xbc\xaf|Rar!\x1a|\x1f\x8b\x08"
)


def read_prompts(
    sources: Iterable[str | Path], options: ReadOptions = _DEFAULTS, read_as: dict[str, str] | None = None
) -> Iterator[Prompt]:
    """The prompts of files, folders, glob patterns and standard input (``-``), as they stand there, one after another.

    Texts, CSV and JSON lists are streams; of other formats the distinct prompts are held in memory, of a pickle all.

    Args:
        sources: what to read. A folder gives every file below it that has a known ending and may hold prompts.
        options: format and columns, where they are not to be guessed.
        read_as: how each source is read is added to it, by the source's name, when the source is finished: its format
            and, after a colon, what was guessed; for a folder, which of its files are passed over.

    Yields:
        Prompts with the name of their source: the path as given, in a folder relative to it, or ``stdin``. The same
        text may come more than once.

    Raises:
        OptionError: a source is no string and no path.
        PromptError: a source is missing, unreadable, broken or binary, holds no prompt, has no such column, or needs
            more memory than it may have.
    """
    told = {} if read_as is None else read_as
    for source in find_sources(sources, told):
        empty = True
        for text, count in _read(source, options, told):
            empty = False
            yield Prompt(checked_text(text, source.where), count, source.name)
        if empty:
            raise PromptError("no prompts in the file", where=source.where, hint="give a file with at least one phrase")


def as_corpus(source: PromptCorpus | str | Path | Iterable[Prompt | Path | str]) -> PromptCorpus:
    """The prompts that a user of a function means.

    Args:
        source: a corpus; a string or `Path`, which names a file, a folder, a pattern or ``-``; or several items:
            `Path` objects are read, strings and `Prompt`s are prompts themselves.

    Raises:
        OptionError: something else, or strings that all name files.
        PromptError: a source cannot be read, or there is no prompt.
    """
    if isinstance(source, PromptCorpus):
        return source
    items = [Path(source)] if isinstance(source, str | Path) else list(checked_iterable(source))
    paths = [item for item in items if isinstance(item, Path)]
    if len(paths) == len(items):
        read_as: dict[str, str] = {}
        return PromptCorpus.build(read_prompts(paths, read_as=read_as), read_as)
    if all(isinstance(item, str) and format_of_name(item) and Path(item).exists() for item in items):
        raise OptionError("strings that name files where prompts are to be", hint="give pathlib.Path objects")
    if paths:
        raise OptionError("prompts among paths", hint="give the ones or the others")
    return PromptCorpus.build(item for item in items if not isinstance(item, Path))


def _read(source: Source, options: ReadOptions, read_as: dict[str, str]) -> Iterator[tuple[str, int]]:
    if source.path is not None and source.path.is_dir():
        for path in dataset_files(source.path):
            with open_source(Source(str(path.relative_to(source.path)), path)) as opened:
                yield from read_arrow(opened, options)
            _tell(read_as, source, "arrow", opened.notes)
        return
    with open_source(source) as opened:
        if not opened.is_blank():
            found = _recognize(opened, options)
            yield from READERS[found](opened, options)
            _tell(read_as, source, found, opened.notes)


def _tell(read_as: dict[str, str], source: Source, found: str, notes: list[str]) -> None:
    told = f"{found}: {', '.join(notes)}" if notes else found
    if told not in read_as.setdefault(source.name, told):
        read_as[source.name] += f"; {told}"


def read_txt(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """One phrase a line; blank lines and the white space around a phrase do not count.

    Raises:
        PromptError: a column was asked for, or a byte is not UTF-8.
    """
    refuse_columns(opened, options)
    return ((phrase, 1) for phrase in map(str.strip, text_lines(opened)) if phrase)


def read_parquet(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Distinct texts of a Parquet file with their counts, in the order of their first rows.

    Raises:
        PromptError: not Parquet, a wrong column, a bad count, or it takes too much memory.
    """
    return read_apart("parquet", opened, options)


def read_arrow(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """Distinct texts of an Arrow (IPC) file or stream; of a stream, the chosen columns are held in memory.

    Raises:
        PromptError: not Arrow, a wrong column, a bad count, or it takes too much memory.
    """
    return read_apart("arrow", opened, options)


READERS: Mapping[str, Callable[[Opened, ReadOptions], Iterator[tuple[str, int]]]] = MappingProxyType(
    {
        "txt": read_txt,
        "csv": read_csv,
        "tsv": read_tsv,
        "json": read_json,
        "jsonl": read_jsonl,
        "parquet": read_parquet,
        "arrow": read_arrow,
        "pickle": read_pickle,
    }
)


def _recognize(opened: Opened, options: ReadOptions) -> str:
    """The format of a source: as the options say, else by magic bytes, name and content, in this order.

    Raises:
        PromptError: the format would be text, but the bytes are binary, or the lines are no phrases.
    """
    head = opened.file.peek()
    named = format_of_name(opened.source.where)
    found = options.format or _format_of_magic(head) or named
    if found in ("parquet", "arrow", "pickle"):
        return found
    if b"\0" in head[: 2**13] or _BINARY.match(head):
        hint = "give text, CSV, JSON, JSON lines, Parquet or a RefCOCO pickle"
        raise PromptError("binary file", where=opened.where, hint=hint)
    if options.format is not None:
        return options.format
    if found in ("json", None):
        found = _format_of_text(head) or found or "txt"
    _refuse_other_text(opened, found, head)
    if named is None:
        opened.notes.append("known by its content" if found != "txt" else "a phrase a line, for want of an ending")
    return found


def _refuse_other_text(opened: Opened, found: str, head: bytes) -> None:
    ending = ending_of(opened.where)
    hint = "write the phrases to a text file, one a line, or give the format (txt, csv, ...)"
    if ending in _NOT_READ:
        raise PromptError(f"{ending} is not a format that is read", where=opened.where, hint=hint)
    if found == "txt" and holds_labels(head):
        raise PromptError("lines of numbers or names of pictures, not of phrases", where=opened.where, hint=hint)


def _format_of_magic(head: bytes) -> str | None:
    if head.startswith(b"PAR1\x15"):
        return "parquet"
    return "arrow" if head.startswith(_ARROW) else "pickle" if _PICKLE.match(head) else None


def _format_of_text(head: bytes) -> str | None:
    """JSON or JSON lines, if the text starts like one."""
    text = head.lstrip()
    if re.match(rb'\[\s*["{\[\]]', text):
        return "json"
    if not re.match(rb'\{\s*["}]', text):
        return None
    first, _, rest = text.partition(b"\n")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return "json"
    return "jsonl" if rest.lstrip().startswith(b"{") else "json"
