"""Exports are compared with PyTorch, refused where they differ, and say what they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.encoders.config import EncoderConfig, Padding  # noqa: E402
from litetext.encoders.student import StudentEncoder, build_student  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export import exporter as module  # noqa: E402
from litetext.export.bundle import NOTICE, open_bundle  # noqa: E402
from litetext.export.compress import Student  # noqa: E402
from litetext.export.exporter import export_student  # noqa: E402
from litetext.export.targets import TargetOptions  # noqa: E402
from litetext.features.compare import compare  # noqa: E402
from litetext.features.fingerprint import fingerprint_encoder  # noqa: E402
from tests.encoders.students import disturb, generator  # noqa: E402
from tests.export.serving import PHRASES, pruned, quantized, student  # noqa: E402

pytestmark = pytest.mark.torch


def encoder(padding: Padding = "masked") -> StudentEncoder:
    return StudentEncoder(student(padding), "somewhere/tiny.safetensors")


def test_it_says_what_it_is(tmp_path: Path) -> None:
    result = export_student(encoder(), tmp_path / "served", PHRASES, name="tiny")
    bundle = open_bundle(tmp_path / "served")
    assert result == bundle
    assert bundle.name == "tiny"
    assert bundle.fingerprint == fingerprint_encoder(encoder())
    assert bundle.config == student("masked").config
    assert bundle.checked is not None
    assert bundle.checked.phrases == len(set(PHRASES))
    assert bundle.checked.min > 0.9999
    assert "'tiny'" in (tmp_path / "served" / NOTICE).read_text()


def test_a_student_as_it_is_trained_is_folded(tmp_path: Path) -> None:
    trained = disturb(build_student(EncoderConfig.of("tiny", padding="masked"), generator()), 1).eval()
    bundle = export_student(StudentEncoder(trained, "x"), tmp_path / "x", PHRASES)
    assert bundle.config.folded
    assert not trained.config.folded


def test_pruned_and_quantized(tmp_path: Path) -> None:
    small = quantized(pruned("masked"))
    bundle = export_student(StudentEncoder(small, "x"), tmp_path / "x", PHRASES)
    assert bundle.options.precision == "int8"
    assert bundle.pruned
    assert bundle.config.kept is None
    assert bundle.config == replace(small.config, kept=None)


def test_a_program_that_answers_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module.open_engine

    class Wrong:
        def __init__(self, *arguments: object) -> None:
            self.engine = whole(*arguments)  # type: ignore[arg-type]

        def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            values = self.engine(ids, mask)
            values[0, 1] *= np.where(np.arange(values.shape[2]) % 2, -1, 1)
            return values

    monkeypatch.setattr(module, "open_engine", Wrong)
    with pytest.raises(EncoderError, match="differs from PyTorch"):
        export_student(encoder(), tmp_path / "served", PHRASES, name="tiny")
    assert list(tmp_path.iterdir()) == []


def test_the_original_is_named(tmp_path: Path) -> None:
    """From the student that was trained to the program: each step says how far it is, and so does the end."""
    original = encoder()
    small = Student.of(original).quantize("int8", PHRASES)
    runtime = small.export(tmp_path / "served", prompts=PHRASES)
    origin, checked = runtime.bundle.origin, runtime.bundle.checked
    assert origin is not None
    assert checked is not None
    assert origin.fingerprint == fingerprint_encoder(original)
    assert origin.fidelity == small.report.fidelity
    assert "somewhere/tiny.safetensors" in runtime.bundle.comparison()
    end_to_end = compare(original, runtime, PHRASES)
    assert 0.99 < end_to_end.mean < checked.mean
    assert end_to_end.mean == pytest.approx(origin.fidelity.mean, abs=0.01)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="tflite"):
        export_student(encoder(), tmp_path / "x", PHRASES, target="tflite")
    with pytest.raises(OptionError, match="int8 for a student that is not quantized"):
        export_student(encoder(), tmp_path / "x", PHRASES, options=TargetOptions(precision="int8"))

    class Other:
        name = "clip"

    with pytest.raises(EncoderError, match="clip"):
        export_student(Other(), tmp_path / "x", PHRASES)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
