import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.auditing.context import quantile, smallest_context, summarize, use_of_context

lengths = st.lists(st.integers(2, 40), min_size=1, max_size=50)


def histogram(values: list[int]) -> np.ndarray:
    return np.bincount(values).astype(np.int64)


def test_known_answers() -> None:
    counts = histogram([2, 4, 4, 10])
    use = use_of_context(counts, 8)
    assert use.density == (2 + 4 + 4 + 8) / 32
    assert use.padding == 1 - use.density
    assert use.truncated == 0.25
    assert (use.lost_tokens, use.lost_share) == (2, 0.1)
    assert use.wasted_attention == 1 - (4 + 16 + 16 + 64) / (4 * 64)
    summary = summarize(counts)
    assert (summary.mean, summary.median, summary.max) == (5.0, 4.0, 10)
    assert summary.to_json()["counting"] == "start and end tokens are counted"


@given(lengths, st.floats(0, 1))
def test_quantiles_are_numpys(values: list[int], share: float) -> None:
    assert quantile(histogram(values), share) == pytest.approx(np.quantile(values, share))


@given(lengths)
def test_summary_is_numpys(values: list[int]) -> None:
    summary = summarize(histogram(values))
    assert summary.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert (summary.median, summary.max) == (np.median(values), max(values))
    assert summary.p95 == pytest.approx(np.percentile(values, 95))


@given(lengths, st.integers(3, 50))
def test_use_of_context_is_the_definition(values: list[int], length: int) -> None:
    use, n = use_of_context(histogram(values), length), np.array(values)
    kept = np.minimum(n, length)
    assert use.density == pytest.approx(kept.mean() / length)
    assert use.truncated == pytest.approx((n > length).mean())
    assert use.lost_tokens == (n - kept).sum()
    assert use.wasted_attention == pytest.approx(1 - (kept**2).sum() / (len(n) * length**2))
    assert 0 <= use.padding < 1


@given(lengths, st.floats(0, 0.99))
def test_smallest_context_keeps_the_limit_and_is_smallest(values: list[int], limit: float) -> None:
    counts = histogram(values)
    length = smallest_context(counts, limit)
    assert use_of_context(counts, length).truncated <= limit + 1e-12
    if length > 3:
        assert use_of_context(counts, length - 1).truncated > limit - 1e-12


def test_smallest_context_by_hand() -> None:
    counts = histogram([5] * 98 + [9, 20])
    assert [smallest_context(counts, limit) for limit in (0.0, 0.01, 0.02, 0.5)] == [20, 9, 5, 5]
