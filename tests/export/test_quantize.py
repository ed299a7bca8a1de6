"""Ranges of activations and quantized students: what is read is what ranges are chosen on, and no other is better."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from litetext.encoders.quantized import dequantize_activation, quantize_activation  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.quantize import (  # noqa: E402
    BINS,
    KINDS,
    Kind,
    best_range,
    calibrate,
    linear_layers,
    quantize_student,
)
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE  # noqa: E402
from tests.encoders.students import generator, tiny_student  # noqa: E402

pytestmark = pytest.mark.torch
TEXTS = ["dog", "a white dog on a red chair", "two cars", "a small house"]


def folded(padding: Any, seed: int = 0) -> Any:
    return tiny_student(padding, seed, vocabulary=VOCABULARY_SIZE).fold()


def loss(x: Any, ends: Any) -> float:
    return float((dequantize_activation(quantize_activation(x, ends), ends) - x).square().mean())


@pytest.mark.parametrize(("spread", "outlier"), [(1.0, 0.0), (1.0, 40.0), (0.01, 3.0)])
def test_of_the_ranges_the_one_with_the_least_error(spread: float, outlier: float) -> None:
    x = torch.cat((torch.randn(20_000, generator=generator()) * spread, torch.tensor([outlier])))
    low, high = (float(end) for end in x.aminmax())
    widest = torch.tensor([low, high])
    result = best_range(torch.histc(x, BINS, low, high).double(), widest)
    assert low <= result[0] <= 0 <= result[1] <= high
    assert loss(x, result) <= loss(x, widest) * 1.001
    for share in (0.6, 0.8):
        assert loss(x, result) <= loss(x, widest * share) * 1.01


def test_a_range_that_need_not_be_clipped_is_not() -> None:
    counts = torch.zeros(BINS, dtype=torch.float64)
    counts[0] = counts[-1] = 1000.0
    assert best_range(counts, torch.tensor([-1.0, 2.0])).tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("padding", ["masked", "attended"])
def test_the_order_of_phrases_changes_nothing(padding: str) -> None:
    student = folded(padding)
    shares: list[float] = []
    first, second = calibrate(student, TEXTS, shares.append), calibrate(student, TEXTS[::-1])
    assert first.keys() == linear_layers(student).keys()
    assert len(first) == 2 * 4 + 2 * 2 + 1  # two encoder blocks, two RepMixer blocks, the projector
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(ends[0] <= 0 <= ends[1] and ends[0] < ends[1] for ends in first.values())
    assert shares == [0.5, 1.0]
    assert not any(module._forward_pre_hooks for module in student.modules())


def test_padding_counts_where_it_is_read() -> None:
    """A far vector at padding moves the ranges of a student that attends to it, and no other's."""
    for padding, moves in (("masked", False), ("attended", True)):
        student = folded(padding)
        before = calibrate(student, TEXTS)
        with torch.no_grad():
            student.token_table.weight[0] *= 1000  # what attended padding reads
            student.positions[15] += 50  # no phrase has 16 tokens
        after = calibrate(student, TEXTS)
        assert any(not torch.equal(before[name], after[name]) for name in before) == moves


def test_a_layer_that_reads_nothing_but_zeros() -> None:
    student = folded("masked")
    with torch.no_grad():
        student.final_norm.weight.zero_()
        student.final_norm.bias.zero_()
    assert calibrate(student, TEXTS)["projector"].tolist()[0] == 0


def test_refused() -> None:
    student = folded("masked")
    with pytest.raises(OptionError, match="no phrases"):
        calibrate(student, [])
    with torch.no_grad():
        student.positions[1] = torch.inf
    with pytest.raises(EncoderError, match="not finite"):
        calibrate(student, TEXTS)
    with pytest.raises(OptionError, match="7 columns"):
        quantize_student(tiny_student("masked", rank=7).fold(), Kind(table="int4"))


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("int8", {torch.float32, torch.int8}),
        ("int4-weight-only", {torch.float32, torch.int8, torch.uint8}),
        ("fp16", {torch.float16}),
        ("bf16", {torch.bfloat16}),
    ],
)
def test_number_types(name: str, dtypes: set[Any]) -> None:
    kind, student = KINDS[name], folded("masked")
    ranges = calibrate(student, TEXTS) if kind.activations == "int8" else {}
    small = quantize_student(student, kind, ranges)
    assert {tensor.dtype for tensor in small.state_dict().values()} == dtypes
    assert (small.config.weights, small.config.activations, small.config.table) == kind[:3]
    assert student.config.weights == "float"  # it stays as it was
