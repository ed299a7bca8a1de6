"""Make the package's ONNX programs, which hold no learnt weight but take each by its name in a checkpoint.

    python scripts/write_programs.py micro   # beside the micro model: also its students
    python scripts/write_programs.py sam3    # for facebook/sam3 and vil-uob/sam3-litetext-*, in float32

The same graphs come out byte for byte each time, as a test checks. No weight of SAM3 is needed: its model is made on
PyTorch's meta device, where tensors have a shape and no memory.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from litetext.checkpoints.inspection import measure_encoder
from litetext.encoders.student import StudentEncoder
from litetext.errors import EncoderError
from litetext.export.bundle import MANIFEST
from litetext.export.graphs.external_weights import CODES, NOWHERE, declare
from litetext.export.graphs.graph_layers import Attention, LayerGraph, Store
from litetext.export.graphs.prompt_graphs import text_graph
from litetext.export.graphs.segmenter_graphs import TEXT, segmenter_models
from litetext.export.graphs.text_graph import student_graph
from litetext.export.segment_bundle import WEIGHTS, TextPart
from litetext.export.segment_exporter import LIMITS, compare, describe
from litetext.export.segment_runtime import ProgramEngine
from litetext.export.targets import TargetOptions
from litetext.sam3.adapters import FromHost
from litetext.sam3.host import load_host
from litetext.sam3.host_engine import HostEngine
from litetext.storage import to_json, write_text

SHIPPED = Path(__file__).parents[1] / "src/litetext/weights"
STUDENTS = ("micro-student", "micro-student-xs")
TABLE = "token_table.weight"  # of a student: most of it
PHRASES = ("red car", "the dog on the left")  # that the programs are compared on
LEAST = 1024  # bytes of a constant that is worth a Cast
Stored = Mapping[str, tuple[str, Sequence[int]]]  # dtype, as safetensors calls it, and shape of each weight


def main() -> None:
    """Write the programs of a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("micro", "sam3"))
    parser.add_argument("--output", type=Path, help="a folder; without it that in the package")
    arguments = parser.parse_args()
    folder = arguments.output or SHIPPED / f"{arguments.model}-programs"
    folder.mkdir(exist_ok=True)
    {"micro": write_micro, "sam3": write_sam3}[arguments.model](folder)
    _write_manifest(arguments.model, folder)
    for path in sorted(folder.iterdir()):
        print(f"{path}: {path.stat().st_size} bytes")


def write_micro(folder: Path) -> None:
    """The programs of the micro model and of its students."""
    from litetext.micro.model import micro_config

    listed = write_segmenter(micro_config(), folder, stored_weights([SHIPPED / "micro/model.safetensors"]))
    for name in STUDENTS:
        path = SHIPPED / name / "student.safetensors"
        listed[f"{name}.onnx"] = write_named(halved(_student(path), path), folder / f"{name}.onnx")
    write_text(folder / WEIGHTS, to_json(listed) + "\n")


def write_sam3(folder: Path) -> None:
    """The programs of SAM3 at full size."""
    import torch
    from transformers import Sam3Config, Sam3Model

    with torch.device("meta"):
        weights = Sam3Model(Sam3Config()).state_dict()
    write_segmenter(Sam3Config(), folder, {key: ("F32", tuple(value.shape)) for key, value in weights.items()})


def write_segmenter(config: Any, folder: Path, stored: Stored, attention: Attention = "fused") -> dict[str, Any]:
    """The programs of a model whose weights have these dtypes and shapes, and the list of what they take by name."""
    store = named_weights(stored)
    models = segmenter_models(config, store, attention, None)
    models[TEXT] = lambda: text_graph(config, LayerGraph(store, attention))
    listed = {name: write_named(make(), folder / name) for name, make in models.items()}
    write_text(folder / WEIGHTS, to_json(listed) + "\n")
    return listed


