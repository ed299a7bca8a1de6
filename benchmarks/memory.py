"""Memory to load S0 (170 MB) out of big checkpoints: growth of the peak resident memory of a fresh process.

    python -m benchmarks.memory

The files are synthetic, with the authors' key names and a vision tower of 2 GB beside the text side (Linux only: the
peak is read from /proc). Mapped pages of a file count, though the system may take them back at any time.
"""

import tempfile
from pathlib import Path

import torch
from tests.checkpoints.test_load import memory_to_load
from tests.encoders.synthetic import REAL, Student, save_pt, save_sparse

from benchmarks.command import run

VISION = "detector.backbone.vision_backbone.trunk.weight"
NUMBERS = 500_000_000


def measure() -> dict[str, object]:
    state = Student.make(REAL["s0"]).upstream()
    shapes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("tracked")}
    counters = [name for name in state if name.endswith("tracked")]
    found: dict[str, object] = {"text_side_mb": round(sum(value.nbytes for value in state.values()) / 1e6)}
    with tempfile.TemporaryDirectory() as folder:
        path = save_sparse({VISION: (NUMBERS,), **shapes}, Path(folder) / "big.safetensors", counters)
        found["safetensors"] = {"file_mb": path.stat().st_size // 10**6, "growth_mb": memory_to_load(path) // 10**6}
        path.unlink()
        path = save_pt({VISION: torch.zeros(NUMBERS), **state}, Path(folder) / "big.pt")
        found["pt"] = {"file_mb": path.stat().st_size // 10**6, "growth_mb": memory_to_load(path) // 10**6}
    return found


if __name__ == "__main__":
    run(measure, __doc__)
