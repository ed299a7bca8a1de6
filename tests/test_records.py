import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from litetext.records import parse_json, read_json, record, sealed, unsealed


@dataclass(frozen=True)
class Inner:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    files: Mapping[str, int]
    rows: tuple[Inner, ...] = ()
    other: Inner | None = None
    is_new: bool = False


WHOLE: dict[str, Any] = {"name": "x", "kind": "a", "inner": {"size": 1}, "files": {"f": 2}}


def test_a_record_comes_back() -> None:
    found = record(Outer, WHOLE | {"rows": [{"size": 3, "share": 1}], "other": None, "is_new": True})
    assert found == Outer("x", "a", Inner(1), {"f": 2}, (Inner(3, 1),), None, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name is 1"),
        ({"name": None}, "name is None"),
        ({"kind": "c"}, "kind is 'c'"),
        ({"kind": ["a"]}, "kind is"),
        ({"inner": []}, "inner is no object"),
        ({"inner": {"size": True}}, r"inner\.size is True"),
        ({"inner": {"size": 1.0}}, r"inner\.size is 1\.0"),
        ({"inner": {"size": 2**63}}, r"inner\.size is"),
        ({"inner": {"size": 1, "share": 10**400}}, r"inner\.share is"),
        ({"inner": {"size": 1, "share": "1"}}, r"inner\.share is '1'"),
        ({"inner": {}}, "missing fields: size"),
        ({"files": {"f": "2"}}, r"files\['f'\] is '2'"),
        ({"files": [["f", 2]]}, "files is"),
        ({"rows": {"size": 1}}, "rows is"),
        ({"rows": [{"size": 1}, 3]}, r"rows\[1\] is no object"),
        ({"is_new": 1}, "is_new is 1"),
        ({"more": 1}, "unknown fields: more"),
    ],
)
def test_a_field_that_is_not_of_its_type_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(Outer, WHOLE | change)


def test_every_changed_byte_is_noticed() -> None:
    text = json.dumps(sealed(WHOLE)).encode()
    assert unsealed(parse_json(text)) == WHOLE
    for place in range(len(text)):
        for bit in range(8):
            changed = text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :]
            try:
                assert unsealed(parse_json(changed)) == WHOLE  # another kind of white space, or a digit's other case
            except ValueError:
                continue


@pytest.mark.parametrize("text", ["", "{", "NaN", "[-Infinity]", "1e999", "[" * 100_000, '{"a":' * 100_000, b"\xff"])
def test_what_is_no_json(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(ValueError, match="more than 268,435,456"):
        read_json(tmp_path / "x.json")