def stored_weights(files: Sequence[Path]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each weight of a detector in files of safetensors, a video model's or an image model's."""
    from safetensors import safe_open

    found = {}
    for path in files:
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(key)
                found[key.removeprefix("detector_model.")] = part.get_dtype(), tuple(part.get_shape())
    return found


def named_weights(stored: Stored) -> Store:
    """Initialisers without values, as external data; whoever opens the graph gives the values by name."""

    def store(key: str) -> TensorProto:
        dtype, shape = stored[key]
        if dtype not in CODES:
            raise EncoderError(f"'{key}' is stored as {dtype}", hint=f"give weights in {', '.join(CODES)}")
        tensor = TensorProto(name=key, data_type=CODES[dtype], dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=NOWHERE)
        return tensor

    return store


def write_named(model: ModelProto, path: Path) -> dict[str, Any]:
    """Write a model whose weights' declarations stand at its end, and return them: {name: {"dtype", "shape"}}."""
    dtypes = {number: dtype for dtype, number in CODES.items()}
    constants = model.graph.initializer
    named = [one for one in constants if one.data_location == TensorProto.EXTERNAL]
    weights = {one.name: {"dtype": dtypes[one.data_type], "shape": list(one.dims)} for one in named}
    rest = [one for one in constants if one.data_location != TensorProto.EXTERNAL]
    del constants[:]
    constants.extend(rest)
    path.write_bytes(model.SerializeToString(deterministic=True) + declare(weights))
    return weights


def _write_manifest(model: str, folder: Path) -> None:
    """The manifest; the micro model's programs are compared with PyTorch."""
    import torch
    from transformers import Sam3Config, Sam3Model

    from litetext.checkpoints.load import load_encoder

    if model == "micro":
        host = HostEngine(load_host("micro", device="cpu"))
        students = [(name, load_encoder(name, device="cpu")) for name in STUDENTS]
    else:
        with torch.device("meta"):
            host = HostEngine(Sam3Model(Sam3Config()))
        students = []
    own = host.own_encoder()
    assert isinstance(own, FromHost)
    parameters = sum(weight.numel() for part in (own.tower, own.projection) for weight in part.parameters())
    text = TextPart(model, own.context_length, own.width, parameters, TEXT)
    others = tuple(
        TextPart(name, one.context_length, one.width, measure_encoder(name, one).parameters, f"{name}.onnx")
        for name, one in students
    )
    options = {"attention": "fused", "precision": "fp16" if model == "micro" else "fp32"}
    bundle = describe(host, folder, name=model, target="onnx", options=options, text=text)
    bundle = replace(bundle, others=others, named=True)
    if model == "micro":
        engine = ProgramEngine(bundle, folder, "onnx", 1, [SHIPPED / "micro/model.safetensors"])
        bundle = replace(bundle, checked=compare(host, engine, PHRASES, own, LIMITS["fp32"]))
    write_text(folder / MANIFEST, to_json(bundle.to_json()) + "\n")


def _student(path: Path) -> ModelProto:
    from litetext.checkpoints.load import load_encoder

    encoder = load_encoder(path, device="cpu", dtype="float32")
    assert isinstance(encoder, StudentEncoder)
    student = encoder.module.fold()
    tensors = {name: tensor.detach().numpy() for name, tensor in student.state_dict().items()}
    return student_graph(student.config, tensors, TargetOptions(), {})


def halved(model: ModelProto, path: Path) -> ModelProto:
    """A student's graph whose token table is named, and whose constants are in float16 where that changes none.

    The convolutions were folded, and are no longer the numbers of the file: they stay in float32.
    """
    store, graph = named_weights(stored_weights([path])), model.graph
    casts = []
    for number, constant in enumerate(graph.initializer):
        half = _half(constant)
        if constant.name != TABLE and half is None:
            continue
        kept = store(TABLE) if constant.name == TABLE else half
        graph.initializer[number].CopyFrom(kept)
        wide = f"{constant.name}.float"
        casts.append(helper.make_node("Cast", [constant.name], [wide], to=TensorProto.FLOAT))
        for node in graph.node:
            node.input[:] = [wide if name == constant.name else name for name in node.input]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _half(constant: TensorProto) -> TensorProto | None:
    """The same numbers in float16; None where it has not all of them, or it is not worth it."""
    values = numpy_helper.to_array(constant)
    if values.dtype != np.float32 or values.nbytes < LEAST:
        return None
    narrow = values.astype(np.float16)
    return numpy_helper.from_array(narrow, constant.name) if np.array_equal(narrow.astype(np.float32), values) else None


if __name__ == "__main__":
    main()
