"""`litetext prune` on the student that ships."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = pytest.mark.torch


@pytest.fixture
def phrases(tmp_path: Path) -> Path:
    (tmp_path / "phrases.txt").write_text("white dog\nred car\n", encoding="utf-8")
    return tmp_path / "phrases.txt"


def test_it_says_what_became_smaller(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: Path) -> None:
    target = tmp_path / "pruned.safetensors"
    (tmp_path / "other.txt").write_text("white dog\nblue whale\n", encoding="utf-8")
    assert (
        run(["prune", "micro-student", str(phrases), "-o", str(target), "--report", str(tmp_path / "other.txt")]) == 0
    )
    out = capsys.readouterr().out
    assert f"{target}: " in out
    assert "of 49,408 token rows" in out
    assert "2 phrases keep their tokens" in out
    assert "1 of 2 other phrases (50.0%) fall into smaller pieces" in out
    assert "most frequent: blue (1), whale (1)" in out
    assert run(["inspect", str(target)]) == 0
    assert "pruned: it has its own tokenizer" in capsys.readouterr().out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: Path) -> None:
    target = tmp_path / "pruned.safetensors"
    assert run(["prune", "micro-student", str(phrases), "-o", str(target), "--report", str(phrases), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"]["before"] == 49_408
    assert found["bytes"]["after"] == target.stat().st_size
    assert found["report"]["split"] == 0
    assert found["report"]["cosine"] is None


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: Path) -> None:
    target = str(tmp_path / "pruned.safetensors")
    assert "a teacher, not a student" in failure(capsys, "prune", "micro", str(phrases), "-o", target)
    assert "nowhere.txt" in failure(capsys, "prune", "micro-student", "nowhere.txt", "-o", target)
    assert not Path(target).exists()
    assert run(["prune", "micro-student", str(phrases), "-o", target]) == 0
    capsys.readouterr()
    hf = ["convert", target, "-o", str(tmp_path / "hf"), "--to", "huggingface"]
    assert "the token table is" in failure(capsys, *hf)
