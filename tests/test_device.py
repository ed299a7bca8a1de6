"""Devices are chosen by name or by what is there, and refused in one line; CUDA and MPS are played by fakes."""

import sys
from typing import Any

import pytest

from litetext import device
from litetext.device import (
    choose_device,
    choose_dtype,
    choose_share,
    collective_backend,
)
from litetext.errors import MissingExtraError, OptionError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
@pytest.mark.parametrize("name", [None, "auto"])
def test_auto_takes_the_best_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: bool, expected: str, name: str | None
) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda", "cuda:1"])
def test_a_named_device_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch, cuda=2, mps=True)
    assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "cpu:1"])
def test_an_absent_device_is_refused_with_what_is_there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pretend(monkeypatch)
    with pytest.raises(OptionError) as caught:
        choose_device(name)
    assert str(caught.value) == f"the device '{name}' is not available; PyTorch finds here: cpu"


def test_a_graphics_card_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=1)
    with pytest.raises(OptionError, match="'cuda:1' is not available; PyTorch finds here: cuda, cpu"):
        choose_device("cuda:1")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "meta", "cuda:", "cuda:x", "cuda:-1"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="unknown device"):
        choose_device(name)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'litetext\[sam3\]'"):
        choose_device("cpu")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.float32),
        ("float32", torch.float32),
        ("bf16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("fp16", torch.float16),
        ("float16", torch.float16),
    ],
)
def test_number_types_by_name(name: str | None, expected: Any) -> None:
    assert choose_dtype(name, torch.device("cpu")) is expected


def test_an_unknown_number_type_is_refused() -> None:
    with pytest.raises(OptionError, match="'int8'"):
        choose_dtype("int8", torch.device("cpu"))


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_needs_a_card_that_computes_in_it(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    card = torch.device("cuda")
    if supported:
        assert choose_dtype("bfloat16", card) is torch.bfloat16
    else:
        with pytest.raises(OptionError, match="'cuda' does not compute in bfloat16; give float32 or float16"):
            choose_dtype("bfloat16", card)


@pytest.mark.torch
def test_pytorchs_own_device_and_number_type_will_do() -> None:
    torch = pytest.importorskip("torch")
    cpu = choose_device(torch.device("cpu"))
    assert cpu == torch.device("cpu")
    assert choose_dtype(torch.bfloat16, cpu) is choose_dtype("bf16", cpu) is torch.bfloat16
    assert choose_dtype("fp32", cpu) is torch.float32
    with pytest.raises(OptionError, match="'int8'"):
        choose_dtype(torch.int8, cpu)


def test_processes_of_one_machine_have_a_graphics_card_each(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    assert [str(choose_share(None, number)) for number in (0, 1)] == ["cuda:0", "cuda:1"]
    assert str(choose_share("cuda:1", 0)) == "cuda:1"
    assert collective_backend(torch.device("cuda:1")) == "nccl"
    with pytest.raises(OptionError, match="'cuda:2' is not available"):
        choose_share("cuda", 2)
    pretend(monkeypatch)
    assert choose_share(None, 1) == torch.device("cpu")
    assert collective_backend(torch.device("cpu")) == "gloo"


@pytest.mark.parametrize(
    ("flags", "overflows"),
    [
        ("fpu avx2", True),
        ("avx2 avx512f", True),
        ("avx2 avx512f avx512_vnni", False),
        ("avx2 avx_vnni", False),
        ("", False),
    ],
)
def test_int8_overflows_on_x86_without_vnni(monkeypatch: pytest.MonkeyPatch, flags: str, overflows: bool) -> None:
    monkeypatch.setattr(device, "_processor", lambda: {"flags": flags})
    assert device.int8_overflows() is overflows
