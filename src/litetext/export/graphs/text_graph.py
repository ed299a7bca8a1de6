"""A student as an ONNX graph of standard operators: token ids in, features out, padding handled inside.

What a caller's tokenizer pads with does not matter: ids where the mask is 0 are read as 0. Texts that are longer than
the student's context are cut there, and keep their end token. A pruned student takes CLIP's ids; the features of a text
with a token that was pruned are NaN, so that no other row of the table is read for it.

Where the length is open, as little as possible is computed of padding. Where it is masked that is nothing: linear
layers and norms see the valid tokens of all texts as rows [T, C], and only attention and convolutions see a batch
[B, L, C]. Where it is attended, nothing reads padding after the last attention or convolution: what follows sees rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from litetext.encoders.config import KERNEL, EncoderConfig
from litetext.export.targets import INPUTS, OUTPUTS, Precision, TargetOptions
from litetext.tokenizer.pruned import kept_tokens
from litetext.tokenizer.vocabulary import END_ID

Array = npt.NDArray[Any]
OPSET = 20  # the first with an exact GELU; ONNX Runtime 1.17 and OpenVINO 2024 read it
IR_VERSION = 9  # what goes with it
_SMALL = 1 << 12  # bytes of a constant that is looked up before it is stored again
EPSILON = 1e-5  # of every norm
# Added to the score of a token that is not there. Its weight, about 1e-35, is lost when weights are added up in
# float32; those of far lower scores would be denormal numbers, with which processors are slow.
NO_SCORE = -80.0


class GraphBuilder:
    """Collects the nodes and constants of a graph. Values are named by strings.

    Floating constants are stored, and the graph computes, in a precision ("int8" has float32 around it).
    """

    def __init__(self, precision: Precision) -> None:
        self.float = "float16" if precision == "fp16" else "float32"
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._computed: dict[str, str] = {}

    def constant(self, value: npt.ArrayLike, name: str = "") -> str:
        """The name of a constant; floating point becomes the graph's dtype."""
        array = np.asarray(value)
        return self._store(array.astype(self.float) if array.dtype.kind == "f" else array, name)

    def exact(self, value: npt.ArrayLike) -> str:
        """The name of a float32 constant, whatever the graph's dtype."""
        return self._store(np.asarray(value, dtype=np.float32), "")

    def _store(self, array: npt.NDArray[Any], name: str) -> str:
        """The name of a constant that is kept as it is; a small one without a name is kept once."""
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= _SMALL and not name else None
        if key is not None and key in self._known:
            return self._known[key]
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        if key is not None:
            self._known[key] = name
        return name

    def whole(self, *values: int) -> str:
        """The name of an int64 constant [n]."""
        return self.constant(np.array(values, dtype=np.int64))

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output, and return the output's name; what is computed already is not computed again."""
        same = f"{kind} {inputs} {sorted(attributes.items())}"
        if not output and same in self._computed:
            return self._computed[same]
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        self._computed[same] = name
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{name}_node", **attributes))
        return name

    def cast(self, value: str, dtype: str, output: str = "") -> str:
        """A value in another dtype, by NumPy's name."""
        return self.node("Cast", value, output=output, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def slice(self, value: str, start: int, end: int, axis: int) -> str:
        """A part of a value along an axis; an end beyond it is the end."""
        return self.node("Slice", value, self.whole(start), self.whole(end), self.whole(axis))

    def reshape(self, value: str, *shape: int | str) -> str:
        """A value in another shape: sizes as numbers (0 as it was, -1 what is left), or names of int64 values [1]."""
        if all(isinstance(size, int) for size in shape):
            return self.node("Reshape", value, self.whole(*(int(size) for size in shape)))
        sizes = [self.whole(size) if isinstance(size, int) else size for size in shape]
        return self.node("Reshape", value, self.node("Concat", *sizes, axis=0))

    def size(self, value: str, axis: int) -> str:
        """The size of an axis, int64 [1]."""
        return self.node("Shape", value, start=axis, end=axis + 1)

    def model(self, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto], notes: dict[str, str]) -> ModelProto:
        """The whole as a model, checked."""
        graph = helper.make_graph(self._nodes, "litetext", inputs, outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="litetext")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, notes)
        checker.check_model(model)
        return model


