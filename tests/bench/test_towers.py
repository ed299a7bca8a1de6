"""SAM3's text encoder and a student as `transformers` runs them, against our own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from litetext.bench.openers import open_huggingface, open_student
from litetext.bench.towers import halve, make_teacher, to_huggingface
from litetext.checkpoints.conversion import convert_checkpoint
from litetext.checkpoints.load import load_encoder
from litetext.checkpoints.writer import save_student
from litetext.encoders.config import StudentConfig
from litetext.encoders.student import StudentEncoder, TextStudent, build_student
from litetext.errors import EncoderError
from tests.encoders.synthetic import TINY_TEACHER, Teacher, fill, save_pt

pytestmark = pytest.mark.torch
TEXTS = ["dog", "a white dog on the left of the second chair", "red car"]


def tiny(**changes: object) -> TextStudent:
    config = replace(StudentConfig.of("tiny", 32, padding="attended"), **changes)  # type: ignore[arg-type]
    student = TextStudent(config)
    fill(student)
    return student


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A teacher's checkpoint, and the folder that was made of it."""
    folder = tmp_path_factory.mktemp("teacher")
    theirs = save_pt(Teacher.make(TINY_TEACHER).upstream(), folder / "sam3.pt")
    path = folder / "sam3.safetensors"
    convert_checkpoint(str(theirs), path, "litetext", heads=4)
    make_teacher(str(path), 0, folder / "made")
    return path, folder / "made"


def test_a_teacher_answers_as_ours(teacher: tuple[Path, Path]) -> None:
    # Attention looks back only: that texts are padded to 32, and masked there, changes nothing before.
    values, mask = open_huggingface(teacher[1], 1)(TEXTS)
    expected = load_encoder(teacher[0], device="cpu").encode(TEXTS)
    assert values.shape == (3, 32, 256)
    np.testing.assert_allclose(values[mask], expected.values[expected.mask].numpy(), atol=1e-5)


def test_a_teacher_in_half_the_bytes(teacher: tuple[Path, Path], tmp_path: Path) -> None:
    halve(teacher[1], tmp_path / "half")
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}
    values, mask = open_huggingface(tmp_path / "half", 1)(TEXTS)
    whole, _ = open_huggingface(teacher[1], 1)(TEXTS)
    difference = np.abs(values[mask] - whole[mask]).max() / np.abs(whole[mask]).max()
    assert 0 < difference < 0.05


def test_a_student_has_its_weights_there(tmp_path: Path) -> None:
    # At 32 tokens nothing is interpolated, and a text without padding is read alike by both.
    student = tiny()
    assert to_huggingface(student, 0, tmp_path / "made")
    text = " ".join(["dog"] * 30)
    values, mask = open_huggingface(tmp_path / "made", 1)([text])
    expected = StudentEncoder(student, "ours").encode([text])
    assert mask.all()
    np.testing.assert_allclose(values, expected.values.numpy(), atol=1e-5)


@pytest.mark.parametrize("changes", [{"rank": 4}, {"folded": True}])
def test_of_what_cannot_be_held_only_the_sizes_are(changes: dict[str, object], tmp_path: Path) -> None:
    student = tiny(**changes)
    assert not to_huggingface(student, 0, tmp_path / "made")
    values, mask = open_huggingface(tmp_path / "made", 1)(TEXTS)
    assert values.shape == (3, 32, 256)
    assert np.isfinite(values[mask]).all()


def test_a_student_is_no_teacher(tmp_path: Path) -> None:
    save_student(tiny(), tmp_path / "student.safetensors")
    with pytest.raises(EncoderError, match="not a teacher"):
        make_teacher(str(tmp_path / "student.safetensors"), 0, tmp_path / "made")


def test_a_student_is_opened_in_the_number_type_of_its_file(tmp_path: Path) -> None:
    config = StudentConfig.of("tiny", padding="masked")
    student = build_student(config, torch.Generator().manual_seed(0)).eval()
    save_student(student, tmp_path / "whole.safetensors")
    save_student(student.to(torch.bfloat16), tmp_path / "half.safetensors")
    (whole, mask), (half, _) = (open_student(tmp_path / f"{name}.safetensors", 1)(TEXTS) for name in ("whole", "half"))
    assert half.dtype == np.float32
    assert 0 < np.abs(half[mask] - whole[mask]).max() < 0.05
