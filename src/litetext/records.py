"""JSON that is read back: bounded, finite, every field of its type, and whole by a checksum of its own."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from litetext.errors import OptionError

CHECKSUM = "checksum"  # the entry of a sealed object
MOST_BYTES = 2**28  # of a JSON file: the index or manifest of a million shards has about as many
Record = TypeVar("Record")


def read_json(path: Path) -> Any:
    """Read a JSON file; a `ValueError` if it is too large, or not as `parse_json` wants it."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.stat().st_size:,} bytes of JSON, more than {MOST_BYTES:,}")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Parse JSON text; a `ValueError` if it is no JSON, nested too deep, or has a number that is not finite."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error


def record(kind: type[Record], value: Any, where: str = "") -> Record:
    """A dataclass from JSON: no unknown field, none without a default missing, each of its type, and so on within it.

    Types are texts, truth values and numbers (of 64 bits), `Literal` of texts, dataclasses, and mappings, lists and
    tuples of these, each of them or None. A whole number does for a float, a list for a tuple. Anything else is a
    `ValueError`, which names the field within ``where``.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where or kind.__name__} is no object")  # noqa: TRY004 - one error for all of a file
    known: dict[str, Any] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    for fault, names in (("unknown", value.keys() - known.keys()), ("missing", needed - value.keys())):
        if names:
            raise ValueError(f"{fault} fields: {', '.join(sorted(names))}")
    types = get_type_hints(kind)
    return kind(**{name: _typed(types[name], item, f"{where}.{name}".lstrip(".")) for name, item in value.items()})


def check_choices(value: Any) -> None:
    """Refuse a dataclass in which a field of a `Literal` type has another value: an `OptionError` that lists them."""
    for name, kind in get_type_hints(type(value)).items():
        if get_origin(kind) is Literal and getattr(value, name) not in get_args(kind):
            raise OptionError(f"{name} is {getattr(value, name)!r}", hint=f"give one of {', '.join(get_args(kind))}")


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with a checksum of all its entries, which `unsealed` compares."""
    return {**value, CHECKSUM: _checksum(value)}


def unsealed(value: Any) -> dict[str, Any]:
    """The object without its checksum; a `ValueError` if a bit has changed since it was sealed, whatever it says."""
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004
    bare = {name: item for name, item in value.items() if name != CHECKSUM}
    try:
        whole = value.get(CHECKSUM) == _checksum(bare)
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error
    if not whole:
        raise ValueError("its checksum is another")
    return bare


def _checksum(value: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as a type of ours, or the error that names it."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return record(kind, value, where)  # type: ignore[arg-type]
    if origin is UnionType:  # of something and None
        return None if value is None else _typed(inner[0], value, where)
    if origin in (tuple, list) and isinstance(value, list):
        return origin(_typed(inner[0], item, f"{where}[{place}]") for place, item in enumerate(value))
    if origin in (Mapping, dict) and isinstance(value, dict):
        return {name: _typed(inner[1], item, f"{where}['{name}']") for name, item in value.items()}
    if not _is_plain(kind, value):
        raise ValueError(f"{where} is {value!r}")
    return value


def _is_plain(kind: Any, value: Any) -> bool:
    """Whether a text, truth value or number is of a type."""
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind in (int, float) and type(value) is int:
        return abs(value) < 2**63
    return kind in (str, bool, float) and type(value) is kind


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no finite number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits} is no finite number")
    return number
