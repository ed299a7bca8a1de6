"""A workbench with the micro model in ONNX Runtime and two text encoders, and a scene as a file."""

from pathlib import Path

import pytest

pytest.importorskip("gradio")

from PIL import Image

from litetext.app.workbench import Workbench
from litetext.cli.app_command import open_bench
from litetext.micro.scenes import SceneOptions, make_scene

ASKED = "red car\ntruck\nwhite dog\nvehicle on the left"


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return open_bench("micro", None, tmp_path_factory.mktemp("given"), threads=1)


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(make_scene(187, SceneOptions(split="test")).pixels).save(path)
    return path
