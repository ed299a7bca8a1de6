"""A Core ML package computed by NumPy, as far as our programs go: what can be checked of it without a Mac.

It reads the file that was written (weights and all) and computes each operation as Apple's reference of the Model
Intermediate Language defines it; numbers that the program has in float16 are rounded to float16 after each.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.converters.mil.mil import types
from scipy.special import erf, softmax

Array = np.ndarray


class NumpyModel:
    """Stands in for coremltools' `MLModel`: ``get_spec`` and ``predict``."""

    def __init__(self, path: Path) -> None:
        model = coremltools.models.MLModel(str(path), skip_model_load=True)
        self.metadata = dict(model.user_defined_metadata)
        self._spec = model.get_spec()
        program = load(self._spec, self._spec.specificationVersion, model.weights_dir)
        self._block = program.functions["main"]

    def get_spec(self) -> Any:
        return self._spec

    def predict(self, inputs: dict[str, Array]) -> dict[str, Array]:
        known: dict[Any, Any] = {var: inputs[name] for name, var in self._block.inputs.items()}
        for name, var in self._block.inputs.items():
            assert inputs[name].dtype == np.int32
            assert inputs[name].shape == tuple(var.shape)

        def value(var: Any) -> Any:
            if isinstance(var, list | tuple):
                return [value(one) for one in var]
            return known.get(var, var.val)

        for op in self._block.operations:
            if op.op_type == "const":
                continue
            if op.op_type.startswith("constexpr"):
                known[op.outputs[0]] = op.materialized_val_inference()
                continue
            found = OPERATIONS[op.op_type](**{name: value(var) for name, var in op.inputs.items()})
            for var, array in zip(op.outputs, found if isinstance(found, list) else [found], strict=True):
                assert array.shape == tuple(var.shape), op
                known[var] = array.astype(types.nptype_from_builtin(var.dtype))
        return {var.name: known[var] for var in self._block.outputs}


def _gather(*, x: Array, indices: Array, axis: int, batch_dims: int = 0, validate_indices: bool = False) -> Array:
    assert batch_dims == 0
    assert indices.min() >= 0
    assert indices.max() < x.shape[axis], "read beyond the table"
    return np.take(x, indices, axis=axis)


def _slice(
    *, x: Array, begin: Array, end: Array, stride: Any = None, begin_mask: Any = None, end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:  # fmt: skip
    assert stride is None
    assert squeeze_mask is None
    skipped = [False] * x.ndim if begin_mask is None else begin_mask
    opened = [False] * x.ndim if end_mask is None else end_mask
    bounds = zip(begin, end, skipped, opened, strict=True)
    return x[tuple(slice(None if skip else first, None if open_ else last) for first, last, skip, open_ in bounds)]


def _conv(
    *, x: Array, weight: Array, bias: Array, strides: Any, pad_type: str, pad: Any, dilations: Any, groups: int
) -> Array:
    assert (pad_type, list(strides), list(dilations), groups) == ("custom", [1], [1], x.shape[1])
    wide = np.pad(_float(x), ((0, 0), (0, 0), tuple(pad)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, weight.shape[2], axis=2)
    return np.einsum("bclk,ck->bcl", windows, _float(weight[:, 0])) + bias[:, None]


def _layer_norm(*, x: Array, axes: Any, gamma: Array, beta: Array, epsilon: float) -> Array:
    assert list(axes) == [-1]
    exact = _float(x)
    centred = exact - exact.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def _matmul(*, x: Array, y: Array, transpose_x: bool, transpose_y: bool) -> Array:
    one, other = (
        np.swapaxes(a, -1, -2) if swap else a for a, swap in ((_float(x), transpose_x), (_float(y), transpose_y))
    )
    return one @ other


def _pad(*, x: Array, pad: Array, mode: str, constant_val: Any) -> Array:
    assert mode == "constant"
    sides = np.reshape(pad, (-1, 2))
    return np.pad(x, [(0, 0)] * (x.ndim - len(sides)) + sides.tolist(), constant_values=constant_val)


def _gelu(*, x: Array, mode: str) -> Array:
    assert mode == "EXACT"
    return _float(x) * 0.5 * (1 + erf(_float(x) / np.sqrt(2)))


def _float(x: Array) -> Array:
    return x.astype(np.float32)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *, x, y: x + y,
    "cast": lambda *, x, dtype: x.astype(
        {"int32": np.int32, "bool": np.bool_}.get(dtype, dtype.replace("fp", "float"))
    ),
    "clip": lambda *, x, alpha, beta: np.clip(x, alpha, beta),
    "concat": lambda *, values, axis, interleave=False: np.concatenate(values, axis),
    "conv": _conv,
    "expand_dims": lambda *, x, axes: np.expand_dims(x, tuple(axes)),
    "gather": _gather,
    "gelu": _gelu,
    "greater_equal": lambda *, x, y: x >= y,
    "layer_norm": _layer_norm,
    "less": lambda *, x, y: x < y,
    "linear": lambda *, x, weight, bias: _float(x) @ _float(weight).T + bias,
    "logical_not": lambda *, x: ~x,
    "logical_or": lambda *, x, y: x | y,
    "matmul": _matmul,
    "mul": lambda *, x, y: x * y,
    "not_equal": lambda *, x, y: x != y,
    "pad": _pad,
    "reduce_max": lambda *, x, axes, keep_dims: x.max(axis=tuple(axes), keepdims=bool(keep_dims)),
    "reshape": lambda *, x, shape: x.reshape(shape),
    "select": lambda *, cond, a, b: np.where(cond, a, b),
    "slice_by_index": _slice,
    "softmax": lambda *, x, axis: softmax(_float(x), axis=axis),
    "split": lambda *, x, split_sizes, axis: np.split(x, np.cumsum(split_sizes)[:-1], axis=axis),
    "squeeze": lambda *, x, axes: np.squeeze(x, tuple(axes)),
    "sub": lambda *, x, y: x - y,
    "transpose": lambda *, x, perm: np.transpose(x, perm),
}
