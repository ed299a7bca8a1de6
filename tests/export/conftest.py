"""The micro model as PyTorch and as programs, once a session."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def segmenter() -> Any:
    """The micro model in PyTorch, with its own text encoder."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from litetext.sam3.segmenter import Segmenter

    return Segmenter.from_pretrained("micro", device="cpu")


@pytest.fixture(scope="session")
def exported(segmenter: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its programs."""
    pytest.importorskip("onnx")
    from litetext.export.segment_exporter import export_segmenter

    folder = tmp_path_factory.mktemp("segmenter") / "micro"
    export_segmenter(segmenter, folder, ["red car"], name="micro")
    return folder
