"""Position tables become as long as they must, in the way that was said."""

from typing import Any

import pytest

from litetext.errors import OptionError

torch = pytest.importorskip("torch")
from litetext.checkpoints.load import resize_positions  # noqa: E402

pytestmark = pytest.mark.torch
RESIZES = ("slice", "interpolate", "keep")


@pytest.fixture
def table() -> Any:
    return torch.randn(77, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [1, 7, 16, 32, 77, 100])
def test_interpolation_is_that_of_the_port_of_transformers(table: Any, rows: int) -> None:
    from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextPositionEmbedding

    oracle = Sam3LiteTextTextPositionEmbedding(77, 24)
    oracle.load_state_dict({"position_embedding": table[None, None]})
    assert torch.equal(resize_positions(table, rows, "interpolate"), oracle(rows)[0])


def test_interpolation_has_the_known_answer() -> None:
    # Row i of 2 stands at (i + 1/2) * 4 / 2 - 1/2 of 4 rows: at 0.5 and 2.5.
    got = resize_positions(torch.tensor([[0.0], [10.0], [20.0], [60.0]]), 2, "interpolate")
    assert got.tolist() == [[5.0], [40.0]]


def test_a_slice_is_the_first_rows_and_not_a_view(table: Any) -> None:
    got = resize_positions(table, 16, "slice")
    assert torch.equal(got, table[:16])
    got.zero_()
    assert table[:16].abs().min() > 0
    assert got.untyped_storage().nbytes() == 16 * 24 * 4


def test_the_ways_differ(table: Any) -> None:
    assert not torch.allclose(resize_positions(table, 16, "slice"), resize_positions(table, 16, "interpolate"))


@pytest.mark.parametrize("how", RESIZES)
def test_every_way_keeps_a_table_that_fits(table: Any, how: Any) -> None:
    assert torch.equal(resize_positions(table, 77, how), table)


@pytest.mark.parametrize("how", RESIZES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_the_number_type_stays(table: Any, how: Any, dtype: str) -> None:
    got = resize_positions(table.to(getattr(torch, dtype)), 77, how)
    assert got.dtype is getattr(torch, dtype)


@pytest.mark.parametrize(
    ("rows", "how"), [(78, "slice"), (16, "keep"), (78, "keep"), (16, "nearest"), (16, ""), (16, None)]
)
def test_what_does_not_fit_is_refused_with_the_choices(table: Any, rows: int, how: Any) -> None:
    with pytest.raises(OptionError, match=rf"{rows} rows of a position table of 77 .*'slice'.*'interpolate'.*'keep'"):
        resize_positions(table, rows, how)


@pytest.mark.parametrize(("shape", "rows"), [((1, 1, 77, 24), 16), ((77,), 16), ((77, 24), 0), ((77, 24), -1)])
def test_what_is_no_table_is_refused(shape: tuple[int, ...], rows: int) -> None:
    with pytest.raises(OptionError, match=r"a position table \["):
        resize_positions(torch.zeros(shape), rows, "slice")
