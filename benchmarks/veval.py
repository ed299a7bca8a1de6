"""Seconds of `evaluate_veval` and of the official evaluator on the same synthetic set, in one process.

python -m benchmarks.veval [--videos N] [--categories N] [--rounds N]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.evaluation.official import load_official_veval, official_names
from tests.evaluation.videos import video_set

from benchmarks.evaluate import timed
from litetext.evaluation.veval import evaluate_veval

CATEGORIES = 51_248  # of VEval
ROUNDS = 2
VIDEOS = 4  # the official one takes minutes for more: its time grows with videos x categories


def measure(videos: int = VIDEOS, categories: int = CATEGORIES, rounds: int = ROUNDS) -> dict[str, object]:
    """Medians of rounds in which both take turns; the official one is left out where its package is missing."""
    official = load_official_veval(pools=True)
    with tempfile.TemporaryDirectory() as folder:
        truth, predictions = video_set(0, Path(folder), videos=videos, categories=categories)
        count = len(json.loads(predictions.read_text("utf-8")))
        report = evaluate_veval(truth, predictions)
        scores, deviation = official_names(report), 0.0
        ours, theirs = [], []

        def compare() -> None:
            nonlocal deviation
            if official is not None:
                found = official(truth, predictions)[0]
                deviation = max(abs(value - scores[name]) for name, value in found.items())

        for _ in range(rounds):
            ours.append(timed(lambda: evaluate_veval(truth, predictions)))
            theirs.append(timed(compare))
        found = {"videos": videos, "categories": categories, "masklets": count, "rounds": rounds, **report.headline}
        found["seconds"] = round(statistics.median(ours), 3)
        if official is None:
            return {**found, "note": "the PyPI package `sam3` is not installed: nothing to compare with"}
    seconds = statistics.median(theirs)
    times = seconds / statistics.median(ours)
    return {**found, "official_seconds": round(seconds, 3), "ratio": round(times, 1), "deviation": deviation}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=VIDEOS)
    parser.add_argument("--categories", type=int, default=CATEGORIES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.videos, arguments.categories, arguments.rounds), indent=2))


if __name__ == "__main__":
    main()
