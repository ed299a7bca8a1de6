"""Prompt banks: to open one of a million phrases, to look phrases up in it, and what one of a thousand takes.

    python -m benchmarks.bank [PHRASES]

Features are random numbers of SAM3's width, stored in fp16: 4 tokens a phrase in the big bank, CLIP's tokens in the
small one. Every figure is of a fresh process that opens the file. "cold" is after the system was asked to forget the
file, one phrase a call; "warm" is the same calls again. A known phrase's time holds its cleaning, its hash, the search
and the copy of its features. Resident growth counts the pages of the mapped file that were read (Linux only).
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import run
from benchmarks.machine import distinct_prompts, saco_prompts
from litetext.features.encode import encode
from litetext.features.protocol import Arrays
from litetext.features.store import Teacher, distinct_phrases, write_shard
from litetext.tokenizer.bpe import TokenBatch
from litetext.tokenizer.clean import clean

PHRASES, SMALL, ASKED, TOKENS, WIDTH = 1_000_000, 1000, 1000, 4, 256
CONTEXT = 32
CHILD = """
import json, resource, sys, time
from litetext.features.bank import PromptBank
from litetext.errors import EncoderError

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def timed(calls):
    found = []
    for texts in calls:
        start = time.perf_counter()
        bank.encode(texts)
        found.append((time.perf_counter() - start) / len(texts) * 1e6)
    found.sort()
    return {"median": found[len(found) // 2], "p99": found[len(found) * 99 // 100], "mean": sum(found) / len(found)}

texts = json.load(sys.stdin)
before = resident()
start = time.perf_counter()
bank = PromptBank.open(sys.argv[1])
result = {"open_seconds": time.perf_counter() - start, "open_growth_bytes": resident() - before}
one_by_one = [[text] for text in texts]
result["cold_microseconds"] = timed(one_by_one)
result["growth_bytes"] = resident() - before
result["warm_microseconds"] = timed(one_by_one)
result["warm_microseconds_in_batches_of_32"] = timed([texts[at : at + 32] for at in range(0, len(texts), 32)])
start = time.perf_counter()
try:
    bank.encode(["a phrse that nobody wrote"])
except EncoderError as error:
    result["refusal"] = str(error).split(", /")[0]
result["refusal_seconds"] = time.perf_counter() - start
result["torch"] = "torch" in sys.modules
print(json.dumps(result))
"""


def ask(path: Path, texts: list[str]) -> dict[str, object]:
    """What a fresh process finds, after the system was asked to forget the file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(command, input=json.dumps(texts), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@dataclass(frozen=True)
class Random:
    """An encoder of random features."""

    encode: Callable[[Sequence[str]], Arrays]
    name: str = "random"
    context_length: int = CONTEXT
    width: int = WIDTH


def write(path: Path, texts: list[str], features: Callable[[Sequence[str]], Arrays], dtype: str = "fp16") -> int:
    """A bank of random features; how many phrases it has."""
    phrases = distinct_phrases(texts)
    write_shard(
        path,
        Teacher("random", "", "", CONTEXT, WIDTH),
        dtype,
        phrases,
        encode(Random(features), list(phrases.values())),
    )
    return len(phrases)


def measure(phrases: int = PHRASES) -> dict[str, object]:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((2048, CONTEXT, WIDTH), dtype=np.float32)

    def four(texts: Sequence[str]) -> Arrays:
        return pool[: len(texts), :TOKENS], np.ones((len(texts), TOKENS), bool)

    def as_clip(texts: Sequence[str]) -> Arrays:
        return pool[: len(texts)], TokenBatch.of_texts(texts, CONTEXT).mask

    source, texts = distinct_prompts(phrases * 11 // 10)
    texts = list({clean(text): text for text in texts}.values())[:phrases]
    small_source, small = saco_prompts()
    small = random.Random(0).sample(small, SMALL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.safetensors"
        start = time.perf_counter()
        held = write(path, texts, four)
        seconds = time.perf_counter() - start
        million = {"phrases": held, "source": source, "bytes": path.stat().st_size, "write_seconds": seconds}
        million |= ask(path, random.Random(0).sample(texts, ASKED))
        path.unlink()
        thousand: dict[str, object] = {"phrases": SMALL, "source": small_source}
        for number in ("fp16", "int8"):
            path = Path(folder) / f"{number}.safetensors"
            write(path, small, as_clip, number)
            thousand[number] = {"bytes": path.stat().st_size, **ask(path, small)}
    return {"tokens_a_phrase": TOKENS, "width": WIDTH, "asked": ASKED, "million": million, "thousand": thousand}


if __name__ == "__main__":
    run(measure, __doc__, "phrases")
