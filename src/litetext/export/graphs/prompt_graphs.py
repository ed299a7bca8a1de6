"""What SAM3 does with prompts as ONNX graphs: the decoder, the geometry encoder of exemplars, and CLIP's text tower.

Until a state meets the text it is the same for every phrase, and has a batch of one.
"""

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from litetext.export.graphs.graph_layers import LayerGraph, Ports, wave_lengths
from litetext.export.graphs.vision_graph import FEATURES, POSITIONS

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LEAST_SHARE = 1e-3  # of a box's coordinate where its logit is taken
PRESENCE_LIMIT, SCORE_LIMIT = 10.0, 12.0  # of the logits
GROUPS = 8  # of the norms in the mask decoder


def decoder_graph(config: Any, g: LayerGraph) -> ModelProto:
    """Features of an image, and of B prompts [B, L, D] with their mask -> masks, boxes, scores and presence."""
    return _Decoder(config, g).model()


class _Prompt:
    """The prompts' tokens, as every attention reads them."""

    def __init__(self, g: LayerGraph, width: int) -> None:
        self.batch, self.length = g.size("prompt_features", 0), g.size("prompt_features", 1)
        self.rows = g.reshape("prompt_features", -1, width)
        self.valid = g.cast("prompt_mask", "int32")
        self.spread = g.node("Concat", self.batch, g.whole(1, 1), axis=0)  # makes a batch of one one of B


