"""Files: atomic writes, JSON, fingerprints, and arrays read without running anybody's code."""

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from litetext.errors import ArrayError

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``path`` that replaces it only when the block ends without an error.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step: the old file or the whole new one, never a half."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def to_json(value: Mapping[str, Any]) -> str:
    """JSON text of a mapping; not-a-number is refused, since JSON has no such thing."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)


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
    tables). Pickled objects are never loaded.

    Raises:
        ArrayError: no such file or array, another format, not a matrix of finite numbers, or more than one candidate.
    """
    file, _, name = spec.partition("#")
    path = Path(file)
    if not path.is_file():
        raise ArrayError("no such file", where=str(path), mend="check the path")
    if path.suffix not in ARRAY_SUFFIXES:
        raise ArrayError(
            f"cannot read arrays from '{path.suffix}'", where=str(path), mend="give .npy, .npz, .safetensors"
        )
    try:
        array = _read_npy(path, name) if path.suffix == ".npy" else _read_named(path, name)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise ArrayError(
            f"not a readable {path.suffix} file ({error})", where=str(path), mend="write it again"
        ) from error
    return _as_matrix(array, spec)


def _read_npy(path: Path, name: str) -> npt.NDArray[Any]:
    if name:
        raise ArrayError("a .npy file holds one array without a name", where=str(path), mend=f"leave out '#{name}'")
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _read_named(path: Path, name: str) -> npt.NDArray[Any]:
    """Read one array of an archive: the one called ``name``, or the only one of at least two axes."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:
            chosen = _choose(path, name, {key: archive[key].ndim for key in archive.files})
            array: npt.NDArray[Any] = archive[chosen]
            return array
    with safe_open(path, framework="numpy") as archive:
        shapes = {key: len(archive.get_slice(key).get_shape()) for key in archive.keys()}  # noqa: SIM118
        chosen = _choose(path, name, shapes)
        if archive.get_slice(chosen).get_dtype() == "BF16":
            return _read_bfloat16(path, chosen)
        tensor: npt.NDArray[Any] = archive.get_tensor(chosen)
        return tensor


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
        raise ArrayError(f"no array '{name}'", where=str(path), mend=f"it has: {listed}")
    candidates = [key for key, count in axes.items() if count >= 2]
    if len(candidates) != 1:
        raise ArrayError(
            f"{len(candidates)} arrays could be meant", where=str(path), mend=f"say FILE#NAME; it has: {listed}"
        )
    return candidates[0]


def _as_matrix(array: npt.NDArray[Any], spec: str) -> npt.NDArray[np.float32]:
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise ArrayError(f"shape {list(array.shape)} is not [rows, columns]", where=spec, mend="give a matrix")
    if array.dtype.kind not in "fiu":
        raise ArrayError(f"'{array.dtype}' is not a number type", where=spec, mend="give floating point numbers")
    matrix = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if bad.size:
        raise ArrayError(
            f"{bad.size} rows hold NaN or infinity, the first is row {bad[0]}",
            where=spec,
            mend="drop or mend those rows",
        )
    return matrix


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
