"""A folder is a bundle or not, whole or not; writing one is all or nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.export.bundle import MANIFEST, MERGES, TOKENIZER, Bundle, open_bundle  # noqa: E402
from litetext.export.exporter import export_student  # noqa: E402
from litetext.export.runtime import TextRuntime  # noqa: E402
from litetext.records import sealed, unsealed  # noqa: E402
from tests.export.serving import PHRASES, student  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export_student(StudentEncoder(student("masked"), "tiny"), tmp_path / "served", PHRASES)
    return tmp_path / "served"


def changed(folder: Path, **values: object) -> None:
    """Another manifest with a right checksum, as somebody may write who means harm."""
    said = unsealed(json.loads((folder / MANIFEST).read_bytes()))
    (folder / MANIFEST).write_text(json.dumps(sealed(said | values)), encoding="utf-8")


def without(folder: Path, name: str) -> None:
    said = unsealed(json.loads((folder / MANIFEST).read_bytes()))
    del said[name]
    (folder / MANIFEST).write_text(json.dumps(sealed(said)), encoding="utf-8")


def test_a_manifest_comes_back(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert Bundle.from_json(json.loads(json.dumps(bundle.to_json()))) == bundle
    assert set(bundle.files) == {"model.onnx", "model.onnx.data"}


def edited(folder: Path, old: str, new: str) -> None:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    assert old in text
    (folder / MANIFEST).write_text(text.replace(old, new), encoding="utf-8")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "no exported text encoder"),
    "not JSON": (lambda folder: (folder / MANIFEST).write_text("{"), "not a manifest"),
    "a list": (lambda folder: (folder / MANIFEST).write_text("[]"), "not a manifest of version 3"),
    "of tomorrow": (lambda folder: changed(folder, litetext=4), "not a manifest of version 3"),
    "an entry too many": (lambda folder: changed(folder, more=1), "unknown fields: more"),
    "another program": (lambda folder: changed(folder, model="x"), "a program that is none of its files"),
    "a program elsewhere": (lambda folder: changed(folder, model="../x"), "not one within the folder"),
    "a file elsewhere": (lambda folder: changed(folder, files={"model.onnx": 1, "/etc/passwd": 1}), "/etc/passwd"),
    "a file above": (lambda folder: changed(folder, files={"model.onnx": 1, "a/../../b": 1}), "not one within"),
    "a file without a name": (lambda folder: changed(folder, files={"model.onnx": 1, "": 1}), "not one within"),
    "no entry": (lambda folder: without(folder, "checked"), "missing fields: checked"),
    "options of another kind": (lambda folder: changed(folder, options={"size": 1}), "unknown fields: size"),
    "a changed bit": (
        lambda folder: edited(folder, '"context_length": 16', '"context_length": 24'),
        "its checksum is another",
    ),
    "nested deep": (lambda folder: (folder / MANIFEST).write_text('{"a":' * 100_000), "nested too deep"),
    "a bad configuration": (lambda folder: changed(folder, config={}), "missing fields"),
    "a part missing": (lambda folder: (folder / "model.onnx.data").unlink(), "a part of the program is missing"),
    "truncated": (lambda folder: (folder / "model.onnx.data").write_bytes(b"abc"), "3 bytes instead of"),
    "another tokenizer": (lambda folder: (folder / TOKENIZER).write_text("{}"), "not the tokenizer of this encoder"),
    "no tokenizer": (lambda folder: (folder / MERGES).unlink(), "not the tokenizer of this encoder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_whole_is_refused(folder: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as raised:
        open_bundle(folder)
    assert "\n" not in str(raised.value)


def test_a_file_is_no_artifact(folder: Path) -> None:
    with pytest.raises(EncoderError, match=r"a file, .*; give a folder that `litetext export` wrote"):
        open_bundle(folder / "model.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_changed_program_is_found_by_its_checksum(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-100] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(EncoderError, match="not the program that was exported"):
        TextRuntime.open(folder)


def entries_of(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = [one for name in value for one in entries_of(value[name], (*path, name))] if isinstance(value, dict) else []
    return [path, *inner]


def test_every_field_is_checked(folder: Path) -> None:
    """Whatever stands in a field, it is refused in one line, or means the same as before."""
    whole = unsealed(json.loads((folder / MANIFEST).read_bytes()))
    others = [None, True, -1, 0, 1.5, 10**400, 2**70, "", "\x1b[2J", [], [1], {}, {"a": 1}, {"a": {"b": []}}]
    refused = 0
    for path in entries_of(whole)[1:]:
        for other in others:
            said = json.loads(json.dumps(whole))
            inner = said
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = other
            (folder / MANIFEST).write_text(json.dumps(sealed(said)), encoding="utf-8")
            try:
                "\n".join(open_bundle(folder).lines())
            except EncoderError as error:
                assert "\x1b" not in str(error)  # noqa: PT017
                refused += 1
    assert refused > 300


def test_numbers_that_are_not_finite(folder: Path) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        (folder / MANIFEST).write_text(f'{{"litetext": 3, "parameters": {number}}}', encoding="utf-8")
        with pytest.raises(EncoderError, match="no finite number"):
            open_bundle(folder)
