"""Layers of a transformer as ONNX nodes, with weights that stand in the graph or are named by their checkpoint's keys.

States between layers are batches [B, N, C] or rows [T, C]; linear layers see rows, so that each is one `Gemm` that
reads the weight as PyTorch stores it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper, shape_inference

from litetext.errors import EncoderError
from litetext.export.graphs.external_weights import CODES, NOWHERE
from litetext.export.graphs.text_graph import IR_VERSION, OPSET, GraphBuilder

Array = npt.NDArray[Any]
Attention = Literal["fused", "standard"]
Ports = list[tuple[str, int, Sequence[int | str]]]
"""Name, dtype and shape of inputs or outputs."""
Store = Callable[[str], TensorProto]
"""Gives the initialiser of a key; its dtype may be one that is not computed in."""

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators
# The score of a token that is not to be read: ONNX Runtime's own value for it. Its weight is exactly zero.
NO_SCORE = -10000.0
EPSILON = 1e-5  # of norms that say nothing else, as PyTorch has it
ACTIVATIONS = {"gelu": "Gelu", "relu": "Relu"}  # Hugging Face's name, and the operator
INLINE = 1024  # bytes of a weight that stands in the graph itself
TEMPERATURE = 10000.0  # of every sine code


def own_weights(values: Mapping[str, Any], dtype: Literal["float32", "float16"]) -> Store:
    """Initialisers of the values of a ``state_dict``, stored in a dtype by NumPy's name.

    Large ones are without values, as external data: gigabytes are copied when they are written, and not before.
    """
    code = CODES["F32" if dtype == "float32" else "F16"]

    def store(key: str) -> TensorProto:
        value = values[key]
        if value.numel() * np.dtype(dtype).itemsize < INLINE:
            return numpy_helper.from_array(value.detach().cpu().float().numpy().astype(dtype), key)
        tensor = TensorProto(name=key, data_type=code, dims=tuple(value.shape), data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=NOWHERE)
        return tensor

    return store


class Turns(NamedTuple):
    """What `LayerGraph.rotate` turns numbers by."""

    cosines: str  # float32 [S, C / heads / 2]
    sines: str  # as cosines
    places: str  # int64 [B, S], 0, 1, ... in each row; OpenVINO misreads the shorter forms that ONNX Runtime knows


class LayerGraph(GraphBuilder):
    """Collects nodes of a graph that computes in float32; weights are named by their keys.

    Args:
        store: of the weights.
        attention: "fused" in ONNX Runtime's own operators, or "standard".
        int8: gives a weight's values, float32; linear layers then multiply whole numbers, to which their inputs are
            rounded as they come. None: they multiply what is stored.
    """

    def __init__(self, store: Store, attention: Attention, *, int8: Callable[[str], Array] | None = None) -> None:
        super().__init__("fp32")
        self._store_weight, self._fused, self._int8 = store, attention == "fused", int8
        self._rounded: dict[str, tuple[str, str, str]] = {}  # of rows: whole numbers, their step and zero point
        self.weights: dict[str, TensorProto] = {}

    def weight(self, key: str) -> str:
        """A weight in float32."""
        name = self.stored(key)
        return name if self.weights[key].data_type == TensorProto.FLOAT else self.cast(name, "float32")

    def stored(self, key: str) -> str:
        """A weight in the dtype that it is stored in."""
        if key not in self.weights:
            self.weights[key] = self._store_weight(key)
            self._constants.append(self.weights[key])
        return key

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a weight."""
        self.stored(key)
        return tuple(self.weights[key].dims)

    def linear(self, x: str, name: str) -> str:
        """Rows [T, K] or any batch of them -> rows [T, M]."""
        if self._int8 is not None:
            return self._linear_int8(x, name, self._int8(f"{name}.weight").T)
        rows = self.reshape(x, -1, self.shape(f"{name}.weight")[1])
        return self.node("Gemm", rows, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def _linear_int8(self, x: str, name: str, values: Array) -> str:
        """The product of inputs in uint8, one step for all, and a weight [K, M] in int8, a step for each output."""
        steps = np.abs(values).max(axis=0, initial=np.finfo(np.float32).tiny) / np.float32(127)
        weight = self.constant(np.round(values / steps).astype(np.int8), f"{name}.weight")
        rows = self.reshape(x, -1, len(values))
        if rows not in self._rounded:
            whole, step, zero = (f"{rows}.{part}" for part in ("whole", "step", "zero"))
            self._nodes.append(helper.make_node("DynamicQuantizeLinear", [rows], [whole, step, zero]))
            self._rounded[rows] = whole, step, zero
        whole, step, zero = self._rounded[rows]
        product = self.cast(self.node("MatMulInteger", whole, weight, zero), "float32")
        scale = self.node("Mul", step, self.constant(steps, f"{name}.scale"))
        return self.node("Add", self.node("Mul", product, scale), self.weight(f"{name}.bias"))

    def mlp(self, x: str, *names: str, activation: str = "Relu") -> str:
        """Linear layers with activations between them, on rows."""
        for number, name in enumerate(names):
            x = self.linear(self.node(activation, x) if number else x, name)
        return x

    def feed_forward(self, x: str, name: str, activation: str) -> str:
        """The two linear layers of a transformer's layer, with Hugging Face's name of the activation."""
        if activation not in ACTIVATIONS:
            raise EncoderError(f"the activation '{activation}'", hint=f"only {', '.join(ACTIVATIONS)} are written")
        return self.mlp(x, f"{name}.mlp.fc1", f"{name}.mlp.fc2", activation=ACTIVATIONS[activation])

    def norm(self, x: str, name: str, epsilon: float = EPSILON) -> str:
        """The norm of the last axis."""
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def convolve(self, x: str, name: str, kind: str = "Conv", **attributes: Any) -> str:
        """A convolution [B, K, H, W] -> [B, M, H', W']."""
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node(kind, x, weight, bias, kernel_shape=self.shape(f"{name}.weight")[2:], **attributes)

    def attend(
        self, query: str, key: str, value: str, heads: int, *, valid: str = "", bias: str = "", causal: bool = False
    ) -> str:
        """Attention of batches [B, S, C], [B, L, C] and [B, L, C] -> [B, S, C].

        Args:
            query: has its heads side by side in C, as have keys and values.
            key: see ``query``.
            value: see ``query``.
            heads: number of them.
            valid: int32 [B, L], 0 where a token is not to be read.
            bias: added to the scores, [B or 1, heads, S, L].
            causal: whether a token reads only those before it, and itself.
        """
        if self._fused:
            optional = [query, key, value, "", valid, bias]
            while not optional[-1]:
                optional.pop()
            settings: dict[str, Any] = {"num_heads": heads} | ({"unidirectional": 1} if causal else {})
            return self.node("MultiHeadAttention", *optional, domain=MICROSOFT, **settings)
        return self._attend_plainly(query, key, value, heads, self._bias(key, valid, bias, causal=causal))

    def _bias(self, key: str, valid: str, bias: str, *, causal: bool) -> str:
        """What is added to scores [B, heads, S, L]; empty for nothing."""
        if valid:
            seen = self.node("Unsqueeze", self.cast(valid, "bool"), self.whole(1, 2))
            return self.node("Where", seen, self.constant(0.0), self.constant(NO_SCORE))
        if causal:
            places = self.count(self.size(key, 1))
            later = self.node("Greater", places, self.node("Unsqueeze", places, self.whole(1)))
            return self.node("Where", later, self.constant(NO_SCORE), self.constant(0.0))
        return bias

    def _attend_plainly(self, query: str, key: str, value: str, heads: int, bias: str) -> str:
        """Attention as products and a softmax."""
        split = [self.reshape(one, 0, 0, heads, -1) for one in (query, key, value)]
        perms = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        query, key, value = (self.node("Transpose", one, perm=perm) for one, perm in zip(split, perms, strict=True))
        scores = self.node("Mul", self.node("MatMul", query, key), self._scale(split[0]))
        if bias:
            scores = self.node("Add", scores, bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        joined = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.reshape(joined, 0, 0, -1)

    def _scale(self, split: str) -> str:
        """1 over the root of a head's width, of queries [B, S, heads, width]."""
        return self.node("Reciprocal", self.node("Sqrt", self.cast(self.size(split, 3), "float32")))

    def count(self, end: str) -> str:
        """0, 1, ... of int64 [n], where the end is int64 [1]."""
        zero, end, one = (self.node("Squeeze", value) for value in (self.whole(0), end, self.whole(1)))
        return self.node("Range", zero, end, one)

    def rotate(self, x: str, turns: Turns, heads: int) -> str:
        """Rotary position embedding of neighbouring pairs of a head's numbers, in batches [B, S, C].

        Only products of two that were both rotated here mean anything: the plain form leaves each head's numbers in
        another order, the first of all pairs first, which spares it a step.
        """
        if self._fused:
            inputs = (x, turns.places, turns.cosines, turns.sines)
            return self.node("RotaryEmbedding", *inputs, domain=MICROSOFT, interleaved=1)
        pairs = self.reshape(x, 0, 0, heads, -1, 2)
        ends = (self.whole(0), self.whole(1), self.whole(2))
        a = self.node("Squeeze", self.node("Slice", pairs, ends[0], ends[1], self.whole(4)), self.whole(4))
        b = self.node("Squeeze", self.node("Slice", pairs, ends[1], ends[2], self.whole(4)), self.whole(4))
        cos, sin = (self.node("Unsqueeze", one, self.whole(1)) for one in (turns.cosines, turns.sines))
        first = self.node("Sub", self.node("Mul", a, cos), self.node("Mul", b, sin))
        second = self.node("Add", self.node("Mul", a, sin), self.node("Mul", b, cos))
        return self.reshape(self.node("Concat", first, second, axis=-1), 0, 0, -1)

    def finish(self, name: str, inputs: Ports, outputs: Ports) -> ModelProto:
        """The whole as a model, checked, with the shapes of what is computed: engines open it faster with them."""
        ins, outs = ([helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs))
        domains = {"": OPSET} | ({MICROSOFT: 1} if self._fused else {})
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]

        def model(ins: list[ValueInfoProto], constants: list[TensorProto]) -> ModelProto:
            graph = helper.make_graph(self._nodes, name, ins, outs, constants)
            made = helper.make_model(graph, opset_imports=opsets, producer_name="litetext")
            made.ir_version = IR_VERSION
            return made

        # The checker looks for the files of external data, which there are none of yet: weights are checked as inputs.
        given = [helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in self.weights.values()]
        checker.check_model(model([*ins, *given], [one for one in self._constants if one.name not in self.weights]))
        return shape_inference.infer_shapes(model(ins, self._constants))


def sine_table(places: Array, count: int) -> Array:
    """Sines and cosines in turn, ``count`` for each place: float32 [n, count]."""
    angles = places.astype(np.float32)[:, None] / wave_lengths(count)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(places), count)


def wave_lengths(count: int) -> Array:
    """float32 [count / 2]."""
    exponents = np.arange(0, count, 2, dtype=np.float32) / np.float32(count)
    lengths: npt.NDArray[np.float32] = np.float32(TEMPERATURE) ** exponents
    return lengths
