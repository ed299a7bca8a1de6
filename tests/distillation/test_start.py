"""Where a training starts from, and what it tells TensorBoard."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.checkpoints.load import read_student_tensors  # noqa: E402
from litetext.distillation.curve import write_events  # noqa: E402
from litetext.distillation.recipe import StudentOptions  # noqa: E402
from litetext.distillation.start import start_student  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from tests.encoders.synthetic import TINY, TINY_TEACHER, Student, Teacher, every_format  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def mobileclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Apple's file, with 77 rows of positions and no projector."""
    formats = every_format(Student.make(TINY), Teacher.make(TINY_TEACHER))
    return formats["mobileclip"](tmp_path_factory.mktemp("apple"))


def test_from_a_mobileclip_all_but_the_projector_is_taken(mobileclip: Path) -> None:
    options = StudentOptions("tiny", init=str(mobileclip))
    student, given = start_student(options, 8, 0), read_student_tensors(mobileclip).tensors
    fresh = start_student(StudentOptions("tiny"), 8, 0).state_dict()
    assert len(given["positions"]) == 77
    for name, tensor in student.state_dict().items():
        wanted = fresh[name] if name.startswith("projector") else given[name]
        assert torch.equal(tensor, wanted[:16].float() if name == "positions" else wanted), name
    stretched = start_student(StudentOptions("tiny", init=str(mobileclip), positions="interpolate"), 8, 0)
    assert not torch.equal(stretched.positions, student.positions)


def test_a_whole_table_becomes_the_nearest_of_a_rank(mobileclip: Path) -> None:
    student = start_student(StudentOptions("tiny", rank=4, init=str(mobileclip)), 8, 0)
    whole = read_student_tensors(mobileclip).tensors["token_table.weight"].float()
    ids = torch.arange(len(whole))
    left = (student.token_table(ids) - whole).square().sum()
    assert left.item() == pytest.approx(torch.linalg.svdvals(whole)[4:].square().sum().item(), rel=1e-3)


def test_other_sizes_are_refused(mobileclip: Path) -> None:
    with pytest.raises(EncoderError, match=r"a student of tiny cannot start one of micro-s \(\d+ tensors do not fit"):
        start_student(StudentOptions("micro-s", init=str(mobileclip)), 8, 0)


def test_events_where_tensorboard_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append((folder, purge_step))

        def __enter__(self) -> "SummaryWriter":
            return self

        def __exit__(self, *_: object) -> None:
            told.append(("closed",))

        def add_scalar(self, *values: Any) -> None:
            told.append(values)

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    assert write_events({"step": 4, "cosine": 0.5}, tmp_path)
    assert told == [(str(tmp_path / "tensorboard"), 4), ("cosine", 0.5, 4), ("closed",)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert not write_events({"step": 4}, tmp_path)
