"""Seconds and peak memory of `measure_geometry`, in a fresh process.

Run: .venv/bin/python benchmarks/geometry.py [--points N] [--ambient D]
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from litetext.anatomy.geometry import GeometryOptions, measure_geometry

MANIFOLD = 17
NOISE = 0.001
MEASURE = "--measure"


def curved_points(count: int, ambient: int) -> np.ndarray:
    """Points [count, ambient] float32 on a curved 17-D manifold (a tanh of linear mixtures), with a little noise."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((count, MANIFOLD), dtype=np.float32)
    mixture = rng.standard_normal((MANIFOLD, ambient), dtype=np.float32) / MANIFOLD**0.5
    curved = np.tanh(points @ mixture)
    curved += NOISE * rng.standard_normal(curved.shape, dtype=np.float32)
    return curved


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measure(points: int, ambient: int) -> dict[str, object]:
    """Time one measurement in this process."""
    matrix = curved_points(points, ambient)
    start, start_cpu = time.perf_counter(), time.process_time()
    stats = measure_geometry(matrix, GeometryOptions())
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "points": points,
        "ambient": ambient,
        "manifold": MANIFOLD,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_rss_mb": round(peak / 1e6),
        "twonn": round(stats.twonn.value, 3),
        "mle": round(stats.mle.value, 3),
        "effective_rank": round(stats.effective_rank.value, 3),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "blas": {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
        },
    }


def main() -> None:
    """Measure in a child process, so that nothing of this one counts, and print its JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--ambient", type=int, default=256)
    parser.add_argument(MEASURE, action="store_true", help="measure in this very process")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.points, arguments.ambient), indent=2))
    else:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], MEASURE], check=True)


if __name__ == "__main__":
    main()
