"""Factorized token tables: the nearest to a whole one, and students with them through files and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.checkpoints.inspection import summarize_checkpoint, summary_lines
from litetext.checkpoints.schema import parameters_by_part
from litetext.encoders.config import PRESETS, EncoderConfig
from litetext.errors import EncoderError, OptionError

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from litetext.checkpoints.load import load_encoder, read_student_tensors  # noqa: E402
from litetext.checkpoints.writer import convert_checkpoint, save_student  # noqa: E402
from litetext.encoders.layers import FactorizedTable, factorize_table, table_variances, token_table  # noqa: E402
from litetext.encoders.student import TextStudent, build_student  # noqa: E402
from tests.encoders.students import VOCABULARY, disturb, generator, prefix_mask, random_ids  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]
SMALL = [name for name, row in PRESETS.items() if row.rank]


def small_student(preset: str, **changes: Any) -> TextStudent:
    config = replace(EncoderConfig.of(preset, padding="masked", vocabulary=VOCABULARY), **changes)
    return disturb(build_student(config, generator())).eval()


def test_a_factorized_table_is_a_product() -> None:
    table = FactorizedTable(9, 2, 5)
    whole = table.weight @ table.up.weight.T
    ids = torch.tensor([[3, 8], [0, 3]])
    torch.testing.assert_close(table(ids), whole[ids])
    assert [tuple(parameter.shape) for parameter in table.parameters()] == [(9, 2), (5, 2)]
    assert type(token_table(9, None, 5)) is torch.nn.Embedding


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (4, 6)])
def test_no_other_table_of_its_rank_is_nearer(rows: int, width: int) -> None:
    table = torch.randn(rows, width, generator=generator(), dtype=torch.float64)
    singular = torch.linalg.svdvals(table)
    for rank in range(1, min(rows, width) + 1):
        low, up = factorize_table(table, rank)
        assert (low.shape, up.shape) == ((rows, rank), (width, rank))
        error = (low @ up.T - table).square().sum()
        torch.testing.assert_close(error, singular[rank:].square().sum(), atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(up.T @ up, torch.eye(rank, dtype=torch.float64))
        torch.testing.assert_close(low.square().sum(0), singular[:rank].square())  # the largest first


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_weighted_it_is_never_worse_where_it_counts(seed: int, rank: int) -> None:
    random = generator(seed)
    table = torch.randn(30, 6, generator=random, dtype=torch.float64)
    weights = torch.rand(30, generator=random, dtype=torch.float64) ** 8 * 100

    def error(factors: tuple[Any, Any]) -> Any:
        low, up = factors
        return ((low @ up.T - table).square().sum(1) * weights).sum()

    weighted, plain = error(factorize_table(table, rank, weights)), error(factorize_table(table, rank))
    assert weighted <= plain * (1 + 1e-9) + 1e-12
    torch.testing.assert_close(weighted, table_variances(table, weights)[rank:].sum(), atol=1e-9, rtol=1e-9)
    singular = torch.linalg.svdvals(table * weights.sqrt()[:, None])
    torch.testing.assert_close(table_variances(table, weights), singular.square(), atol=1e-9, rtol=1e-9)


def test_weights_that_are_alike_change_nothing() -> None:
    table = torch.randn(20, 6, generator=generator(), dtype=torch.float64)
    (low, up), (one, two) = factorize_table(table, 3), factorize_table(table, 3, torch.full((20,), 2.0))
    torch.testing.assert_close(one @ two.T, low @ up.T)
    with pytest.raises(OptionError, match=r"weights \[19\] for a table \[20, 6\]"):
        factorize_table(table, 3, torch.ones(19))


def test_a_table_of_low_rank_is_factorized_exactly() -> None:
    table = torch.randn(50, 3, generator=generator()) @ torch.randn(3, 8, generator=generator(1))
    low, up = factorize_table(table.requires_grad_(), 3)
    torch.testing.assert_close(low @ up.T, table.detach())
    assert not low.requires_grad
    assert {part.dtype for part in factorize_table(table.half(), 2)} == {torch.float16}


@pytest.mark.parametrize(("shape", "rank"), [((5, 4), 0), ((5, 4), 5), ((3, 4), 4), ((5,), 1)])
def test_what_cannot_be_factorized_is_refused(shape: tuple[int, ...], rank: int) -> None:
    with pytest.raises(OptionError, match=f"at rank {rank}; give"):
        factorize_table(torch.zeros(shape), rank)


def test_random_vectors_are_as_long_as_those_of_a_whole_table() -> None:
    config = EncoderConfig.of("xxs", padding="masked", vocabulary=4000)
    lengths = [
        build_student(replace(config, rank=rank), generator()).token_table(torch.arange(4000)).square().sum(1).mean()
        for rank in (None, 32, 4)
    ]
    # The sum of squares of C numbers of variance 1 / C; that of r columns of `up` has a spread of sqrt(2 / (r C)).
    assert [length.item() for length in lengths] == [pytest.approx(1, abs=x) for x in (0.02, 0.1, 0.25)]


@pytest.mark.parametrize("preset", SMALL)
def test_every_parameter_of_a_small_student_is_used(preset: str) -> None:
    student = build_student(EncoderConfig.of(preset, padding="masked", vocabulary=VOCABULARY), generator()).train()
    features = student(random_ids(3, 7, VOCABULARY), prefix_mask([7, 4, 2], 7))
    assert features.shape == (3, 7, PRESETS[preset].output)
    features.square().sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in student.parameters())


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("folded", [False, True])
def test_a_small_student_survives_its_file(preset: str, folded: bool, tmp_path: Path) -> None:
    student = small_student(preset)
    student = student.fold() if folded else student
    save_student(student, tmp_path / "a.safetensors")
    done = convert_checkpoint(str(tmp_path / "a.safetensors"), tmp_path / "b.safetensors", "litetext")
    assert (done["variant"], done["tensors"]) == (preset, len(student.state_dict()))
    loaded = load_encoder(tmp_path / "b.safetensors", device="cpu")
    assert loaded.module.config == student.config
    assert loaded.width == PRESETS[preset].output
    for name, tensor in student.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor), name
    ids, mask = random_ids(2, 6, VOCABULARY), prefix_mask([6, 3], 6)
    assert torch.equal(loaded.module(ids, mask), student(ids, mask))
    config, _ = read_student_tensors(tmp_path / "b.safetensors")
    assert config == student.config


@pytest.mark.parametrize("preset", SMALL)
def test_inspect_shows_the_rank(preset: str, tmp_path: Path) -> None:
    row, path = PRESETS[preset], tmp_path / "a.safetensors"
    save_student(small_student(preset), path)
    found = summarize_checkpoint(str(path))
    assert (found["variant"], found["rank"], found["output"], found["faults"]) == (preset, row.rank, row.output, "")
    assert found["parts"] == parameters_by_part(replace(row, vocabulary=VOCABULARY))
    assert f"token table          600 rows, factorized: rank {row.rank}" in summary_lines(found)
    assert found["rank"] == row.rank


@pytest.mark.parametrize("family", ["upstream", "huggingface"])
def test_other_formats_cannot_hold_it(family: str, tmp_path: Path) -> None:
    save_student(small_student("micro-xs", padding="attended"), tmp_path / "a.safetensors")
    with pytest.raises(EncoderError, match="factorized"):
        convert_checkpoint(str(tmp_path / "a.safetensors"), tmp_path / "b", family)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        ("token_table.up.weight", r"missing \(1\): token_table.up.weight"),
        ("token_table.weight", "none of the known text encoders"),
    ],
)
def test_half_a_table_is_refused(lost: str, complaint: str, tmp_path: Path) -> None:
    path, student = tmp_path / "a.safetensors", small_student("micro-xs")
    save_student(student, path)
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != lost}
    save_file(tensors, path, student.config.metadata())
    with pytest.raises(EncoderError, match=complaint):
        load_encoder(path, device="cpu")


def test_the_parts_of_another_rank_are_refused(tmp_path: Path) -> None:
    path, student = tmp_path / "a.safetensors", small_student("micro-xs")
    save_student(student, path)
    for rank, complaint in ((5, r"is \[600, 4\], not \[600, 5\]"), (None, r"unexpected \(1\): token_table.up.weight")):
        save_file(load_file(path), path, replace(student.config, rank=rank).metadata())
        with pytest.raises(EncoderError, match=complaint):
            load_encoder(path, device="cpu")
