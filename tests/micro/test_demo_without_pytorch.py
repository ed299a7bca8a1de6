"""The demonstration where PyTorch is not installed: the same page with the student of the package."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from litetext.errors import MissingExtraError
from litetext.micro import demo
from litetext.micro.demo import DemoOptions, run_demo

OPTIONS = DemoOptions(pictures=1, size=160, pairs=6, plots=("crossing",), frames=8)


@pytest.fixture(params=["torch", "transformers"])
def missing(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """One of the two packages that the live part needs is not installed."""
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == request.param else find_spec(name))
    return str(request.param)


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize("missing", ["transformers"], indirect=True)
def test_the_page_shows_the_student_of_the_package(tmp_path: Path) -> None:
    stages: list[str] = []
    report = run_demo(tmp_path, OPTIONS, lambda stage, _: stages.append(stage))
    page = report.page.read_text("utf-8")
    for link in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert (tmp_path / link).is_file(), link
    assert "pip install 'litetext[sam3]'" in page
    assert "distilled just now" not in page
    assert "student/" not in page
    assert "--student micro-student" in page
    assert report.distilled is None
    assert [one.name for one in report.contestants] == ["its own text encoder", "student of the package"]
    assert [one.parameters for one in report.contestants] == [5_209_216, 570_912]
    assert [one.name for one in report.followed] == ["its own text encoder", "student of the package"]
    assert json.loads((tmp_path / "scores.json").read_text("utf-8"))["students"][0]["name"] == "student of the package"
    with Image.open(tmp_path / report.clips[0][1]) as animation:
        assert animation.n_frames == 8
    assert stages[-1] == "scoring: student of the package"


@pytest.mark.usefixtures("missing")
def test_another_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"another model than micro needs the extra 'sam3'"):
        run_demo(tmp_path / "demo", DemoOptions(model="facebook/sam3"), lambda *_: None)
    assert not (tmp_path / "demo").exists()
