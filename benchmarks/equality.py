"""Largest differences between our encoders and the oracles, at the real sizes, float32 on the CPU.

    python -m benchmarks.equality

Weights are deterministic and hide no mistake (no ones, no zeros, batch-norm statistics far from fresh); prompts have
accents, emoji, entities, an empty text, truncation and padding. Files are written under the authors' own key names with
a position table of 77 rows, and loaded with `load_encoder`.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from tests.encoders.synthetic import PROMPTS, REAL, TEACHER, Student, Teacher, save_pt

from benchmarks.command import run
from litetext.checkpoints.load import load_encoder
from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.tokenizer.bpe import TokenBatch

WAYS = (("slice", 16), ("interpolate", 16), ("interpolate", 32))


def largest(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


def student_differences(name: str, folder: Path) -> dict[str, float]:
    """Against transformers' `Sam3LiteTextTextModel` (same ids, no mask), and of our own forms among each other."""
    oracle = Student.make(REAL[name])
    path = save_pt(oracle.upstream(), folder / f"{name}.pt")
    found = {}
    for how, context_length in WAYS:
        encoder = load_encoder(path, positions=how, context_length=context_length, device="cpu")
        batch = TokenBatch.of_texts(PROMPTS, context_length)
        found[f"{how} {context_length}"] = largest(encoder.encode(batch).values, oracle.features(batch, how))
    assert isinstance(encoder, StudentEncoder)
    found |= own_differences(encoder.module)
    path.unlink()
    return found


def own_differences(module: TextStudent) -> dict[str, float]:
    """Folded against trained form; with masked padding, features at valid tokens at L = 32 against the shortest L."""
    found = {}
    for padding in ("attended", "masked"):
        module.config = replace(module.config, padding=padding)
        whole, folded = (StudentEncoder(form, "student").encode(PROMPTS) for form in (module, module.fold()))
        found[f"folded, {padding}"] = largest(whole.values[whole.mask], folded.values[folded.mask])
    batch = TokenBatch.of_texts(PROMPTS[:3], module.config.context_length)
    ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
    with torch.no_grad():
        longest = int(mask.sum(1).max())
        wide, narrow = module(ids, mask), module(ids[:, :longest], mask[:, :longest])
    found["masked, other L"] = largest(wide[mask], narrow[mask[:, :longest]])
    return found


def teacher_differences(folder: Path) -> dict[str, float]:
    """Against transformers' CLIP tower at 32, from Meta's names and Hugging Face's; and run at the longest prompt."""
    oracle = Teacher.make(TEACHER)
    batch = TokenBatch.of_texts(PROMPTS, 32)
    expected = oracle.features(batch)
    path = save_pt(oracle.upstream(), folder / "sam3.pt")
    encoder = load_encoder(path, device="cpu")
    path.unlink()
    features, short = encoder.encode(batch), encoder.encode(PROMPTS[:3])  # the longest of these has 13 tokens
    rows = expected[:3, : short.mask.shape[1]]
    return {
        "CLIP tower at 32": largest(features.values[features.mask], expected[features.mask]),
        "longest prompt against 32": largest(short.values[short.mask], rows[short.mask]),
    }


def measure() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        students = {name: student_differences(name, Path(folder)) for name in REAL}
        return {"torch": torch.__version__, "students": students, "teacher": teacher_differences(Path(folder))}


if __name__ == "__main__":
    run(measure, __doc__)
