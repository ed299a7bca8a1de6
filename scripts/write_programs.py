"""Make the package's ONNX programs, which hold no learnt weight but take each by its name in a checkpoint.

    python scripts/write_programs.py micro   # beside the micro model: also its students
    python scripts/write_programs.py sam3    # for facebook/sam3 and vil-uob/sam3-litetext-*, in float32

The same graphs come out byte for byte each time, as a test checks. No weight of SAM3 is needed: its model is made on
PyTorch's meta device, where tensors have a shape and no memory.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from litetext.checkpoints.inspection import measure_encoder
from litetext.encoders.student import StudentEncoder
from litetext.export.bundle import MANIFEST
from litetext.export.graphs.graph_layers import named_weights
from litetext.export.graphs.segmenter_graphs import (
    TEXT,
    WEIGHTS,
    stored_weights,
    write_named,
    write_segmenter_graphs,
    write_text_graph,
)
from litetext.export.graphs.text_graph import student_graph
from litetext.export.segment_bundle import TextPart
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

    stored = stored_weights([SHIPPED / "micro/model.safetensors"])
    _write_segmenter(micro_config(), folder, stored)
    index = folder / WEIGHTS
    listed = json.loads(index.read_text("utf-8"))
    for name in STUDENTS:
        path = SHIPPED / name / "student.safetensors"
        listed[f"{name}.onnx"] = write_named(halved(_student(path), path), folder / f"{name}.onnx")
    write_text(index, to_json(listed) + "\n")


def write_sam3(folder: Path) -> None:
    """The programs of SAM3 at full size."""
    from transformers import Sam3Config

    _write_segmenter(Sam3Config(), folder, None)


def _write_segmenter(config: Any, folder: Path, stored: Any) -> None:
    import torch
    from transformers import Sam3Model

    with torch.device("meta"):
        detector = Sam3Model(config)
    write_segmenter_graphs(detector, folder, weights="named", stored=stored)
    write_text_graph(detector, folder, weights="named", stored=stored)


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
    bundle = describe(host, folder, name=model, target="onnx", options=options, text=text, others=others, named=True)
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
