"""A SAM3 segmenter as ONNX graphs: vision encoder, decoder, geometry encoder and CLIP's text tower.

Files, inputs and outputs have the names that other programs for SAM3 in ONNX read. The graphs compute what
`transformers` computes, with less work: what does not depend on the phrase is computed once for all phrases, and what
no output needs not at all. In the vision encoder all layers see the patches window by window, the global ones too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, TensorProto, helper

from litetext.errors import EncoderError
from litetext.export.graphs.graph_layers import INLINE, Array, Attention, LayerGraph, Store, own_weights
from litetext.export.graphs.prompt_graphs import decoder_graph, geometry_graph, text_graph
from litetext.export.graphs.vision_graph import vision_graph
from litetext.export.segment_bundle import PORTS

VISION, DECODER, GEOMETRY, TEXT = (f"{name}.onnx" for name in PORTS)
ALIGNMENT = 64  # of a weight in its file, in bytes

Models = dict[str, Callable[[], ModelProto]]


def segmenter_models(config: Any, store: Store, attention: Attention, int8: Callable[[str], Array] | None) -> Models:
    """What makes the vision encoder, the decoder and the geometry encoder, by the names of their files."""
    return {
        VISION: lambda: vision_graph(config, LayerGraph(store, attention, int8=int8)),
        DECODER: lambda: decoder_graph(config, LayerGraph(store, attention)),
        GEOMETRY: lambda: geometry_graph(config, LayerGraph(store, attention)),
    }


def write_segmenter_graphs(
    detector: Any,
    folder: Path,
    *,
    attention: Attention = "fused",
    precision: Literal["fp32", "fp16", "int8-vision"] = "fp32",
) -> list[str]:
    """Write the vision encoder, the decoder and the geometry encoder, and return the names of the files.

    Args:
        detector: a `Sam3Model` or `Sam3LiteTextModel`.
        folder: is there; files in it are replaced.
        attention: "fused" takes ONNX Runtime's own operators, which are fastest and need the least memory; "standard"
            only ONNX's.
        precision: weights are stored in it, beside each graph; the graphs compute in float32. With "int8-vision" the
            linear layers of the vision encoder are stored and multiplied in int8, and all else is as "fp16".
    """
    values = detector.state_dict()
    int8 = (lambda key: values[key].float().numpy()) if precision == "int8-vision" else None
    return _write(segmenter_models(detector.config, _store(values, precision), attention, int8), folder, values)


def write_text_graph(
    detector: Any, folder: Path, *, attention: Attention = "fused", precision: Literal["fp32", "fp16"] = "fp32"
) -> list[str]:
    """Write CLIP's text tower with the projection to the decoder's width; arguments as `write_segmenter_graphs`.

    Raises:
        EncoderError: the detector has no tower of CLIP's kind.
    """
    kind = detector.config.text_config.model_type
    if kind != "clip_text_model" or not hasattr(detector.text_encoder, "text_model"):
        raise EncoderError(f"a text tower of kind '{kind}'", hint="export its student: litetext export STUDENT")
    values = detector.state_dict()
    graph = LayerGraph(_store(values, precision), attention)
    return _write({TEXT: lambda: text_graph(detector.config, graph)}, folder, values)


def _store(values: Mapping[str, Any], precision: str) -> Store:
    return own_weights(values, "float32" if precision == "fp32" else "float16")


def _write(models: Models, folder: Path, values: Mapping[str, Any]) -> list[str]:
    for name, make in models.items():
        write_own(make(), folder / name, values)
    return [file for name in models for file in (name, f"{name}.data")]


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
