"""Ranges of activations: what is read is what they are chosen on, and no other range would be better."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from litetext.encoders.quantized import dequantize_activation, quantize_activation  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.calibrate import BINS, best_range, calibrate, linear_layers  # noqa: E402
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
    found = best_range(torch.histc(x, BINS, low, high).double(), widest)
    assert low <= found[0] <= 0 <= found[1] <= high
    assert loss(x, found) <= loss(x, widest) * 1.001
    for share in (0.6, 0.8):
        assert loss(x, found) <= loss(x, widest * share) * 1.01


def test_a_range_that_need_not_be_clipped_is_not() -> None:
    counts = torch.zeros(BINS, dtype=torch.float64)
    counts[0] = counts[-1] = 1000.0
    assert best_range(counts, torch.tensor([-1.0, 2.0])).tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("padding", ["masked", "attended"])
def test_the_order_of_phrases_changes_nothing(padding: str) -> None:
    student = folded(padding)
    shares: list[float] = []
    one, other = calibrate(student, TEXTS, shares.append), calibrate(student, TEXTS[::-1])
    assert one.keys() == linear_layers(student).keys()
    assert len(one) == 2 * 4 + 2 * 2 + 1  # two encoder blocks, two RepMixer blocks, the projector
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(ends[0] <= 0 <= ends[1] and ends[0] < ends[1] for ends in one.values())
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


def test_refused() -> None:
    student = folded("masked")
    with pytest.raises(OptionError, match="no phrases to calibrate with"):
        calibrate(student, [])
    with torch.no_grad():
        student.positions[1] = torch.inf
    with pytest.raises(EncoderError, match="reads is not finite"):
        calibrate(student, TEXTS)


def test_a_layer_that_reads_nothing_but_zeros() -> None:
    student = folded("masked")
    with torch.no_grad():
        student.final_norm.weight.zero_()
        student.final_norm.bias.zero_()
    assert calibrate(student, TEXTS)["projector"].tolist()[0] == 0
