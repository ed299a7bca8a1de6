"""`litetext fold` on the student that ships."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = pytest.mark.torch


def test_it_says_what_became_smaller_and_how_true_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "folded.safetensors")
    assert run(["fold", "micro-student", "-o", target, "--check", "50"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{target}: 1.15 MB of 1.15")
    assert "valid tokens of 50 phrases: mean 1.00000" in captured.out
    assert "largest difference" in captured.out
    assert captured.err == ""
    assert "folded already" in failure(capsys, "fold", target, "-o", str(tmp_path / "x.safetensors"))


def test_json_is_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("white dog\nred car\n", encoding="utf-8")
    target = tmp_path / "folded.safetensors"
    assert run(["fold", "micro-student", str(tmp_path / "phrases.txt"), "-o", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fidelity"]["phrases"] == 2
    assert found["bytes"]["after"] == target.stat().st_size


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "folded.safetensors")
    assert "a teacher, not a student" in failure(capsys, "fold", "micro", "-o", target)
    assert "nowhere.txt" in failure(capsys, "fold", "micro-student", "nowhere.txt", "-o", target)
    assert "0 phrases" in failure(capsys, "fold", "micro-student", "-o", target, "--check", "0")
    assert "positions 'middle'" in failure(capsys, "fold", "micro-student", "-o", target, "--positions", "middle")
    assert not Path(target).exists()
