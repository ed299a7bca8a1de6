"""What the user names, as sources: files, folders with all below them, glob patterns, standard input."""

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from litetext.errors import OptionError, PromptError
from litetext.prompts.names import NUMBER, PICTURE
from litetext.prompts.opening import PACKING_ENDINGS, Source, unreadable
from litetext.storage import inside

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
# What lies beside prompts in the folder of a data set or a model, by its name without the ending.
_OTHER_NAMES = re.compile(
    r"readme([-_.].*)?|licen[cs]e([-_.].*)?|requirements([-_.].*)?|notice|copying|authors|contributing|citation"
    r"|changelog|changes|constraints|manifest|robots|cmakelists"
    r"|package(-lock)?|tsconfig|((generation_|preprocessor_|tokenizer_)?config|tokenizer|special_tokens_map|vocab)",
    re.IGNORECASE,
)
_HEAD = 2**13  # bytes that tell whether a text file holds labels
_PICTURE = re.compile(PICTURE, re.ASCII | re.IGNORECASE)
_LEAST_NUMBERS = 5  # in a line of YOLO's labels: a class and a box


def format_of_name(name: str) -> str | None:
    """The format that a file name ends in, before an ending of a compression; None: no format that is read."""
    return _ENDINGS.get(ending_of(name))


def ending_of(name: str) -> str:
    """The ending of a file name in lower case, before an ending of a compression; may be empty."""
    lowered = name.lower()
    for ending in PACKING_ENDINGS:
        lowered = lowered.removesuffix(ending)
    return os.path.splitext(lowered)[1]  # noqa: PTH122 - a name, not a path


def holds_labels(head: bytes) -> bool:
    """Whether the lines of a text are rows of numbers, as in YOLO's labels, or names of pictures."""
    lines = [line.strip() for line in head[:_HEAD].decode("utf-8", "replace").split("\n")]
    if len(head) >= _HEAD:
        lines.pop()  # it may be cut
    filled = list(filter(None, lines))
    return bool(filled) and all(map(_is_label, filled))


def _is_label(line: str) -> bool:
    numbers = line.split()
    return _PICTURE.fullmatch(line) is not None or (
        len(numbers) >= _LEAST_NUMBERS and all(map(NUMBER.fullmatch, numbers))
    )


def is_saved_dataset(folder: Path) -> bool:
    """Whether the folder was written by ``save_to_disk`` of Hugging Face's ``datasets``."""
    split = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return split or (folder / "dataset_dict.json").is_file()


def find_sources(arguments: Iterable[str | Path], passed_over: dict[str, str] | None = None) -> list[Source]:
    """Files, folders (with all below them), glob patterns and ``-`` as sources, in a fixed order.

    Args:
        arguments: what the user names; a single string or path is one of them.
        passed_over: what of a folder is not read is added to it, by the folder's name.

    Raises:
        OptionError: an argument is no string and no path.
        PromptError: nothing is there, or it cannot be looked at.
    """
    named = [arguments] if isinstance(arguments, str | Path) else arguments
    found = []
    for argument in named if isinstance(named, Iterable) else [named]:
        if not isinstance(argument, str | Path):
            raise OptionError(f"a source that is a {type(argument).__name__}", hint="give names of files or folders")
        found += _expand(str(argument), {} if passed_over is None else passed_over)
    return found


def _expand(argument: str, passed_over: dict[str, str]) -> list[Source]:
    if argument == "-":
        return [Source("stdin", None)]
    path = Path(argument)
    try:
        if not argument or not os.path.lexists(path):
            return _matches(argument)
        if path.is_dir():
            return [Source(argument, path)] if is_saved_dataset(path) else _below(path, passed_over)
    except OSError as error:
        raise unreadable(argument, error) from error
    return [Source(argument, path)]


def _matches(pattern: str) -> list[Source]:
    if not any(sign in pattern for sign in "*?["):
        raise PromptError("no such file", where=pattern or "''", hint="check the path")
    paths = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - pattern may be absolute
    found = [Source(str(path), path) for path in paths if not path.is_dir() or is_saved_dataset(path)]
    if not found:
        raise PromptError("no file matches the pattern", where=pattern, hint="check it, or give the folder")
    return found


def _below(folder: Path, passed_over: dict[str, str]) -> list[Source]:
    """The readable files of a folder; hidden ones are passed over, and, which is told, all that are no prompts."""
    found = []
    others: Counter[str] = Counter()
    for root, folders, files in os.walk(folder, onerror=_raise):
        base = Path(root)
        if base != folder and is_saved_dataset(base):
            found.append(base)
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (base / name for name in sorted(files) if not name.startswith(".")):
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
    return sorted((Source(str(path.relative_to(folder)), path) for path in found), key=lambda source: source.name)


def _reason_to_pass_over(path: Path) -> str | None:
    """What a file of a folder is, if it holds no prompts; None: it is read."""
    kind = format_of_name(path.name)
    if kind is None:
        return path.suffix.lower() or "without an ending"
    if path.exists() and not path.is_file():
        return "of no regular kind"  # reading a pipe might never end; a broken link is a mistake, and told as one
    if path.name in _DESCRIPTIONS or (kind in ("txt", "json") and _OTHER_NAMES.fullmatch(path.stem)):
        return path.name
    if kind == "txt" and path.exists():
        with path.open("rb") as file:
            return "of labels or names of pictures" if holds_labels(file.read(_HEAD)) else None
    return None


def _raise(error: OSError) -> NoReturn:
    raise error


def dataset_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder written by ``save_to_disk`` of Hugging Face's ``datasets``, or of its splits.

    Raises:
        PromptError: its description is broken, or names a file outside of it.
    """
    splits = [folder]
    if (folder / "dataset_dict.json").is_file():
        splits = _described(folder, "dataset_dict.json", "splits")
    return [path for split in splits for path in _described(split, "state.json", "_data_files")]


def _described(folder: Path, name: str, key: str) -> list[Path]:
    """The paths in a list of a saved data set's description, or of its objects' ``filename``."""
    path = folder / name
    hint = "save the data set again with save_to_disk"
    try:
        entries = json.loads(path.read_bytes())[key]
        names = [entry["filename"] if isinstance(entry, dict) else str(entry) for entry in entries]
    except OSError as error:
        raise unreadable(str(path), error) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PromptError(f"no list '{key}' in the data set's description", where=str(path), hint=hint) from error
    try:
        return [inside(folder, str(entry)) for entry in names]
    except ValueError as error:
        raise PromptError(str(error), where=str(path), hint=hint) from error
