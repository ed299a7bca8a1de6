"""`litetext quantize` on the student that ships, in the host that ships."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = pytest.mark.torch


def test_it_says_how_true_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "small.safetensors")
    options = ["--activations", "int8", "--table", "int4", "--check", "50", "--calibrate", "60"]
    assert run(["quantize", "micro-student", "-o", target, *options]) == 0
    captured = capsys.readouterr()
    assert "weights int8, activations int8, its token table int4; calibrated on 60 phrases, compared on others" in (
        captured.out
    )
    assert "valid tokens of 50 phrases" in captured.out
    assert captured.err.startswith("warning: a mean cosine below")
    assert run(["inspect", target]) == 0
    assert "int8 weights, int8 activations, int4 token table" in capsys.readouterr().out
    assert "a quantized student" in failure(capsys, "quantize", target, "-o", str(tmp_path / "x.safetensors"))
    hf = ["convert", target, "-o", str(tmp_path / "hf"), "--to", "huggingface"]
    assert "the student is quantized" in failure(capsys, *hf)


def test_with_a_host_it_says_what_of_cgf1_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "small.safetensors")
    said = ["quantize", "micro-student", "-o", target, "--check", "9", "--model", "micro", "--pairs", "24"]
    assert run([*said, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["weights"], found["table"], found["fidelity"]["phrases"]) == ("int8", "int8", 9)
    assert found["retention"]["pairs"] == 24
    assert found["retention"]["retention"]["cgf1"] > 90
    assert found["retention"]["bytes"]["student"] < found["retention"]["bytes"]["teacher"]
    assert run(said) == 0
    out = capsys.readouterr().out
    assert "before" in out
    assert "cgF1" in out


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = str(tmp_path / "small.safetensors")
    said = ["quantize", "micro-student", "-o", target]
    assert "--weights 'int7'; give int8" in failure(capsys, *said, "--weights", "int7")
    assert "--table 'int2'" in failure(capsys, *said, "--table", "int2")
    assert "give --weights int8" in failure(capsys, *said, "--weights", "fp16", "--activations", "int8")
    assert "pairs without a host, --pairs" in failure(capsys, *said, "--pairs", "9")
    assert "0 pairs, --pairs" in failure(capsys, *said, "--model", "micro", "--pairs", "0")
    assert "a teacher, not a student" in failure(capsys, "quantize", "micro", "-o", target)
    assert not Path(target).exists()
