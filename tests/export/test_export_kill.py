"""kill -9 before every step of an export that replaces another: the old or the new one, never none, nothing left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from tests.distillation.test_kill import environment

pytestmark = [pytest.mark.torch, pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")]


def test_killed_at_every_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.export.killing", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (
        sum(run["killed"] for run in told) >= 2 * 6
    )  # four files are renamed, the folder is moved, the old one removed
    for run in told:
        assert (run["after"], run["names"], run["again"]) == ("newer", ["target"], False)
    assert {run["left"] for run in told if run["exchange"]} == {"old", "new"}
    assert {run["left"] for run in told if not run["exchange"]} == {"old", "new", "none"}  # the next run puts it back
