"""Devices: the only file that says "cuda" or "mps". Choose one, wait for it, ask for its peak memory."""

from typing import TYPE_CHECKING

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


def choose_device(device: "str | torch.device | None" = None) -> "torch.device":
    """The device called so; for None or "auto" the first that is there of CUDA, MPS and the CPU.

    Args:
        device: "auto", "cpu", "mps", "cuda" or "cuda:N", or PyTorch's own device.

    Raises:
        OptionError: no such device, or it is not available here.
        MissingExtraError: PyTorch is not installed.
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
        raise OptionError(f"no device is called '{name}'", hint="give auto, cpu, mps, cuda or cuda:N")
    if int(index or 0) >= counts[kind]:
        here = ", ".join(kind for kind, count in counts.items() if count)
        raise OptionError(f"the device '{name}' is not available", hint=f"PyTorch finds here: {here}")
    return torch.device(name)


def choose_dtype(dtype: "str | torch.dtype | None", device: "torch.device") -> "torch.dtype":
    """The number type called so (a key of `DTYPES`, or PyTorch's own type); for None or "auto" float32.

    Raises:
        OptionError: no such type, or the device does not compute in it.
    """
    import torch

    name = "auto" if dtype is None else str(dtype).removeprefix("torch.")
    if name == "auto":
        # Features are measured: in half precision the rounding would be measured with them.
        return torch.float32
    if name not in DTYPES:
        raise OptionError(f"no number type is called '{name}'", hint=f"give auto, {', '.join(DTYPES)}")
    chosen: torch.dtype = getattr(torch, DTYPES[name])
    if (
        chosen is torch.bfloat16
        and device.type == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise OptionError(f"the device '{device}' does not compute in bfloat16", hint="give float32 or float16")
    return chosen


def choose_share(device: "str | torch.device | None", number: int) -> "torch.device":
    """The device of one of several processes on a machine: each has a CUDA device of its own, or all share another.

    Args:
        device: as `choose_device` takes it; an index that is said is kept.
        number: of the process on this machine, from 0.

    Raises:
        OptionError: as `choose_device` raises it, as where there are more processes than CUDA devices.
    """
    chosen = choose_device(device)
    return choose_device(f"cuda:{number}") if chosen.type == "cuda" and chosen.index is None else chosen


def collective_backend(device: "torch.device") -> str:
    """What several processes talk by, in words of `torch.distributed`."""
    return "nccl" if device.type == "cuda" else "gloo"


def synchronize(device: "torch.device") -> None:
    """Wait until the device has done what was asked of it, so that a clock read afterwards tells the truth."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory(device: "torch.device") -> int | None:
    """The most bytes that tensors held at once on this device so far; None where nobody counts them."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
