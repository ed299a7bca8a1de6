"""Devices: the only file that says "cuda" or "mps"; and the machine: its processor, its versions, memory in use."""

import ctypes
import gc
import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    import torch

DTYPES = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
}

PACKAGES = ("litetext", "numpy", "tokenizers", "torch", "transformers", "onnxruntime", "openvino")
CPU_FLAGS = {
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm",
}  # fmt: skip


def choose_device(device: "str | torch.device | None" = None) -> "torch.device":
    """A device by its name ("cpu", "mps", "cuda", "cuda:N") or PyTorch's own.

    None and "auto" mean the first that is there of CUDA, MPS and the CPU.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("a device to compute on", "sam3") from error
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    name = "auto" if device is None else str(device)
    if name == "auto":
        return torch.device(next(kind for kind, count in counts.items() if count))
    kind, _, index = name.partition(":")
    if kind not in counts or (":" in name and not index.isdecimal()):
        raise OptionError(f"unknown device '{name}'", hint="give auto, cpu, mps, cuda or cuda:N")
    if int(index or 0) >= counts[kind]:
        here = ", ".join(kind for kind, count in counts.items() if count)
        raise OptionError(f"the device '{name}' is not available", hint=f"PyTorch finds here: {here}")
    return torch.device(name)


def choose_dtype(dtype: "str | torch.dtype | None", device: "torch.device") -> "torch.dtype":
    """A dtype by its name (a key of `DTYPES`) or PyTorch's own; for None or "auto" float32."""
    import torch

    name = "auto" if dtype is None else str(dtype).removeprefix("torch.")
    if name == "auto":
        # Features are measured: in half precision the rounding would be measured with them.
        return torch.float32
    if name not in DTYPES:
        raise OptionError(f"unknown dtype '{name}'", hint=f"give auto, {', '.join(DTYPES)}")
    chosen: torch.dtype = getattr(torch, DTYPES[name])
    if (
        chosen is torch.bfloat16
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise OptionError(f"the device '{device}' does not compute in bfloat16", hint="give float32 or float16")
    return chosen


def choose_share(device: "str | torch.device | None", local_rank: int) -> "torch.device":
    """The device of one of several processes on a machine: each has a CUDA device of its own, or all share another.

    The processes of this machine are counted from 0 (``local_rank``). An index in the device is kept. More processes
    than CUDA devices are an `OptionError`.
    """
    chosen = choose_device(device)
    return choose_device(f"cuda:{local_rank}") if chosen.type == "cuda" and chosen.index is None else chosen


def collective_backend(device: "torch.device") -> str:
    """The backend of `torch.distributed` for processes on such devices."""
    return "nccl" if device.type == "cuda" else "gloo"


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, load, and versions of what is measured."""
    info = _processor()
    board = Path("/proc/device-tree/model")  # of a Raspberry Pi and the like
    name = board.read_text(encoding="utf-8").rstrip("\0") if board.exists() else info.get("model name")
    sizes = {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= getattr(os, "sysconf_names", {}).keys()
    installed = {package.metadata["Name"]: package.version for package in distributions()}
    return {
        "cpu": name or platform.processor() or platform.machine(),
        "features": cpu_features(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6 if sizes else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: installed[package] for package in PACKAGES if package in installed},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def cpu_features() -> list[str]:
    """Which of `CPU_FLAGS` the processor has; none where the system does not say."""
    info = _processor()
    return sorted(CPU_FLAGS & set(info.get("flags", info.get("Features", "")).split()))


def int8_overflows() -> bool:
    """Whether engines add int8 products in 16 bits here, which overflow: AVX2 or AVX-512 without VNNI."""
    features = set(cpu_features())
    return "avx2" in features and not features & {"avx512_vnni", "avx_vnni"}


def _processor() -> dict[str, str]:
    """What the system says of the first core."""
    file = Path("/proc/cpuinfo")
    first = file.read_text(encoding="utf-8").split("\n\n", 1)[0] if file.exists() else ""
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident_bytes(*, trim: bool = False) -> int | None:
    """Resident memory after a collection of garbage; None where the system does not say it (Linux does).

    Pages of a mapped file count from the moment when they are first touched. ``trim`` gives freed memory back to the
    system first, so that nothing that is loaded next hides in it (glibc).
    """
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    gc.collect()
    if trim and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
