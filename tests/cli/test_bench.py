"""`litetext bench`, in real processes of its own, on a student that is tiny."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = pytest.mark.torch
SHORT = ["--quick", "--seconds", "0.01", "--phrases", "50", "--threads", "1", "--batches", "16, 1,16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work and report of one run."""
    folder = tmp_path_factory.mktemp("bench")
    where = ["--work", str(folder / "work"), "-o", str(folder / "report")]
    assert run(["bench", "--preset", "tiny", "--rows", "masked-torch, masked-onnx-fp32", *SHORT, *where]) == 0
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report" / "bench.json").read_text(encoding="utf-8"))
    return found


def test_rows_side_by_side(report: dict[str, Any]) -> None:
    torch, onnx = report["rows"]
    assert (torch["name"], onnx["name"]) == ("masked-torch", "masked-onnx-fp32")
    assert torch["title"] == "TINY masked, PyTorch"
    assert torch["imports_torch"]
    assert not onnx["imports_torch"]
    assert torch["weights"] == onnx["weights"] == "random"
    assert onnx["cosine"]["least"] > 0.9999
    assert onnx["cosine"]["phrases"] == 50
    assert list(onnx["prompts_per_second"]) == ["1", "16"]
    assert onnx["gflop_per_prompt"] == torch["gflop_per_prompt"]
    assert report["machine"]["threads"] == 1
    assert report["machine"]["gflops"]["fp32"] > 0
    assert report["prompts"]["source"] == "the bundled corpus"
    assert report["options"]["compared"] == 16


def test_table_and_pictures(folder: Path) -> None:
    names = {path.name for path in (folder / "report").iterdir()}
    assert {"bench.json", "bench.md", "throughput.png", "latency.png"} <= names
    assert "| TINY masked, ONNX Runtime | random |" in (folder / "report" / "bench.md").read_text(encoding="utf-8")


def test_an_artifact_as_it_is(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    bundle = folder / "work" / "files" / "masked+fold+onnx"
    assert run(["bench", "--bundle", str(bundle), *SHORT, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["group"] == "bundle"
    assert row["title"] == "masked+fold+onnx"
    assert row["file_mb"] > 1
    assert not row["imports_torch"]


def test_a_folder_is_taken_as_it_was_made(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    work = ["--work", str(folder / "work")]
    files = {path: path.stat().st_mtime_ns for path in (folder / "work" / "files").iterdir()}
    assert run(["bench", *work, "--rows", "masked-onnx-fp32", *SHORT]) == 0
    assert "| TINY masked, ONNX Runtime | random |" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (folder / "work" / "files").iterdir()} == files
    assert "files of another run (preset 'tiny', not 's1')" in failure(capsys, "bench", *work, "--preset", "s1", *SHORT)


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no row is called 'tpu'" in failure(capsys, "bench", "--rows", "tpu")
    assert "nowhere.pt" in failure(capsys, "bench", "--student", str(tmp_path / "nowhere.pt"))
    assert "no student is called 'huge'" in failure(capsys, "bench", "--preset", "huge")
    assert "0 rounds" in failure(capsys, "bench", "--rounds", "0")
    assert "batches of 'few' phrases" in failure(capsys, "bench", "--batches", "few")
    assert "batches of 0, 8 phrases" in failure(capsys, "bench", "--batches", "8,0")
    assert "no exported text encoder" in failure(capsys, "bench", "--bundle", str(tmp_path))
    (tmp_path / "few.txt").write_text("red car\nwhite dog\n", encoding="utf-8")
    few = failure(capsys, "bench", str(tmp_path / "few.txt"), "--preset", "tiny", "--quick")
    assert "2 distinct phrases for batches of 128" in few
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    told = failure(capsys, "bench", "--student", str(broken), "--rows", "torch", *SHORT)
    assert "no row can be measured" in told
    assert "broken.safetensors" in told