def student_graph(
    config: EncoderConfig, tensors: Mapping[str, Array], options: TargetOptions, notes: dict[str, str]
) -> ModelProto:
    """The graph of a folded student, whose ``state_dict`` the tensors are; notes are kept in the model's metadata.

    Inputs: ``input_ids`` int64 [B, L], ``attention_mask`` int64 [B, L], 1 at valid tokens, padded on the right.
    Outputs: ``text_features`` float32 [B, L, D], zero at padding; ``text_mask`` bool [B, L], True at tokens that were
    read.
    """
    g = GraphBuilder(options.precision)
    text = _read_inputs(g, config, options)
    body = _Body(g, config, tensors, text)
    _write_outputs(g, text, body.features())
    shape = [options.batch or "batch", options.length or "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in INPUTS]
    outputs = [
        helper.make_tensor_value_info(OUTPUTS[0], TensorProto.FLOAT, [*shape, config.output]),
        helper.make_tensor_value_info(OUTPUTS[1], TensorProto.BOOL, shape),
    ]
    return g.model(inputs, outputs, notes)


@dataclass(frozen=True)
class _Text:
    """Names of the inputs as the student reads them."""

    ids: str  # int64 [B, L'], rows of the token table
    mask: str  # bool [B, L']
    batch: str  # int64 [1], B
    length: str  # int64 [1], L'
    asked: str  # int64 [1], L of the inputs
    # Where the length is fixed these two are None, for engines that know no sizes which depend on values.
    valid: str | None  # int64 [T], where the valid tokens stand in B * L' places
    homes: str | None  # int64 [B * L'], the row of each place among the valid tokens, T at padding
    lost: str | None  # bool [B, 1, 1], whether a token of the text was pruned; None where none was


def _read_inputs(g: GraphBuilder, config: EncoderConfig, options: TargetOptions) -> _Text:
    """Ids and mask as the student reads them: at most its context, with attended padding all of it."""
    ids, mask = INPUTS
    asked = g.size(mask, 1)
    last = g.node(
        "Equal",
        g.node("Range", *(g.node("Squeeze", one) for one in (g.whole(0), asked, g.whole(1)))),
        g.whole(config.context_length - 1),
    )
    goes_on = g.slice(g.node("Pad", mask, g.whole(0, 0, 0, 1)), 1, 1 << 40, 1)
    cut = g.node("And", last, g.cast(goes_on, "bool"))
    ids = g.node("Mul", g.node("Where", cut, g.whole(END_ID), ids), mask)
    if config.padding == "attended":
        ids, mask = (g.node("Pad", one, g.whole(0, 0, 0, config.context_length)) for one in (ids, mask))
    ids, mask = (g.slice(one, 0, config.context_length, 1) for one in (ids, mask))
    valid = homes = lost = None
    if config.kept is not None:
        rows = g.node("Gather", g.constant(kept_tokens(config.kept).rows.astype(np.int32), "rows_of_tokens"), ids)
        least = g.node("ReduceMin", rows, g.whole(1), keepdims=1)
        lost = g.node("Unsqueeze", g.node("Less", least, g.constant(np.int32(0))), g.whole(2))
        ids = g.node("Max", rows, g.constant(np.int32(0)))
    if options.length is None:
        flat = g.reshape(mask, -1)
        valid = g.node("Squeeze", g.node("NonZero", flat), g.whole(0))
        count = g.size(valid, 0)
        numbers = g.node(
            "Range", g.node("Squeeze", g.whole(0)), g.node("Squeeze", count), g.node("Squeeze", g.whole(1))
        )
        homes = g.node("ScatterElements", g.node("Expand", count, g.size(flat, 0)), valid, numbers)
    return _Text(ids, g.cast(mask, "bool"), g.size(mask, 0), g.size(mask, 1), asked, valid, homes, lost)


def _write_outputs(g: GraphBuilder, text: _Text, features: str) -> None:
    """Features [B, L', D] as [B, L, D] with zeros at padding, and the mask of the same length."""
    seen = g.node("Unsqueeze", text.mask, g.whole(2))
    if text.lost is not None:
        features = g.node("Where", text.lost, g.constant(np.nan), features)
    if text.lost is not None or text.valid is None:
        features = g.node("Where", seen, features, g.constant(0.0))
    reach = g.node("Max", text.asked, text.length)  # padded to both, then cut to what was asked for
    more = g.node("Sub", reach, text.length)
    zero = g.whole(0)
    features = g.node("Pad", features, g.node("Concat", g.whole(0, 0, 0, 0), more, zero, axis=0))
    g.cast(g.node("Slice", features, zero, text.asked, g.whole(1)), "float32", OUTPUTS[0])
    mask = g.node("Pad", g.cast(text.mask, "int64"), g.node("Concat", g.whole(0, 0, 0), more, axis=0))
    g.cast(g.node("Slice", mask, zero, text.asked, g.whole(1)), "bool", OUTPUTS[1])


class _Body:
    """The student's layers. Between them, states are rows: [T, C] of the valid tokens, or [B * L', C] of all places."""

    def __init__(self, g: GraphBuilder, config: EncoderConfig, tensors: Mapping[str, Array], text: _Text) -> None:
        self.g, self.config, self.tensors, self.text = g, config, tensors, text
        masked = config.padding == "masked"
        self.packed = masked and text.valid is not None  # whether rows are those of the valid tokens now
        self.dense_mask = g.node("Unsqueeze", text.mask, g.whole(2)) if masked and not self.packed else None
        no_score = g.node("Where", text.mask, g.constant(0.0), g.constant(NO_SCORE))
        self.scores_bias = g.node("Unsqueeze", no_score, g.whole(1, 2)) if masked else None

    def features(self) -> str:
        """[B, L', D]."""
        config = self.config
        ends, blocks = config.mixer_blocks // 2, config.encoder_blocks + config.mixer_blocks
        x = self._embed()
        for number in range(blocks):
            block = self._encoder_block if ends <= number < ends + config.encoder_blocks else self._mixer_block
            x = block(x, f"blocks.{number}", last=number == blocks - 1)
        return self._batch(self._linear(self._norm(x, "final_norm"), "projector"), config.output)

    def _embed(self) -> str:
        """Rows of the token table plus positions."""
        g, text = self.g, self.text
        if not self.packed:
            vectors = g.reshape(self._table(g.reshape(text.ids, -1)), text.batch, text.length, self.config.width)
            positions = g.slice(self._constant("positions"), 0, self.config.context_length, 0)
            positions = g.node("Slice", positions, g.whole(0), text.length, g.whole(0))
            return g.reshape(g.node("Add", vectors, positions), -1, self.config.width)
        assert text.valid is not None  # noqa: S101 - so says `packed`
        ids = g.node("Gather", g.reshape(text.ids, -1), text.valid)
        places = g.node("Mod", text.valid, text.length)
        return g.node("Add", self._table(ids), g.node("Gather", self._constant("positions"), places))

    def _table(self, ids: str) -> str:
        """Vectors [T, C] of ids [T]."""
        g, config = self.g, self.config
        weight = self.tensors["token_table.weight"]
        columns = config.width if config.rank is None else config.rank
        if config.table == "float":
            x = g.node("Gather", g.constant(weight, "token_table.weight"), ids)
        else:
            scale = g.constant(self.tensors["token_table.scale"], "token_table.scale")
            packed = g.node("Gather", g.constant(weight, "token_table.weight"), ids)
            scales = g.node("Gather", scale, ids)
            if config.table == "int8":
                x = g.node("Mul", g.cast(packed, g.float), g.node("Unsqueeze", scales, g.whole(1)))
            else:
                x = self._unpack(packed, scales, columns)
        if config.rank is None:
            return x
        return g.node("MatMul", x, g.constant(self.tensors["token_table.up.weight"].T, "token_table.up.weight"))

    def _unpack(self, packed: str, scales: str, columns: int) -> str:
        """Vectors [T, C] of nibbles [T, C / 2], the low one first, and scales [T, groups]."""
        g = self.g
        low = g.node("BitwiseAnd", packed, g.constant(np.uint8(15)))
        high = g.node("BitShift", packed, g.constant(np.uint8(4)), direction="RIGHT")
        both = g.node("Concat", *(g.node("Unsqueeze", one, g.whole(2)) for one in (low, high)), axis=2)
        groups = self.tensors["token_table.scale"].shape[1]
        values = g.node("Sub", g.cast(both, g.float), g.constant(8.0))
        scaled = g.node(
            "Mul", g.reshape(values, -1, groups, columns // groups), g.node("Unsqueeze", scales, g.whole(2))
        )
        return g.reshape(scaled, -1, columns)

    def _mixer_block(self, x: str, name: str, *, last: bool) -> str:
        g = self.g
        x = self._convolve(x, f"{name}.mixer_folded")
        y = self._convolve(x, f"{name}.ffn_folded")
        if last:
            x, y = self._pack(x, y)
        return g.node("Add", x, g.node("Mul", self._feed_forward(y, name), self._constant(f"{name}.ffn_scale")))

    def _encoder_block(self, x: str, name: str, *, last: bool) -> str:
        g = self.g
        mixed = self._attend(self._norm(x, f"{name}.attention_norm"), f"{name}.qkv")
        if last:
            x, mixed = self._pack(x, mixed)
        x = g.node("Add", x, self._linear(mixed, f"{name}.out"))
        return g.node("Add", x, self._feed_forward(self._norm(x, f"{name}.ffn_norm"), name))

    def _attend(self, x: str, name: str) -> str:
        """Mixed values [rows, C] of normalized states."""
        g, width, heads = self.g, self.config.width, self.config.heads
        head = width // heads
        thirds = (slice(part * width, (part + 1) * width) for part in range(3))
        # The scores' factor is the query's: one product less.
        scales = (head**-0.5, 1.0, 1.0)
        query, key, value = (
            self._spread(self._linear(x, name, third, scale), heads, head)
            for third, scale in zip(thirds, scales, strict=True)
        )
        query, value = (g.node("Transpose", one, perm=[0, 2, 1, 3]) for one in (query, value))
        scores = g.node("MatMul", query, g.node("Transpose", key, perm=[0, 2, 3, 1]))
        if self.scores_bias is not None:
            scores = g.node("Add", scores, self.scores_bias)
        mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), value)
        return self._rows(g.node("Transpose", mixed, perm=[0, 2, 1, 3]), width)

    def _feed_forward(self, x: str, name: str) -> str:
        return self._linear(self.g.node("Gelu", self._linear(x, f"{name}.fc1")), f"{name}.fc2")

    def _convolve(self, x: str, name: str) -> str:
        """A depthwise convolution over the tokens, as one over a picture of one row, which is fast everywhere."""
        g, width = self.g, self.config.width
        batch = self._batch(x, width)
        if self.dense_mask is not None:
            batch = g.node("Where", self.dense_mask, batch, g.constant(0.0))
        picture = g.node("Transpose", g.node("Unsqueeze", batch, g.whole(1)), perm=[0, 3, 1, 2])
        taps = g.constant(self.tensors[f"{name}.weight"][:, :, None], f"{name}.weight")
        pads, shape = [0, KERNEL // 2, 0, KERNEL // 2], [1, KERNEL]
        bias = self._constant(f"{name}.bias")
        picture = g.node("Conv", picture, taps, bias, group=width, pads=pads, kernel_shape=shape)
        return self._rows(g.node("Transpose", picture, perm=[0, 2, 3, 1]), width)

    def _norm(self, x: str, name: str) -> str:
        weight, bias = self._constant(f"{name}.weight"), self._constant(f"{name}.bias")
        return self.g.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON)

    def _linear(self, x: str, name: str, part: slice = slice(None), factor: float = 1.0) -> str:
        """A part of a linear layer's outputs of rows [T, K], times a factor.

        One of whole numbers stands between a quantization and its reverse, which engines fuse.
        """
        g = self.g
        weight, bias = self.tensors[f"{name}.weight"][part], self.tensors[f"{name}.bias"][part] * np.float32(factor)
        label = name if part == slice(None) else f"{name}.{part.start}"
        if weight.dtype != np.int8:
            weights = g.constant(weight.T * weight.dtype.type(factor), f"{label}.weight")
            return g.node("Gemm", x, weights, g.constant(bias, f"{label}.bias"))
        scale = self.tensors[f"{name}.scale"][part].astype(np.float64) * factor
        # The zero points may be left out, but then ONNX Runtime fuses nothing. Each layer has its own: ONNX Runtime
        # makes them uint8 on processors where int8 overflows, and fails at the second layer that shares one.
        middle = g.constant(np.zeros(len(scale), dtype=np.int8), f"{label}.zero")
        whole = g.constant(weight.T, f"{label}.weight")
        weights = g.node("DequantizeLinear", whole, g.exact(scale), middle, axis=1)
        limits = self.tensors.get(f"{name}.input_range")
        if limits is None:
            return g.node("Gemm", x, weights, g.constant(bias, f"{label}.bias"))
        step, zero = activation_scale(limits)
        steps, zeros = g.exact(step), g.constant(np.uint8(zero))
        x = g.node("DequantizeLinear", g.node("QuantizeLinear", x, steps, zeros), steps, zeros)
        added = np.clip(np.round(bias / (step * scale)), -(2**31), 2**31 - 1).astype(np.int32)
        biases = g.node("DequantizeLinear", g.constant(added, f"{label}.bias"), g.exact(step * scale), axis=0)
        return g.node("Gemm", x, weights, biases)

    def _pack(self, *states: str) -> list[str]:
        """From here on nothing reads padding: states [rows, C] of all places become those of valid tokens."""
        valid, packed = self.text.valid, self.packed
        self.packed = valid is not None
        return list(states) if packed or valid is None else [self.g.node("Gather", one, valid) for one in states]

    def _batch(self, rows: str, width: int) -> str:
        """Rows as [B, L', width], zeros at padding where it is not computed."""
        g, text = self.g, self.text
        if self.packed and text.homes is not None:
            zero = g.constant(np.zeros((1, width), dtype=np.float32))
            rows = g.node("Gather", g.node("Concat", rows, zero, axis=0), text.homes)
        return g.reshape(rows, text.batch, text.length, width)

    def _spread(self, rows: str, *sizes: int) -> str:
        """Rows as [B, L', *sizes] where it does not matter what stands at padding: what another token has."""
        g, text = self.g, self.text
        if self.packed and text.valid is not None and text.homes is not None:
            last = g.node("Sub", g.size(text.valid, 0), g.whole(1))
            rows = g.node("Gather", rows, g.node("Min", text.homes, last))
        return g.reshape(rows, text.batch, text.length, *sizes)

    def _rows(self, batch: str, width: int) -> str:
        """A batch of any shape, tokens of a text side by side and its width last, as rows."""
        rows = self.g.reshape(batch, -1, width)
        return self.g.node("Gather", rows, self.text.valid) if self.packed and self.text.valid else rows

    def _constant(self, name: str) -> str:
        return self.g.constant(self.tensors[name], name)


def activation_scale(limits: Array) -> tuple[float, int]:
    """Step and zero point of activations [low, high] as uint8, in float32 as `QuantizedLinear` computes them."""
    low, high = limits.astype(np.float32)
    step = (high - low) / np.float32(255)
    return float(step), int(np.clip(np.round(-low / step), 0, 255))
