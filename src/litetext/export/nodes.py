"""An ONNX graph that is written node by node: constants are kept once, names are made up, nothing is guessed."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from litetext.export.targets.target import Precision

OPSET = 20  # the first with an exact GELU; ONNX Runtime 1.17 and OpenVINO 2024 read it
IR_VERSION = 9  # what goes with it
_SMALL = 1 << 12  # bytes of a constant that is looked up before it is stored again

Type = Literal["float32", "float16", "int64", "int32", "bool", "uint8"]
TYPES: dict[Type, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
}


class GraphBuilder:
    """Collects the nodes and constants of a graph. Values are named by strings.

    Args:
        precision: in which floating constants are stored, and the graph computes ("int8" has float32 around it).
    """

    def __init__(self, precision: Precision) -> None:
        self.float: Type = "float16" if precision == "fp16" else "float32"
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._computed: dict[str, str] = {}

    def constant(self, value: npt.ArrayLike, name: str = "") -> str:
        """The name of a constant; floating point becomes the graph's number type."""
        array = np.asarray(value)
        return self._store(array.astype(self.float) if array.dtype.kind == "f" else array, name)

    def exact(self, value: npt.ArrayLike) -> str:
        """The name of a float32 constant, whatever the graph's number type."""
        return self._store(np.asarray(value, dtype=np.float32), "")

    def _store(self, array: npt.NDArray[Any], name: str) -> str:
        """The name of a constant that is kept as it is; a small one that is known is not kept again."""
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= _SMALL else None
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

    def cast(self, value: str, kind: Type, output: str = "") -> str:
        """A value in another number type."""
        return self.node("Cast", value, output=output, to=TYPES[kind])

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
        from onnx import checker

        graph = helper.make_graph(self._nodes, "litetext", inputs, outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="litetext")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, notes)
        checker.check_model(model)
        return model
