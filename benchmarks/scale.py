"""Jobs on a Ray cluster against the plain commands, and the memory of workers as a corpus grows.

    python -m benchmarks.scale [PHRASES [PICTURES [MILLIONS [ROUNDS]]]]

Each command is a process of its own, with one thread; the micro model reads and segments. Seconds of a job are those of
its work: the start of Ray and of its actors is told apart. Memory is that of the largest worker process of an audit of
1, 2, 4 and 8 million prompts (MILLIONS times those; 0: no audit), a tenth of them distinct.
It is drawn to docs/images/scale-memory.png. The figures say what a machine makes of it that does nothing else.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.scale.nodes import PHRASES, in_a_process, write_pictures

from benchmarks.command import run

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "scale-memory.png"
ACTORS = (1, 2, 4)


def measure_embed(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    (path := folder / "phrases.txt").write_text("".join(f"red thing {n} on a table\n" for n in range(count)))
    asked = ("embed", path, "--teacher", "micro")

    def plain(output: Path) -> float:
        return float(in_a_process(*asked, "-o", output)["seconds"])

    return compare(plain, folder, count, rounds, *asked)


def measure_segment(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    pictures = write_pictures(folder / "pictures", count)
    asked = ("segment", pictures, "--model", "micro", *(word for phrase in PHRASES for word in ("-p", phrase)))

    def plain(output: Path) -> float:
        seconds = []
        for _ in range(2):  # the second has nothing to do but to load and to look
            began = time.perf_counter()
            in_a_process(*asked, "-o", output, "--threads", "1")
            seconds.append(time.perf_counter() - began)
        return seconds[0] - seconds[1]

    return compare(plain, folder, count, rounds, *asked)


def compare(plain: Callable[[Path], float], folder: Path, count: int, rounds: int, *asked: Any) -> dict[str, Any]:
    """Medians of the work of so many actors, and what a model of the first says of the others.

    Ratios are of one round, since the speed of a shared machine changes within minutes; then their median.
    """
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    jobs: dict[int, dict[str, Any]] = {}
    for number in range(rounds):
        seconds["plain"].append(plain(folder / f"{asked[0]}-{number}"))
        for actors in ACTORS:
            output = folder / f"{asked[0]}-{number}-{actors}"
            jobs[actors] = in_a_process(*asked, "-o", output, "--ray", "--workers", str(actors))["ray"]
            seconds[str(actors)].append(jobs[actors]["seconds"])
            seconds["start"].append(jobs[actors]["start_seconds"])
    ratios = {
        "overhead": [one / plain - 1 for one, plain in zip(seconds["1"], seconds["plain"], strict=True)],
        "speedup_of_two": [one / two for one, two in zip(seconds["1"], seconds["2"], strict=True)],
    }
    one, cores = median(seconds["1"]), len(os.sched_getaffinity(0))
    return {
        "rows": count,
        "seconds": {name: median(values) for name, values in seconds.items()},
        **{name: {"median": median(values), "rounds": values} for name, values in ratios.items()},
        "predicted_seconds": {actors: one / min(actors, cores) for actors in ACTORS},
        "peak_memory": {actors: job["peak_memory"] for actors, job in jobs.items()},
        "actor_seconds_per_row": one / count,
    }


def measure_audit(folder: Path, millions: int) -> dict[str, Any]:
    rows: dict[int, Any] = {}
    for size in (1, 2, 4, 8):
        total = size * millions * 1_000_000
        (prompts := folder / f"prompts-{size}").mkdir()
        for number in range(10 * size):
            lines = (f"thing {(row * 7919) % (total // 10)} on a red table" for row in range(number, total, 10 * size))
            (prompts / f"{number:03d}.txt").write_text("\n".join(lines) + "\n")
        job = in_a_process("audit", prompts, "-o", folder / f"audit-{size}", "--ray", "--workers", "2")["ray"]
        kept = sum(path.stat().st_size for path in (folder / f"audit-{size}" / "counts").iterdir())
        read = sum(path.stat().st_size for path in prompts.iterdir())
        rows[total] = {"seconds": job["seconds"], "peak_memory": job["peak_memory"], "kept": kept, "read": read}
    draw({total: one["peak_memory"] / 1e6 for total, one in rows.items()})
    return {str(total): one for total, one in rows.items()}


def draw(megabytes: dict[int, float]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.plot([total / 1e6 for total in megabytes], list(megabytes.values()), "o-")
    axes.set(xlabel="prompts in the corpus, millions", ylabel="largest worker, MB")
    axes.set(ylim=(0, 1.2 * max(megabytes.values())), xlim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(IMAGE, dpi=120)


def measure(phrases: int = 50_000, pictures: int = 200, millions: int = 1, rounds: int = 5) -> dict[str, object]:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if phrases:
            found["embed"] = measure_embed(folder, phrases, rounds)
        if pictures:
            found["segment"] = measure_segment(folder, pictures, rounds)
        if millions:
            found["audit"] = measure_audit(folder, millions)
    return found


if __name__ == "__main__":
    run(measure, __doc__, "phrases", "pictures", "millions", "rounds")