class _Decoder:
    """The detector after the vision encoder. States are batches [B or 1, N, D]."""

    def __init__(self, config: Any, g: LayerGraph) -> None:
        backbone = config.vision_config.backbone_config
        self.config, self.g = config, g
        self.width, self.queries = config.detr_encoder_config.hidden_size, config.detr_decoder_config.num_queries
        self.side = backbone.image_size // backbone.patch_size
        self.tokens = self.side**2
        self.prompt = _Prompt(g, self.width)
        self.positions = _flat(g, POSITIONS, self.tokens)

    def model(self) -> ModelProto:
        """The whole, checked."""
        g, width, side = self.g, self.width, self.side
        vision = self._encode()
        queries, presence, boxes = self._decode(vision)
        g.node("Identity", _corners(g, boxes), output="pred_boxes")
        self._presence(presence)
        self._scores(queries)
        self._masks(vision, queries)
        sides = {name: side * factor for name, factor in zip(FEATURES, (4, 2, 1), strict=True)} | {POSITIONS: side}
        images: Ports = [(name, FLOAT, ["images", width, size, size]) for name, size in sides.items()]
        prompts: Ports = [
            ("prompt_features", FLOAT, ["prompts", "tokens", width]),
            ("prompt_mask", BOOL, ["prompts", "tokens"]),
        ]
        outputs: Ports = [
            ("pred_masks", FLOAT, ["prompts", self.queries, 4 * side, 4 * side]),
            ("pred_boxes", FLOAT, ["prompts", self.queries, 4]),
            ("pred_logits", FLOAT, ["prompts", self.queries]),
            ("presence_logits", FLOAT, ["prompts", 1]),
        ]
        return g.finish("decoder", [*images, *prompts], outputs)

    def _encode(self) -> str:
        """The image's tokens [B, N, D] after the DETR encoder."""
        g, config = self.g, self.config.detr_encoder_config
        x = _flat(g, FEATURES[2], self.tokens)
        for number in range(config.num_layers):
            name = f"detr_encoder.layers.{number}"
            y = g.norm(x, f"{name}.layer_norm1")
            placed = g.node("Add", y, self.positions)
            x = g.node("Add", x, self._attend(f"{name}.self_attn", placed, self.tokens, placed, y))
            y = g.norm(x, f"{name}.layer_norm2")
            x = g.node("Add", x, self._read_prompt(f"{name}.cross_attn", y, self.tokens, first=number == 0))
            y = g.feed_forward(g.norm(x, f"{name}.layer_norm3"), name, config.hidden_act)
            x = g.node("Add", x, self._batch(y, self.tokens))
        return x

    def _decode(self, vision: str) -> tuple[str, str, str]:
        """Queries [B, Q, D] and the presence token [B, 1, D] after the DETR decoder, and the queries' boxes [B, Q, 4].

        Boxes are centre and size.
        """
        g, config, count = self.g, self.config.detr_decoder_config, self.queries + 1
        placed = g.node("Add", vision, self.positions)
        parts = (g.weight(f"detr_decoder.{name}.weight") for name in ("presence_token", "query_embed"))
        x = g.reshape(g.node("Concat", *parts, axis=0), 1, count, self.width)
        boxes = g.reshape(g.node("Sigmoid", g.weight("detr_decoder.reference_points.weight")), 1, self.queries, 4)
        queries = x
        for number in range(config.num_layers):
            name = f"detr_decoder.layers.{number}"
            positions, bias = self._query_positions(boxes), self._box_bias(boxes)
            y = g.node("Add", x, positions)
            x = self._residual(x, self._attend(f"{name}.self_attn", y, count, y, x), f"{name}.self_attn_layer_norm")
            y = g.node("Add", x, positions)
            y = self._read_prompt(f"{name}.text_cross_attn", y, count, first=number == 0)
            x = self._residual(x, y, f"{name}.text_cross_attn_layer_norm")
            y = g.node("Add", x, positions)
            y = self._attend(f"{name}.vision_cross_attn", y, count, placed, vision, bias=bias)
            x = self._residual(x, y, f"{name}.vision_cross_attn_layer_norm")
            y = self._batch(g.feed_forward(x, name, config.hidden_act), count)
            x = self._residual(x, y, f"{name}.mlp_layer_norm")
            queries = g.norm(g.slice(x, 1, count, 1), "detr_decoder.output_layer_norm")
            boxes = self._refine(boxes, queries)
        return queries, g.slice(x, 0, 1, 1), boxes

    def _residual(self, x: str, y: str, norm: str) -> str:
        return self.g.norm(self.g.node("Add", x, y), norm)

    def _batch(self, rows: str, count: int) -> str:
        return self.g.reshape(rows, -1, count, self.width)

    def _heads(self, name: str) -> int:
        """The number of heads in the part of the model that an attention is of."""
        heads: int = getattr(self.config, f"{name.partition('.')[0]}_config").num_attention_heads
        return heads

    def _attend(self, name: str, query: str, count: int, key: str, value: str, *, bias: str = "") -> str:
        """Attention to the image's tokens, or of queries to themselves: [B, count, D]."""
        g, heads = self.g, self._heads(name)
        length = self.tokens if bias else count
        q = self._batch(g.linear(query, f"{name}.q_proj"), count)
        k = self._batch(g.linear(key, f"{name}.k_proj"), length)
        v = self._batch(g.linear(value, f"{name}.v_proj"), length)
        return self._batch(g.linear(g.attend(q, k, v, heads, bias=bias), f"{name}.o_proj"), count)

    def _read_prompt(self, name: str, query: str, count: int, *, first: bool = False) -> str:
        """Attention to the prompts' tokens: [B, count, D]. The first has a query that is the same for every prompt."""
        g, prompt, heads = self.g, self.prompt, self._heads(name)
        q = self._batch(g.linear(query, f"{name}.q_proj"), count)
        q = g.node("Expand", q, prompt.spread) if first else q
        k, v = (
            g.reshape(g.linear(prompt.rows, f"{name}.{one}_proj"), prompt.batch, prompt.length, self.width)
            for one in "kv"
        )
        mixed = g.attend(q, k, v, heads, valid=prompt.valid)
        return self._batch(g.linear(mixed, f"{name}.o_proj"), count)

    def _query_positions(self, boxes: str) -> str:
        """What boxes [B, Q, 4] give the queries [B, Q + 1, D]; the presence token gets zeros."""
        g, half = self.g, self.width // 2
        ordered = g.node("Gather", boxes, g.whole(1, 0, 2, 3), axis=2)
        angles = g.node("Mul", g.node("Unsqueeze", ordered, g.whole(3)), g.constant(2 * np.pi))
        codes = _sine_codes(g, angles, half)
        names = (f"detr_decoder.ref_point_head.layer{number}" for number in (1, 2))
        rows = g.mlp(g.reshape(codes, -1, 4 * half), *names)
        return g.node("Pad", g.reshape(rows, -1, self.queries, self.width), g.whole(0, 1, 0, 0, 0, 0))

    def _box_bias(self, boxes: str) -> str:
        """How the place of each token beside each query's box counts: [B, heads, Q + 1, N], zeros for the presence."""
        g, heads = self.g, self.config.detr_decoder_config.num_attention_heads
        corners = _corners(g, boxes)
        places = g.constant((np.arange(self.side, dtype=np.float32) / np.float32(self.side))[:, None])
        parts = []
        for axis, ends, unsqueezed in (("y", (1, 3), 4), ("x", (0, 2), 3)):
            limits = g.node("Unsqueeze", g.node("Gather", corners, g.whole(*ends), axis=2), g.whole(2))
            away = g.node("Mul", g.node("Sub", places, limits), g.constant(8.0))
            logs = g.node("Log", g.node("Add", g.node("Abs", away), g.constant(1.0)))
            logs = g.node("Mul", g.node("Sign", away), g.node("Mul", logs, g.constant(1 / np.log(8))))
            names = (f"detr_decoder.box_rpb_embed_{axis}.layer{number}" for number in (1, 2))
            part = g.reshape(g.mlp(logs, *names), -1, self.queries, self.side, heads)
            part = g.node("Pad", g.node("Transpose", part, perm=[0, 3, 1, 2]), g.whole(0, 0, 1, 0, 0, 0, 0, 0))
            parts.append(g.node("Unsqueeze", part, g.whole(unsqueezed)))
        return g.reshape(g.node("Add", *parts), -1, heads, self.queries + 1, self.tokens)

    def _refine(self, boxes: str, queries: str) -> str:
        """Boxes [B, Q, 4] moved by what the queries say."""
        g, least = self.g, self.g.constant(LEAST_SHARE)
        rest = g.node("Max", g.node("Sub", g.constant(1.0), boxes), least)
        logits = g.node("Log", g.node("Div", g.node("Max", boxes, least), rest))
        moves = g.mlp(queries, *(f"detr_decoder.box_head.layer{number}" for number in (1, 2, 3)))
        return g.node("Sigmoid", g.node("Add", g.reshape(moves, -1, self.queries, 4), logits))

    def _presence(self, token: str) -> None:
        g = self.g
        y = g.norm(token, "detr_decoder.presence_layer_norm")
        y = g.mlp(y, *(f"detr_decoder.presence_head.layer{number}" for number in (1, 2, 3)))
        _clip(g, y, PRESENCE_LIMIT, "presence_logits")

    def _scores(self, queries: str) -> None:
        """Products of queries with the mean of each prompt's tokens."""
        g, prompt, name = self.g, self.prompt, "dot_product_scoring"
        rows = g.mlp(prompt.rows, *(f"{name}.text_mlp.layer{number}" for number in (1, 2)))
        rows = g.norm(g.node("Add", rows, prompt.rows), f"{name}.text_mlp_out_norm")
        tokens = g.reshape(rows, prompt.batch, prompt.length, self.width)
        valid = g.node("Unsqueeze", g.cast("prompt_mask", "float32"), g.whole(2))
        total = g.node("ReduceSum", g.node("Mul", tokens, valid), g.whole(1), keepdims=0)
        count = g.node("Max", g.node("ReduceSum", valid, g.whole(1), keepdims=0), g.constant(1.0))
        text = g.linear(g.node("Div", total, count), f"{name}.text_proj")
        seen = self._batch(g.linear(queries, f"{name}.query_proj"), self.queries)
        scores = g.node("Squeeze", g.node("MatMul", seen, g.node("Unsqueeze", text, g.whole(2))), g.whole(2))
        _clip(g, g.node("Mul", scores, g.constant(self.width**-0.5)), SCORE_LIMIT, "pred_logits")

    def _masks(self, vision: str, queries: str) -> None:
        """Products of queries with pixels; the last convolution of these, of kernel 1, moves to the queries."""
        g, name = self.g, "mask_decoder"
        y = g.norm(vision, f"{name}.prompt_cross_attn_norm")
        x = g.node("Add", vision, self._read_prompt(f"{name}.prompt_cross_attn", y, self.tokens))
        x = g.reshape(g.node("Transpose", x, perm=[0, 2, 1]), 0, 0, self.side, self.side)
        for number, level in enumerate((FEATURES[1], FEATURES[0])):
            scales = g.constant(np.array([1, 1, 2, 2], dtype=np.float32))
            settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            x = g.node("Add", g.node("Resize", x, "", scales, mode="nearest", **settings), level)
            x = g.convolve(x, f"{name}.pixel_decoder.conv_layers.{number}", pads=[1] * 4)
            x = g.node("Relu", self._group_norm(x, f"{name}.pixel_decoder.norms.{number}"))
        embedded = g.mlp(queries, *(f"{name}.mask_embedder.layers.{number}" for number in range(3)))
        kernel = g.reshape(g.weight(f"{name}.instance_projection.weight"), self.width, self.width)
        bias = g.reshape(g.weight(f"{name}.instance_projection.bias"), self.width, 1)
        filters = self._batch(g.node("MatMul", embedded, kernel), self.queries)
        offsets = g.reshape(g.node("MatMul", embedded, bias), -1, self.queries, 1)
        products = g.node("Add", g.node("MatMul", filters, g.reshape(x, 0, 0, -1)), offsets)
        size = 4 * self.side
        g.node("Reshape", products, g.whole(0, 0, size, size), output="pred_masks")

    def _group_norm(self, x: str, name: str) -> str:
        g = self.g
        ones, zeros = (g.constant(np.full(GROUPS, value, dtype=np.float32)) for value in (1, 0))
        groups = g.node("InstanceNormalization", g.reshape(x, 0, GROUPS, -1), ones, zeros, epsilon=1e-5)
        weight, bias = (g.reshape(g.weight(f"{name}.{one}"), -1, 1, 1) for one in ("weight", "bias"))
        return g.node("Add", g.node("Mul", g.node("Reshape", groups, g.node("Shape", x)), weight), bias)


