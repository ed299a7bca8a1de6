"""`litetext export` on the student that ships, and what it writes inside other commands."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = pytest.mark.torch


@pytest.fixture
def phrases(tmp_path: Path) -> str:
    (tmp_path / "phrases.txt").write_text("white dog\nred car\ndog\nthe second tree\n", encoding="utf-8")
    return str(tmp_path / "phrases.txt")


def test_it_says_what_it_wrote(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    assert run(["export", "micro-student", phrases, "--to", "onnx", "-o", str(tmp_path / "served")]) == 0
    out = capsys.readouterr().out
    assert "model.onnx (fp32)" in out
    assert "16 valid tokens of 4 phrases" in out
    names = {file.name for file in (tmp_path / "served").iterdir()}
    assert names == {"litetext.json", "model.onnx", "model.onnx.data", "tokenizer.json", "merges.npy", "NOTICE.txt"}


def test_json_is_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    target = str(tmp_path / "served")
    arguments = ["--to", "onnx", "-o", target, "--dtype", "fp16", "--length", "16", "--batch-size", "2", "--json"]
    assert run(["export", "micro-student", phrases, *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == target
    assert found["name"] == "micro-student"
    assert found["parameters"] == 569_568  # of 570,912: folding takes the norms away
    assert found["options"] == {"length": 16, "batch": 2, "precision": "fp16"}
    assert found["checked"]["min"] > 0.999


def test_it_segments_with_what_it_wrote(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    served, scene = str(tmp_path / "served"), str(tmp_path / "scene.png")
    assert run(["export", "micro-student", phrases, "--to", "onnx", "-o", served]) == 0
    assert run(["micro", "scene", "-o", scene, "--seed", "187", "--split", "test"]) == 0
    capsys.readouterr()
    found = []
    for text in ("micro-student", served):
        assert (
            run(["segment", scene, "-p", "red car", "-p", "dog", "--model", "micro", "--text-encoder", text, "--json"])
            == 0
        )
        found.append(json.loads(capsys.readouterr().out))
    one, other = (
        [(entry["category_id"], entry["segmentation"]) for entry in report["annotations"]] for report in found
    )
    assert one == other
    assert len(one) == 1  # the one red car of four


def test_inspect_knows_what_was_exported(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    served = tmp_path / "served"
    assert run(["export", "micro-student", phrases, "--to", "onnx", "-o", str(served), "--length", "16"]) == 0
    capsys.readouterr()
    assert run(["inspect", str(served)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("micro-student, exported for onnx: model.onnx (fp32), 2.")
    assert first.endswith(" MB, 0.57 M parameters")
    assert second == "context 16, padding masked, 64 numbers a token, 5,677 tokens (pruned), length of 16"
    assert "16 valid tokens of 4 phrases" in third
    assert run(["inspect", str(served), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"]["length"] == 16
    program = served / "model.onnx.data"
    program.write_bytes(bytes(program.stat().st_size))
    assert "not the program that was exported" in failure(capsys, "inspect", str(served))


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, phrases: str) -> None:
    target = str(tmp_path / "served")
    export = ("export", "micro-student", phrases, "-o", target, "--to")
    assert "tflite" in failure(capsys, *export, "tflite", status=2)
    assert "a length of 1" in failure(capsys, *export, "onnx", "--length", "1")
    assert "0 phrases" in failure(capsys, *export, "onnx", "--phrases", "0")
    assert "not a student" in failure(capsys, "export", "micro", "--text-only", "-o", target, "--to", "onnx")
    assert "--text-only" in failure(capsys, "export", "micro", "-o", target, "--to", "executorch")
    assert "--text-encoder" in failure(capsys, *export, "onnx", "--text-encoder", "micro")
    assert "int8" in failure(capsys, *export, "onnx", "--dtype", "int8-vision")
    assert not Path(target).exists()
    Path(target).write_text("precious", encoding="utf-8")
    assert "a file where a folder is to be written" in failure(capsys, *export, "onnx")
    assert Path(target).read_text(encoding="utf-8") == "precious"
    scene = str(tmp_path / "scene.png")
    assert run(["micro", "scene", "-o", scene]) == 0
    capsys.readouterr()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "litetext.json").write_text("{}", encoding="utf-8")
    segment = ("segment", scene, "-p", "dog", "--model", "micro", "--text-encoder", str(tmp_path / "broken"))
    assert "not a manifest" in failure(capsys, *segment)
    assert "leave them out" in failure(capsys, *segment, "--context-length", "16")
    assert "--fallback for what is no prompt bank" in failure(capsys, *segment, "--fallback", "micro-student")
