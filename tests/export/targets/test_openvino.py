"""OpenVINO: the same features from its own files and from ONNX graphs, and one line for what is wrong."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")
pytest.importorskip("torch")

from litetext.errors import EncoderError
from litetext.export.targets import onnx, openvino
from litetext.export.targets.target import TargetOptions
from tests.export.serving import quantized, reference
from tests.export.targets.cases import KINDS, check_features, prompts, pruned_id, student, tokens

pytestmark = pytest.mark.torch


def exported(folder: Path, kind: str, **options: Any) -> openvino.OpenVinoEngine:
    assert openvino.write(student(kind), folder, TargetOptions(**options)) == "model.xml"
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "model.xml"]
    return openvino.open_engine(folder, "model.xml", threads=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"length": 32, "batch": 8}])
def test_features_are_those_of_pytorch(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    engine = exported(tmp_path, kind, **options)
    batch = tokens(prompts(), options.get("length", 20))
    found = engine.run(batch.ids, batch.mask)
    check_features(found, kind, prompts())
    short = tokens(["a dog"], 7)
    check_features(engine.run(short.ids, short.mask), kind, ["a dog"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_onnx_graph_as_it_is(tmp_path: Path, kind: str) -> None:
    file = onnx.write(student(kind), tmp_path, TargetOptions())
    batch = tokens(prompts(), 16)
    check_features(openvino.open_engine(tmp_path, file, 1).run(batch.ids, batch.mask), kind, prompts())


def test_fp16_is_half_as_large(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "whole").mkdir()
    half = exported(tmp_path / "half", "masked", precision="fp16")
    exported(tmp_path / "whole", "masked")
    batch = tokens(prompts(), 16)
    check_features(half.run(batch.ids, batch.mask), "masked", prompts(), 0.02)
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("half", "whole")]
    assert 0.49 < sizes[0] / sizes[1] < 0.52


def test_int8_stays_int8(tmp_path: Path) -> None:
    small = quantized(student("masked"), "int8", "int8")
    openvino.write(small, tmp_path, TargetOptions(precision="int8"))
    batch = tokens(prompts()[:100], 16)
    found = openvino.open_engine(tmp_path, "model.xml", 1).run(batch.ids, batch.mask)
    want = reference(small, prompts()[:100])[0]
    one, other = (values[:, : want.shape[1]][batch.mask[:, : want.shape[1]]] for values in (found, want))
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.999
    assert (tmp_path / "model.bin").stat().st_size < 2.1e6  # 6.5 MB in float32


def test_an_id_without_a_row(tmp_path: Path) -> None:
    engine = exported(tmp_path, "pruned")
    batch = tokens(["dog", "dog"], 16)
    ids = batch.ids.copy()
    ids[1, 1] = pruned_id()
    found = engine.run(ids, batch.mask)
    assert np.isnan(found[1]).any()
    assert np.isfinite(found[0]).all()


def test_callers_do_not_disturb_each_other(tmp_path: Path) -> None:
    engine = exported(tmp_path, "masked")
    batch = tokens(prompts()[:32], 16)
    want = engine.run(batch.ids, batch.mask)
    found: dict[int, np.ndarray] = {}

    def call(row: int) -> None:
        for _ in range(5):
            found[row] = engine.run(batch.ids[row : row + 1], batch.mask[row : row + 1])

    callers = [threading.Thread(target=call, args=(row,)) for row in range(32)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert np.allclose(np.concatenate([found[row] for row in range(32)]), want, atol=1e-5)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="OpenVINO cannot read it"):
        openvino.open_engine(tmp_path, "model.xml", None)
    exported(tmp_path, "masked")
    path = tmp_path / "model.xml"
    text = path.read_text("utf-8")
    path.write_text(text[:2000], "utf-8")
    with pytest.raises(EncoderError, match=r"OpenVINO cannot read it \(.{10,}\), .*model.xml; export again"):
        openvino.open_engine(tmp_path, "model.xml", None)
    path.write_text(text.replace("input_ids", "tokens"), "utf-8")
    with pytest.raises(EncoderError, match=r"inputs tokens, attention_mask and outputs .* are not a text encoder's"):
        openvino.open_engine(tmp_path, "model.xml", None)
    path.write_text(text, "utf-8")
    (tmp_path / "model.bin").unlink()
    with pytest.raises(EncoderError, match="OpenVINO cannot read it"):
        openvino.open_engine(tmp_path, "model.xml", None)
