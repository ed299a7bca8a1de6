"""Weights outside an ONNX file, written without the `onnx` package: which, and where in another file their bytes are.

A program with named weights ends with their declarations, which say nothing of a place. Put a place there, and ONNX
Runtime maps the bytes of a checkpoint that stays as it is: nothing is read before it is needed, and nothing copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litetext.errors import EncoderError

CODES = {"F32": 1, "F16": 10, "BF16": 16}  # ONNX's numbers of dtypes, by the names of safetensors
NOWHERE = "weights"  # what a declaration without a place has as its file
_VARINT, _BYTES = 0, 2  # kinds of a field in Protocol Buffers
_GRAPH, _INITIALIZER = 7, 5  # the number of the field that a model has its graph in, and a graph its constants


@dataclass(frozen=True)
class Place:
    """Where the bytes of a weight are."""

    file: str  # its name in the folder that ONNX Runtime is told
    offset: int
    length: int


def declare(weights: Mapping[str, Mapping[str, Any]], places: Mapping[str, Place] | None = None) -> bytes:
    """What a program with named weights ends with.

    Args:
        weights: for each name its ``dtype``, as safetensors calls it, and its ``shape``.
        places: where each is; None: nowhere.
    """
    constants = (_tensor(name, entry, None if places is None else places[name]) for name, entry in weights.items())
    return _bytes(_GRAPH, b"".join(_bytes(_INITIALIZER, constant) for constant in constants))


def point_to(program: bytes, weights: Mapping[str, Mapping[str, Any]], places: Mapping[str, Place]) -> bytes:
    """A program that ends with declarations of these weights, with a place for each.

    Give it to a session whose ``session.model_external_initializers_file_folder_path`` is the folder of the files.
    It must be the folder that the files are in, and no link to them.

    Raises:
        EncoderError: the program declares other weights.
    """
    nowhere = declare(weights)
    if not program.endswith(nowhere):
        raise EncoderError("a program that takes other weights than its list says", hint="write both again")
    return program[: -len(nowhere)] + declare(weights, places)


def _tensor(name: str, entry: Mapping[str, Any], place: Place | None) -> bytes:
    """A `TensorProto` whose data is external."""
    said = {"location": place.file, "offset": place.offset, "length": place.length} if place else {"location": NOWHERE}
    pairs = (_bytes(1, key.encode()) + _bytes(2, str(value).encode()) for key, value in said.items())
    return b"".join(
        (
            *(_number(1, size) for size in entry["shape"]),
            _number(2, CODES[entry["dtype"]]),
            _bytes(8, name.encode()),
            *(_bytes(13, pair) for pair in pairs),
            _number(14, 1),  # the data's location is external
        )
    )


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last are marked."""
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes((*parts, value))
