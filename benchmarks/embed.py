"""Prompts per second of `litetext embed`'s loop against the naive one, which pads every batch to 32 tokens.

    python -m benchmarks.embed [ROUNDS]

The naive loop takes the prompts as they come, 32 at a time. The teacher is SAM3's in width and heads with 6 of its 24
blocks and random weights: the ratio hardly depends on the depth, the seconds do. That ours writes its cache to disk is
in its seconds; what is before the first batch (loading, the teacher's fingerprint, counting tokens) is in neither's.
Differences are of what is stored in fp16, over the size of the feature where that is above 1.
"""

import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.command import run
from benchmarks.machine import real_prompts
from litetext.encoders.config import PRESETS
from litetext.encoders.encoder import ModuleEncoder, encode_batch
from litetext.encoders.teacher import build_teacher
from litetext.features.embed import embed
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.bpe import TokenBatch

PROMPTS, ROUNDS, BATCH = 512, 3, 32
BLOCKS = 6


def naive(teacher: ModuleEncoder, texts: list[str]) -> tuple[float, list[torch.Tensor]]:
    """Seconds, and the features [L_i, D] of each text in fp16."""
    rows: list[torch.Tensor] = []
    start = time.perf_counter()
    for first in range(0, len(texts), BATCH):
        features = encode_batch(teacher.module, TokenBatch.of_texts(texts[first : first + BATCH], 32))
        rows += [values[mask].half() for values, mask in zip(features.values, features.mask, strict=True)]
    return time.perf_counter() - start, rows


def measure(rounds: int = ROUNDS) -> dict[str, object]:
    source, prompts = real_prompts()
    random.Random(0).shuffle(prompts)
    corpus = PromptCorpus.build(Prompt(prompt) for prompt in prompts[:PROMPTS])
    texts = list(corpus.texts)
    config = replace(PRESETS["teacher"], encoder_blocks=BLOCKS)
    teacher = ModuleEncoder(build_teacher(config, torch.Generator().manual_seed(0)), "random")
    teacher.encode(texts[:BATCH])  # warm
    theirs, ours, worst = [], [], 0.0
    for _ in range(rounds):
        seconds, expected = naive(teacher, texts)
        theirs.append(len(texts) / seconds)
        with tempfile.TemporaryDirectory() as folder:
            store = embed(corpus, teacher, Path(folder) / "cache")
            for text, rows in zip(texts, expected, strict=True):
                values = store.features([text]).values[0]
                difference = (values - rows.float()).abs() / rows.float().abs().clamp(min=1)
                worst = max(worst, float(difference.max()))
        ours.append(len(texts) / store.report["seconds"])
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "prompts": len(texts),
        "source": source,
        "tokens": store.tokens,
        "teacher": f"random weights, width {config.width}, {BLOCKS} blocks, context {config.context_length}",
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "naive_prompts_per_second": statistics.median(theirs),
        "litetext_prompts_per_second": statistics.median(ours),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "largest_difference_fp16": worst,
        "largest_feature": max(float(rows.abs().max()) for rows in expected),
        "bytes_per_token": store.bytes / store.tokens,
    }


if __name__ == "__main__":
    run(measure, __doc__, "rounds")
