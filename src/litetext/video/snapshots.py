"""Where a tracker is, as a file of safetensors: values, arrays and tensors in dicts and lists; nothing is executed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from litetext.storage import atomic_file

_STATE = "state"
_Arrays = dict[str, npt.NDArray[Any]]


def write_snapshot(path: Path, state: dict[str, Any]) -> None:
    """Write a state; keys of dicts are strings or numbers, and tuples become lists."""
    arrays: _Arrays = {}
    tree = json.dumps(_packed(state, arrays))
    with atomic_file(path) as file:
        file.write(save(arrays, metadata={_STATE: tree}))


def read_snapshot(path: Path) -> dict[str, Any]:
    """What `write_snapshot` wrote, tensors on the CPU; empty where there is no such file, or a damaged one."""
    try:
        with safe_open(path, framework="numpy") as file:
            tree = json.loads((file.metadata() or {})[_STATE])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        return dict(_unpacked(tree, arrays))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError):
        return {}


def _packed(value: Any, arrays: _Arrays) -> Any:
    if isinstance(value, dict):
        return {"dict": [[key, _packed(one, arrays)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(one, arrays) for one in value]
    if isinstance(value, np.ndarray):
        arrays[name := str(len(arrays))] = np.ascontiguousarray(value)
        return {"array": name}
    if type(value).__module__ == "torch":  # a tensor; NumPy has no bfloat16, so that its bytes are kept
        import torch

        whole = value.detach().cpu().contiguous()
        arrays[name := str(len(arrays))] = whole.flatten().view(torch.uint8).numpy()
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    return value


def _unpacked(value: Any, arrays: _Arrays) -> Any:
    if isinstance(value, list):
        return [_unpacked(one, arrays) for one in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: _unpacked(one, arrays) for key, one in value["dict"]}
    if "array" in value:
        return arrays[value["array"]]
    import torch

    found = torch.empty(value["shape"], dtype=getattr(torch, value["dtype"]))
    found.view(-1).view(torch.uint8)[:] = torch.from_numpy(arrays[value["tensor"]])
    return found
