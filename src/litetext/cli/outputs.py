"""Outputs of commands, refused before the work where they would fail after it, or replace what is read."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from litetext.errors import OutputError
from litetext.storage import check_output

_HEAD = 1024


def check_target(
    output: Path, *, models: Iterable[str | Path | None] = (), sources: Iterable[str] | None = (), folder: bool = False
) -> None:
    """Refuse the output of a command before its work.

    Args:
        output: as the user gave it.
        models: what is read besides, as the user named it: files, folders and others (names on the hub, None).
        sources: prompts or pictures, as the user named them: files, folders, globs, - for standard input; None: none.
        folder: whether the output is a folder.

    Raises:
        OutputError: it cannot be written there, is one of the inputs, or replaces a file of a model's folder.
    """
    if output.exists() and not (output.is_file() or output.is_dir()):
        raise OutputError("neither a file nor a folder", where=str(output), hint="give the name of a file")
    inputs = [path for spec in (*models, *(sources or ())) if spec for path in _paths(str(spec))]
    check_output(output, folder=folder, inputs=inputs)
    folders = [path.resolve() for spec in models if spec for path in _paths(str(spec)) if path.is_dir()]
    if not folder and output.exists() and any(path in output.resolve().parents for path in folders):
        raise OutputError("the output is a file of the folder that is read", where=str(output), hint="give another")


def check_ours(path: Path, mark: str) -> None:
    """Refuse to replace a file of the user's that is called as one of ours, which the user did not name.

    Args:
        path: the file.
        mark: what stands in the first kilobyte of one that an earlier run wrote.

    Raises:
        OutputError: it is something else.
    """
    check_output(path)
    if path.exists():
        with path.open("rb") as file:
            if mark.encode() not in file.read(_HEAD):
                raise OutputError("it would be replaced, and is not ours", where=str(path), hint="give another folder")


def _paths(spec: str) -> Iterator[Path]:
    """What is there under a name: a file or folder, the file of FILE#NAME, or what a glob finds."""
    path = Path(spec).expanduser()
    if path.exists():
        yield path
    elif (file := Path(spec.partition("#")[0])).exists():
        yield file
    elif glob.has_magic(spec):
        yield from map(Path, glob.iglob(spec, recursive=True))  # noqa: PTH207 - may be absolute
