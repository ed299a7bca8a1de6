"""Seconds of `evaluate_gold` and of the official evaluator on the same synthetic set, in one process.

python -m benchmarks.evaluate [--pairs N] [--annotators N]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.evaluation.official import load_official
from tests.evaluation.synthetic import gold_set

from litetext.evaluation.cgf1 import evaluate_gold

ROUNDS = 3


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(pairs: int = 2000, annotators: int = 3) -> dict[str, object]:
    """Medians of rounds in which both take turns; the official one is left out where its package is missing."""
    official = load_official()
    with tempfile.TemporaryDirectory() as folder:
        truths, predictions = gold_set(0, pairs, annotators, Path(folder))
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(timed(lambda: evaluate_gold(truths, predictions)))
            if official is not None:
                theirs.append(timed(lambda: official(truths, predictions)))
        result = evaluate_gold(truths, predictions).to_json()
        found = {"pairs": pairs, "annotators": annotators, "rounds": ROUNDS, "cgf1": result["cgf1"]}
        found["seconds"] = round(statistics.median(ours), 3)
        if official is None:
            return {**found, "note": "the PyPI package `sam3` is not installed: nothing to compare with"}
        scores = {**result, **result["raw"]}
        deviation = max(abs(value - scores[name]) for name, value in official(truths, predictions).items())
    seconds = statistics.median(theirs)
    times = seconds / statistics.median(ours)
    return {**found, "official_seconds": round(seconds, 3), "ratio": round(times, 1), "deviation": deviation}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--annotators", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.pairs, arguments.annotators), indent=2))


if __name__ == "__main__":
    main()
