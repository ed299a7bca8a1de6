"""`litetext micro`: what a user types, what is written, what fails and how."""

import json
from pathlib import Path

import pytest

pytest.importorskip("PIL")
pytest.importorskip("pycocotools")
from PIL import Image

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


def test_clips(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    typed = ["micro", "clips", "-o", str(tmp_path / "clips"), "--plot", "ordinary", "--plot", "cut", "--count", "2"]
    for seed in ("3", "4"):  # ours is replaced
        assert run([*typed, "--size", "48", "--length", "8", "--seed", seed, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
    assert (report["clips"], report["frames"]) == (4, 32)
    assert report["pairs"] >= 2 * report["absent"] > 0
    written = json.loads((tmp_path / "clips" / "veval.json").read_text("utf-8"))
    assert [video["video_name"] for video in written["videos"]][::2] == ["ordinary-000004", "cut-000004"]
    assert len(written["annotations"]) == report["masklets"]
    assert len(list((tmp_path / "clips" / "videos").glob("*/*.png"))) == 32
    (tmp_path / "clips" / "mine.txt").touch()
    assert "something else is there" in failure(capsys, *typed)
    other = ["micro", "clips", "-o", str(tmp_path / "other")]
    assert "0 clips" in failure(capsys, *other, "--count", "0")
    assert "no plot 'odd'" in failure(capsys, *other, "--plot", "odd")
    assert "length 7" in failure(capsys, *other, "--length", "7")
    assert not (tmp_path / "other").exists()


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "x.png")
    assert "seed -1" in failure(capsys, "micro", "scene", "-o", out, "--seed", "-1")
    assert "size 5" in failure(capsys, "micro", "scene", "-o", out, "--size", "5")
    assert "validation" in failure(capsys, "micro", "scene", "-o", out, "--split", "x", status=2)
    assert ".png" in failure(capsys, "micro", "scene", "-o", str(tmp_path / "x.gif"))
    assert "0 pairs" in failure(capsys, "micro", "world", "-o", str(tmp_path), "--pairs", "0")
    assert "missing command" in failure(capsys, "micro", status=2).lower()
    assert "missing option" in failure(capsys, "micro", "scene", status=2).lower()
    (tmp_path / "file").write_text("")
    failure(capsys, "micro", "world", "-o", str(tmp_path / "file"), "--pairs", "6")


@pytest.fixture
def few_out_of_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred pictures of strange phrases would take a minute."""
    pytest.importorskip("transformers")
    monkeypatch.setattr("litetext.micro.evaluation.OUT_OF_DOMAIN", 10)


@pytest.mark.usefixtures("few_out_of_domain")
def test_evaluate_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["micro", "evaluate", "--pairs", "6", "--seed", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"]["all"] == 6
    assert {"cgf1", "il_mcc", "pmf1", "presence_right", "out_of_domain_refused"} <= set(report)
    assert "0 pairs" in failure(capsys, "micro", "evaluate", "--pairs", "0")


@pytest.mark.usefixtures("few_out_of_domain")
def test_evaluate_with_a_bank(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("red circle\nblue square\n", encoding="utf-8")
    bank = tmp_path / "bank.safetensors"
    assert run(["bank", str(tmp_path / "phrases.txt"), "-o", str(bank), "--text-encoder", "micro"]) == 0
    capsys.readouterr()
    asked = ["micro", "evaluate", "--pairs", "6", "--seed", "3", "--text-encoder", str(bank)]
    assert "not in the bank" in failure(capsys, *asked)
    assert run([*asked, "--fallback", "micro", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"]["all"] == 6
    assert report["out_of_domain_refused"] > 0.9


def test_segment_with_the_shipped_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """From the picture to the masks by the commands of the README, without a network."""
    pytest.importorskip("transformers")
    scene = tmp_path / "scene.png"
    assert run(["micro", "scene", "-o", str(scene), "--seed", "7", "--json"]) == 0
    phrase = next(iter(json.loads(capsys.readouterr().out)["phrases"]))
    out = tmp_path / "found"
    assert run(["segment", str(scene), "-p", phrase, "--model", "micro", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    with Image.open(out / "scene.png") as image:
        assert image.width == 160  # a strip below it says what the colors mean
        assert image.height > 160


def test_phrases_are_a_corpus(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "phrases.txt"
    assert run(["micro", "phrases", "-o", str(file), "--count", "4000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "phrases": 4000}
    assert len(set(file.read_text("utf-8").splitlines())) == 4000
    assert "0 phrases" in failure(capsys, "micro", "phrases", "-o", str(file), "--count", "0")
