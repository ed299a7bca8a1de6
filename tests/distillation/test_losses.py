"""Losses have the values computed by hand, and neither they nor their gradients depend on padding."""

import math
from collections.abc import Collection
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from litetext.distillation.losses import (  # noqa: E402
    KINDS,
    Alignment,
    Kind,
    LossWeights,
    Projected,
    compute_losses,
    consistency,
    decoder_losses,
    masked_cosine,
    masked_mse,
    relative_error,
)
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.features.protocol import TextFeatures  # noqa: E402
from tests.distillation.features import features, gradient, random_features  # noqa: E402
from tests.encoders.students import prefix_mask  # noqa: E402

pytestmark = pytest.mark.torch
DECODER_ONLY = LossWeights(mse=0, cosine=0, scoring=1)
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
    for loss in (masked_mse, masked_cosine, consistency):
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
    loss = consistency(first, second)
    assert loss.item() == pytest.approx((1 - math.sqrt(0.5) + 2) / 2)
    assert gradient(loss, first)[0, 0].abs().sum() > 0
    with pytest.raises(RuntimeError, match="to not have been used"):
        gradient(loss, second)


@pytest.mark.parametrize("loss", [masked_mse, masked_cosine, consistency])
def test_features_that_do_not_fit_are_refused(loss: Any) -> None:
    with pytest.raises(EncoderError, match=r"features \[2, 3, 2\] of a student and \[1, 1, 2\]"):
        loss(features(STUDENT, 3), features([[[1.0, 2.0]]], 1))
    with pytest.raises(EncoderError, match="a student of the teacher's width"):
        loss(features([[[1.0]]], 1), features([[[1.0, 2.0]]], 1))


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"mse": -1.0}, "mse is -1.0"),
        ({"cosine": math.nan}, "the weight cosine is nan"),
        ({"keys": math.inf}, "the weight keys is inf"),
        ({"values": True}, "the weight values is True"),
        ({"scoring": "1"}, "the weight scoring is '1'"),
        ({"mse": 0, "cosine": 0}, "mse, cosine, keys"),
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

    def __call__(self, features: TextFeatures, kinds: Any) -> Projected:
        self.asked.append(tuple(kinds))
        return {"scoring": {"queries": 2 * features.pooled()}}


def test_the_sum_is_weighted_and_named() -> None:
    student, teacher, permuted = features(STUDENT, 3), features(TEACHER, 3), features([[[1.0, 0.0], [0.0, 1.0]]], 2)
    weights = LossWeights(mse=2, cosine=3, consistency=5, scoring=7)
    pair = (permuted, torch.tensor([1]))
    total, losses = compute_losses(weights, student, teacher, permuted=pair, projections=Doubling())
    # Consistency of pooled (0.5, 0.5) with (0, 2). Scoring of (2, 2), (0, 2) with (2.5, 2), (0, -1).
    expected = {
        "mse": MSE,
        "cosine": COSINE,
        "consistency": 1 - math.sqrt(0.5),
        "scoring": (0.25 + 9) / (6.25 + 4 + 1),
    }
    assert {name: part.item() for name, part in losses.items()} == pytest.approx(expected)
    assert not any(part.requires_grad for part in losses.values())
    weighted = 2 * MSE + 3 * COSINE + 5 * expected["consistency"] + 7 * expected["scoring"]
    assert total.item() == pytest.approx(weighted)
    assert gradient(total, student).abs().sum() > 0
    assert gradient(total, permuted).abs().sum() > 0


def test_consistency_moves_the_permuted_texts_only() -> None:
    student, teacher, permuted = features(STUDENT, 3), features(TEACHER, 3), features([[[1.0, 0.0]]], 1)
    plain, _ = compute_losses(LossWeights(), student, teacher)
    pair = (permuted, torch.tensor([0]))
    both, _ = compute_losses(LossWeights(consistency=9), student, teacher, permuted=pair)
    torch.testing.assert_close(gradient(plain, student), gradient(both, student))
    assert gradient(both, permuted).abs().sum() > 0


