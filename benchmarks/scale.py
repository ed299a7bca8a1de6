"""Jobs on a Ray cluster against the plain commands, and the memory of workers as a corpus grows.

    python -m benchmarks.scale [PHRASES [PICTURES [MILLIONS]]]

Each command is a process of its own, with one thread; the micro model reads and segments. Seconds of a job are those of
its work: the start of Ray and of its actors is told apart. Memory is that of the largest worker process of an audit of
one million prompts, and of twice and four times as many (MILLIONS times those; 0: no audit), a tenth of them distinct.
It is drawn to docs/images/scale-memory.png. The figures say what a machine makes of it that does nothing else.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.scale.nodes import PHRASES, in_a_process, write_pictures

from benchmarks.command import run

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "scale-memory.png"
ACTORS = (1, 2, 4)


def measure_embed(folder: Path, count: int) -> dict[str, Any]:
    (path := folder / "phrases.txt").write_text("".join(f"red thing {n} on a table\n" for n in range(count)))
    asked = ("embed", path, "--teacher", "micro")
    plain = in_a_process(*asked, "-o", folder / "embedded")["seconds"]
    return {"rows": count, **compare(plain, folder, count, *asked)}


def measure_segment(folder: Path, count: int) -> dict[str, Any]:
    pictures = write_pictures(folder / "pictures", count)
    asked = ("segment", pictures, "--model", "micro", *(word for phrase in PHRASES for word in ("-p", phrase)))
    seconds = []
    for _ in range(2):  # the second has nothing to do but to load and to look
        began = time.perf_counter()
        in_a_process(*asked, "-o", folder / "segmented", "--threads", "1")
        seconds.append(time.perf_counter() - began)
    return {"rows": count, **compare(seconds[0] - seconds[1], folder, count, *asked)}


def compare(plain: float, folder: Path, count: int, *asked: Any) -> dict[str, Any]:
    """The work of so many actors, and what a model of the first (seconds a row over the actors) says of the others."""
    found: dict[str, Any] = {"plain_seconds": plain, "actors": {}}
    for actors in ACTORS:
        job = in_a_process(*asked, "-o", folder / f"{asked[0]}-{actors}", "--ray", "--workers", str(actors))["ray"]
        found["actors"][actors] = {name: job[name] for name in ("seconds", "start_seconds", "peak_memory")}
    one = found["actors"][1]["seconds"]
    found |= {"overhead": one / plain - 1, "speedup_of_two": one / found["actors"][2]["seconds"]}
    cores = len(os.sched_getaffinity(0))
    for actors, figures in found["actors"].items():
        figures["predicted_seconds"] = one / min(actors, cores)
    return {**found, "actor_seconds_per_row": one / count}


def measure_audit(folder: Path, millions: int) -> dict[str, Any]:
    rows: dict[int, Any] = {}
    for size in (1, 2, 4):
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
    axes.set(xlabel="prompts in the corpus, millions", ylabel="largest worker, MB", ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(IMAGE, dpi=120)


def measure(phrases: int = 50_000, pictures: int = 200, millions: int = 1) -> dict[str, object]:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if phrases:
            found["embed"] = measure_embed(folder, phrases)
        if pictures:
            found["segment"] = measure_segment(folder, pictures)
        if millions:
            found["audit"] = measure_audit(folder, millions)
    return found


if __name__ == "__main__":
    run(measure, __doc__, "phrases", "pictures", "millions")
