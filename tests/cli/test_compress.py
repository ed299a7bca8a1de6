"""`litetext compress` on the student that ships, whose token table is of rank 32, and what of cgF1 is kept."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from litetext.checkpoints.writer import save_student
from litetext.cli import run
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import build_student
from tests.cli.helpers import failure
from tests.encoders.students import generator

pytestmark = pytest.mark.torch


@pytest.fixture
def phrases(tmp_path: Path) -> str:
    (tmp_path / "phrases.txt").write_text("white dog\nred car\n", encoding="utf-8")
    return str(tmp_path / "phrases.txt")


def test_by_default_it_prunes_folds_and_quantizes_without_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "small.safetensors"
    assert run(["compress", "micro-student", "-o", str(target)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["input", "prune", "fold", "int8"]
    assert "of 5,677 token rows" in lines[1]
    assert "1,000 phrases" in lines[4]
    assert lines[5] == f"{target}: {target.stat().st_size / 1e6:.2f} MB"
    assert run(["inspect", str(target)]) == 0
    out = capsys.readouterr().out
    assert "pruned" in out
    assert "int8 weights, int8 activations, int8 token table" in out
    again = str(tmp_path / "again.safetensors")
    assert "a quantized student" in failure(capsys, "compress", str(target), "-o", again)
    assert "cannot hold" in failure(capsys, "convert", str(target), "-o", str(tmp_path / "hf"), "--to", "huggingface")


def test_json_is_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    target = tmp_path / "low.safetensors"
    options = ["--low-rank", "0.8", "--fold", "--check", "9", "--json"]
    assert run(["compress", "micro-student", "-o", str(target), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in result["steps"]] == ["input", "fold", "low rank 0.8"]
    assert result["steps"][1]["fidelity"]["mean"] == pytest.approx(1, abs=1e-5)
    assert result["steps"][2]["fidelity"]["phrases"] == 9
    assert result["bytes"] == target.stat().st_size
    assert run(["inspect", str(target)]) == 0
    assert "factorized" in capsys.readouterr().out


def test_what_other_phrases_lose(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    target = str(tmp_path / "pruned.safetensors")
    (tmp_path / "other.txt").write_text("white dog\nblue whale\n", encoding="utf-8")
    command = ["compress", "micro-student", phrases, "-o", target, "--prune", "--report", str(tmp_path / "other.txt")]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "1 of 2 other phrases (50.0%)" in out
    assert "blue (1), whale (1)" in out
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["split"] == 1


def test_a_student_that_is_far_is_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "small.safetensors")
    assert run(["compress", "micro-student", "-o", target, "--quantize", "int4", "--check", "200"]) == 0
    assert capsys.readouterr().err.startswith("warning: cosines of mean below 0.999")


def test_what_of_cgf1_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    target = str(tmp_path / "small.safetensors")
    assert run(["compress", "micro-student", "-o", target, "--quantize", "int8", "--check", "9"]) == 0
    capsys.readouterr()
    encoders = ["--teacher", "micro-student", "--student", target]
    assert run(["evaluate", "retention", "--model", "micro", *encoders, "--pairs", "24", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["retention"]["cgf1"] > 90
    assert result["bytes"]["student"] < result["bytes"]["teacher"]


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    target = str(tmp_path / "small.safetensors")
    command = ["compress", "micro-student", "-o", target]
    assert "a teacher, not a student" in failure(capsys, "compress", "micro", "-o", target)
    assert "nowhere.txt" in failure(capsys, "compress", "micro-student", "nowhere.txt", "-o", target)
    assert "0 phrases" in failure(capsys, *command, "--check", "0")
    assert "rank 32 already" in failure(capsys, *command, "--low-rank", "32")
    assert "a rank of 0" in failure(capsys, *command, "--low-rank", "0")
    whole = tmp_path / "whole.safetensors"
    save_student(build_student(EncoderConfig.of("micro-xs", padding="masked"), generator()), whole)
    assert "not pruned" in failure(capsys, "compress", str(whole), "-o", target, "--fold", "--report", phrases)
    assert "int7" in failure(capsys, *command, "--quantize", "int7", status=2)
    assert not Path(target).exists()
