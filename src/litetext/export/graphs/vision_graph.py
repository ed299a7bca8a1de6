"""SAM3's vision encoder as an ONNX graph. All layers see the patches window by window, the global ones too."""

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from litetext.errors import EncoderError
from litetext.export.graphs.graph_layers import LayerGraph, Ports, Turns, sine_table

FEATURES = ("fpn_feat_0", "fpn_feat_1", "fpn_feat_2")  # of the image, from fine to coarse
POSITIONS = "fpn_pos_2"  # codes of the places of the last


def vision_graph(config: Any, g: LayerGraph) -> ModelProto:
    """Images [B, 3, S, S] -> three levels of features [B, D, h, w] and the codes of the coarsest one's places."""
    backbone, width = config.vision_config.backbone_config, config.vision_config.fpn_hidden_size
    grid, window = backbone.image_size // backbone.patch_size, backbone.window_size
    if grid % window:
        raise EncoderError(f"{grid} patches a side in windows of {window}", hint="choose an image size without padding")
    across = grid // window
    name = "vision_encoder.backbone"
    step = [backbone.patch_size] * 2
    kernel = g.weight(f"{name}.embeddings.patch_embeddings.projection.weight")
    x = g.node("Conv", "images", kernel, kernel_shape=step, strides=step)
    x = g.node("Transpose", g.reshape(x, -1, 0, across, window, across, window), perm=[0, 2, 4, 3, 5, 1])
    places = _patch_positions(g, f"{name}.embeddings.position_embeddings", grid, window)
    x = g.node("Add", g.reshape(x, -1, grid * grid, backbone.hidden_size), places)
    x = g.norm(g.reshape(x, -1, backbone.hidden_size), f"{name}.layer_norm", backbone.layer_norm_eps)
    turns = {whole: _turns(g, backbone, grid, whole=whole) for whole in (False, True)}
    for number in range(backbone.num_hidden_layers):
        x = _layer(g, x, number, backbone, turns[number in backbone.global_attn_indexes])
    x = g.reshape(x, -1, across, across, window, window, backbone.hidden_size)
    x = g.reshape(g.node("Transpose", x, perm=[0, 5, 1, 3, 2, 4]), 0, 0, grid, grid)
    sizes = []
    for level, output in enumerate(FEATURES):
        _pyramid_level(
            g, x, f"vision_encoder.neck.fpn_layers.{level}", config.vision_config.scale_factors[level], output
        )
        sizes.append(int(grid * config.vision_config.scale_factors[level]))
    _place_codes(g, width, grid)
    images: Ports = [("images", TensorProto.FLOAT, ["batch", 3, backbone.image_size, backbone.image_size])]
    outputs: Ports = [
        (one, TensorProto.FLOAT, ["batch", width, size, size]) for one, size in zip(FEATURES, sizes, strict=True)
    ]
    return g.finish("vision-encoder", images, [*outputs, (POSITIONS, TensorProto.FLOAT, ["batch", width, grid, grid])])


def _patch_positions(g: LayerGraph, key: str, grid: int, window: int) -> str:
    """Learnt positions [1, P * P, C], repeated to the whole grid, in the order of windows: [1, grid * grid, C]."""
    _, count, width = g.shape(key)
    side = round(count**0.5)
    table = g.reshape(g.weight(key), side, side, width)
    if side != grid:
        times = -(-grid // side)
        table = g.node("Tile", table, g.whole(times, times, 1))
        table = g.node("Slice", table, g.whole(0, 0), g.whole(grid, grid), g.whole(0, 1))
    across = grid // window
    table = g.node("Transpose", g.reshape(table, across, window, across, window, width), perm=[0, 2, 1, 3, 4])
    return g.reshape(table, 1, grid * grid, width)


def _turns(g: LayerGraph, backbone: Any, grid: int, *, whole: bool) -> Turns:
    """The angles of S patches by their place in a window, or in the whole image, in the order of windows."""
    window = backbone.window_size
    side, across = (grid, grid // window) if whole else (window, 1)
    down, right = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    places = np.stack([right, down], axis=-1) * (window / side)  # as many steps as a window has
    places = places.reshape(across, window, across, window, 2).transpose(0, 2, 1, 3, 4).reshape(-1, 2, 1)
    part = backbone.hidden_size // backbone.num_attention_heads // 2  # numbers of a head that turn with one coordinate
    slowness = backbone.rope_parameters["rope_theta"] ** (np.arange(0, part, 2, dtype=np.float32) / np.float32(part))
    angles = g.node("Mul", g.constant(places.astype(np.float32)), g.constant(1 / slowness))
    angles = g.reshape(angles, -1, part)
    batch = g.node("Mul", g.size("images", 0), g.whole(1 if whole else (grid // window) ** 2))
    order = g.node("Expand", g.whole(*range(len(places))), g.node("Concat", batch, g.whole(1), axis=0))
    return Turns(g.node("Cos", angles), g.node("Sin", angles), order)


def _layer(g: LayerGraph, x: str, number: int, backbone: Any, turns: Turns) -> str:
    """A layer on rows [T, C]."""
    name = f"vision_encoder.backbone.layers.{number}"
    whole = number in backbone.global_attn_indexes
    tokens = (backbone.image_size // backbone.patch_size if whole else backbone.window_size) ** 2
    width, heads, epsilon = backbone.hidden_size, backbone.num_attention_heads, backbone.layer_norm_eps
    y = g.norm(x, f"{name}.layer_norm1", epsilon)
    q, k, v = (g.reshape(g.linear(y, f"{name}.attention.{one}_proj"), -1, tokens, width) for one in "qkv")
    mixed = g.attend(g.rotate(q, turns, heads), g.rotate(k, turns, heads), v, heads)
    x = g.node("Add", x, g.linear(mixed, f"{name}.attention.o_proj"))
    y = g.norm(x, f"{name}.layer_norm2", epsilon)
    return g.node("Add", x, g.feed_forward(y, name, backbone.hidden_act))


def _pyramid_level(g: LayerGraph, x: str, name: str, scale: float, output: str) -> None:
    """A level of the image's features, finer by ``scale`` than the patches [B, C, h, w]."""
    if scale not in (4, 2, 1):
        raise EncoderError(f"a level of features of scale {scale}", hint="only 4, 2 and 1 are written")
    for number in range(0, {4: 4, 2: 2, 1: 0}[int(scale)], 2):
        x = g.node("Gelu", x) if number else x
        x = g.convolve(x, f"{name}.scale_layers.{number}", "ConvTranspose", strides=[2, 2])
    x = g.convolve(x, f"{name}.proj1")
    g.convolve(x, f"{name}.proj2", pads=[1] * 4, output=output)


def _place_codes(g: LayerGraph, width: int, grid: int) -> None:
    """The codes of the places of the coarsest features, the same for every image."""
    places = np.arange(1, grid + 1, dtype=np.float32) / np.float32(grid + 1e-6) * np.float32(2 * np.pi)
    table = sine_table(places, width // 2).T  # [D / 2, grid]
    shape = g.whole(width // 2, grid, grid)
    down, right = (g.node("Expand", g.constant(one), shape) for one in (table[:, :, None], table[:, None, :]))
    codes = g.node("Unsqueeze", g.node("Concat", down, right, axis=0), g.whole(0))
    batch = g.node("Concat", g.size("images", 0), g.whole(1, 1, 1), axis=0)
    g.node("Expand", codes, batch, output=POSITIONS)
