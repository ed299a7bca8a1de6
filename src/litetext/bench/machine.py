"""The machine that figures are measured on, and how fast it multiplies matrices."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("litetext", "numpy", "tokenizers", "torch", "transformers", "onnxruntime", "openvino")
FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)
SIDE = 1024  # of the square matrices: they fit the caches, as a student's do
SECONDS = 0.5


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and versions of what is measured."""
    info = _cpu_info()
    flags = set(info.get("flags", info.get("Features", "")).split())
    board = Path("/proc/device-tree/model")  # of a Raspberry Pi and the like
    name = board.read_text(encoding="utf-8").rstrip("\0") if board.exists() else info.get("model name")
    return {
        "cpu": name or platform.processor() or platform.machine(),
        "features": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_mb": _memory_mb(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def matrix_speed(threads: int) -> dict[str, Any]:
    """The most GFLOP/s of products of square matrices: PyTorch's in float32 and bfloat16, else NumPy's in float32."""
    try:
        import torch
    except ImportError:
        matrix = np.ones((SIDE, SIDE), dtype=np.float32)
        return {"fp32": _best(lambda: matrix @ matrix), "bf16": None, "by": "numpy.matmul"}
    torch.set_num_threads(threads)
    found: dict[str, Any] = {"by": "torch.mm"}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        one = torch.ones(SIDE, SIDE, dtype=kind)
        found[name] = _best(lambda one=one: torch.mm(one, one))  # type: ignore[misc]
    return found


def _best(multiply: Callable[[], Any]) -> float:
    """GFLOP/s of the fastest of the products that half a second allows."""
    multiply()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < end:
        multiply()
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def _cpu_info() -> dict[str, str]:
    """What /proc/cpuinfo says of the first core; empty where there is no such file."""
    file = Path("/proc/cpuinfo")
    first = file.read_text(encoding="utf-8").split("\n\n", 1)[0] if file.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory_mb() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= names.keys():
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
