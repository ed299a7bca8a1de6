"""Features compared with what was kept of the reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litetext.bench.exactness import compare, kept_texts, write_reference

TEXTS = [f"text {number}" for number in range(40)]
VECTORS = np.random.default_rng(0).standard_normal((40, 5, 4)).astype(np.float32)
LENGTHS = np.arange(40) % 4 + 2


def encode(texts: Sequence[str]) -> tuple[Any, Any]:
    """Each text has features and 2 to 5 tokens of its own; padding means nothing."""
    rows = [TEXTS.index(text) for text in texts]
    return VECTORS[rows], np.arange(5) < LENGTHS[rows, None]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    write_reference(encode, TEXTS, tmp_path / "kept.safetensors")
    return tmp_path / "kept.safetensors"


def test_the_same(kept: Path) -> None:
    found = compare(encode, TEXTS, kept)
    assert found is not None
    assert (found.phrases, found.skipped) == (40, 0)
    assert found.least == pytest.approx(1, abs=1e-6)
    assert kept_texts(kept) == 40
    assert kept_texts(kept.with_name("none")) == 0


def test_one_token_the_other_way_round(kept: Path) -> None:
    def turned(texts: Sequence[str]) -> tuple[Any, Any]:
        values, mask = encode(texts)
        if TEXTS[35] in texts:
            values[texts.index(TEXTS[35]), 1] *= -2
        return values, mask

    found = compare(turned, TEXTS, kept)
    assert found is not None
    assert found.least == pytest.approx(-1, abs=1e-6)
    assert found.mean == pytest.approx(1 - 2 / LENGTHS.sum(), abs=1e-6)


def test_padding_is_not_compared(kept: Path) -> None:
    def other(texts: Sequence[str]) -> tuple[Any, Any]:
        values, mask = encode(texts)
        values[~mask] = np.nan
        return values, mask

    found = compare(other, TEXTS, kept)
    assert found is not None
    assert found.least == pytest.approx(1, abs=1e-6)


def test_not_a_number_is_no_likeness(kept: Path) -> None:
    def broken(texts: Sequence[str]) -> tuple[Any, Any]:
        values, mask = encode(texts)
        values[0, 0] = np.nan
        return values, mask

    found = compare(broken, TEXTS, kept)
    assert found is not None
    assert found.least == -1


def test_other_lengths_are_skipped(kept: Path) -> None:
    def cut(texts: Sequence[str]) -> tuple[Any, Any]:
        values, mask = encode(texts)
        return values[:, :4], mask[:, :4]

    found = compare(cut, TEXTS[:8], kept)
    assert found is not None
    assert (found.phrases, found.skipped) == (6, 2)
    assert compare(lambda texts: (VECTORS[:1, :1], np.ones((1, 1), dtype=np.bool_)), TEXTS[:1], kept) is None
