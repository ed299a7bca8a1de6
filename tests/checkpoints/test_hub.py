"""What comes with the package is found by its name: a whole model, or a student alone."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.checkpoints import hub
from litetext.checkpoints.hub import shipped_folder
from litetext.checkpoints.inspection import summarize_checkpoint
from litetext.checkpoints.load import load_encoder, read_student_tensors
from litetext.checkpoints.writer import save_student
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import build_student
from litetext.errors import EncoderError
from tests.encoders.students import generator

pytestmark = pytest.mark.torch
CONFIG = EncoderConfig.of("micro-xs", padding="masked")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a shipped student, called toy-student."""
    folder = tmp_path / "toy-student"
    save_student(build_student(CONFIG, generator()), folder / "student.safetensors")
    monkeypatch.setattr(hub, "FOLDER", tmp_path)
    monkeypatch.setattr(hub, "SHIPPED", ("toy-student",))
    return folder


def test_a_student_by_its_name(package: Path) -> None:
    assert shipped_folder("toy-student") == package
    encoder = load_encoder("toy-student", device="cpu")
    assert (encoder.context_length, encoder.width) == (16, 64)
    assert summarize_checkpoint("toy-student")["variant"] == "micro-xs"
    assert read_student_tensors("toy-student")[0].rank == 4


def test_the_folder_of_a_run_is_its_student(package: Path) -> None:
    (package / "summary.json").write_text("{}")
    texts = ["red car", "dog"]
    one, other = (load_encoder(path, device="cpu").encode(texts) for path in (package, package / "student.safetensors"))
    assert one.values.equal(other.values)


def test_a_folder_without_any(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"neither model\.safetensors nor .* nor student\.safetensors in this folder"
    ):
        load_encoder(tmp_path, device="cpu")
