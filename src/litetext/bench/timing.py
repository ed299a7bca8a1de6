"""Timing of an encoder: batches of distinct phrases, one after another, until a budget is used up."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

LEAST_CALLS = 3
MOST_BUDGETS = 4  # after so many times the budget it ends, however few the calls


@dataclass(frozen=True)
class Speed:
    """What calls with batches of one size took.

    Attributes:
        batch: phrases of a call.
        calls: seconds of each call, at least one.
    """

    batch: int
    calls: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Phrases a second."""
        return self.batch * len(self.calls) / sum(self.calls)

    def to_json(self) -> dict[str, float | int]:
        """Phrases a second, and median and 99th percentile of the calls in milliseconds."""
        return {
            "batch": self.batch,
            "rate": self.rate,
            "p50_ms": 1000 * float(np.quantile(self.calls, 0.5)),
            "p99_ms": 1000 * float(np.quantile(self.calls, 0.99)),
            "calls": len(self.calls),
        }


def time_batches(
    encode: Callable[[Sequence[str]], Any],
    batches: Iterator[list[str]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Time calls until the budget is used up and there are at least three, or four budgets are.

    One call before is not counted, unless it takes longer than the budget: then it is all there is.

    Args:
        encode: what is timed.
        batches: lists of phrases, all of one size; without an end.
        seconds: the budget.
        clock: seconds from any start.
    """
    calls: list[float] = []
    first = next(batches)
    warm = _time(encode, first, clock)
    if warm > seconds:
        return Speed(len(first), (warm,))
    total = 0.0
    while total < seconds or (len(calls) < LEAST_CALLS and total < MOST_BUDGETS * seconds):
        calls.append(_time(encode, next(batches), clock))
        total += calls[-1]
    return Speed(len(first), tuple(calls))


def deal(texts: Sequence[str], sizes: Sequence[int], seed: int) -> list[Iterator[list[str]]]:
    """For each batch size an endless stream of batches, in random order, each size with phrases of its own.

    A phrase comes again only when the share of its size is used up, so that no cache helps.

    Args:
        texts: distinct phrases, at least the largest size.
        sizes: phrases of a batch.
        seed: another one gives another order.
    """
    order = random.Random(seed).sample(texts, len(texts))  # noqa: S311 - nothing is secret
    share = len(order) // len(sizes)
    parts = [order[start * share : (start + 1) * share] for start in range(len(sizes))]
    # A share that cannot fill one batch borrows from the others: within a batch all phrases are distinct.
    return [_stream(part if len(part) >= size else order, size) for part, size in zip(parts, sizes, strict=True)]


def _stream(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    whole = len(texts) - len(texts) % size
    endless = cycle(texts[:whole])
    while True:
        yield list(islice(endless, size))


def _time(encode: Callable[[Sequence[str]], Any], batch: list[str], clock: Callable[[], float]) -> float:
    start = clock()
    encode(batch)
    return clock() - start
