"""Prompts from files: what the user names is found, opened, recognised, and read by one function per format."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from litetext.errors import PromptError
from litetext.prompts.corpus import Prompt
from litetext.prompts.documents import read_json, read_jsonl
from litetext.prompts.opening import (
    FORMATS,
    PACKING_ENDINGS,
    Opened,
    ReadOptions,
    Source,
    open_source,
    refuse_columns,
    text_lines,
    unreadable,
)
from litetext.prompts.pickles import read_pickle
from litetext.prompts.tabular import read_arrow, read_csv, read_parquet, read_tsv

__all__ = ["FORMATS", "READERS", "ReadOptions", "find_sources", "read_prompts", "read_txt"]

_DEFAULTS = ReadOptions()
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")  # of Hugging Face
_ENDINGS = {
    ".txt": "txt",
    ".text": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".p": "pickle",
    ".pkl": "pickle",
    ".pickle": "pickle",
}
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\([ld]p\d*\r?\n")
_ARROW = (b"ARROW1\0\0", b"\xff\xff\xff\xff")
_BINARY = re.compile(
    rb"\x89PNG|\xff\xd8\xff|PK\x03\x04|\x7fELF|%PDF-|BZh\d1AY&SY|\xfd7zXZ|7z\xbc\xaf|Rar!\x1a|\x1f\x8b\x08"
)


def read_prompts(sources: Sequence[str], options: ReadOptions = _DEFAULTS) -> Iterator[Prompt]:
    """The prompts of files, folders, glob patterns and standard input (``-``), as they stand there, one after another.

    Texts, CSV and JSON lists are streams; of other formats the distinct prompts are held in memory, of a pickle all.

    Args:
        sources: what to read. A folder gives every file below it that has a known ending.
        options: format and columns, where they are not to be guessed.

    Yields:
        Prompts with the name of their source: the path as given, in a folder relative to it, or ``stdin``. The same
        text may come more than once.

    Raises:
        PromptError: a source is missing, unreadable, broken or binary, holds no prompt, or has no such column.
    """
    for source in find_sources(sources):
        empty = True
        for text, count in _read(source, options):
            empty = False
            yield Prompt(text, count, source.name)
        if empty:
            raise PromptError("no prompts in the file", where=source.where, mend="give a file with at least one phrase")


def _read(source: Source, options: ReadOptions) -> Iterator[tuple[str, int]]:
    if source.path is not None and source.path.is_dir():
        yield from _read_saved_dataset(source.path, options)
        return
    with open_source(source) as opened:
        if not opened.is_blank():
            yield from READERS[_recognise(opened, options)](opened, options)


def read_txt(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """One phrase a line; blank lines and the white space around a phrase do not count.

    Raises:
        PromptError: a column was asked for, or a byte is not UTF-8.
    """
    refuse_columns(opened, options)
    return ((phrase, 1) for phrase in map(str.strip, text_lines(opened)) if phrase)


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


def _read_saved_dataset(folder: Path, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """A folder written by ``save_to_disk`` of Hugging Face's ``datasets``: its Arrow files, or those of its splits."""
    if (folder / "dataset_dict.json").is_file():
        splits = [folder / name for name in _described(folder / "dataset_dict.json", "splits")]
    else:
        splits = [folder]
    for split in splits:
        for name in _described(split / "state.json", "_data_files"):
            with open_source(Source(name, split / name)) as opened:
                yield from read_arrow(opened, options)


def _described(path: Path, key: str) -> list[str]:
    """The names in a list of a saved data set's description, or of its objects' ``filename``."""
    try:
        entries = json.loads(path.read_bytes())[key]
        return [entry["filename"] if isinstance(entry, dict) else str(entry) for entry in entries]
    except OSError as error:
        raise unreadable(str(path), error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        mend = "save the data set again with save_to_disk"
        raise PromptError(f"no list '{key}' in the data set's description", where=str(path), mend=mend) from error


def _is_saved_dataset(folder: Path) -> bool:
    """Whether the folder was written by ``save_to_disk`` of Hugging Face's ``datasets``."""
    split = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return split or (folder / "dataset_dict.json").is_file()


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """Files, folders (with all below them), glob patterns and ``-`` as sources, in a fixed order.

    Raises:
        PromptError: nothing is there, or it cannot be looked at.
    """
    return [source for argument in arguments for source in _expand(argument)]


def _expand(argument: str) -> list[Source]:
    if argument == "-":
        return [Source("stdin", None)]
    path = Path(argument)
    try:
        if not argument or not os.path.lexists(path):
            return _matches(argument)
        if path.is_dir():
            return [Source(argument, path)] if _is_saved_dataset(path) else _below(path)
    except OSError as error:
        raise unreadable(argument, error) from error
    return [Source(argument, path)]


def _matches(pattern: str) -> list[Source]:
    if not any(sign in pattern for sign in "*?["):
        raise PromptError("no such file", where=pattern or "''", mend="check the path")
    paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - pattern may be absolute
    found = [Source(str(path), path) for path in paths if not path.is_dir() or _is_saved_dataset(path)]
    if not found:
        raise PromptError("no file matches the pattern", where=pattern, mend="check it, or give the folder")
    return found


def _below(folder: Path) -> list[Source]:
    """The readable files of a folder; hidden ones, and endings that no reader is for, are passed over."""
    found = []
    for root, folders, files in os.walk(folder, onerror=_raise):
        base = Path(root)
        if base != folder and _is_saved_dataset(base):
            paths = [base]
            folders.clear()
        else:
            paths = [base / name for name in files if name not in _DESCRIPTIONS and _format_of_name(name)]
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Source(str(path.relative_to(folder)), path) for path in paths if not path.name.startswith(".")]
    if not found:
        endings = " ".join(_ENDINGS)
        raise PromptError("no file of prompts in the folder", where=str(folder), mend=f"these are read: {endings}")
    return sorted(found, key=lambda source: source.name)


def _raise(error: OSError) -> NoReturn:
    raise error


def _recognise(opened: Opened, options: ReadOptions) -> str:
    """The format of a source: as the options say, else by magic bytes, name and content, in this order.

    Raises:
        PromptError: the format would be text, but the bytes are binary.
    """
    head = opened.file.peek()
    found = options.format or _format_of_magic(head) or _format_of_name(opened.source.where)
    if found in ("parquet", "arrow", "pickle"):
        return found
    if b"\0" in head[: 2**13] or _BINARY.match(head):
        mend = "give text, CSV, JSON, JSON lines, Parquet or a RefCOCO pickle"
        raise PromptError("binary file", where=opened.where, mend=mend)
    if options.format is None and found in ("json", None):
        return _format_of_text(head) or found or "txt"
    return found or "txt"


def _format_of_magic(head: bytes) -> str | None:
    if head.startswith(b"PAR1\x15"):
        return "parquet"
    return "arrow" if head.startswith(_ARROW) else "pickle" if _PICKLE.match(head) else None


def _format_of_name(name: str) -> str | None:
    """The format that a file name ends in, before an ending of a compression; None: no format that is read."""
    lowered = name.lower()
    for ending in PACKING_ENDINGS:
        lowered = lowered.removesuffix(ending)
    return _ENDINGS.get(os.path.splitext(lowered)[1])  # noqa: PTH122 - a name, not a path


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
