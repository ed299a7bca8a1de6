"""`litetext lowrank` on the student that ships, whose token table is of rank 8."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = pytest.mark.torch


def test_it_says_what_is_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "low.safetensors")
    assert run(["lowrank", "micro-student", "-o", target, "--rank", "6", "--check", "50"]) == 0
    captured = capsys.readouterr()
    assert "rank 6 of 64: " in captured.out
    assert "valid tokens of 50 phrases" in captured.out
    assert captured.err.startswith("warning: a mean cosine below 0.999")
    assert run(["inspect", target]) == 0
    assert "factorized: rank 6" in capsys.readouterr().out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "low.safetensors")
    assert run(["lowrank", "micro-student", "-o", target, "--share", "0.8", "--check", "9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rank"] < 8
    assert 0.8 <= found["share"] < 1
    assert found["fidelity"]["phrases"] == 9


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "low.safetensors")
    said = ["lowrank", "micro-student", "-o", target]
    assert "a rank of 'x', --rank; give a number, or auto" in failure(capsys, *said, "--rank", "x")
    assert "of rank 8 already" in failure(capsys, *said, "--rank", "8")
    assert "a rank of 0" in failure(capsys, *said, "--rank", "0")
    assert "a share of 2.0" in failure(capsys, *said, "--share", "2")
    assert not Path(target).exists()
