"""A program is the one that is meant, with the weights that are meant, or one line says what it is instead."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.graphs.external_weights import declare  # noqa: E402
from litetext.export.programs import ENGINES, PREFIX, find_weights, open_program  # noqa: E402

PORTS = (["x"], ["y"])
WEIGHT = np.arange(3, dtype=np.float32)
WANTED = {"w": {"dtype": "F32", "shape": [3]}}


def write(path: Path, location: str | None = None) -> Path:
    """A program that adds three numbers, which it holds, or which stand at a place outside."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], WEIGHT)
    if location:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_by_name_go_in_and_come_out(tmp_path: Path, engine: Any) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime")
    run = open_program(write(tmp_path / "add.onnx"), PORTS, engine, threads=1)
    first = run({"x": np.ones((2, 3), np.float32)})["y"]
    run({"x": np.zeros((2, 3), np.float32)})
    assert first.tolist() == [[1, 2, 3], [1, 2, 3]]  # the next call leaves it as it is
    with pytest.raises(EncoderError, match="the program fails") as raised:
        run({"x": np.ones((2, 5), np.float32)})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"junk"), "cannot read it"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "cannot read it"),
        (Path.unlink, "cannot read it"),
        (lambda path: write(path, "missing.data"), "cannot read it"),
    ],
)
def test_a_damaged_program_is_one_line(
    tmp_path: Path, engine: Any, spoil: Callable[[Path], object], message: str
) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime")
    path = write(tmp_path / "add.onnx")
    spoil(path)
    with pytest.raises(EncoderError, match=message) as raised:
        open_program(path, PORTS, engine)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_no_program_reads_outside_its_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    (tmp_path / "bundle").mkdir()
    with pytest.raises(EncoderError, match="cannot read it"):
        open_program(write(tmp_path / "bundle" / "add.onnx", location), PORTS)


@pytest.mark.parametrize("engine", ENGINES)
def test_another_program_is_refused(tmp_path: Path, engine: Any) -> None:
    pytest.importorskip("openvino" if engine == "openvino" else "onnxruntime")
    with pytest.raises(EncoderError, match="another program: inputs x and outputs y"):
        open_program(write(tmp_path / "add.onnx"), (["x"], ["z"]), engine)


def test_weights_by_name_come_from_the_checkpoint(tmp_path: Path) -> None:
    """Of an image model, or of a video model, which has them under a name of its own; they are links, too."""
    path = write(tmp_path / "add.onnx")
    model = onnx.load(path)
    del model.graph.initializer[:]
    path.write_bytes(model.SerializeToString() + declare(WANTED))
    (tmp_path / "blobs").mkdir()
    link = tmp_path / "model.safetensors"
    link.symlink_to(tmp_path / "blobs" / "abc")  # as the hub's cache has it
    for name in ("w", f"{PREFIX}w"):
        save_file({name: WEIGHT, "other": WEIGHT}, tmp_path / "blobs" / "abc")
        weights = find_weights([link], WANTED)
        run = open_program(path, PORTS, weights=weights)
        assert run({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[1, 2, 3]]
    with pytest.raises(EncoderError, match="takes other weights"):
        open_program(write(tmp_path / "other.onnx"), PORTS, weights=weights)
    with pytest.raises(OptionError, match="OpenVINO does not"):
        open_program(path, PORTS, "openvino", weights=weights)


def header(path: Path, **entry: Any) -> None:
    """A file of safetensors whose header says something else of ``w``."""
    said = {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]} | entry}
    text = json.dumps(said).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + WEIGHT.tobytes())


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another name": (lambda path: save_file({"v": WEIGHT}, path), "'w' is not in it"),
    "another dtype": (lambda path: save_file({"w": WEIGHT.astype(np.float16)}, path), "is F16 .3., not F32"),
    "another shape": (
        lambda path: save_file({"w": np.zeros((3, 1), np.float32)}, path),
        r"F32 \[3, 1\], not F32 \[3\]",
    ),
    "cut off": (lambda path: (header(path), path.write_bytes(path.read_bytes()[:-4])), "it is cut off"),
    "negative offsets": (lambda path: header(path, data_offsets=[-12, 0]), "it is cut off"),
    "too few bytes": (lambda path: header(path, data_offsets=[0, 8]), "has 8 bytes"),
    "offsets of text": (
        lambda path: header(path, data_offsets=["0", "12"]),
        "not a file of safetensors|without places",
    ),
    "no offsets": (lambda path: header(path, data_offsets=[]), "without places"),
    "a huge header": (lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{}"), "not a file of safetensors"),
    "no JSON": (lambda path: path.write_bytes(struct.pack("<Q", 4) + b"junk"), "not a file of safetensors"),
    "a list": (lambda path: path.write_bytes(struct.pack("<Q", 2) + b"[]"), "not a file of safetensors"),
    "nothing": (lambda path: path.write_bytes(b""), "not a file of safetensors"),
    "no file": (lambda path: path, "not a file of safetensors"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    spoil(tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=message) as raised:
        find_weights([tmp_path / "model.safetensors"], WANTED)
    assert "\n" not in str(raised.value)
