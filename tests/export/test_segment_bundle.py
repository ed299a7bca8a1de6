"""A folder is a whole segmenter or it is refused in one line, before anything in it is run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.errors import EncoderError, LiteTextError, OutputError
from litetext.export import segment_runtime
from litetext.export.bundle import MANIFEST, MERGES, TOKENIZER, is_bundle, open_bundle
from litetext.export.exporter import export_student
from litetext.export.runtime import TextRuntime
from litetext.export.segment_bundle import (
    PROGRAMS,
    WEIGHTS,
    SegmentBundle,
    is_segment_bundle,
    open_segment_bundle,
)
from litetext.export.segment_exporter import export_segmenter
from litetext.export.segment_runtime import open_segmenter
from litetext.records import sealed, unsealed
from litetext.sam3.segmenter import Segmenter

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """The exported micro model, whose files may be replaced."""
    shutil.copytree(exported, tmp_path / "micro", copy_function=os.link)
    return tmp_path / "micro"


def replace(file: Path, data: bytes) -> None:
    """Other bytes in place of a file that other folders share."""
    file.unlink(missing_ok=True)
    file.write_bytes(data)


def changed(folder: Path, **values: Any) -> None:
    """Another manifest with a right checksum, as somebody may write who means harm."""
    said = unsealed(json.loads((folder / MANIFEST).read_bytes()))
    replace(folder / MANIFEST, json.dumps(sealed(said | values)).encode())


def without(folder: Path, name: str) -> None:
    said = unsealed(json.loads((folder / MANIFEST).read_bytes()))
    del said[name]
    replace(folder / MANIFEST, json.dumps(sealed(said)).encode())


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    replace(file, bytes(data))


def files_of(folder: Path, **more: int) -> dict[str, int]:
    return {**json.loads((folder / MANIFEST).read_bytes())["files"], **more}


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "no exported segmenter"),
    "not JSON": (lambda folder: replace(folder / MANIFEST, b"{"), "not a manifest"),
    "a list": (lambda folder: replace(folder / MANIFEST, b"[]"), "not a segmenter's manifest of version 1"),
    "nested deep": (lambda folder: replace(folder / MANIFEST, b'{"a":' * 100_000), "nested too deep"),
    "of tomorrow": (lambda folder: changed(folder, litetext=2), "not a segmenter's manifest of version 1"),
    "another kind": (lambda folder: changed(folder, kind="text"), "not a segmenter's manifest"),
    "an entry too many": (lambda folder: changed(folder, more=1), "unknown fields: more"),
    "no entry": (lambda folder: without(folder, "mean"), "missing fields: mean"),
    "an unknown target": (lambda folder: changed(folder, target="tpu"), "target"),
    "no decoder among the files": (
        lambda folder: changed(folder, files={"vision-encoder.onnx": 1, "geometry-encoder.onnx": 1}),
        "no decoder.onnx among its files",
    ),
    "a file above": (lambda folder: changed(folder, files=files_of(folder, **{"a/../../b": 1})), "not one within"),
    "a file elsewhere": (lambda folder: changed(folder, files=files_of(folder, **{"/etc/passwd": 1})), "/etc/passwd"),
    "weights that are not listed": (lambda folder: changed(folder, named=True), "no weights.json among its files"),
    "a deviation of zero": (lambda folder: changed(folder, std=[0.5, 0, 0.5]), "means and deviations"),
    "a huge size": (lambda folder: changed(folder, size=[160, 10**9]), "images of more than 8192 pixels a side"),
    "half a size": (lambda folder: changed(folder, size=[160]), "not a size of two numbers"),
    "no size": (lambda folder: changed(folder, size=[0, 160]), "the image's height is 0"),
    "a changed bit of the manifest": (
        lambda folder: replace(folder / MANIFEST, (folder / MANIFEST).read_bytes().replace(b"160", b"161", 1)),
        "its checksum is another",
    ),
    "a changed program": (lambda folder: flip(folder / "decoder.onnx"), "not the program that was exported"),
    "changed weights": (lambda folder: flip(folder / "vision-encoder.onnx.data"), "not the program that was exported"),
    "a part missing": (lambda folder: (folder / "text-encoder.onnx.data").unlink(), "a part of the program is missing"),
    "truncated": (lambda folder: replace(folder / "decoder.onnx.data", b"abc"), "3 bytes instead of"),
    "another tokenizer": (lambda folder: replace(folder / TOKENIZER, b"{}"), "not the tokenizer of this segmenter"),
    "no tokenizer": (lambda folder: (folder / MERGES).unlink(), "not the tokenizer of this segmenter"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_whole_is_refused(folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any) -> None:
        pytest.fail("a program is opened before its folder is checked")

    monkeypatch.setattr(segment_runtime, "open_program", opened)
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as raised:
        open_segment_bundle(folder)
    assert "\n" not in str(raised.value)
    with pytest.raises(LiteTextError):
        open_segmenter(folder)


def test_a_manifest_comes_back(folder: Path) -> None:
    bundle = open_segment_bundle(folder)
    assert SegmentBundle.from_json(json.loads(json.dumps(bundle.to_json()))) == bundle
    assert bundle.checked is not None
    assert bundle.checked.masks < 1e-3
    assert bundle.text is not None
    assert "a segmenter exported for onnx" in bundle.lines()[0]
    assert not any(line.count("\n") for line in bundle.lines())


def test_the_folder_holds_nothing_personal(exported: Path) -> None:
    for file in exported.glob("*.onnx"):
        data = file.read_bytes()
        assert b"/work" not in data
        assert b"/home" not in data
        assert b".py" not in data
    assert "of SAM3 and what was made of it Meta's SAM" in (exported / "NOTICE.txt").read_text()


def test_a_text_encoder_is_no_segmenter_and_the_other_way_round(
    segmenter: Segmenter, exported: Path, tmp_path: Path
) -> None:
    from litetext.checkpoints.load import load_encoder

    export_student(load_encoder("micro-student", device="cpu"), tmp_path / "text", ["red car"])
    assert is_bundle(tmp_path / "text")
    assert not is_segment_bundle(tmp_path / "text")
    with pytest.raises(EncoderError, match="no programs of this model"):
        open_segmenter(tmp_path / "text")
    with pytest.raises(EncoderError, match="not a segmenter's manifest"):
        open_segment_bundle(tmp_path / "text")
    for opener in (open_bundle, TextRuntime.open):
        with pytest.raises(EncoderError, match="a whole segmenter, not a text encoder"):
            opener(exported)  # type: ignore[operator]
    with pytest.raises(LiteTextError) as raised:
        export_segmenter(segmenter, tmp_path / "new", ["red car"], text=exported)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "new").exists()


def test_only_an_exported_segmenter_is_replaced(segmenter: Segmenter, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="something else is there"):
        export_segmenter(segmenter, tmp_path / "photos", ["red car"])
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"mine"
    export_segmenter(segmenter, folder, ["red car"], name="again")
    assert open_segment_bundle(folder).name == "again"


def test_no_programs_of_another_checkpoint(tmp_path: Path) -> None:
    """The shipped programs take the weights of `micro` by name, and refuse those of another model, before they run."""
    import torch
    from safetensors.torch import load_file, save_file

    from litetext.checkpoints.hub import shipped_folder

    micro = shipped_folder("micro")
    assert micro is not None
    weights = load_file(micro / "model.safetensors")
    listed = json.loads((PROGRAMS["micro"] / WEIGHTS).read_bytes())["vision-encoder.onnx"]
    name = next(iter(listed))
    file = tmp_path / "model.safetensors"
    others = {
        "is not in it": {key: value for key, value in weights.items() if key != name},
        "is F32": {**weights, name: weights[name].float()},
        r", not F16 \[": {**weights, name: torch.cat([weights[name], weights[name]])},
    }
    bundle = open_segment_bundle(PROGRAMS["micro"])
    for message, some in others.items():
        save_file(some, file)
        engine = segment_runtime.ProgramEngine(bundle, PROGRAMS["micro"], "onnx", 1, [file])
        with pytest.raises(EncoderError, match=f"not the checkpoint of these programs: .*{message}"):
            _ = engine._vision
    save_file(weights, file)
    file.write_bytes(file.read_bytes()[:-1_000_000])
    engine = segment_runtime.ProgramEngine(bundle, PROGRAMS["micro"], "onnx", 1, [file])
    with pytest.raises(EncoderError, match="cut off"):
        _ = (engine._vision, engine._decoder, engine._geometry)
