"""A SAM3 segmenter as ONNX graphs: vision encoder, decoder, geometry encoder and CLIP's text tower.

Files, inputs and outputs have the names that other programs for SAM3 in ONNX read. The graphs compute what
`transformers` computes, with less work: what does not depend on the phrase is computed once for all phrases, and what
no output needs not at all. In the vision encoder all layers see the patches window by window, the global ones too.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import onnx
from onnx import ModelProto, TensorProto

from litetext.errors import EncoderError, OptionError
from litetext.export.graphs.external_weights import CODES, declare
from litetext.export.graphs.graph_layers import (
    Attention,
    LayerGraph,
    Store,
    named_weights,
    own_weights,
)
from litetext.export.graphs.prompt_graphs import decoder_graph, geometry_graph, text_graph
from litetext.export.graphs.vision_graph import vision_graph
from litetext.storage import to_json, write_text

VISION, DECODER, GEOMETRY, TEXT = (
    f"{name}.onnx" for name in ("vision-encoder", "decoder", "geometry-encoder", "text-encoder")
)
WEIGHTS = "weights.json"  # which weights a graph takes by name: {graph: {key: {"dtype": ..., "shape": [...]}}}
INLINE = 1024  # bytes of a weight that stands in the graph itself

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
    whole = precision == "int8-vision"
    models: dict[str, Callable[[], ModelProto]] = {
        VISION: lambda: vision_graph(detector.config, LayerGraph(store, attention, int8=whole)),
        DECODER: lambda: decoder_graph(detector.config, LayerGraph(store, attention)),
        GEOMETRY: lambda: geometry_graph(detector.config, LayerGraph(store, attention)),
    }
    return _write(models, folder, weights)


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
    return _write({TEXT: lambda: text_graph(detector.config, graph)}, folder, weights)


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


def _write(models: Mapping[str, Callable[[], ModelProto]], folder: Path, weights: str) -> list[str]:
    """Make and write models one by one, since each may hold a copy of gigabytes of weights; the names of the files.

    Beside them are their weights, or the list of what they take by name.
    """
    if weights == "own":
        for name, make in models.items():
            onnx.save_model(
                make(), folder / name, save_as_external_data=True, location=f"{name}.data", size_threshold=INLINE
            )
        return [file for name in models for file in (name, f"{name}.data")]
    index = folder / WEIGHTS
    listed = json.loads(index.read_text("utf-8")) if index.is_file() else {}
    for name, make in models.items():
        listed[name] = write_named(make(), folder / name)
    write_text(index, to_json(listed) + "\n")
    return [*models, WEIGHTS]


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
