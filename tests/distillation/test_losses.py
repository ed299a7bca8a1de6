"""Losses have the values computed by hand, and neither they nor their gradients know of padding."""

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from litetext.distillation.decoder_losses import Reading  # noqa: E402
from litetext.distillation.losses import (  # noqa: E402
    Comparison,
    LossWeights,
    compute_losses,
    consistency,
    masked_cosine,
    masked_mse,
)
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.features.protocol import TextFeatures  # noqa: E402
from tests.distillation.features import features, gradient, random_features  # noqa: E402

pytestmark = pytest.mark.torch
NONE = LossWeights(mse=0, cosine=0, scoring=1)
STUDENT = [[[1.0, 0.0], [3.0, 4.0]], [[0.0, 2.0]]]
TEACHER = [[[1.0, 1.0], [4.0, 3.0]], [[0.0, -1.0]]]
# By token: squared errors (0 + 1) / 2, (1 + 1) / 2, (0 + 9) / 2; cosines 1 / sqrt 2, 24 / 25, -1.
MSE = (0.5 + 1 + 4.5) / 3
COSINE = (1 - math.sqrt(0.5) + 1 - 0.96 + 2) / 3


def test_values_by_hand() -> None:
    student, teacher = features(STUDENT, 3), features(TEACHER, 5)
    assert masked_mse(student, teacher).item() == pytest.approx(MSE)
    assert masked_cosine(student, teacher).item() == pytest.approx(COSINE)


def test_gradients_by_hand() -> None:
    student, teacher = features(STUDENT, 3), features(TEACHER, 3)
    # d/ds of (s - t)^2 / 2 / 3 is (s - t) / 3.
    expected = torch.tensor([[[0.0, -1], [-1, 1], [0, 0]], [[0, 3], [0, 0], [0, 0]]]) / 3
    torch.testing.assert_close(gradient(masked_mse(student, teacher), student), expected)
    assert gradient(masked_cosine(student, teacher), student)[0, 0].tolist() == pytest.approx([0, -math.sqrt(0.5) / 3])


def test_a_truncated_text_is_compared_at_its_end_token() -> None:
    teacher = features([[[1.0], [2.0], [3.0], [4.0], [9.0]]], 6)
    assert masked_mse(features([[[1.0], [2.0], [9.0]]], 3), teacher).item() == 0
    assert masked_mse(features([[[1.0], [2.0], [3.0]]], 3), teacher).item() == pytest.approx(36 / 3)


def test_weights_of_tokens() -> None:
    student, teacher = features(STUDENT, 3), features(TEACHER, 2)
    weights = torch.tensor([[1.0, 3.0], [0.0, torch.nan]])  # the last stands at padding
    assert masked_mse(student, teacher, weights).item() == pytest.approx((0.5 + 3 * 1) / 4)
    expected = (1 - math.sqrt(0.5) + 3 * 0.04) / 4
    assert masked_cosine(student, teacher, weights).item() == pytest.approx(expected)
    for bad in (torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.full((2, 2), torch.nan)):
        with pytest.raises(EncoderError, match="negative, or all of them 0"):
            masked_mse(student, teacher, bad)
    with pytest.raises(EncoderError, match=r"weights \[2, 3\] for tokens \[2, 2\]"):
        masked_mse(student, teacher, torch.ones(2, 3))


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = features(STUDENT, 3), features(TEACHER, 3)
    for loss in (masked_mse(student, teacher), masked_cosine(student, teacher)):
        with pytest.raises(RuntimeError, match="to not have been used"):
            gradient(loss, teacher)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9))
def test_padding_has_no_influence(lengths: list[int], more: int, other: int, seed: int) -> None:
    student = random_features(lengths, max(lengths) + more, 3, seed)
    teacher = random_features(lengths, max(lengths) + other, 3, seed + 1)
    bare = [random_features(lengths, max(lengths), 3, seed + n) for n in (0, 1)]
    for loss in (masked_mse, masked_cosine, lambda a, b: consistency(a, b, detach_second=True)):
        value, expected = loss(student, teacher), loss(*bare)
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        found = gradient(value, student)
        assert found.isfinite().all()
        assert not found[~student.mask].any()
        torch.testing.assert_close(found[:, : max(lengths)], gradient(expected, bare[0]))
        assert loss(student, student).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_is_compared_in_float32() -> None:
    small = TextFeatures(torch.full((1, 1, 2), 1e-4, dtype=torch.float16), torch.ones(1, 1, dtype=torch.bool))
    zero = TextFeatures(torch.zeros(1, 1, 2), small.mask)
    assert masked_mse(small, zero).item() == pytest.approx(1e-8, rel=1e-3)  # 0 in float16
    assert masked_mse(small, zero).dtype == torch.float32


def test_a_vector_of_zeros_has_a_finite_cosine_and_gradient() -> None:
    student, teacher = features([[[0.0, 0.0]]], 1), features([[[1.0, 1.0]]], 1)
    loss = masked_cosine(student, teacher)
    assert loss.item() == 1
    assert gradient(loss, student).isfinite().all()


def test_consistency_by_hand() -> None:
    # Pooled: (2, 2) and (0, 1); (1, 0) and (0, -3). Cosines sqrt(1/2) and -1.
    first = features([[[1.0, 0.0], [3.0, 4.0]], [[0.0, 1.0]]], 3)
    second = features([[[1.0, 0.0]], [[0.0, -3.0], [0.0, -3.0]]], 4)
    for detach in (True, False):
        loss = consistency(first, second, detach_second=detach)
        assert loss.item() == pytest.approx((1 - math.sqrt(0.5) + 2) / 2)
        assert gradient(loss, first)[0, 0].abs().sum() > 0
        if detach:
            with pytest.raises(RuntimeError, match="to not have been used"):
                gradient(loss, second)
        else:
            assert gradient(loss, second)[0, 0].abs().sum() > 0


