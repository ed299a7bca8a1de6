"""What comes with the package is found by its name: a whole model, or a student alone."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.checkpoints.load import load_encoder, read_student_tensors
from litetext.checkpoints.shipped import SHIPPED, shipped_folder
from litetext.checkpoints.summary import summarize_checkpoint
from litetext.checkpoints.writer import save_student
from litetext.encoders.config import StudentConfig
from litetext.encoders.student import build_student
from litetext.errors import EncoderError
from tests.encoders.students import generator

pytestmark = pytest.mark.torch
CONFIG = StudentConfig.of("micro-xs", padding="masked")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one student, called toy-student; the folder of that student."""
    folder = tmp_path / "toybox" / "student"
    save_student(build_student(CONFIG, generator()), folder / "student.safetensors")
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SHIPPED, "toy-student", ("toybox", "student"))
    yield folder
    sys.modules.pop("toybox", None)


def test_a_student_by_its_name(package: Path) -> None:
    assert shipped_folder("toy-student") == package
    encoder = load_encoder("toy-student", device="cpu")
    assert (encoder.context_length, encoder.width) == (16, 64)
    assert summarize_checkpoint("toy-student").variant == "micro-xs"
    assert read_student_tensors("toy-student").sizes.rank == 4


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
