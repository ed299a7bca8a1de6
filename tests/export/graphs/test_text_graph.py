"""The ONNX graph answers as PyTorch does: any length, any padding, pruned, quantized, in both engines."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from litetext.encoders.config import Padding  # noqa: E402
from litetext.encoders.student import TextStudent  # noqa: E402
from litetext.export.graphs.text_graph import activation_scale, student_graph  # noqa: E402
from litetext.export.programs import session_options  # noqa: E402
from litetext.export.targets import TargetOptions  # noqa: E402
from litetext.tokenizer.bpe import TokenBatch  # noqa: E402
from litetext.tokenizer.vocabulary import END_ID  # noqa: E402
from tests.export.serving import PHRASES, pruned, quantized, reference, student  # noqa: E402

pytestmark = pytest.mark.torch
PADDINGS: tuple[Padding, ...] = ("attended", "masked")
Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def session(module: TextStudent, **options: Any) -> onnxruntime.InferenceSession:
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    model = student_graph(module.config, tensors, TargetOptions(**options), {"note": "x"})
    return onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )


def answer(runs: onnxruntime.InferenceSession, texts: tuple[str, ...], length: int, pad: int = 0) -> Arrays:
    batch = TokenBatch.of_texts(texts, length)
    ids = np.where(batch.mask, batch.ids, pad)
    features, mask = runs.run(None, {"input_ids": ids, "attention_mask": batch.mask.astype(np.int64)})
    return features, mask


def same(found: Arrays, expected: Arrays, tolerance: float) -> None:
    """The same features at the same valid tokens, zeros elsewhere."""
    (features, mask), (wanted, seen) = found, expected
    length = min(mask.shape[1], seen.shape[1])
    assert mask[:, :length].tolist() == seen[:, :length].tolist()
    assert not mask[:, length:].any()
    assert not seen[:, length:].any()
    np.testing.assert_allclose(
        features[:, :length][mask[:, :length]], wanted[:, :length][seen[:, :length]], atol=tolerance
    )
    assert (features[~mask] == 0).all()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("fixed", [None, 16, 32])
def test_it_answers_as_pytorch(padding: Padding, fixed: int | None) -> None:
    runs = session(student(padding), length=fixed)
    for length in (16, 20, 32) if fixed is None else (fixed,):
        for pad in (0, END_ID):  # upstream's, and Hugging Face's
            same(answer(runs, PHRASES, length, pad), reference(student(padding), PHRASES), 2e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_texts_shorter_than_the_context(padding: Padding) -> None:
    short = ("white dog", "a", "cat")
    same(answer(session(student(padding)), short, 5, END_ID), reference(student(padding), short), 2e-5)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6), st.integers(16, 40), st.sampled_from(PADDINGS))
def test_any_texts(texts: list[str], length: int, padding: Padding) -> None:
    same(answer(SESSIONS[padding], tuple(texts), length), reference(student(padding), texts), 5e-5)


SESSIONS = {padding: session(student(padding)) for padding in PADDINGS}


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_text_does_not_depend_on_its_neighbors(padding: Padding) -> None:
    together = answer(SESSIONS[padding], PHRASES, 16)[0]
    alone = np.concatenate([answer(SESSIONS[padding], (phrase,), 16)[0] for phrase in PHRASES])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sizes", [{"encoder_blocks": 3, "mixer_blocks": 0}, {"encoder_blocks": 0}, {"rank": 6}])
def test_other_architectures(padding: Padding, sizes: dict[str, int]) -> None:
    module = student(padding, **sizes)
    same(answer(session(module), PHRASES, 16), reference(module, PHRASES), 3e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_pruned_student_takes_clips_ids(padding: Padding) -> None:
    runs = session(pruned(padding))
    same(answer(runs, PHRASES, 16), reference(student(padding), PHRASES), 2e-5)
    features, mask = answer(runs, ("white dog", "locomotive"), 16)
    assert np.isfinite(features[0]).all()
    assert np.isnan(features[1][mask[1]]).all()  # its tokens have no rows: never those of others


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("activations", ["int8", "float"])
@pytest.mark.parametrize("table", ["int8", "int4"])
def test_quantized_as_in_pytorch(padding: Padding, activations: str, table: str) -> None:
    module = quantized(student(padding), activations, table)
    features, mask = answer(session(module, precision="int8"), PHRASES, 16)
    wanted, seen = reference(module, PHRASES)
    one, two = features[mask], wanted[seen]
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    # A number between two steps may be rounded either way: rarely, and by one step.
    assert cosine.min() > 0.999


def test_quantized_factorized_and_pruned() -> None:
    small = quantized(pruned("masked"), table="int4")
    features, mask = answer(session(small, precision="int8"), ("white dog", "locomotive"), 16)
    wanted, seen = reference(small, ["white dog"])
    np.testing.assert_allclose(features[0][mask[0]], wanted[0][seen[0]], atol=0.05)
    assert np.isnan(features[1][mask[1]]).all()
    module = quantized(student("masked", rank=8), table="int8")
    same(answer(session(module, precision="int8"), PHRASES, 16), reference(module, PHRASES), 0.1)


def test_int8_products_are_fused(tmp_path: Any) -> None:
    module = quantized(student("masked"))
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    model = student_graph(module.config, tensors, TargetOptions(precision="int8"), {})
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    layers = 6 * module.config.encoder_blocks + 2 * module.config.mixer_blocks + 1
    assert kinds.count("QGemm") == layers
    assert "DequantizeLinear" not in kinds


def test_halves_are_near() -> None:
    features, mask = answer(session(student("masked"), precision="fp16"), PHRASES, 16)
    wanted, seen = reference(student("masked"), PHRASES)
    np.testing.assert_allclose(features[mask], wanted[seen], atol=0.05)
    assert features.dtype == np.float32


def test_activation_scale() -> None:
    assert activation_scale(np.array([-1.0, 1.55], dtype=np.float32)) == (pytest.approx(0.01), 100)
    assert activation_scale(np.array([0.0, 255.0], dtype=np.float32)) == (1.0, 0)
