"""Exports are compared with PyTorch, refused where they answer fallback, and say what they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.encoders.config import Padding, StudentConfig  # noqa: E402
from litetext.encoders.student import StudentEncoder, build_student  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export import exporter as module  # noqa: E402
from litetext.export.bundle import NOTICE, open_bundle  # noqa: E402
from litetext.export.exporter import ExportPlan, export_student  # noqa: E402
from litetext.export.targets.target import TargetOptions  # noqa: E402
from litetext.features.fingerprint import fingerprint_encoder  # noqa: E402
from tests.encoders.students import disturb, generator  # noqa: E402
from tests.export.serving import PHRASES, pruned, quantized, student  # noqa: E402

pytestmark = pytest.mark.torch


def encoder(padding: Padding = "masked") -> StudentEncoder:
    return StudentEncoder(student(padding), "somewhere/tiny.safetensors")


def test_it_says_what_it_is(tmp_path: Path) -> None:
    done = export_student(encoder(), ExportPlan("onnx", tmp_path / "served", "tiny"), PHRASES)
    bundle = open_bundle(tmp_path / "served")
    assert done.bundle == bundle
    assert bundle.name == "tiny"
    assert bundle.fingerprint == fingerprint_encoder(encoder())
    assert bundle.config == student("masked").config
    assert bundle.checked is not None
    assert bundle.checked.phrases == len(set(PHRASES))
    assert bundle.checked.min > 0.9999
    assert done.bytes == sum(file.stat().st_size for file in (tmp_path / "served").iterdir())
    assert "'tiny'" in (tmp_path / "served" / NOTICE).read_text()


def test_a_student_as_it_is_trained_is_folded(tmp_path: Path) -> None:
    trained = disturb(build_student(StudentConfig.of("tiny", padding="masked"), generator()), 1).eval()
    done = export_student(StudentEncoder(trained, "x"), ExportPlan("onnx", tmp_path / "x", "x"), PHRASES)
    assert done.bundle.config.folded
    assert not trained.config.folded


def test_pruned_and_quantized(tmp_path: Path) -> None:
    small = quantized(pruned("masked"))
    done = export_student(StudentEncoder(small, "x"), ExportPlan("onnx", tmp_path / "x", "x"), PHRASES)
    assert done.bundle.options.precision == "int8"
    assert done.bundle.pruned
    assert done.bundle.config.kept is None
    assert done.bundle.config == replace(small.config, kept=None)


def test_a_program_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module.open_engine

    class Wrong:
        def __init__(self, *arguments: object) -> None:
            self.engine = whole(*arguments)  # type: ignore[arg-type]

        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            values = self.engine.run(ids, mask)
            values[0, 1] *= np.where(np.arange(values.shape[2]) % 2, -1, 1)
            return values

    monkeypatch.setattr(module, "open_engine", Wrong)
    with pytest.raises(EncoderError, match="answers otherwise than PyTorch"):
        export_student(encoder(), ExportPlan("onnx", tmp_path / "served", "tiny"), PHRASES)
    assert list(tmp_path.iterdir()) == []


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no target is called 'tflite'; give onnx"):
        ExportPlan("tflite", tmp_path / "x", "x")
    plan = ExportPlan("onnx", tmp_path / "x", "x", TargetOptions(precision="int8"))
    with pytest.raises(OptionError, match="int8 for a student that is not quantized"):
        export_student(encoder(), plan, PHRASES)

    class Other:
        name = "clip"

    with pytest.raises(EncoderError, match="not a student, clip"):
        export_student(Other(), plan, PHRASES)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