@pytest.mark.parametrize("loss", [masked_mse, masked_cosine, lambda a, b: consistency(a, b, detach_second=False)])
def test_features_that_do_not_fit_are_refused(loss: Any) -> None:
    with pytest.raises(EncoderError, match=r"features \[2, 3, 2\] of a student and \[1, 1, 2\]"):
        loss(features(STUDENT, 3), features([[[1.0, 2.0]]], 1))
    with pytest.raises(EncoderError, match="a student of the teacher's width"):
        loss(features([[[1.0]]], 1), features([[[1.0, 2.0]]], 1))


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"mse": -1.0}, "the weight mse is -1.0; give a number of at least 0"),
        ({"cosine": math.nan}, "the weight cosine is nan"),
        ({"keys": math.inf}, "the weight keys is inf"),
        ({"values": True}, "the weight values is True"),
        ({"scoring": "1"}, "the weight scoring is '1'"),
        ({"mse": 0, "cosine": 0}, "no loss ties the student to its teacher"),
        ({"mse": 0, "cosine": 0, "consistency": 1}, "one of mse, cosine, keys, values, scoring"),
    ],
)
def test_weights_without_sense_are_refused_at_birth(weights: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        LossWeights(**weights)
    assert complaint in str(caught.value)


class Doubling:
    """A decoder that doubles the features and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, features: TextFeatures, kinds: Any) -> Reading:
        self.asked.append(tuple(kinds))
        assert set(kinds) == {"scoring"}
        return Reading(scoring={"queries": 2 * features.pooled()})


def test_the_sum_is_weighted_and_named() -> None:
    student, teacher, permuted = features(STUDENT, 3), features(TEACHER, 3), features([[[1.0, 0.0], [0.0, 1.0]]], 2)
    reader = Doubling()
    batch = Comparison(student, teacher, permuted, torch.tensor([1]), reader)
    losses = compute_losses(LossWeights(mse=2, cosine=3, consistency=5, scoring=7), batch)
    # Consistency of pooled (0.5, 0.5) with (0, 2). Scoring of (2, 2), (0, 2) with (2.5, 2), (0, -1).
    expected = {
        "mse": MSE,
        "cosine": COSINE,
        "consistency": 1 - math.sqrt(0.5),
        "scoring": (0.25 + 9) / (6.25 + 4 + 1),
    }
    assert {name: part.item() for name, part in losses.parts.items()} == pytest.approx(expected)
    assert not any(part.requires_grad for part in losses.parts.values())
    total = 2 * MSE + 3 * COSINE + 5 * expected["consistency"] + 7 * expected["scoring"]
    assert losses.total.item() == pytest.approx(total)
    assert gradient(losses.total, student).abs().sum() > 0
    assert gradient(losses.total, permuted).abs().sum() > 0


def test_consistency_moves_the_permuted_texts_only() -> None:
    student, teacher, permuted = features(STUDENT, 3), features(TEACHER, 3), features([[[1.0, 0.0]]], 1)
    plain = compute_losses(LossWeights(), Comparison(student, teacher))
    both = compute_losses(LossWeights(consistency=9), Comparison(student, teacher, permuted, torch.tensor([0])))
    torch.testing.assert_close(gradient(plain.total, student), gradient(both.total, student))
    assert gradient(both.total, permuted).abs().sum() > 0
    batch = Comparison(student, teacher, permuted, torch.tensor([0]))
    through_both = compute_losses(LossWeights(consistency=9), batch, one_branch=False)
    assert (gradient(through_both.total, student) - gradient(plain.total, student))[0, 0].abs().sum() > 0


def test_a_loss_of_weight_0_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("masked_mse", "masked_cosine", "consistency", "reader_loss"):
        monkeypatch.setattr(f"litetext.distillation.losses.{name}", None)
    monkeypatch.setattr("litetext.distillation.losses.masked_mse", masked_mse)
    rows = torch.tensor([0])
    batch = Comparison(features(STUDENT, 3), features(TEACHER, 3), features([[[1.0, 0.0]]], 1), rows, Doubling())
    losses = compute_losses(LossWeights(cosine=0, consistency=0), batch)
    assert losses.parts.keys() == {"mse"}
    assert losses.total.item() == pytest.approx(MSE)


def test_of_the_decoder_only_what_is_weighed_is_computed() -> None:
    reader = Doubling()
    losses = compute_losses(NONE, Comparison(features(STUDENT, 3), features(TEACHER, 3), reader=reader))
    assert losses.parts.keys() == {"scoring"}
    assert reader.asked == [("scoring",), ("scoring",)]


def test_a_batch_without_permuted_texts_has_no_consistency() -> None:
    losses = compute_losses(LossWeights(consistency=1), Comparison(features(STUDENT, 3), features(TEACHER, 3)))
    assert losses.parts.keys() == {"mse", "cosine"}


def test_weights_for_a_decoder_need_one() -> None:
    with pytest.raises(OptionError, match="weights for scoring, but no decoder; give a host"):
        compute_losses(NONE, Comparison(features(STUDENT, 3), features(TEACHER, 3)))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (None, "come together"),
        (torch.tensor([0, 1]), r"1 permuted texts with rows \[2\]"),
        (torch.tensor([2]), "not in a batch of 2"),
        (torch.tensor([-1]), "not in a batch of 2"),
    ],
)
def test_rows_of_permuted_texts_are_checked(rows: Any, complaint: str) -> None:
    with pytest.raises(EncoderError, match=complaint):
        Comparison(features(STUDENT, 3), features(TEACHER, 3), features([[[1.0, 0.0]]], 1), rows)
