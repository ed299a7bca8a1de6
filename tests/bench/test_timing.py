"""Timing with a clock that is made up, and the phrases that are dealt out."""

from collections.abc import Callable, Sequence
from itertools import islice, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.bench.timing import Speed, deal, time_batches


class Clock:
    """A clock that an encoder moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def encoder(self, *seconds: float) -> Callable[[Sequence[str]], None]:
        """Takes so long at each call, the last time again and again."""
        endless = iter([*seconds[:-1], *repeat(seconds[-1], 1000)])

        def encode(texts: Sequence[str]) -> None:
            self.now += next(endless)

        return encode


def test_the_first_call_does_not_count() -> None:
    clock = Clock()
    speed = time_batches(clock.encoder(0.5, 0.25), repeat(["a", "b"]), 1.0, clock)
    assert speed == Speed(2, (0.25, 0.25, 0.25, 0.25))
    assert speed.rate == 8.0


def test_three_calls_at_least() -> None:
    clock = Clock()
    assert time_batches(clock.encoder(0.9, 0.9), repeat(["a"]), 1.0, clock).calls == pytest.approx((0.9,) * 3)


def test_four_budgets_at_most() -> None:
    clock = Clock()
    assert time_batches(clock.encoder(0.5, 4.5), repeat(["a"]), 1.0, clock).calls == (4.5,)


def test_a_call_longer_than_the_budget_is_all_there_is() -> None:
    clock = Clock()
    assert time_batches(clock.encoder(7.0), repeat(["a"]), 1.0, clock).calls == (7.0,)


def test_json_has_milliseconds() -> None:
    found = Speed(4, (0.1, 0.2, 0.3)).to_json()
    assert found["p50_ms"] == pytest.approx(200)
    assert found["p99_ms"] == pytest.approx(298)
    assert found["rate"] == pytest.approx(20)
    assert found["calls"] == 3


@given(count=st.integers(8, 60), seed=st.integers(0, 9))
def test_no_phrase_twice_before_it_must(count: int, seed: int) -> None:
    texts = [f"phrase {number}" for number in range(count)]
    streams = deal(texts, (1, 3), seed)
    share = count // 2
    singles = [batch[0] for batch in islice(streams[0], share)]
    triples = [text for batch in islice(streams[1], share // 3) for text in batch]
    assert len(set(singles)) == share
    assert len(set(triples)) == len(triples)
    assert not set(singles) & set(triples)


def test_a_share_too_small_for_a_batch_borrows() -> None:
    texts = [f"phrase {number}" for number in range(10)]
    *_, stream = deal(texts, (1, 8), 0)
    assert len(set(next(stream))) == 8
    assert deal(texts, (1,), 0)[0].__next__() != deal(texts, (1,), 1)[0].__next__()
