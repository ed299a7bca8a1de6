"""Checkpoint files as named tensors: names, shapes and dtypes first, values only of those that are asked for.

Safetensors files (one, or a folder with shards and their index) are described without PyTorch; what ``torch.save``
wrote needs it. The format is recognized by the first bytes, not by its name. No code in a file is ever run.
"""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, BinaryIO

from safetensors import SafetensorError, safe_open

from litetext.errors import EncoderError, MissingExtraError, first_line, shortened
from litetext.records import read_json
from litetext.storage import inside

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
SINGLE_FILE = "model.safetensors"
STUDENT_FILE = "student.safetensors"  # of a run of `litetext distill`
SHARD_INDEX = "model.safetensors.index.json"
AGAIN = "get the file again"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_POINTER = b"version https://git-lfs"
# How safetensors writes the types that PyTorch calls otherwise.
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """What is known of a tensor before its values are read; the dtype by PyTorch's name, for example "float32"."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """What these take: its type ends with its bits, but for truth values."""
        bits = re.search(r"\d+$", self.dtype)
        return self.size * (int(bits[0]) // 8 if bits else 1)


@dataclass(frozen=True, eq=False)
class TensorSource:
    """Named tensors of a checkpoint; names of nested mappings are joined by dots."""

    path: Path
    size: int  # bytes on disk
    entries: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]  # strings that a safetensors file carries beside its tensors
    load: "Callable[[str], torch.Tensor]"  # contiguous, on the CPU, in memory of its own

    def read(self, names: Iterable[str]) -> "Iterator[tuple[str, torch.Tensor]]":
        """One tensor after another."""
        for name in names:
            yield name, self.load(name)


def open_tensors(path: Path) -> TensorSource:
    """The tensors of a file, or of a folder that holds `model.safetensors`, its shards, or `student.safetensors`."""
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise EncoderError("no such file", where=str(path), hint="check the path")
    head = _head(path)
    # A safetensors file begins with the length of its header, which may look like the first bytes of anything else.
    length = int.from_bytes(head[:8], "little")
    if not (head[8:9] == b"{" and length < path.stat().st_size) and head.startswith((_ZIP, _PICKLE)):
        return _open_torch(path, lazily=head.startswith(_ZIP))
    return _open_safetensors(path, [path])


def _open_safetensors(path: Path, files: Iterable[Path]) -> TensorSource:
    """Read the headers of one or several safetensors files."""
    entries: dict[str, TensorEntry] = {}
    homes: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    size = 0
    for file in files:
        here, strings = _header(file)
        entries |= here
        metadata |= strings
        homes |= dict.fromkeys(here, file)
        size += file.stat().st_size

    def load(name: str) -> "torch.Tensor":
        _require_torch("reading weights")
        # Opened for each: what is read stays mapped, and counts as memory in use, until the file is closed.
        with safe_open(homes[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name).clone()
        return tensor

    return TensorSource(path, size, entries, metadata, load)


def write_tensors(
    file: BinaryIO,
    entries: Mapping[str, TensorEntry],
    tensors: "Iterable[torch.Tensor]",
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file of which one tensor at a time is in memory: of each name the next one, as described."""
    import torch

    codes = {name: code for code, name in _DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, entry in entries.items():
        start, end = end, end + entry.bytes
        header[name] = {"dtype": codes[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers begin where a processor can read them
    file.write(len(text).to_bytes(8, "little") + text)
    for (name, entry), tensor in zip(entries.items(), tensors, strict=True):
        if (tuple(tensor.shape), str(tensor.dtype)) != (entry.shape, f"torch.{entry.dtype}"):
            raise ValueError(f"'{name}' is {list(tensor.shape)} of {tensor.dtype}")
        file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def listed(names: Iterable[str], most: int = 6) -> str:
    """Sorted names for a message, the first few of them."""
    ordered = sorted(shortened(name, 100) for name in names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _open_folder(folder: Path) -> TensorSource:
    """What `transformers` reads of a folder: the file that config.json names, `model.safetensors`, or its shards.

    Where there is none of them, a student of `litetext distill` may be.
    """
    named = _named_weights(folder / CONFIG)
    candidates = [named] if named else [SINGLE_FILE, SHARD_INDEX, STUDENT_FILE]
    name = next((name for name in candidates if (folder / name).is_file()), None)
    if name is None:
        what = "neither " + " nor ".join(candidates) if len(candidates) > 1 else f"no {named}"
        raise EncoderError(f"{what} in this folder", where=str(folder), hint="give the file itself")
    if not name.endswith(".json"):
        return _open_safetensors(folder, [folder / name])
    index = folder / name
    try:
        homes = read_json(index)["weight_map"]
        names = sorted(set(homes.values()))
        files = [inside(folder, name) for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"not an index of safetensors files ({error})", where=str(index), hint=AGAIN) from error
    missing = [name for name, file in zip(names, files, strict=True) if not file.is_file()]
    if missing:
        raise EncoderError(f"{len(missing)} of {len(names)} shards are missing ({listed(missing)})", where=str(folder))
    source = _open_safetensors(folder, files)
    lost = homes.keys() - source.entries.keys()
    if lost:
        raise EncoderError(f"the shards lack {len(lost)} tensors of the index ({listed(lost)})", where=str(folder))
    return source


def _named_weights(config: Path) -> str | None:
    """The file of weights that a `config.json` names (`transformers_weights`), which comes before all others."""
    if not config.is_file():
        return None
    try:
        name = read_json(config).get("transformers_weights")
        if name is None:
            return None
        inside(config.parent, name)
        if not name.endswith((".safetensors", ".safetensors.index.json")):
            raise ValueError(f"weights in '{name}'")  # noqa: TRY301
    except (ValueError, AttributeError, TypeError) as error:
        raise EncoderError(f"not a configuration of transformers ({error})", where=str(config), hint=AGAIN) from error
    return str(name)


def _head(path: Path) -> bytes:
    """The first bytes of a file; what git leaves in the place of a big file is refused."""
    with path.open("rb") as file:
        head = file.read(len(_POINTER))
    if head == _POINTER:
        raise EncoderError("a git-lfs pointer, not the weights themselves", where=str(path), hint="run 'git lfs pull'")
    return head


def _header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """Names, shapes, types and strings of a safetensors file; the library checks that the file is whole."""
    _head(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            entries = {
                name: TensorEntry(tuple(part.get_shape()), _DTYPES.get(part.get_dtype(), part.get_dtype()))
                for name, part in slices.items()
            }
            return entries, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        what = f"neither a whole safetensors file nor one of torch.save ({first_line(error).rstrip(' .:')[:160]})"
        raise EncoderError(what, where=str(path), hint=AGAIN) from error


def _open_torch(path: Path, *, lazily: bool) -> TensorSource:
    """The tensors of a file of ``torch.save``; only the zip format of PyTorch 1.6 and later can be read lazily."""
    _require_torch("reading a file of torch.save")
    import torch

    if lazily and not zipfile.is_zipfile(path):
        raise EncoderError("a truncated file of torch.save: its end is missing", where=str(path), hint=AGAIN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles and TorchScript, which fail below or do no harm
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
    except UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise EncoderError("a broken file of torch.save", where=str(path), hint=AGAIN) from error
        what = "it holds more than tensors, and reading that could run its code"
        raise EncoderError(what, where=str(path), hint="save the tensors only") from error
    except Exception as error:  # a broken pickle can raise anything
        what = f"not a whole file of torch.save ({first_line(error).rstrip(' .:')[:160]})"
        raise EncoderError(what, where=str(path), hint=AGAIN) from error
    tensors = {name: value for name, value in _flat(content, "") if torch.is_tensor(value)}
    entries = {
        name: TensorEntry(tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for name, value in tensors.items()
    }

    def load(name: str) -> "torch.Tensor":
        return tensors[name].detach().clone(memory_format=torch.contiguous_format)

    return TensorSource(path, path.stat().st_size, entries, {}, load)


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _require_torch(feature: str) -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(feature, "sam3") from error
