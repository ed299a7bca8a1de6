"""A SAM3 segmenter as ONNX graphs: vision encoder, decoder, geometry encoder and CLIP's text tower.

Files, inputs and outputs have the names that other programs for SAM3 in ONNX read. The graphs compute what
`transformers` computes, with less work: what does not depend on the phrase is computed once for all phrases, and what
no output needs not at all. In the vision encoder all layers see the patches window by window, the global ones too.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from litetext.errors import EncoderError, OptionError
from litetext.export.graphs.external_weights import CODES, declare
from litetext.export.graphs.graph_layers import (
    INLINE,
    Attention,
    LayerGraph,
    Store,
    named_weights,
    own_weights,
)
from litetext.export.graphs.prompt_graphs import decoder_graph, geometry_graph, text_graph
from litetext.export.graphs.vision_graph import vision_graph
from litetext.export.segment_bundle import PORTS, WEIGHTS
from litetext.storage import to_json, write_text

VISION, DECODER, GEOMETRY, TEXT = (f"{name}.onnx" for name in PORTS)
ALIGNMENT = 64  # of a weight in its file, in bytes

Stored = Mapping[str, tuple[str, Sequence[int]]]


def write_segmenter_graphs(
    detector: Any,
    folder: Path,
    *,
    weights: Literal["own", "named"] = "own",
    attention: Attention = "fused",
    precision: Literal["fp32", "fp16", "int8-vision"] = "fp32",
    stored: Stored | None = None,
) -> list[str]:
    """Write the vision encoder, the decoder and the geometry encoder, and return the names of the files.

    Args:
        detector: a `Sam3Model` or `Sam3LiteTextModel`; with named weights it may be on PyTorch's meta device.
        folder: is there; files in it are replaced.
        weights: "own" writes them beside each graph; "named" writes none: each is external data that has its key as its
            name, for `SessionOptions.add_external_initializers` or `point_to`, and `WEIGHTS` lists them.
        attention: "fused" takes ONNX Runtime's own operators, which are fastest and need the least memory; "standard"
            only ONNX's.
        precision: own weights are stored in it; the graphs compute in float32. With "int8-vision" the linear layers of
            the vision encoder are stored and multiplied in int8, and all else is as "fp16".
        stored: for named weights, dtype and shape of each in the checkpoint (`stored_weights`); None: float32.
    """
    store = _store(detector, weights, precision, stored)
    values = detector.state_dict()
    int8 = (lambda key: values[key].float().numpy()) if precision == "int8-vision" else None
    models: dict[str, Callable[[], ModelProto]] = {
        VISION: lambda: vision_graph(detector.config, LayerGraph(store, attention, int8=int8)),
        DECODER: lambda: decoder_graph(detector.config, LayerGraph(store, attention)),
        GEOMETRY: lambda: geometry_graph(detector.config, LayerGraph(store, attention)),
    }
    return _write(models, folder, None if weights == "named" else values)


def write_text_graph(
    detector: Any,
    folder: Path,
    *,
    weights: Literal["own", "named"] = "own",
    attention: Attention = "fused",
    precision: Literal["fp32", "fp16"] = "fp32",
    stored: Stored | None = None,
) -> list[str]:
    """Write CLIP's text tower with the projection to the decoder's width; arguments as `write_segmenter_graphs`.

    Raises:
        EncoderError: the detector has no tower of CLIP's kind.
    """
    kind = detector.config.text_config.model_type
    if kind != "clip_text_model" or not hasattr(detector.text_encoder, "text_model"):
        raise EncoderError(f"a text tower of kind '{kind}'", hint="export its student: litetext export STUDENT")
    graph = LayerGraph(_store(detector, weights, precision, stored), attention)
    values = None if weights == "named" else detector.state_dict()
    return _write({TEXT: lambda: text_graph(detector.config, graph)}, folder, values)


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


def _store(detector: Any, weights: str, precision: str, stored: Stored | None) -> Store:
    values = detector.state_dict()
    if weights == "own":
        return own_weights(values, "float32" if precision == "fp32" else "float16")
    if precision != "fp32":
        raise OptionError(f"the precision '{precision}' of weights in a checkpoint", hint="write the weights as well")
    return named_weights(stored or {key: ("F32", tuple(value.shape)) for key, value in values.items()})


def _write(models: Mapping[str, Callable[[], ModelProto]], folder: Path, values: Mapping[str, Any] | None) -> list[str]:
    """Write models with the values of their weights, or without any and a list of what they take by name.

    Returned are the names of the files.
    """
    if values is not None:
        for name, make in models.items():
            write_own(make(), folder / name, values)
        return [file for name in models for file in (name, f"{name}.data")]
    index = folder / WEIGHTS
    listed = json.loads(index.read_text("utf-8")) if index.is_file() else {}
    for name, make in models.items():
        listed[name] = write_named(make(), folder / name)
    write_text(index, to_json(listed) + "\n")
    return [*models, WEIGHTS]


def write_own(model: ModelProto, path: Path, values: Mapping[str, Any]) -> None:
    """Write a model and beside it the file of its weights, one after another, so that none is copied for long."""
    with Path(f"{path}.data").open("wb") as file:
        for constant in model.graph.initializer:
            if constant.data_location == TensorProto.EXTERNAL:
                dtype = helper.tensor_dtype_to_np_dtype(constant.data_type)
                data = values[constant.name].detach().cpu().float().contiguous().numpy().astype(dtype, copy=False)
            elif len(constant.raw_data) >= INLINE:
                data = np.frombuffer(constant.raw_data, np.uint8)
            else:
                continue
            file.write(bytes(-file.tell() % ALIGNMENT))
            place = {"location": f"{path.name}.data", "offset": file.tell(), "length": data.nbytes}
            file.write(data.data)
            constant.ClearField("raw_data")
            constant.data_location = TensorProto.EXTERNAL
            del constant.external_data[:]
            for key, value in place.items():
                constant.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString(deterministic=True))


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
