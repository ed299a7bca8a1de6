"""Rows that do not occur are not touched, and yet optimizer and average are what they would be on the whole table."""

import pytest

torch = pytest.importorskip("torch")
from litetext.distillation.optimizer import RowAdam, make_optimizer, rate_at  # noqa: E402

from litetext.distillation.average import Average  # noqa: E402
from litetext.distillation.losses import LossWeights  # noqa: E402
from litetext.distillation.parallel import World  # noqa: E402
from litetext.distillation.recipe import TrainingOptions  # noqa: E402
from litetext.distillation.train_step import StepRunner  # noqa: E402
from litetext.features.store import FeatureCache  # noqa: E402
from tests.distillation.runs import make_cache  # noqa: E402
from tests.encoders.students import generator, tiny_student  # noqa: E402

pytestmark = pytest.mark.torch
SIZES = {"vocabulary": 49_408, "width": 16, "rank": 2, "output": 8, "encoder_blocks": 1}
ROWS = [[0, 2], [2], [1, 2], [0, 1, 2]]


def test_each_row_has_an_adam_of_its_own() -> None:
    table = torch.randn(4, 3, generator=generator())
    gradients = [torch.randn(len(rows), 3, generator=generator(step)) for step, rows in enumerate(ROWS)]
    alone = [torch.nn.Parameter(row.clone()) for row in table]
    adams = [torch.optim.Adam([row], lr=0.1, betas=(0.9, 0.98)) for row in alone]
    first = table[3].clone()
    ours = RowAdam(table)
    for rows, gradient in zip(ROWS, gradients, strict=True):
        ours.step(torch.tensor(rows), gradient, 0.1)
        for row, part in zip(rows, gradient, strict=True):
            alone[row].grad = part.clone()
            adams[row].step()
    torch.testing.assert_close(table, torch.stack(alone).detach())
    assert torch.equal(table[3], first)
    again = RowAdam(table)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.first, ours.first)
    assert torch.equal(again.counts, torch.tensor([2, 2, 4, 0]))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_is_that_of_a_pass_over_the_whole_table(decay: float) -> None:
    student = tiny_student("masked", vocabulary=4, width=8, heads=2, encoder_blocks=0, mixer_blocks=0)
    table, bias = student.token_table.weight, student.projector.bias
    ours, whole, biases = Average(student, decay), table.detach().clone(), bias.detach().clone()
    for step, rows in enumerate(ROWS, 1):
        ours.catch_up(torch.tensor(rows))
        with torch.no_grad():
            table[rows] += torch.randn(len(rows), 8, generator=generator(step))
            bias += 1
        ours.update(torch.tensor(rows))
        used = min(decay, (1 + step) / (10 + step))
        whole.lerp_(table.detach(), 1 - used)
        biases.lerp_(bias.detach(), 1 - used)
    averaged = ours.averaged()
    torch.testing.assert_close(averaged.token_table.weight.detach(), whole)
    torch.testing.assert_close(averaged.projector.bias.detach(), biases)


def test_what_decays() -> None:
    student = tiny_student("masked", **SIZES)
    decays = {
        id(one): group["weight_decay"] for group in make_optimizer(student, 0.1).param_groups for one in group["params"]
    }
    found = {name: decays.get(id(parameter)) for name, parameter in student.named_parameters()}
    assert found.pop("token_table.weight") is None
    assert {name for name, decay in found.items() if decay == 0} == {
        name for name in found if name.endswith(("bias", "norm.weight", "scale", "skip.weight"))
    } | {"token_table.up.weight", "positions"}
    assert found["blocks.0.mixer_conv.weight"] == found["blocks.1.qkv.weight"] == found["projector.weight"] == 0.1


def test_the_rate_warms_up_and_falls() -> None:
    options = TrainingOptions(rate=1.0, warm_up=0.2, floor=0.1)
    rates = [rate_at(step, 10, options) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates == [0.5, *sorted(rates[1:], reverse=True)]
    assert rates[10] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache.open(make_cache(tmp_path_factory.mktemp("cache") / "features"))


def test_parts_of_a_batch_add_up_to_the_batch(cache: FeatureCache) -> None:
    texts = ["red dog", "dog", "the man to the left of the old tree", "cat", "big cup"]
    permuted = ["dog red", None, None, None, "cup big"]
    found = []
    for parts in (1, 3):
        student = tiny_student("masked", **SIZES, mixer_blocks=0).train()
        learner = StepRunner(student, cache, LossWeights(consistency=0.5), None, World(), torch.float32)
        batch = learner.assemble(texts, permuted, parts)
        assert len(batch.parts) == parts
        rows, losses = learner.gradients(batch, 1.0)
        gradients = {name: one.grad for name, one in student.named_parameters() if one.grad is not None}
        assert student.token_table.weight.grad is None
        assert len(rows) < 20
        found.append((losses, {**gradients, "rows": rows.grad}))
    (losses, gradients), (sums, accumulated) = found
    assert sums == pytest.approx(losses)
    assert set(losses) == {"mse", "cosine", "consistency", "loss"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(accumulated[name], gradient, msg=name)


def test_permutations_leave_no_trace_in_the_running_statistics(cache: FeatureCache) -> None:
    states = []
    for permuted in (["dog red", None], [None, None]):
        student = tiny_student("masked", **SIZES).train()
        learner = StepRunner(student, cache, LossWeights(consistency=1.0), None, World(), torch.float32)
        learner.gradients(learner.assemble(["red dog", "cat"], permuted, 1), 1.0)
        states.append(dict(student.named_buffers()))
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
