"""Seconds and peak memory of `measure_geometry`, in a fresh process.

python -m benchmarks.geometry [--points N] [--ambient D]
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from litetext.auditing.geometry import measure_geometry

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


def measure_here(points: int, ambient: int) -> dict[str, object]:
    """Time one measurement in this process."""
    matrix = curved_points(points, ambient)
    start, start_cpu = time.perf_counter(), time.process_time()
    stats = measure_geometry(matrix)
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
        "numpy": np.__version__,
    }


def measure(points: int = 50_000, ambient: int = 256) -> dict[str, object]:
    """Measure in a child process, so that nothing of this one counts."""
    command = [sys.executable, "-m", "benchmarks.geometry", "--points", str(points), "--ambient", str(ambient), MEASURE]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--ambient", type=int, default=256)
    parser.add_argument(MEASURE, action="store_true", help="measure in this very process")
    arguments = parser.parse_args()
    work = measure_here if arguments.measure else measure
    print(json.dumps(work(arguments.points, arguments.ambient), indent=2))


if __name__ == "__main__":
    main()
