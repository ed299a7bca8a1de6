"""A real clip and the micro model: killed twice at any point, the same run gives the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("av")

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize("method", ["association", "tracker"])
def test_killed_twice_it_gives_the_same_bytes(tmp_path: Path, method: str) -> None:
    arguments = [sys.executable, "-m", "tests.video.killing", str(tmp_path), method]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    told = json.loads(done.stdout)
    assert told["files"] == ["counts.csv", "masklets.json", "overlay.mp4", "overlay.webp", "tracks.csv"]
    assert told["masklets"]
    for run in told["runs"]:
        assert run["killed"] == [True, True]
        assert (run["status"], run["same"]) == (0, True), run
