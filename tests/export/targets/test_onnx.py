"""ONNX graphs in OpenVINO: the same features, any number of callers, and one line for what is wrong."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")
pytest.importorskip("torch")

from litetext.errors import EncoderError
from litetext.export.programs import open_program, text_engine
from litetext.export.targets import INPUTS, OUTPUTS, Engine, TargetOptions, onnx
from litetext.features.compare import row_cosines
from tests.export.serving import quantized, reference
from tests.export.targets.cases import KINDS, check_features, prompts, pruned_id, student, tokens

pytestmark = pytest.mark.torch


def exported(folder: Path, kind: str, options: TargetOptions | None = None) -> Engine:
    options = options or TargetOptions()
    onnx.write(student(kind), folder, options)
    return opened(folder, options.length, options.batch)


def opened(folder: Path, length: int | None = None, batch: int | None = None) -> Engine:
    program = open_program(folder / onnx.MODEL, (INPUTS, OUTPUTS[:1]), "openvino", 1)
    return text_engine(program, length, batch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [TargetOptions(), TargetOptions(length=32, batch=8)], ids=["open", "fixed"])
def test_features_are_those_of_pytorch(tmp_path: Path, kind: str, options: TargetOptions) -> None:
    engine = exported(tmp_path, kind, options)
    batch = tokens(prompts()[:100], options.length or 20)
    check_features(engine(batch.ids, batch.mask), kind, prompts()[:100])
    short = tokens(["a dog"], 7)
    check_features(engine(short.ids, short.mask), kind, ["a dog"])


def test_halves_and_integers(tmp_path: Path) -> None:
    texts = prompts()[:100]
    batch = tokens(texts, 16)
    half = exported(tmp_path, "masked", TargetOptions(precision="fp16"))
    check_features(half(batch.ids, batch.mask), "masked", texts, 0.02)
    small = quantized(student("masked"), "int8", "int8")
    onnx.write(small, tmp_path, TargetOptions(precision="int8"))
    features, expected = opened(tmp_path)(batch.ids, batch.mask), reference(small, texts)[0]
    length = expected.shape[1]
    mask = batch.mask[:, :length]
    assert row_cosines(features[:, :length][mask], expected[mask]).min() > 0.999


def test_an_id_without_a_row(tmp_path: Path) -> None:
    engine = exported(tmp_path, "pruned")
    batch = tokens(["dog", "dog"], 16)
    ids = batch.ids.copy()
    ids[1, 1] = pruned_id()
    features = engine(ids, batch.mask)
    assert np.isnan(features[1]).any()
    assert np.isfinite(features[0]).all()


def test_callers_do_not_disturb_each_other(tmp_path: Path) -> None:
    engine = exported(tmp_path, "masked")
    batch = tokens(prompts()[:32], 16)
    expected = engine(batch.ids, batch.mask)
    with ThreadPoolExecutor(32) as pool:
        rows = list(pool.map(lambda row: engine(batch.ids[row : row + 1], batch.mask[row : row + 1]), range(32)))
    assert np.allclose(np.concatenate(rows), expected, atol=1e-5)


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(EncoderError, match="OpenVINO cannot read it"):
        opened(tmp_path)
    exported(tmp_path, "masked")
    whole = path.read_bytes()
    for data, fact in ((whole[:2000], "OpenVINO"), (whole.replace(b"input_ids", b"inputs_id"), "inputs_id")):
        path.write_bytes(data)
        with pytest.raises(EncoderError, match=fact) as raised:
            opened(tmp_path)
        assert "\n" not in str(raised.value)
