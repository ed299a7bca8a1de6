"""`litetext bench` on SA-Co's phrases; its tables go to benchmarks/results/text.

    python -m benchmarks text [OPTIONS OF LITETEXT BENCH]

Random weights of the true sizes: SAM3's text encoder, S0 whose blocks read padding as released students do, and S0 that
masks it, whole and pruned to the phrases.
"""

import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.machine import DATA, RESULTS, saco_prompts
from litetext.checkpoints.writer import save_encoder, save_student
from litetext.cli import run
from litetext.encoders.config import PRESETS, EncoderConfig
from litetext.encoders.student import StudentEncoder, build_student
from litetext.encoders.teacher import build_teacher
from litetext.export.compress import compress


def write_models(folder: Path) -> None:
    """A teacher and two students."""
    generator = torch.Generator().manual_seed(0)
    config = PRESETS["teacher"]
    teacher = build_teacher(config, generator)
    save_encoder(config, teacher.state_dict().items(), folder / "teacher.safetensors", "litetext")
    student = build_student(EncoderConfig.of("s0", padding="masked"), generator).eval()
    save_student(student, folder / "s0-masked.safetensors")
    pruned = compress(StudentEncoder(student, "s0"), saco_prompts()[1], prune=True, check=64)
    pruned.save(folder / "s0-masked-pruned.safetensors")


def main() -> None:
    file = DATA / "saco_veval_toy_categories.txt"
    prompts = ["--prompts", str(file)] if file.is_file() else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        students = ["s0", str(folder / "s0-masked.safetensors"), str(folder / "s0-masked-pruned.safetensors")]
        teacher = ["--teacher", str(folder / "teacher.safetensors")]
        options = [*teacher, *prompts, "--json", "-o", str(RESULTS / "text"), *sys.argv[1:]]
        sys.exit(run(["bench", *students, *options]))


if __name__ == "__main__":
    main()
