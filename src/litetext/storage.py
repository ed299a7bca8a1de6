"""Files: atomic writes, JSON, fingerprints, and arrays read without running anybody's code."""

import ctypes
import hashlib
import json
import lzma
import os
import shutil
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from litetext.errors import UNPRINTABLE, ArrayError, OutputError

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")
MOST_UNPACKED, MOST_RATIO = 2**27, 20
"""Bytes of a compressed array that are unpacked in any case, and how many times its bytes in the file. Features of
float32 hardly compress at all; zeros do by a thousand."""
_BLOCK = 2**20
# What a damaged file makes of NumPy (which parses a header as Python), zipfile and safetensors.
_ARRAY_ERRORS = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, SafetensorError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``path`` that replaces it only when the block ends without an error.

    The new file is called ``.NAME.partial``. What a killed process left of one is overwritten by the next writer.

    Raises:
        OutputError: another process writes the same file.
        OSError: the folder cannot be made or written.
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
    a killed process left (``.NAME.partial``, ``.NAME.old``) is removed or put back by the next writer.

    Args:
        target: the folder that is to be.
        is_ours: whether a folder that is there already may be replaced; an empty one always may.

    Raises:
        OutputError: something else is at the target, or another process writes it.
        OSError: it cannot be written.
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

    Args:
        path: the folder or the file; an empty file stays where nothing is written to it.
        what: what it is, for the error ("this cache").
        folder: whether it is a folder.

    Raises:
        OutputError: another process writes there, or it cannot be made.
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
    """Refuse an output before the work that would be lost.

    Args:
        path: where the result is to go.
        folder: whether it is to be a folder.
        inputs: files that are read; none of them may be overwritten.

    Raises:
        OutputError: a file where a folder is to be, or the reverse; its place is no folder or not writable; or it is
            one of the inputs.
    """
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
    """The path of a name that a file from elsewhere gives, which must not lead out of the folder.

    Raises:
        ValueError: it is absolute, has ``..`` in it, or is empty.
    """
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
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)  # only strings have such characters


def checksum(folder: Path, names: Iterable[str]) -> str:
    """BLAKE2b (128 bits, hexadecimal) of files of a folder with their names, read in blocks: it notices damage.

    Raises:
        OSError: a file cannot be read.
    """
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


def load_matrix(spec: str) -> npt.NDArray[np.float32]:
    """Read a matrix [N, D] from ``FILE`` or ``FILE#NAME`` (.npy, .npz or .safetensors), as float32.

    ``NAME`` chooses one of several arrays; leading axes of length 1 are dropped ([1, T, C] is a usual shape of position
    tables). Pickled objects are never loaded, and an array is read only when the file really holds as many bytes as it
    declares. A compressed array may be as large as `MOST_UNPACKED`, or `MOST_RATIO` times what it takes in the file.

    Raises:
        ArrayError: no such file or array, another format, not a matrix of finite numbers, more than one candidate, or
            an array that unpacks to too much.
    """
    file, _, name = spec.partition("#")
    path = Path(file)
    if path.suffix not in ARRAY_SUFFIXES and path.is_file():
        raise ArrayError(
            f"cannot read arrays from '{path.suffix}'", where=str(path), hint="give .npy, .npz, .safetensors"
        )
    if path.suffix != ".npy":
        return _as_matrix(_read_named(path, name), spec)
    if name:
        raise ArrayError("a .npy file holds one array without a name", where=str(path), hint=f"leave out '#{name}'")
    return _as_matrix(read_npy(path), spec)


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, mapped; it can hold numbers only.

    Raises:
        ArrayError: no such file, or not a whole one.
    """
    with _array_errors(path), path.open("rb") as file:
        shape, order, dtype = _header(file, path.stat().st_size)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", file.tell(), shape, order)


@contextmanager
def _array_errors(path: Path) -> Iterator[None]:
    """One line for whatever NumPy, zipfile and safetensors make of a damaged file."""
    if not path.is_file():
        raise ArrayError("no such file", where=str(path), hint="check the path")
    try:
        yield
    except _ARRAY_ERRORS as error:
        said = str(error) or type(error).__name__
        raise ArrayError(
            f"not a readable {path.suffix} file ({said})", where=str(path), hint="write it again"
        ) from error


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Shape, order and number type of a .npy file, or a member, of a size in bytes; its data follow.

    Raises:
        ValueError: it does not hold numbers, or not as many as it declares; NumPy raises many others.
    """
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"version {version} of the format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("pickled objects, which could run code")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"{dtype} {list(shape)} in {size - file.tell():,} bytes")
    return shape, "F" if by_columns else "C", dtype


def _read_named(path: Path, name: str) -> npt.NDArray[Any]:
    """Read one array of an archive: the one called ``name``, or the only one of at least two axes."""
    with _array_errors(path):
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return _read_member(path, name, archive)
        with safe_open(path, framework="numpy") as tensors:
            shapes = {key: len(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
            chosen = _choose(path, name, shapes)
            if tensors.get_slice(chosen).get_dtype() == "BF16":
                return _read_bfloat16(path, chosen)
            tensor: npt.NDArray[Any] = tensors.get_tensor(chosen)
            return tensor


def _read_member(path: Path, name: str, archive: zipfile.ZipFile) -> npt.NDArray[Any]:
    members = {one.filename.removesuffix(".npy"): one for one in archive.infolist() if one.filename.endswith(".npy")}
    axes = {}
    for key, member in members.items():
        with archive.open(member) as file:
            axes[key] = len(_header(file, member.file_size)[0])
    member = members[_choose(path, name, axes)]
    size = member.file_size
    most = max(MOST_UNPACKED, MOST_RATIO * member.compress_size)
    if size > most:
        raise ValueError(f"'{member.filename}' unpacks to {size:,} bytes, more than {most:,}: save it uncompressed")
    with archive.open(member) as file:
        shape, order, dtype = _header(file, size)
        # Read to its end, where zipfile compares the checksum.
        return np.frombuffer(file.read(), dtype).reshape(shape, order=order)


def _read_bfloat16(path: Path, name: str) -> npt.NDArray[np.float32]:
    """One bfloat16 tensor of a safetensors file, widened: NumPy has no such type, and safetensors gives no bytes."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + size + start)
        halves = np.frombuffer(file.read(end - start), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _choose(path: Path, name: str, axes: Mapping[str, int]) -> str:
    if name in axes:
        return name
    listed = ", ".join(sorted(axes)[:8]) + (", ..." if len(axes) > 8 else "")
    if name:
        raise ArrayError(f"no array '{name}'", where=str(path), hint=f"it has: {listed}")
    candidates = [key for key, count in axes.items() if count >= 2]
    if len(candidates) != 1:
        raise ArrayError(
            f"{len(candidates)} arrays could be meant", where=str(path), hint=f"say FILE#NAME; it has: {listed}"
        )
    return candidates[0]


def _as_matrix(array: npt.NDArray[Any], spec: str) -> npt.NDArray[np.float32]:
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise ArrayError(f"shape {list(array.shape)} is not [rows, columns]", where=spec, hint="give a matrix")
    if array.dtype.kind not in "fiu":
        raise ArrayError(f"'{array.dtype}' is not a number type", where=spec, hint="give floating point numbers")
    with np.errstate(over="ignore"):  # infinity is looked for below
        matrix = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        raise ArrayError(
            f"{bad.size} rows hold NaN or infinity, the first is row {bad[0]}",
            where=spec,
            hint="drop or fix those rows",
        )
    return matrix


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
