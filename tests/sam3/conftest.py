"""Tiny hosts, saved as folders once a session, and encoders of their width."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.auditing.fakes import FakeEncoder
from tests.sam3.hosts import WIDTH, build, save


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the hub out of reach. Its client reads the variable only once, when it is imported."""
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on two threads, much slower when another process wants the cores too."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def host_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return save(build("sam3"), tmp_path_factory.mktemp("hosts") / "sam3")


@pytest.fixture(scope="session")
def lite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return save(build("sam3_lite_text"), tmp_path_factory.mktemp("hosts") / "lite")


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return save(build("sam3_video"), tmp_path_factory.mktemp("hosts") / "video")


@pytest.fixture
def host(host_folder: Path) -> Any:
    """A fresh `Sam3Model` with its own tower."""
    from tests.sam3.runs import fresh

    return fresh(host_folder)


@pytest.fixture
def fake() -> FakeEncoder:
    """Tells words apart, and pads with NaN."""
    return FakeEncoder(whole=False, width=WIDTH)


@pytest.fixture(scope="session")
def photo() -> npt.NDArray[np.uint8]:
    """Noise of 90 x 70 pixels."""
    return np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def coco(data_folder: Path) -> dict[str, Any]:
    """33 real photographs with their masks."""
    return json.loads((data_folder / "coco33" / "instances.json").read_text(encoding="utf-8"))
