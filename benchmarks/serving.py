"""What an exported S0 answers: the same whatever the batch, order and threads, and as PyTorch does, on SA-Co's phrases.

    python -m benchmarks.serving [PHRASES]

S0 with random weights at its true size. Invariance: float32, every phrase encoded twice (batches of 32 in the given
order with one thread; batches of 7 in another order with two), every hundredth alone as well, nothing remembered; the
largest difference of two numbers. Truth: int8 weights, activations and table, calibrated on 1,000 other phrases,
against float32 PyTorch: cosine of each valid token of 5,000 phrases.
"""

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.command import run
from benchmarks.machine import saco_prompts
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import StudentEncoder, TextStudent, build_student
from litetext.export.exporter import export_student
from litetext.export.quantize import KINDS, calibrate, quantize_student
from litetext.export.runtime import TextRuntime
from litetext.features.compare import compare

CALIBRATED, COMPARED, ALONE = 1000, 5000, 100


def s0(padding: Literal["attended", "masked"]) -> TextStudent:
    config = EncoderConfig.of("s0", padding=padding)
    return build_student(config, torch.Generator().manual_seed(0)).eval().fold()


def exported(student: TextStudent, folder: Path, phrases: list[str], **options: int) -> TextRuntime:
    export_student(StudentEncoder(student, "s0"), folder, phrases[:: len(phrases) // 500])
    return TextRuntime.open(folder, cache=0, **options)  # type: ignore[arg-type]


def invariance(student: TextStudent, folder: Path, phrases: list[str]) -> dict[str, object]:
    """Largest differences between the features of each phrase, encoded in other company."""
    one = exported(student, folder, phrases, threads=1, batch_size=32)
    two = TextRuntime.open(folder, cache=0, threads=2, batch_size=7)
    largest, alone = 0.0, 0.0
    order = np.random.default_rng(1).permutation(len(phrases))
    features, lengths = [], []
    for start in range(0, len(phrases), 1024):
        values, mask = one.encode(phrases[start : start + 1024])
        lengths += mask.sum(axis=1).tolist()
        features += [row[seen] for row, seen in zip(values, mask, strict=True)]
    for start in range(0, len(phrases), 700):
        rows = order[start : start + 700]
        values, mask = two.encode([phrases[row] for row in rows])
        for place, row in enumerate(rows):
            largest = max(largest, float(np.abs(values[place][mask[place]] - features[row]).max()))
    for row in range(0, len(phrases), ALONE):
        values, mask = one.encode([phrases[row]])
        alone = max(alone, float(np.abs(values[0][mask[0]] - features[row]).max()))
    return {"phrases": len(phrases), "tokens": sum(lengths), "other_batch_order_threads": largest, "alone": alone}


def truth(student: TextStudent, folder: Path, phrases: list[str]) -> dict[str, object]:
    """Cosine of the int8 program with float32 PyTorch."""
    some = [phrases[row] for row in np.random.default_rng(2).permutation(len(phrases))]
    learn, check = some[:CALIBRATED], some[CALIBRATED:][:COMPARED]
    small = quantize_student(student, KINDS["int8"], calibrate(student, learn))
    served = exported(small, folder, check)
    return compare(StudentEncoder(student, "s0"), served, check).to_json()


def measure(count: int | None = None) -> dict[str, object]:
    source, phrases = saco_prompts()
    phrases = phrases[:count]
    found: dict[str, object] = {"source": source}
    with tempfile.TemporaryDirectory() as folder:
        for padding in ("attended", "masked"):
            student = s0(padding)
            found[padding] = {
                "invariance": invariance(student, Path(folder) / padding, phrases),
                "int8": truth(student, Path(folder) / f"{padding}-int8", phrases),
            }
    return found


if __name__ == "__main__":
    run(measure, __doc__, "phrases")
