"""`litetext audit --student`: a student's checkpoint, a host's folder and images, to the report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
import torch
from PIL import Image

from litetext.checkpoints.writer import save_student
from litetext.cli import run
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import build_student
from tests.cli.helpers import failure
from tests.sam3.hosts import WIDTH

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]


def write_student(path: Path, width: int) -> str:
    config = replace(EncoderConfig.of("tiny", 16, padding="masked"), name="custom", output=width)
    save_student(build_student(config, torch.Generator().manual_seed(0)).eval(), path)
    return str(path)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_student(tmp_path_factory.mktemp("student") / "student.safetensors", WIDTH)


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("white dog\nred car\nleash\n", encoding="utf-8")
    return str(path)


def test_prompts_are_asked_of_images(
    host_folder: Path, student: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    arguments = ["audit", prompts, "--student", student, "--model", str(host_folder), "--device", "cpu"]
    images = ["--images", str(tmp_path / "photos"), "--images", str(tmp_path / "photos" / "a.png"), "--pairs", "5"]
    assert run([*arguments, *images, "--json", "-o", str(tmp_path / "report")]) == 0
    report = json.loads(capsys.readouterr().out)
    found = report["attenuation"]
    assert (found["images"], found["pairs"], found["phrases"], found["truncated"]) == (2, 5, 3, 0)
    assert list(found["errors"]) == ["student", "noise"]
    path = found["errors"]["student"]
    assert list(path["layers"]) == ["encoder.0", "decoder.0", "decoder.1", "masks"]
    factors = [path["features"] / error for error in path["layers"].values()]
    assert path["factor"]["value"] == pytest.approx(float(np.exp(np.mean(np.log(factors)))))
    assert path["masks_factor"] == pytest.approx(path["features"] / path["masks"])
    assert "attenuation" in {advice["topic"] for advice in report["advice"]}
    assert (tmp_path / "report" / "figures" / "attenuation.svg").is_file()
    assert "Attenuation of a student" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_the_micro_host_is_asked_about_its_own_world(student: str, prompts: str, capsys: pytest.CaptureFixture) -> None:
    arguments = ["audit", prompts, "--student", student, "--model", "micro", "--pairs", "3", "--device", "cpu"]
    assert run(arguments) == 0
    assert "3 pairs of 1 images, 3 phrases" in " ".join(capsys.readouterr().out.split())


def test_mistakes_are_one_line(
    host_folder: Path, student: str, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    host = ["--model", str(host_folder)]

    def fail(*arguments: str) -> str:
        return failure(capsys, "audit", prompts, *arguments, "--device", "cpu")

    assert "--model micro" in fail("--student", student)
    assert "--images" in fail("--student", student, *host)
    assert "no images in the folder" in fail("--student", student, *host, "--images", str(tmp_path / "empty"))
    assert "no file matches" in fail("--student", student, *host, "--images", str(tmp_path / "*.png"))
    assert "/nowhere/s.pt" in fail("--student", "/nowhere/s.pt", "--model", "micro")
    assert "/nowhere" in fail("--student", student, "--model", "/nowhere")
    assert "0 pairs" in fail("--student", student, "--model", "micro", "--pairs", "0")
    for option in (host, ["--images", "photos"]):
        assert "--student" in fail(*option)
