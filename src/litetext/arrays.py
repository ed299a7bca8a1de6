"""Arrays and matrices from files, read without running anybody's code."""

import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from litetext.errors import ArrayError

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")
MOST_UNPACKED, MOST_RATIO = 2**27, 20
"""Bytes of a compressed array that are unpacked in any case, and how many times its bytes in the file. Features of
float32 hardly compress at all; zeros do by a thousand."""
# What a damaged file makes of NumPy (which parses a header as Python), zipfile and safetensors.
_ARRAY_ERRORS = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, SafetensorError, lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


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
        return as_matrix(_read_named(path, name), spec)
    if name:
        raise ArrayError("a .npy file holds one array without a name", where=str(path), hint=f"leave out '#{name}'")
    return as_matrix(read_npy(path), spec)


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, mapped; it can hold numbers only."""
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
        message = str(error) or type(error).__name__
        raise ArrayError(
            f"not a readable {path.suffix} file ({message})", where=str(path), hint="write it again"
        ) from error


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Shape, order and dtype of a .npy file, or a member, of a size in bytes; NumPy raises many errors."""
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
    members = {
        entry.filename.removesuffix(".npy"): entry for entry in archive.infolist() if entry.filename.endswith(".npy")
    }
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
            f"{len(candidates)} arrays could be meant", where=str(path), hint=f"give FILE#NAME; it has: {listed}"
        )
    return candidates[0]


def as_matrix(array: npt.NDArray[Any], spec: str) -> npt.NDArray[np.float32]:
    """A matrix of finite numbers as float32, without leading axes of length 1; an `ArrayError` of any other array."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise ArrayError(f"shape {list(array.shape)} is not [rows, columns]", where=spec, hint="give a matrix")
    if array.dtype.kind not in "fiu":
        raise ArrayError(f"'{array.dtype}' is not numeric", where=spec, hint="give floating point numbers")
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