def _flat(g: LayerGraph, image: str, tokens: int) -> str:
    """[B, D, h, w] as tokens [B, h * w, D]."""
    return g.node("Transpose", g.reshape(image, 0, 0, tokens), perm=[0, 2, 1])


def _corners(g: LayerGraph, boxes: str) -> str:
    """Boxes [..., 4] of centre and size as left, top, right, bottom."""
    centre, size = g.slice(boxes, 0, 2, -1), g.slice(boxes, 2, 4, -1)
    half = g.node("Mul", size, g.constant(0.5))
    return g.node("Concat", g.node("Sub", centre, half), g.node("Add", centre, half), axis=-1)


def _sine_codes(g: LayerGraph, angles: str, count: int) -> str:
    """``count`` sines and cosines in turn of each angle [..., 1]: [..., count / 2, 2]."""
    waves = g.node("Div", angles, g.constant(wave_lengths(count)))
    pair = (g.node("Unsqueeze", g.node(kind, waves), g.whole(-1)) for kind in ("Sin", "Cos"))
    return g.node("Concat", *pair, axis=-1)


def _clip(g: LayerGraph, x: str, limit: float, output: str) -> None:
    g.node("Clip", x, g.constant(-limit), g.constant(limit), output=output)


def geometry_graph(config: Any, g: LayerGraph) -> ModelProto:
    """Boxes [1, K, 4] and labels [1, K], 1 for what is meant, 0 for what is not, -10 for none -> [1, K + 1, D]."""
    settings, backbone = config.geometry_encoder_config, config.vision_config.backbone_config
    width, heads, side = settings.hidden_size, settings.num_attention_heads, backbone.image_size // backbone.patch_size
    vision, name = _flat(g, FEATURES[2], side**2), "geometry_encoder"
    boxes = _embed_boxes(g, name, settings, side, vision)
    x = g.node("Concat", boxes, g.weight(f"{name}.cls_embed.weight"), axis=0)
    x = g.norm(g.linear(x, f"{name}.final_proj"), f"{name}.prompt_layer_norm")
    given = g.node("Not", g.node("Equal", "input_boxes_labels", g.whole(-10)))
    mask = g.node("Concat", given, g.constant(np.ones((1, 1), dtype=np.bool_)), axis=1, output="geometry_mask")
    valid, count = g.cast(mask, "int32"), g.size(mask, 1)
    placed = g.node("Add", vision, _flat(g, POSITIONS, side**2))
    for number in range(settings.num_layers):
        layer = f"{name}.layers.{number}"
        y = g.norm(x, f"{layer}.layer_norm1")
        q, k, v = (g.reshape(g.linear(y, f"{layer}.self_attn.{one}_proj"), 1, count, width) for one in "qkv")
        x = g.node("Add", x, g.linear(g.attend(q, k, v, heads, valid=valid), f"{layer}.self_attn.o_proj"))
        y = g.norm(x, f"{layer}.layer_norm2")
        q = g.reshape(g.linear(y, f"{layer}.cross_attn.q_proj"), 1, count, width)
        k = g.reshape(g.linear(placed, f"{layer}.cross_attn.k_proj"), 1, side**2, width)
        v = g.reshape(g.linear(vision, f"{layer}.cross_attn.v_proj"), 1, side**2, width)
        x = g.node("Add", x, g.linear(g.attend(q, k, v, heads), f"{layer}.cross_attn.o_proj"))
        x = g.node("Add", x, g.feed_forward(g.norm(x, f"{layer}.layer_norm3"), layer, settings.hidden_act))
    g.node("Unsqueeze", g.norm(x, f"{name}.output_layer_norm"), g.whole(0), output="geometry_features")
    inputs: Ports = [
        ("input_boxes", FLOAT, [1, "boxes", 4]),
        ("input_boxes_labels", INT64, [1, "boxes"]),
        (FEATURES[2], FLOAT, [1, width, side, side]),
        (POSITIONS, FLOAT, [1, width, side, side]),
    ]
    outputs: Ports = [("geometry_features", FLOAT, [1, "tokens", width]), ("geometry_mask", BOOL, [1, "tokens"])]
    return g.finish("geometry-encoder", inputs, outputs)


