"""The whole way: a student's checkpoint on disk, inside a host on disk whose tower is never read, to masks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")
import torch
from PIL import Image

from litetext import Segmenter, SegmentOptions
from litetext.checkpoints.load import load_encoder
from litetext.checkpoints.writer import save_student
from litetext.cli import run
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import TextStudent, build_student
from tests.sam3.hosts import WIDTH

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]
PHRASES = ["white dog", "the small red car on the left", "leash"]


def make_student(seed: int) -> TextStudent:
    config = replace(EncoderConfig.of("tiny", 16, padding="attended"), name="custom", output=WIDTH)
    return build_student(config, torch.Generator().manual_seed(seed)).eval()


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """Two students that differ in their weights."""
    paths = [tmp_path / f"student{seed}.safetensors" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        save_student(make_student(seed), path)
    return paths


def test_masks_follow_the_student(host_folder: Path, checkpoints: list[Path], photo: npt.NDArray[np.uint8]) -> None:
    options = SegmentOptions(threshold=0.0)
    encoders = [load_encoder(path, device="cpu") for path in (*checkpoints, checkpoints[0])]
    first, other, again = (
        Segmenter.from_pretrained(host_folder, encoder, device="cpu", options=options)(photo, PHRASES)
        for encoder in encoders
    )
    for result, phrase in zip(first, PHRASES, strict=True):
        assert result.prompt == phrase
        assert len(result) > 0
        assert result.size == photo.shape[:2]
    assert all(np.array_equal(a.masks, b.masks) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.scores, b.scores) for a, b in zip(first, other, strict=True))


def test_the_command_line_takes_the_same_way(
    host_folder: Path,
    checkpoints: list[Path],
    photo: npt.NDArray[np.uint8],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    arguments = [
        "segment",
        str(tmp_path / "photo.png"),
        "-p",
        PHRASES[0],
        "--model",
        str(host_folder),
        "--device",
        "cpu",
    ]
    assert run([*arguments, "--text-encoder", str(checkpoints[0]), "--threshold", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    encoder = load_encoder(checkpoints[0], device="cpu")
    options = SegmentOptions(threshold=0.0)
    (masks,) = Segmenter.from_pretrained(host_folder, encoder, device="cpu", options=options)(photo, PHRASES[:1])
    np.testing.assert_allclose([entry["score"] for entry in found["annotations"]], masks.scores, rtol=1e-5)


def test_a_student_of_another_width_is_one_line(
    host_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.safetensors"
    config = EncoderConfig.of("tiny", 16, padding="masked")
    save_student(build_student(config, torch.Generator().manual_seed(0)), path)
    Image.new("RGB", (20, 20)).save(tmp_path / "photo.png")
    arguments = ["segment", str(tmp_path / "photo.png"), "-p", "dog", "--model", str(host_folder), "--device", "cpu"]
    assert run([*arguments, "--text-encoder", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: features of width 256 where the model reads 64")
    assert error.count("\n") == 1
