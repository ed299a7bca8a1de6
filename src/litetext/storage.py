"""Files: atomic writes, locks, JSON and fingerprints."""

import ctypes
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from litetext.errors import UNPRINTABLE, OutputError

_BLOCK = 2**20


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``path`` that replaces it only when the block ends without an error.

    The new file is called ``.NAME.partial``. What a killed process left of one is overwritten by the next writer.
    Of two processes that write one file, the second gets an `OutputError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    with _locked(partial, path) as handle, os.fdopen(handle, "wb", closefd=False) as file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(target: Path, *, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A folder to write into; it becomes ``target`` when the block ends without an error, else nothing is left of it.

    An old folder at the target stays until the new one takes its place, in one step where the system can do that. What
    a killed process left (``.NAME.partial``, ``.NAME.old``) is removed or put back by the next writer. A folder that is
    not ``is_ours``, nor empty, is never replaced: that, and a second writer, is an `OutputError`.
    """
    if target.name in ("", ".."):  # the working folder or one above it, which cannot change places with another
        raise OutputError("a folder without a name", where=str(target), hint="give the name of a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _partial(target), target.with_name(f".{target.name}.old")
    partial.mkdir(exist_ok=True)
    with _locked(partial, target):
        try:
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)  # of one that was killed when its new folder was in place
            if target.exists() and not (target.is_dir() and (is_ours(target) or not any(target.iterdir()))):
                raise OutputError("something else is there", where=str(target), hint="give another folder")
            _empty(partial)
            yield partial
            if not target.exists():
                partial.rename(target)
            elif not _exchange(partial, target):
                target.rename(old)
                try:
                    partial.rename(target)
                except OSError:
                    old.rename(target)
                    raise
        finally:
            for leftover in (partial, old):
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def only_writer(path: Path, what: str, *, folder: bool = True) -> Iterator[None]:
    """Make a folder, or a file, and lock it against a second writer; when the process dies, the system unlocks it.

    ``what`` names it in the `OutputError` of the second writer ("this cache"). A file that gets nothing stays.
    """
    check_output(path, folder=folder)
    try:
        (path if folder else path.absolute().parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"no folder can be made ({reason})", where=str(path), hint="give another") from error
    with _locked(path, path, what):
        yield


def check_output(path: Path, *, folder: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output before the work that would be lost: of another kind, not writable, or one of the inputs."""
    if folder and path.exists() and not path.is_dir():
        raise OutputError("a file where a folder is to be written", where=str(path), hint="give another name")
    if not folder and path.is_dir():
        raise OutputError("a folder where a file is to be written", where=str(path), hint="give the name of a file")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputError("the output is an input", where=str(path), hint="give another name")
    parent = path if path.is_dir() else path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError("a file where a folder is to be", where=str(parent), hint="give another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError("not writable", where=str(parent), hint="give another place, or fix its permissions")


def inside(folder: Path, name: str) -> Path:
    """The path of a name that a file from elsewhere gives; a `ValueError` if it leads out of the folder."""
    if not name or "\0" in name or "\\" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"the path '{name}' is not one within the folder")
    return folder / name


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step: the old file or the whole new one, never a half."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def to_json(value: Mapping[str, Any]) -> str:
    """JSON text of a mapping, safe to print; not-a-number is refused, since JSON has no such thing."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)  # only strings have such characters


def checksum(folder: Path, names: Iterable[str]) -> str:
    """BLAKE2b (128 bits, hexadecimal) of files of a folder with their names, read in blocks: it notices damage."""
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        path = folder / name
        for part in (name.encode("utf-8", "surrogatepass"), path.stat().st_size.to_bytes(8, "little")):
            digest.update(len(part).to_bytes(8, "little") + part)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of a sequence of strings, in hexadecimal; each part is framed by its length, so that borders count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextmanager
def _locked(path: Path, target: Path, what: str = "it") -> Iterator[int]:
    """Lock a file, which is made, or a folder, which is there; gives its descriptor (-1: a folder on Windows)."""
    if sys.platform == "win32" and path.is_dir():
        yield -1
        return
    kind = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        handle = os.open(path, kind | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if not _lock(handle):
                raise OutputError(f"another process writes {what}", where=str(target), hint="wait for it")
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open file; False where another has it. Nothing is locked where the system has no such locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at the path: the writer before may have moved it away since."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <linux/fs.h>
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # a C library before glibc 2.28
        return False
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), swap) == 0)


def names_file(text: str) -> bool:
    """Whether a text is the name of a file with an ending; a thing may be called like one without.

    `Path` fails on a phrase that is too long for a name.
    """
    return bool(os.path.splitext(text)[1]) and os.path.isfile(text)  # noqa: PTH113, PTH122
