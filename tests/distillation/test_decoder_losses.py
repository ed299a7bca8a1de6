"""The relative error of what a decoder reads, by hand, and where its gradient goes."""

from collections.abc import Collection

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from litetext.distillation.decoder_losses import KINDS, Kind, Reading, reader_loss, relative_error  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.features.protocol import TextFeatures  # noqa: E402
from tests.distillation.features import features, gradient, random_features  # noqa: E402

pytestmark = pytest.mark.torch


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

    def __call__(self, features: TextFeatures, kinds: Collection[Kind]) -> Reading:
        x = features.values
        one, two, three, four = self.layers
        return Reading(
            keys={"one": one(x), "two": two(x)} if "keys" in kinds else {},
            values={"one": three(x)} if "values" in kinds else {},
            scoring={"q": four(features.pooled())} if "scoring" in kinds else {},
        )


def identity(features: TextFeatures, kinds: Collection[Kind]) -> Reading:
    return Reading(keys={"a": features.values, "b": 10 * features.values[:, :, :1]}, scoring={"q": features.pooled()})


def test_values_by_hand() -> None:
    student, teacher = features([[[1.0, 0.0], [3.0, 4.0]]], 4), features([[[1.0, 2.0], [3.0, 3.0]]], 3)
    # Layer a: (0 + 4 + 0 + 1) / (1 + 4 + 9 + 9); layer b: 0. Pooled (2, 2) and (2, 2.5).
    assert {
        kind: loss.item() for kind, loss in reader_loss(identity, student, teacher, ("keys", "scoring")).items()
    } == (pytest.approx({"keys": 5 / 23 / 2, "scoring": 0.25 / 10.25}))


def test_a_truncated_text_is_compared_at_its_end_token() -> None:
    teacher = features([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [9.0, 9.0]]], 5)
    cut = features([[[1.0, 1.0], [9.0, 9.0]]], 2)
    losses = reader_loss(identity, cut, teacher, ["keys", "scoring"])
    assert losses["keys"].item() == 0
    assert losses["scoring"].item() == pytest.approx((5 - 15 / 4) ** 2 / (15 / 4) ** 2)


def test_layers_weigh_alike() -> None:
    student, teacher = random_features([3, 2], 4, 6), random_features([3, 2], 5, 6, seed=1)
    plain, scaled = (reader_loss(Linear(6, scale=scale), student, teacher) for scale in (1.0, 100.0))
    for kind in KINDS:
        torch.testing.assert_close(plain[kind], scaled[kind])
    assert all(loss > 0.1 for loss in plain.values())


def test_padding_has_no_influence_and_equals_cost_nothing() -> None:
    reader = Linear(6)
    student, teacher = random_features([3, 2], 4, 6), random_features([3, 2], 7, 6, seed=1)
    bare, bare_teacher = random_features([3, 2], 3, 6), random_features([3, 2], 3, 6, seed=1)
    for kind, loss in reader_loss(reader, student, teacher).items():
        expected = reader_loss(reader, bare, bare_teacher)[kind]
        torch.testing.assert_close(loss, expected)
        assert reader_loss(reader, student, random_features([3, 2], 7, 6))[kind] < 1e-12


def test_the_gradient_goes_into_the_student_only() -> None:
    reader = Linear(6)
    student, teacher = random_features([3, 2], 3, 6), random_features([3, 2], 3, 6, seed=1)
    total = torch.stack(list(reader_loss(reader, student, teacher).values())).sum()
    assert gradient(total, student)[student.mask].abs().sum() > 0
    with pytest.raises(RuntimeError, match="to not have been used"):
        gradient(total, teacher)
    total.backward()
    assert all(layer.weight.grad is None and layer.bias.grad is None for layer in reader.layers)


def test_the_gradient_is_that_of_the_formula() -> None:
    reader, teacher = Linear(3), random_features([2], 2, 3, seed=1)
    student = random_features([2], 2, 3)
    found = gradient(reader_loss(reader, student, teacher, ["values"])["values"], student)
    layer = reader.layers[2]
    target = layer(teacher.values)[0]
    error = layer(student.values)[0] - target
    torch.testing.assert_close(found[0], 2 * error @ layer.weight / target.square().sum())


def test_a_teacher_of_zeros_gives_a_finite_error() -> None:
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.ones(2), torch.zeros(2)).isfinite()
    assert relative_error(torch.zeros(2), torch.ones(2)) == 1


def test_what_the_decoder_does_not_have_is_an_error() -> None:
    student = random_features([2], 2, 3)
    with pytest.raises(EncoderError, match="no values in what the decoder's layers make"):
        reader_loss(identity, student, student, ["values"])
    with pytest.raises(EncoderError, match="of a student and"):
        reader_loss(identity, student, random_features([2], 2, 4))
