"""The table of rows holds together."""

from pathlib import Path

import pytest

from litetext.bench.openers import OPENERS
from litetext.bench.rows import BY_NAME, ROWS, choose_rows, find_row
from litetext.errors import EncoderError, OptionError


def test_every_row_can_be_made_opened_and_compared() -> None:
    pytest.importorskip("torch")
    from litetext.bench.steps import STEPS

    assert len(BY_NAME) == len(ROWS)
    for row in ROWS:
        assert set(row.chain) <= STEPS.keys(), row.name
        assert row.opener in OPENERS, row.name
        assert row.reference in BY_NAME, row.name
        reference = BY_NAME[str(row.reference)]
        assert reference.precision == "fp32"
        assert reference.chain[0] == row.chain[0], row.name  # the same weights, padding read alike


def test_every_step_is_some_rows() -> None:
    pytest.importorskip("torch")
    from litetext.bench.steps import STEPS

    assert {step for row in ROWS for step in row.chain} == STEPS.keys()


def test_tokens_that_are_computed() -> None:
    assert find_row("teacher-bf16").computed(16) == 32
    assert find_row("huggingface").computed(16) == 32
    assert find_row("onnx-int8").computed(16) == 16
    assert find_row("masked-onnx-int8").computed(16) is None


def test_rows_are_chosen_in_the_order_of_the_table() -> None:
    assert [row.name for row in choose_rows(("bank", "teacher-*"))] == ["teacher-fp32", "teacher-bf16", "bank"]
    assert choose_rows(("*",)) == ROWS


def test_a_bank_knows_the_first_phrases() -> None:
    texts = [str(number) for number in range(2000)]
    assert find_row("bank").known(texts) == texts[:1000]
    assert find_row("torch").known(texts) == texts


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no row is called 'tpu'; there are teacher-fp32, "):
        choose_rows(("torch", "tpu"))
    with pytest.raises(OptionError, match="no row is called 'tpu'"):
        find_row("tpu")
    with pytest.raises(EncoderError, match="no exported text encoder"):
        find_row(f"bundle:{tmp_path}")
