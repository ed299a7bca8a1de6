"""`litetext micro`: what a user types, what is written, what fails and how."""

import json
from pathlib import Path

import pytest

pytest.importorskip("PIL")
pytest.importorskip("pycocotools")
from PIL import Image

import litetext.cli.micro  # noqa: F401 - adds the commands
from litetext.cli import run
from tests.cli.helpers import failure


def test_a_scene(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    assert run(["micro", "scene", "-o", str(file), "--seed", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["phrases"]
    assert max(report["phrases"].values()) <= report["instances"]
    with Image.open(file) as image:
        assert image.size == (160, 160)
    first = file.read_bytes()
    assert run(["micro", "scene", "-o", str(file), "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split("  ", 1)[1]: int(line.split()[0]) for line in lines} == report["phrases"]
    assert file.read_bytes() == first


def test_a_world(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["micro", "world", "-o", str(tmp_path), "--pairs", "12", "--size", "64", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["pairs"], report["pictures"], report["absent"], report["hard"]) == (12, 2, 6, 2)
    assert len(json.loads((tmp_path / "gold.json").read_text("utf-8"))["images"]) == 12


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "x.png")
    assert "seed -1" in failure(capsys, "micro", "scene", "-o", out, "--seed", "-1")
    assert "size 5" in failure(capsys, "micro", "scene", "-o", out, "--size", "5")
    assert "no split 'x'" in failure(capsys, "micro", "scene", "-o", out, "--split", "x")
    assert ".png" in failure(capsys, "micro", "scene", "-o", str(tmp_path / "x.gif"))
    assert "0 pairs" in failure(capsys, "micro", "world", "-o", str(tmp_path), "--pairs", "0")
    assert "missing command" in failure(capsys, "micro", status=2).lower()
    assert "missing option" in failure(capsys, "micro", "scene", status=2).lower()
    (tmp_path / "file").write_text("")
    failure(capsys, "micro", "world", "-o", str(tmp_path / "file"), "--pairs", "6")
