"""kill -9 during `litetext distill`: it goes on, and the weights come out bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
from tests.distillation.runs import RECIPE, assert_same, make_cache
from tests.distillation.test_kill import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes"),
]


def test_killed_while_it_writes(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "features")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    command = ["distill", str(tmp_path / "tiny.toml"), "--features", str(cache), "--epochs", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.distillation.distilling", str(tmp_path), *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)
    assert all(run["killed"] and run["status"] == 0 for run in runs)
    assert any(name.startswith(".") for run in runs for name in run["left"])
    for run in runs:
        assert not list((tmp_path / run["folder"]).glob(".*"))
        assert_same(tmp_path / run["folder"], tmp_path / "whole")
