"""A folder is an artefact or not, whole or not; writing one is all or nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.deploy.artefact import MANIFEST, MERGES, TOKENIZER, Artefact, check_program, open_artefact  # noqa: E402
from litetext.deploy.export import ExportPlan, export_student  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from tests.deploy.serving import PHRASES, student  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan = ExportPlan("onnx", tmp_path / "served", "tiny")
    return export_student(StudentEncoder(student("masked"), "tiny"), plan, PHRASES).folder


def changed(folder: Path, **values: object) -> None:
    said = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(said | values), encoding="utf-8")


def test_a_manifest_comes_back(folder: Path) -> None:
    artefact = open_artefact(folder)
    assert Artefact.from_json(json.loads(json.dumps(artefact.to_json()))) == artefact
    assert set(artefact.files) == {"model.onnx", "model.onnx.data"}
    check_program(folder, artefact)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "no exported text encoder"),
    "not JSON": (lambda folder: (folder / MANIFEST).write_text("{"), "not a manifest"),
    "a list": (lambda folder: (folder / MANIFEST).write_text("[]"), "not a manifest of version 1"),
    "of tomorrow": (lambda folder: changed(folder, litetext=2), "not a manifest of version 1"),
    "an entry too many": (lambda folder: changed(folder, more=1), "unknown or missing entries: more"),
    "another program": (lambda folder: changed(folder, model="../x"), "a program that is none of its files"),
    "options of another kind": (lambda folder: changed(folder, options={"size": 1}), "make no sense"),
    "a bad configuration": (lambda folder: changed(folder, config={}), "missing fields"),
    "a part missing": (lambda folder: (folder / "model.onnx.data").unlink(), "a part of the program is missing"),
    "truncated": (lambda folder: (folder / "model.onnx.data").write_bytes(b"abc"), "3 bytes instead of"),
    "another tokeniser": (lambda folder: (folder / TOKENIZER).write_text("{}"), "not the tokeniser of this encoder"),
    "no tokeniser": (lambda folder: (folder / MERGES).unlink(), "not the tokeniser of this encoder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_whole_is_refused(folder: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as raised:
        open_artefact(folder)
    assert "\n" not in str(raised.value)


def test_a_file_is_no_artefact(folder: Path) -> None:
    with pytest.raises(EncoderError, match=r"a file, .*; give a folder that `litetext export` wrote"):
        open_artefact(folder / "model.onnx")


def test_a_changed_program_is_found_by_its_digest(folder: Path) -> None:
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx.data").write_bytes(data)
    with pytest.raises(EncoderError, match="not the program that was exported"):
        check_program(folder, open_artefact(folder))
