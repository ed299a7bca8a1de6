"""kill -9 at every point of `litetext embed`: nothing lost, nothing doubled, the same bytes in the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
from litetext.checkpoints.writer import save_student
from tests.distillation.corpora import letters
from tests.encoders.students import tiny_student

pytestmark = [pytest.mark.torch, pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A command that writes several shards: a student, 30 phrases."""
    save_student(
        tiny_student("masked", vocabulary=49_408, width=16, output=8, encoder_blocks=1, mixer_blocks=0),
        tmp_path / "s.safetensors",
    )
    (tmp_path / "prompts.txt").write_text("\n".join(letters(30)), encoding="utf-8")
    return [
        "embed",
        str(tmp_path / "prompts.txt"),
        "--teacher",
        str(tmp_path / "s.safetensors"),
        "--device",
        "cpu",
        "--batch-tokens",
        "20",
        "--shard-tokens",
        "80",
    ]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def test_killed_at_every_step(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tests.distillation.killing", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shards = sum(name.startswith("shard-") for name in found["whole"])
    assert shards >= 3
    for run in [*found["inside"], *found["outside"]]:
        assert run["same"]
        assert run["not_written_again"]
        assert run["status"] == 0
    killed = [run for run in found["inside"] if run["killed"]]
    # Each file is synchronized and renamed: the shards, and the manifest once more than they.
    assert len(killed) == 2 * (2 * shards + 1)
    assert {run["kept"] for run in killed} == set(range(shards))
    left = [name for run in killed for name in run["left"]]
    assert any(name.startswith(".shard-") for name in left)
    assert any(name.startswith(".manifest") for name in left)
    assert any(sum(name.startswith("shard-") for name in run["left"]) > run["kept"] for run in killed)
