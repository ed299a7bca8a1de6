"""Turn an exported segmenter into the three programs that X-AnyLabeling reads as Segment Anything 3.

X-AnyLabeling (and samexporter) name and arrange the parts of SAM3 otherwise: tokens without a mask, the text's mask
True at padding and its features [L, 1, D], masks and boxes at the picture's size. So our graphs are wrapped in nodes
that rename, turn and resize; the weights stay as they are. It needs LiteText's export and the package onnx:

litetext export MODEL --to onnx -o exported
python examples/x-anylabeling/convert.py exported sam3

Then load sam3/litetext.yaml as a custom model. X-AnyLabeling itself was not run with it, only its calls were made: see
tests/examples. It resizes pictures without antialiasing, so that masks of large ones are not LiteText's to the pixel;
it reads pictures with a mean and a deviation of 0.5 only; and it gives a phrase with at most one box.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

LEAST = 0.05  # candidates with a score below it are left out, which spares most of the memory; the slider begins above
LENGTH = 32  # tokens that X-AnyLabeling gives
CONFIG = """\
type: segment_anything_3
name: litetext
provider: LiteText
display_name: {name}
encoder_model_path: sam3_image_encoder.onnx
encoder_model_data_path: sam3_image_encoder.onnx.data
decoder_model_path: sam3_decoder.onnx
decoder_model_data_path: sam3_decoder.onnx.data
language_encoder_path: sam3_language_encoder.onnx
language_encoder_data_path: sam3_language_encoder.onnx.data
conf_threshold: 0.5
epsilon: 0.001
"""


def main(bundle: str, output: str) -> None:
    """Write three programs with their weights, and the configuration."""
    source, target = Path(bundle), Path(output)
    manifest = json.loads((source / "litetext.json").read_text(encoding="utf-8"))
    if manifest["mean"] != [0.5] * 3 or manifest["std"] != [0.5] * 3:
        sys.exit("error: X-AnyLabeling reads pictures with a mean and a deviation of 0.5 only")
    target.mkdir(parents=True, exist_ok=True)
    programs = {"image_encoder": image_encoder, "language_encoder": language_encoder, "decoder": decoder}
    for name, make in programs.items():
        file = f"sam3_{name}.onnx"
        (target / f"{file}.data").unlink(missing_ok=True)  # the library of ONNX would write behind it
        place = {"location": f"{file}.data", "size_threshold": 1024}
        onnx.save_model(make(source), target / file, save_as_external_data=True, **place)
        (target / f"{file}.data").chmod((target / file).stat().st_mode)
    (target / "litetext.yaml").write_text(
        CONFIG.format(name=json.dumps(f"{manifest['name']} (LiteText)")), encoding="utf-8"
    )


def image_encoder(folder: Path) -> onnx.ModelProto:
    """A picture [3, H, W] to positions and features of three levels, positions first."""
    model = onnx.load(folder / "vision-encoder.onnx")
    shape = [port.dim_value for port in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    before = [node("Unsqueeze", ["image", constant(model, "first", [0])], ["images"])]
    # The decoder reads the positions of the coarsest level only; the others stand in their places.
    names = {f"vision_pos_enc_{level}": "fpn_pos_2" for level in range(3)}
    names |= {f"backbone_fpn_{level}": f"fpn_feat_{level}" for level in range(3)}
    after = [node("Identity", [old], [new]) for new, old in names.items()]
    return rewired(
        model, before, after, [("image", TensorProto.FLOAT, shape)], [(name, TensorProto.FLOAT) for name in names]
    )


def language_encoder(folder: Path) -> onnx.ModelProto:
    """Tokens [1, 32], zeros behind the end token, to a mask that is True at padding, and features [L, 1, D]."""
    model = onnx.load(folder / "text-encoder.onnx")
    places = constant(model, "places", np.arange(LENGTH)[None])
    before = [
        node("Identity", ["tokens"], ["input_ids"]),
        node("ArgMax", ["tokens"], ["end"], axis=1, keepdims=1),  # the end token has the largest id
        node("LessOrEqual", [places, "end"], ["is_token"]),
        node("Cast", ["is_token"], ["attention_mask"], to=TensorProto.INT64),
    ]
    after = [
        node("Not", ["text_mask"], ["text_attention_mask"]),
        node("Transpose", ["text_features"], ["text_memory"], perm=[1, 0, 2]),
        node("Identity", ["text_memory"], ["text_embeds"]),  # SAM3 has others there, which no decoder reads
    ]
    outputs = [("text_attention_mask", TensorProto.BOOL), ("text_memory", TensorProto.FLOAT)]
    inputs = [("tokens", TensorProto.INT64, [1, LENGTH])]
    return rewired(model, before, after, inputs, [*outputs, ("text_embeds", TensorProto.FLOAT)])


def decoder(folder: Path) -> onnx.ModelProto:
    """Features, text and at most one box to boxes in pixels, scores and masks [N, 1, H, W], best scores first."""
    shown, model = onnx.load(folder / "geometry-encoder.onnx"), onnx.load(folder / "decoder.onnx")
    shown = compose.add_prefix(shown, "shown/", rename_inputs=False, rename_outputs=False)
    model.graph.node.extend(shown.graph.node)
    model.graph.initializer.extend(shown.graph.initializer)
    model.graph.value_info.extend(shown.graph.value_info)
    before = [
        *(node("Identity", [f"backbone_fpn_{level}"], [f"fpn_feat_{level}"]) for level in range(3)),
        node("Identity", ["vision_pos_enc_2"], ["fpn_pos_2"]),
        node("Identity", ["box_coords"], ["input_boxes"]),
        node("Identity", ["box_labels"], ["input_boxes_labels"]),
    ]
    prompt = [
        node("Not", ["box_masks"], ["is_box"]),
        node("And", ["geometry_mask", "is_box"], ["shown_mask"]),
        node("Not", ["language_mask"], ["text_valid"]),
        node("Concat", ["text_valid", "shown_mask"], ["prompt_mask"], axis=1),
        node("Transpose", ["language_features"], ["text_rows"], perm=[1, 0, 2]),
        node("Concat", ["text_rows", "geometry_features"], ["prompt_features"], axis=1),
    ]
    one, first = constant(model, "one", [1]), constant(model, "first", [0])
    chosen = [
        node("Sigmoid", ["pred_logits"], ["class"]),
        node("Sigmoid", ["presence_logits"], ["presence"]),
        node("Mul", ["class", "presence"], ["all_scores"]),
        node("Squeeze", ["all_scores", first], ["candidates"]),
        node("Greater", ["candidates", constant(model, "least", np.float32(LEAST))], ["is_chosen"]),
        node("Cast", ["is_chosen"], ["ones"], to=TensorProto.INT64),
        node("ReduceSum", ["ones"], ["sum"], keepdims=1),
        node("Max", ["sum", one], ["count"]),  # no engine resizes no mask
        node("TopK", ["candidates", "count"], ["scores", "best"], axis=0),
    ]
    sized = [
        node("Reshape", ["original_height", one], ["height"]),
        node("Reshape", ["original_width", one], ["width"]),
        node("Concat", ["width", "height", "width", "height"], ["corners"], axis=0),
        node("Cast", ["corners"], ["pixels"], to=TensorProto.FLOAT),
        node("Squeeze", ["pred_boxes", first], ["all_boxes"]),
        node("Gather", ["all_boxes", "best"], ["shares"], axis=0),
        node("Mul", ["shares", "pixels"], ["boxes"]),
        node("Gather", ["pred_masks", "best"], ["logits"], axis=1),
        node("Sigmoid", ["logits"], ["small"]),
        node("Concat", [one, "count", "height", "width"], ["size"], axis=0),
        node(
            "Resize", ["small", "", "", "size"], ["large"], mode="linear", coordinate_transformation_mode="half_pixel"
        ),
        node("Greater", ["large", constant(model, "half", np.float32(0.5))], ["is_inside"]),
        node("Transpose", ["is_inside"], ["masks"], perm=[1, 0, 2, 3]),
    ]
    ports: list[tuple[str, int, Any]] = [
        ("original_height", TensorProto.INT64, []),
        ("original_width", TensorProto.INT64, []),
    ]
    ports += [(f"backbone_fpn_{level}", TensorProto.FLOAT, [1, None, None, None]) for level in range(3)]
    ports += [("vision_pos_enc_2", TensorProto.FLOAT, [1, None, None, None])]
    ports += [("language_mask", TensorProto.BOOL, [1, None]), ("language_features", TensorProto.FLOAT, [None, 1, None])]
    ports += [("box_coords", TensorProto.FLOAT, [1, 1, 4]), ("box_labels", TensorProto.INT64, [1, 1])]
    ports += [("box_masks", TensorProto.BOOL, [1, 1])]
    outputs = [("boxes", TensorProto.FLOAT), ("scores", TensorProto.FLOAT), ("masks", TensorProto.BOOL)]
    return rewired(model, [*before, *prompt], [*chosen, *sized], ports, outputs)


def node(kind: str, inputs: list[str], outputs: list[str], **settings: Any) -> onnx.NodeProto:
    """A node of standard ONNX."""
    return helper.make_node(kind, inputs, outputs, **settings)


def constant(model: onnx.ModelProto, name: str, value: Any) -> str:
    """The name of a new constant of the graph."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"wrapped/{name}"))
    return f"wrapped/{name}"


def rewired(
    model: onnx.ModelProto,
    before: list[onnx.NodeProto],
    after: list[onnx.NodeProto],
    inputs: list[tuple[str, int, Any]],
    outputs: list[tuple[str, int]],
) -> onnx.ModelProto:
    """The model with nodes before and after it, and other ports; nodes in an order in which each finds its inputs."""
    graph = model.graph
    waiting, ordered = [*before, *graph.node, *after], []
    known = {name for name, *_ in inputs} | {one.name for one in graph.initializer} | {""}
    while waiting:
        ready = [one for one in waiting if set(one.input) <= known]
        if not ready:
            raise ValueError(f"a node without its inputs: {waiting[0].name}")
        known |= {name for one in ready for name in one.output}
        ordered += ready
        waiting = [one for one in waiting if not set(one.input) <= known or not set(one.output) <= known]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(ordered)
    graph.input.extend(helper.make_tensor_value_info(*port) for port in inputs)
    graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in outputs)
    return model


if __name__ == "__main__":
    main(*sys.argv[1:])