def test_a_loss_of_weight_0_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("masked_cosine", "consistency", "decoder_losses"):
        monkeypatch.setattr(f"litetext.distillation.losses.{name}", None)
    pair = (features([[[1.0, 0.0]]], 1), torch.tensor([0]))
    weights = LossWeights(cosine=0, consistency=0)
    student, teacher = features(STUDENT, 3), features(TEACHER, 3)
    total, losses = compute_losses(weights, student, teacher, permuted=pair, projections=Doubling())
    assert losses.keys() == {"mse"}
    assert total.item() == pytest.approx(MSE)


def test_of_the_decoder_only_what_has_a_weight_is_computed() -> None:
    decoder = Doubling()
    _, losses = compute_losses(DECODER_ONLY, features(STUDENT, 3), features(TEACHER, 3), projections=decoder)
    assert losses.keys() == {"scoring"}
    assert decoder.asked == [("scoring",), ("scoring",)]


def test_a_batch_without_permuted_texts_has_no_consistency() -> None:
    _, losses = compute_losses(LossWeights(consistency=1), features(STUDENT, 3), features(TEACHER, 3))
    assert losses.keys() == {"mse", "cosine"}


def test_weights_for_a_decoder_need_one() -> None:
    with pytest.raises(OptionError, match="scoring"):
        compute_losses(DECODER_ONLY, features(STUDENT, 3), features(TEACHER, 3))


def pairs(student: torch.Tensor, teacher: torch.Tensor) -> list[tuple[int, int, int]]:
    found = Alignment.of(student, teacher)
    return list(zip(found.text.tolist(), found.student.tolist(), found.teacher.tolist(), strict=True))


def test_as_many_tokens_are_paired_in_order() -> None:
    assert pairs(prefix_mask([3, 1], 4), prefix_mask([3, 1], 7)) == [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 0)]


def test_the_end_token_of_a_truncated_text_meets_the_end_token() -> None:
    assert pairs(prefix_mask([3, 2], 3), prefix_mask([6, 2], 8)) == [
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 5),
        (1, 0, 0),
        (1, 1, 1),
    ]
    assert pairs(prefix_mask([4], 4), prefix_mask([2], 2)) == [(0, 0, 0), (0, 3, 1)]


def test_valid_tokens_may_stand_anywhere() -> None:
    scattered = torch.tensor([[False, True, False, True, True]])
    assert pairs(scattered, prefix_mask([3], 3)) == [(0, 1, 0), (0, 3, 1), (0, 4, 2)]


def test_rows_are_those_of_the_pairs() -> None:
    alignment = Alignment.of(prefix_mask([2], 3), prefix_mask([3], 4))
    student, teacher = torch.arange(3.0)[None, :, None], torch.arange(4.0)[None]
    assert alignment.of_student(student).tolist() == [[0.0], [1.0]]
    assert alignment.of_teacher(teacher).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("student", "teacher", "complaint"),
    [
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), "torch.float32"),
        (torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool), r"\[3\], not bool \[B, L\]"),
        (prefix_mask([1, 2], 2), prefix_mask([1], 2), "of 2 and 1 texts"),
        (prefix_mask([], 2)[:0].reshape(0, 2), prefix_mask([], 2)[:0].reshape(0, 2), "of 0 and 0 texts"),
        (prefix_mask([1, 0], 2), prefix_mask([1, 2], 2), "without a valid token"),
    ],
)
def test_masks_that_do_not_fit_are_refused(student: torch.Tensor, teacher: torch.Tensor, complaint: str) -> None:
    with pytest.raises(EncoderError, match=complaint):
        Alignment.of(student, teacher)


