"""Our tokenizer against SAM3's pure-Python one (open_clip's `SimpleTokenizer`, which it is a copy of).

    python -m benchmarks.tokenizer

100,000 distinct prompts; both start without any cached word; runs alternate in one process, medians are reported.
"""

import statistics
import time
from collections.abc import Callable

from open_clip.tokenizer import SimpleTokenizer

from benchmarks.command import run
from benchmarks.machine import distinct_prompts
from litetext.tokenizer.bpe import ClipTokenizer

PROMPTS, ROUNDS = 100_000, 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure() -> dict[str, object]:
    source, prompts = distinct_prompts(PROMPTS)
    theirs, cold, warm = [], [], []
    for _ in range(ROUNDS):
        reference, ours = SimpleTokenizer(), ClipTokenizer()
        theirs.append(seconds(lambda reference=reference: [reference.encode(prompt) for prompt in prompts]))
        cold.append(seconds(lambda ours=ours: ours.encode(prompts)))
        warm.append(seconds(lambda ours=ours: ours.encode(prompts)))
    return {
        "prompts": len(prompts),
        "source": source,
        "rounds": ROUNDS,
        "simple_tokenizer_seconds": statistics.median(theirs),
        "litetext_seconds": statistics.median(cold),
        "litetext_again_seconds": statistics.median(warm),
        "ratio": statistics.median(a / b for a, b in zip(theirs, cold, strict=True)),
        "ratios": [a / b for a, b in zip(theirs, cold, strict=True)],
        "ratio_again": statistics.median(a / b for a, b in zip(theirs, warm, strict=True)),
    }


if __name__ == "__main__":
    run(measure, __doc__)
