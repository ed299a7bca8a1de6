"""Prompts from what the user names: files are found, their formats recognized, and read by a function per format."""

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from litetext.errors import OptionError, PromptError
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.prompts.documents import read_json, read_jsonl
from litetext.prompts.fields import NUMBER, PICTURE, WARNING
from litetext.prompts.isolated import read_isolated
from litetext.prompts.opening import (
    FORMATS,
    PACKING_ENDINGS,
    NoColumnsError,
    Opened,
    ReadOptions,
    checked_text,
    open_source,
    split_source,
    text_lines,
    unreadable,
)
from litetext.prompts.tables import read_csv, read_tsv
from litetext.storage import inside
from litetext.tokenizer.clean import check_iterable

__all__ = ["FORMATS", "READERS", "ReadOptions", "as_corpus", "find_sources", "read_prompts"]


class Source(NamedTuple):
    """A file, a saved data set, or standard input."""

    name: str  # what prompts are labelled with: the path as given; inside a folder, relative to it
    path: Path | None  # None: standard input
    options: ReadOptions  # those behind its name


_HEAD = 2**13  # bytes that tell whether a text file holds labels
_MIN_NUMBERS = 5  # in a line of YOLO's labels: a class and a box
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
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")  # of Hugging Face
# What lies beside prompts in the folder of a data set or a model, by its name without the ending.
_OTHER_NAMES = re.compile(
    r"readme([-_.].*)?|licen[cs]e([-_.].*)?|requirements([-_.].*)?|notice|copying|authors|contributing|citation"
    r"|changelog|changes|constraints|manifest|robots|cmakelists"
    r"|package(-lock)?|tsconfig|((generation_|preprocessor_|tokenizer_)?config|tokenizer|special_tokens_map|vocab)",
    re.IGNORECASE,
)
_DEFAULTS = ReadOptions()
# Files that are opened by mistake: their lines are no phrases.
_NOT_READ = (".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".html", ".htm", ".md", ".rst", ".py", ".ipynb")
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\([ld]p\d*\r?\n")
_ARROW = (b"ARROW1\0\0", b"\xff\xff\xff\xff")
_BINARY = re.compile(
    rb"\x89PNG|\xff\xd8\xff|PK\x03\x04|\x7fELF|%PDF-|BZh\d1AY&SY|\xfd7zXZ|7z\xbc\xaf|Rar!\x1a|\x1f\x8b\x08"
)


def read_prompts(
    sources: Iterable[str | Path],
    options: ReadOptions = _DEFAULTS,
    read_as: dict[str, str] | None = None,
    warnings: dict[str, str] | None = None,
) -> Iterator[Prompt]:
    """The prompts of files, folders, glob patterns and standard input (``-``), as they stand there, one after another.

    Texts, CSV and JSON lists are streams; of other formats the distinct prompts are held in memory, of a pickle all.

    Args:
        sources: what to read. A folder gives every file below it that has a known ending and may hold prompts. Behind
            a name may stand options of its own (see `split_source`).
        options: format and columns, where they are not to be guessed. Beside sources that have the columns there may
            be others that have none at all, such as text and COCO; a table without them is an error.
        read_as: how each source is read is added to it, by the source's name, when the source is finished: its format
            and, after a colon, what was guessed; for a folder, which of its files are passed over.
        warnings: why a column hardly holds prompts is added to it, by the source's name.

    Yields:
        Prompts with the name of their source: the path as given, in a folder relative to it, or ``stdin``. The same
        text may come more than once.

    Raises:
        PromptError: a source is missing, unreadable, broken or binary, holds no prompt, has no such column, or needs
            more memory than it may have.
    """
    how, warned = {} if read_as is None else read_as, {} if warnings is None else warnings
    lacking: list[NoColumnsError] = []  # of the sources without columns
    found = find_sources(sources, how)
    for source in found:
        empty, where, known = True, "stdin" if source.path is None else str(source.path), len(lacking)
        for text, count in read_source(source, options, how, warned, lacking):
            empty = False
            yield Prompt(checked_text(text, where), count, source.name)
        if empty and len(lacking) > known:
            raise lacking[-1]
        if empty:
            raise PromptError("no prompts in the file", where=where, hint="give a file with at least one phrase")
    if lacking and len(lacking) == sum(not _asks(source.options) for source in found):
        raise lacking[0]


def as_corpus(source: PromptCorpus | str | Path | Iterable[Prompt | Path | str]) -> PromptCorpus:
    """The prompts that a user of a function means.

    A string or `Path` names a file, a folder, a pattern or ``-``. Of several items, `Path` objects are read; strings
    and `Prompt`s are prompts themselves.

    Raises:
        OptionError: something else, or a string that is the name of a file.
        PromptError: a source cannot be read, or there is no prompt.
    """
    if isinstance(source, PromptCorpus):
        return source
    items = [Path(source)] if isinstance(source, str | Path) else list(check_iterable(source))
    paths = [item for item in items if isinstance(item, Path)]
    if len(paths) == len(items):
        read_as, warnings = dict[str, str](), dict[str, str]()
        return PromptCorpus.build(read_prompts(paths, read_as=read_as, warnings=warnings), read_as, warnings)
    named = [item for item in items if isinstance(item, str) and " " not in item and format_of_name(item)]
    if named:
        raise OptionError("the name of a file among prompts", where=named[0], hint="give a pathlib.Path object")
    if paths:
        raise OptionError("prompts among paths", hint="give the ones or the others")
    return PromptCorpus.build(item for item in items if not isinstance(item, Path))


def read_source(
    source: Source,
    options: ReadOptions,
    read_as: dict[str, str],
    warnings: dict[str, str],
    lacking: list[NoColumnsError],
) -> Iterator[tuple[str, int]]:
    """The phrases of a source; columns that are asked of all sources are not asked of one that has none."""
    own = source.options
    form = own.format or options.format
    both = ReadOptions(form, own.column or options.column, own.count_column or options.count_column)
    try:
        yield from _read(source, both, read_as, warnings)
    except NoColumnsError as error:  # before the first phrase
        if _asks(own) or not _asks(both) or source.path is None:
            raise
        lacking.append(error)
        yield from _read(source, ReadOptions(form), read_as, warnings, "without columns")


def _asks(options: ReadOptions) -> bool:
    return (options.column, options.count_column) != (None, None)


def _read(
    source: Source, options: ReadOptions, read_as: dict[str, str], warnings: dict[str, str], *notes: str
) -> Iterator[tuple[str, int]]:
    name, path = source.name, source.path
    is_dataset = path is not None and path.is_dir()
    for file in dataset_files(path) if path is not None and is_dataset else [path]:
        with open_source(file) as opened:
            if opened.is_blank():
                continue
            kind = "arrow" if is_dataset else _recognize(opened, options)
            yield from READERS[kind](opened, options)
            told = [*notes, *(note for note in opened.notes if not note.startswith(WARNING))]
            for note in (note for note in opened.notes if note.startswith(WARNING)):
                warnings.setdefault(name, note.removeprefix(WARNING))
            how = f"{kind}: {', '.join(told)}" if told else kind
            if how not in read_as.setdefault(name, how):
                read_as[name] += f"; {how}"


def _read_txt(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """One phrase a line; blank lines and the white space around a phrase do not count."""
    _refuse_columns(opened, options)
    return ((phrase, 1) for phrase in map(str.strip, text_lines(opened)) if phrase)


def _read_pickle(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    _refuse_columns(opened, options)
    return read_isolated("pickle", opened, options)


def _refuse_columns(opened: Opened, options: ReadOptions) -> None:
    column = options.column or options.count_column
    if column is not None:
        hint = "leave out the column, or give the format (csv, tsv, jsonl, ...)"
        raise NoColumnsError(f"no column '{column}' in a format without columns", where=opened.where, hint=hint)


READERS: Mapping[str, Callable[[Opened, ReadOptions], Iterator[tuple[str, int]]]] = MappingProxyType(
    {
        "txt": _read_txt,
        "csv": read_csv,
        "tsv": read_tsv,
        "json": read_json,
        "jsonl": read_jsonl,
        "parquet": partial(read_isolated, "parquet"),
        "arrow": partial(read_isolated, "arrow"),
        "pickle": _read_pickle,
    }
)


def _recognize(opened: Opened, options: ReadOptions) -> str:
    """The format of a source: as the options say, else by magic bytes, name and content, in this order."""
    head = opened.file.peek()
    named = format_of_name(opened.where)
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
    hint = "write the phrases to a text file, one a line, or give the format (txt, csv, ...)"
    if (ending := ending_of(opened.where)) in _NOT_READ:
        raise PromptError(f"{ending} is not a format that is read", where=opened.where, hint=hint)
    if found == "txt" and holds_labels(head):
        raise PromptError("lines of numbers or names of pictures, not of phrases", where=opened.where, hint=hint)
    if named is None:
        opened.notes.append("known by its content" if found != "txt" else "a phrase a line, for want of an ending")
    return found


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


def format_of_name(name: str) -> str | None:
    """The format that a file name ends in, before an ending of a compression; None: no format that is read."""
    return _ENDINGS.get(ending_of(name))


def ending_of(name: str) -> str:
    """The ending of a file name in lower case, before an ending of a compression; may be empty."""
    lowered = name.lower()
    for ending in PACKING_ENDINGS:
        lowered = lowered.removesuffix(ending)
    return os.path.splitext(lowered)[1]  # noqa: PTH122 - a name, not a path


def find_sources(arguments: Iterable[str | Path], passed_over: dict[str, str]) -> list[Source]:
    """Files, folders (with all below them), glob patterns and ``-`` as sources, in a fixed order, with their options.

    A single string or path is one of them. What of a folder is not read is added to ``passed_over``, by its name.
    """
    named = arguments if isinstance(arguments, Iterable) and not isinstance(arguments, str) else [arguments]
    found: list[Source] = []
    for argument in named:
        if not isinstance(argument, str | Path):
            raise OptionError(f"a source that is a {type(argument).__name__}", hint="give names of files or folders")
        name, options = split_source(str(argument))
        found += [Source(*one, options) for one in _expand(name, passed_over)]
    return found


def _expand(argument: str, passed_over: dict[str, str]) -> list[tuple[str, Path | None]]:
    if argument == "-":
        return [("stdin", None)]
    path = Path(argument)
    try:
        if not argument or not os.path.lexists(path):
            return _matches(argument)
        if path.is_dir() and not is_saved_dataset(path):
            return _below(path, passed_over)
    except OSError as error:
        raise unreadable(argument, error) from error
    return [(argument, path)]


def _matches(pattern: str) -> list[tuple[str, Path | None]]:
    if not glob.has_magic(pattern):
        hint = "check the path" + ("; behind it stand column=, count=, format=" if ":" in pattern else "")
        raise PromptError("no such file", where=pattern or "''", hint=hint)
    paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - pattern may be absolute
    found: list[tuple[str, Path | None]] = [
        (str(path), path) for path in paths if not path.is_dir() or is_saved_dataset(path)
    ]
    if not found:
        raise PromptError("no file matches the pattern", where=pattern, hint="check it, or give the folder")
    return found


def _below(folder: Path, passed_over: dict[str, str]) -> list[tuple[str, Path | None]]:
    """The readable files of a folder; hidden ones are passed over, and, which is reported, all that are no prompts."""
    found = []
    others: Counter[str] = Counter()
    for root, folders, names in os.walk(folder, onerror=_raise):
        base = Path(root)
        if base != folder and is_saved_dataset(base):
            found.append(base)
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (base / name for name in sorted(names) if not name.startswith(".")):
            reason = _reason_to_pass_over(path)
            if reason is None:
                found.append(path)
            else:
                others[reason] += 1
    listed = ", ".join(f"{count} {reason}" for reason, count in others.most_common(6))
    listed += ", ..." if len(others) > 6 else ""
    if not found:
        hint = f"these are read: {' '.join(_ENDINGS)}" + (f"; passed over: {listed}" if others else "")
        raise PromptError("no file of prompts in the folder", where=str(folder), hint=hint)
    if others:
        passed_over[str(folder)] = f"{others.total()} files passed over: {listed}"
    return sorted((str(path.relative_to(folder)), path) for path in found)


def _raise(error: OSError) -> NoReturn:
    raise error


def _reason_to_pass_over(path: Path) -> str | None:
    """What a file of a folder is, if it holds no prompts; None: it is read."""
    kind = format_of_name(path.name)
    if kind is None:
        return path.suffix.lower() or "without an ending"
    if path.exists() and not path.is_file():
        return "of no regular kind"  # reading a pipe might never end; a broken link is an error of its own
    if path.name in _DESCRIPTIONS or (kind in ("txt", "json") and _OTHER_NAMES.fullmatch(path.stem)):
        return path.name
    if kind == "txt" and path.exists():
        with path.open("rb") as file:
            return "of labels or names of pictures" if holds_labels(file.read(_HEAD)) else None
    return None


def holds_labels(head: bytes) -> bool:
    """Whether the lines of a text are rows of numbers, as in YOLO's labels, or names of pictures."""
    lines = [line.strip() for line in head[:_HEAD].decode("utf-8", "replace").split("\n")]
    if len(head) >= _HEAD:
        lines.pop()  # it may be cut
    filled = [(line, line.split()) for line in lines if line]
    return bool(filled) and all(
        PICTURE.fullmatch(line) or (len(numbers) >= _MIN_NUMBERS and all(map(NUMBER.fullmatch, numbers)))
        for line, numbers in filled
    )


def is_saved_dataset(folder: Path) -> bool:
    """Whether the folder was written by ``save_to_disk`` of Hugging Face's ``datasets``."""
    split = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return split or (folder / "dataset_dict.json").is_file()


def dataset_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder written by ``save_to_disk`` of Hugging Face's ``datasets``, or of its splits."""
    splits = [folder]
    if (folder / "dataset_dict.json").is_file():
        splits = _described(folder, "dataset_dict.json", "splits")
    return [path for split in splits for path in _described(split, "state.json", "_data_files")]


def _described(folder: Path, name: str, key: str) -> list[Path]:
    """The paths in a list of a saved data set's description, or of its objects' ``filename``."""
    path = folder / name
    try:
        entries = json.loads(path.read_bytes())[key]
        names = [entry["filename"] if isinstance(entry, dict) else str(entry) for entry in entries]
        return [inside(folder, str(entry)) for entry in names]
    except OSError as error:
        raise unreadable(str(path), error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"no list '{key}' of files inside the folder in the data set's description"
        raise PromptError(what, where=str(path), hint="save the data set again with save_to_disk") from error