class Linear:
    """Two layers of keys, one of values and one pooled vector, of frozen weights."""

    def __init__(self, width: int, *, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(3)
        self.layers = [nn.Linear(width, 5).requires_grad_(requires_grad=False) for _ in range(4)]
        for layer in self.layers:
            layer.weight.normal_(0.0, 1.0, generator=generator)
            layer.bias.normal_(0.0, 1.0, generator=generator)
        self.layers[1].weight.mul_(scale)
        self.layers[1].bias.mul_(scale)

    def __call__(self, features: TextFeatures, kinds: Collection[Kind]) -> Projected:
        x = features.values
        one, two, three, four = self.layers
        outputs: Projected = {
            "keys": {"one": one(x), "two": two(x)},
            "values": {"one": three(x)},
            "scoring": {"q": four(features.pooled())},
        }
        return {kind: layers for kind, layers in outputs.items() if kind in kinds}


def identity(features: TextFeatures, kinds: Collection[Kind]) -> Projected:
    keys = {"a": features.values, "b": 10 * features.values[:, :, :1]}
    return {"keys": keys, "scoring": {"q": features.pooled()}}


def test_decoder_losses_by_hand() -> None:
    student, teacher = features([[[1.0, 0.0], [3.0, 4.0]]], 4), features([[[1.0, 2.0], [3.0, 3.0]]], 3)
    # Layer a: (0 + 4 + 0 + 1) / (1 + 4 + 9 + 9); layer b: 0. Pooled (2, 2) and (2, 2.5).
    assert {
        kind: loss.item() for kind, loss in decoder_losses(identity, student, teacher, ("keys", "scoring")).items()
    } == (pytest.approx({"keys": 5 / 23 / 2, "scoring": 0.25 / 10.25}))


def test_the_decoder_reads_a_truncated_text_at_its_end_token() -> None:
    teacher = features([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [9.0, 9.0]]], 5)
    cut = features([[[1.0, 1.0], [9.0, 9.0]]], 2)
    losses = decoder_losses(identity, cut, teacher, ["keys", "scoring"])
    assert losses["keys"].item() == 0
    assert losses["scoring"].item() == pytest.approx((5 - 15 / 4) ** 2 / (15 / 4) ** 2)


def test_layers_weigh_alike() -> None:
    student, teacher = random_features([3, 2], 4, 6), random_features([3, 2], 5, 6, seed=1)
    plain, scaled = (decoder_losses(Linear(6, scale=scale), student, teacher) for scale in (1.0, 100.0))
    for kind in KINDS:
        torch.testing.assert_close(plain[kind], scaled[kind])
    assert all(loss > 0.1 for loss in plain.values())


def test_padding_has_no_influence_and_equals_cost_nothing() -> None:
    decoder = Linear(6)
    student, teacher = random_features([3, 2], 4, 6), random_features([3, 2], 7, 6, seed=1)
    bare, bare_teacher = random_features([3, 2], 3, 6), random_features([3, 2], 3, 6, seed=1)
    for kind, loss in decoder_losses(decoder, student, teacher).items():
        expected = decoder_losses(decoder, bare, bare_teacher)[kind]
        torch.testing.assert_close(loss, expected)
        assert decoder_losses(decoder, student, random_features([3, 2], 7, 6))[kind] < 1e-12


def test_the_gradient_goes_into_the_student_only() -> None:
    decoder = Linear(6)
    student, teacher = random_features([3, 2], 3, 6), random_features([3, 2], 3, 6, seed=1)
    total = torch.stack(list(decoder_losses(decoder, student, teacher).values())).sum()
    assert gradient(total, student)[student.mask].abs().sum() > 0
    with pytest.raises(RuntimeError, match="to not have been used"):
        gradient(total, teacher)
    total.backward()
    assert all(layer.weight.grad is None and layer.bias.grad is None for layer in decoder.layers)


def test_the_gradient_is_that_of_the_formula() -> None:
    decoder, teacher = Linear(3), random_features([2], 2, 3, seed=1)
    student = random_features([2], 2, 3)
    found = gradient(decoder_losses(decoder, student, teacher, ["values"])["values"], student)
    layer = decoder.layers[2]
    target = layer(teacher.values)[0]
    error = layer(student.values)[0] - target
    torch.testing.assert_close(found[0], 2 * error @ layer.weight / target.square().sum())


def test_a_teacher_of_zeros_gives_a_finite_error() -> None:
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.ones(2), torch.zeros(2)).isfinite()
    assert relative_error(torch.zeros(2), torch.ones(2)) == 1


def test_what_the_decoder_does_not_have_is_an_error() -> None:
    student = random_features([2], 2, 3)
    with pytest.raises(EncoderError, match="values"):
        decoder_losses(identity, student, student, ["values"])
    with pytest.raises(EncoderError, match=r"\[1, 2, 3\]"):
        decoder_losses(identity, student, random_features([2], 2, 4))
