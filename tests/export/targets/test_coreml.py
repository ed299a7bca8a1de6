"""Core ML: the package that is written, computed by NumPy, has PyTorch's features; only a Mac can run it itself."""

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("coremltools") is None:
    pytest.skip("no package coremltools (pip install 'litetext[coreml]')", allow_module_level=True)

from litetext.encoders.config import StudentConfig  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.targets import coreml  # noqa: E402
from litetext.export.targets.quiet import quiet_converter  # noqa: E402
from litetext.export.targets.target import Precision, TargetOptions  # noqa: E402
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.export.serving import quantized, reference  # noqa: E402
from tests.export.targets.cases import KINDS, check_features, prompts, pruned_id, student, tokens  # noqa: E402

with quiet_converter():
    from tests.export.targets.mil import NumpyModel

pytestmark = pytest.mark.torch
OPTIONS: dict[str, Any] = {"attended": {"length": 32}, "masked": {}, "pruned": {"length": 20}}
BATCH = 50
Packages = Callable[[str, Precision], Path]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    @lru_cache
    def make(kind: str, precision: Precision) -> Path:
        folder = tmp_path_factory.mktemp(f"{kind}-{precision}")
        options = TargetOptions(batch=BATCH, precision=precision, **OPTIONS[kind])
        assert coreml.write(student(kind), folder, options) == "text.mlpackage"
        assert [path.name for path in folder.iterdir()] == ["text.mlpackage"]
        return folder / "text.mlpackage"

    return make


def engine(path: Path) -> coreml.CoreMlEngine:
    with quiet_converter():
        return coreml.CoreMlEngine(NumpyModel(path))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_pytorch(package: Packages, kind: str) -> None:
    batch = tokens(prompts(), OPTIONS[kind].get("length", 16))
    check_features(engine(package(kind, "fp32")).run(batch.ids, batch.mask), kind, prompts())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("kind", ["attended", "pruned"])
def test_smaller_numbers_are_near(package: Packages, kind: str, precision: Precision) -> None:
    """A row number that goes through float16, and so is another one, would be far from near."""
    texts = prompts()[:200]
    batch = tokens(texts, OPTIONS[kind]["length"])
    whole, small = package(kind, "fp32"), package(kind, precision)
    one, other = (engine(path).run(batch.ids, batch.mask)[:, :16][batch.mask[:, :16]] for path in (whole, small))
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > (0.9999 if precision == "fp16" else 0.999)
    assert np.abs(one - other).max() > 1e-4
    share = _bytes(small) / _bytes(whole)
    assert share < (0.55 if precision == "fp16" else 0.35)


@pytest.mark.parametrize("table", ["int8", "int4"])
def test_a_quantized_student_keeps_its_numbers(tmp_path: Path, table: str) -> None:
    small = quantized(student("masked"), "float", table)
    coreml.write(small, tmp_path, TargetOptions(batch=BATCH, precision="int8"))
    batch = tokens(prompts()[:BATCH], 16)
    found = engine(tmp_path / "text.mlpackage").run(batch.ids, batch.mask)
    want = reference(small, prompts()[:BATCH])[0]
    one, other = (values[:, : want.shape[1]][batch.mask[:, : want.shape[1]]] for values in (found, want))
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.9999  # that of float16: the integers are the same


def test_the_mask_and_what_stands_at_padding(package: Packages) -> None:
    batch = tokens(prompts()[:BATCH], 20)
    with quiet_converter():
        model = NumpyModel(package("pruned", "fp32"))
    answer = model.predict({"input_ids": batch.ids.astype(np.int32), "attention_mask": batch.mask.astype(np.int32)})
    assert np.array_equal(answer["text_mask"] == 1, batch.mask & (np.arange(20) < 16))
    assert not answer["text_features"][answer["text_mask"] == 0].any()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_id_without_a_row(package: Packages, precision: Precision) -> None:
    batch = tokens(["dog", "dog"], 20)
    for wrong in (pruned_id(), -1, VOCABULARY_SIZE, 2**40):
        ids = batch.ids.copy()
        ids[1, 1] = wrong
        found = engine(package("pruned", precision)).run(ids, batch.mask)
        assert np.isnan(found[1, :16]).all()  # beyond the context nothing is computed
        assert np.isfinite(found[0]).all()


def test_what_stands_in_the_package(package: Packages, tmp_path: Path) -> None:
    path = package("pruned", "int8")
    with quiet_converter():
        model = NumpyModel(path)
    assert StudentConfig.from_json(model.metadata["litetext.config"]) == student("pruned").config
    assert model.metadata["litetext.precision"] == "int8"
    description = model.get_spec().description
    assert [entry.name for entry in description.input] == ["input_ids", "attention_mask"]
    assert [entry.name for entry in description.output] == ["text_features", "text_mask"]
    assert list(description.input[0].type.multiArrayType.shape) == [BATCH, 20]
    assert json.loads((path / "Manifest.json").read_text("utf-8"))["rootModelIdentifier"]
    (tmp_path / "text.mlpackage").mkdir()
    (tmp_path / "text.mlpackage" / "old").touch()
    coreml.write(student("masked"), tmp_path, TargetOptions())
    assert [file.name for file in tmp_path.iterdir()] == ["text.mlpackage"]
    assert not (tmp_path / "text.mlpackage" / "old").exists()
    assert engine(tmp_path / "text.mlpackage").shape.batch == 1


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="not folded"):
        coreml.write(tiny_student("masked"), tmp_path, TargetOptions())
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(EncoderError, match=r"Apple's systems only, .*text\.mlpackage; export --to onnx"):
        coreml.open_engine(tmp_path, "text.mlpackage", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EncoderError, match="no such package"):
        coreml.open_engine(tmp_path, "text.mlpackage", None)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
