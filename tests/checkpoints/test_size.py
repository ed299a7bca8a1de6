"""Parameters and bytes as they are shipped, whatever they were loaded as."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
import torch

from litetext.checkpoints.load import load_encoder
from litetext.checkpoints.size import EncoderSize, measure_encoder
from litetext.checkpoints.writer import save_student
from litetext.encoders.config import StudentConfig
from litetext.encoders.student import build_student
from tests.encoders.students import generator

pytestmark = pytest.mark.torch


def small_student() -> Any:
    return build_student(StudentConfig.of("micro-xs", padding="masked"), generator())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_student_in_the_types_of_its_file(tmp_path: Path, dtype: torch.dtype) -> None:
    student = small_student().to(dtype)
    save_student(student, tmp_path / "x.safetensors")
    count = sum(parameter.numel() for parameter in student.parameters())
    spec = str(tmp_path / "x.safetensors")
    size = measure_encoder(spec, load_encoder(spec, device="cpu"))  # in float32
    # Batch norm's statistics are tensors, but no parameters.
    assert size == EncoderSize(spec, count, sum(tensor.nbytes for tensor in student.state_dict().values()))


def test_a_model_of_another_kind_as_it_was_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    class Other:
        name, context_length, width = "other", 8, 4

        def __init__(self) -> None:
            self.model = torch.nn.Linear(3, 4, dtype=torch.float16)

    assert measure_encoder(str(tmp_path), Other()) == EncoderSize(str(tmp_path), 16, 32)  # type: ignore[arg-type]