def _embed_boxes(g: LayerGraph, name: str, settings: Any, side: int, vision: str) -> str:
    """Rows [K, D] of boxes: their numbers, what the image shows in them, the code of their centre, and their label."""
    width, pool = settings.hidden_size, settings.roi_size
    boxes = g.reshape("input_boxes", -1, 4)
    x = g.linear(boxes, f"{name}.boxes_direct_project")
    image = g.node("Transpose", g.norm(vision, f"{name}.vision_layer_norm"), perm=[0, 2, 1])
    none = g.node("Expand", g.whole(0), g.size(boxes, 0))
    regions = g.node("Mul", _corners(g, boxes), g.constant(float(side)))
    image = g.reshape(image, 0, 0, side, side)
    mode = {"coordinate_transformation_mode": "output_half_pixel", "mode": "avg"}
    sizes = {"output_height": pool, "output_width": pool, "sampling_ratio": 0, "spatial_scale": 1.0}
    pooled = g.node("RoiAlign", image, regions, none, **mode, **sizes)
    project = f"{name}.boxes_pool_project"
    kernel = g.reshape(g.weight(f"{project}.weight"), width, -1)
    pooled = g.reshape(pooled, -1, width * pool * pool)
    x = g.node("Add", x, g.node("Gemm", pooled, kernel, g.weight(f"{project}.bias"), transB=1))
    centre = g.node("Gather", boxes, g.whole(1, 0), axis=1)
    angles = g.node("Mul", g.node("Unsqueeze", centre, g.whole(2)), g.constant(2 * np.pi))
    codes = g.reshape(_sine_codes(g, angles, width // 2), -1, width)
    codes = g.node("Concat", codes, g.node("Gather", boxes, g.whole(3, 2), axis=1), axis=1)
    x = g.node("Add", x, g.linear(codes, f"{name}.boxes_pos_enc_project"))
    labels = g.node("Max", g.reshape("input_boxes_labels", -1), g.whole(0))
    return g.node("Add", x, g.node("Gather", g.weight(f"{name}.label_embed.weight"), labels))


def text_graph(config: Any, g: LayerGraph) -> ModelProto:
    """CLIP's ids and mask [B, L] -> features [B, L, D], zeros at padding, and the mask of what was read."""
    settings, name = config.text_config, "text_encoder.text_model"
    width, heads, epsilon = settings.hidden_size, settings.num_attention_heads, settings.layer_norm_eps
    batch, length = g.size("input_ids", 0), g.size("input_ids", 1)
    table = g.stored(f"{name}.embeddings.token_embedding.weight")
    x = g.cast(g.node("Gather", table, "input_ids"), "float32")  # only the rows that are read
    places = g.weight(f"{name}.embeddings.position_embedding.weight")
    x = g.node("Add", x, g.node("Slice", places, g.whole(0), length, g.whole(0)))
    x = g.reshape(x, -1, width)
    for number in range(settings.num_hidden_layers):
        layer = f"{name}.encoder.layers.{number}"
        y = g.norm(x, f"{layer}.layer_norm1", epsilon)
        q, k, v = (g.reshape(g.linear(y, f"{layer}.self_attn.{one}_proj"), batch, length, width) for one in "qkv")
        x = g.node("Add", x, g.linear(g.attend(q, k, v, heads, causal=True), f"{layer}.self_attn.out_proj"))
        y = g.norm(x, f"{layer}.layer_norm2", epsilon)
        x = g.node("Add", x, g.feed_forward(y, layer, settings.hidden_act))
    x = g.linear(g.norm(x, f"{name}.final_layer_norm", epsilon), "text_projection")
    features = config.detr_encoder_config.hidden_size
    mask = g.cast("attention_mask", "bool", "text_mask")
    seen, x = g.node("Unsqueeze", mask, g.whole(2)), g.reshape(x, batch, length, features)
    g.node("Where", seen, x, g.constant(0.0), output="text_features")
    inputs: Ports = [(one, INT64, ["batch", "length"]) for one in ("input_ids", "attention_mask")]
    outputs: Ports = [("text_features", FLOAT, ["batch", "length", features]), ("text_mask", BOOL, ["batch", "length"])]
    return g.finish("text-encoder", inputs, outputs)
