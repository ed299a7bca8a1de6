"""Seconds and peak memory of `litetext audit FILE --json`, whole process, from 10,000 to 320,000 prompts.

python -m benchmarks.audit
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.command import run
from benchmarks.machine import distinct_prompts

SIZES = (10_000, 20_000, 40_000, 80_000, 160_000, 320_000)
ROUNDS = 3
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "audit-cost.png"


def run_once(path: Path) -> tuple[float, float, dict[str, object]]:
    """Wall seconds, peak resident megabytes, and the report's JSON."""
    output = path.with_suffix(".out")
    start = time.perf_counter()
    with output.open("wb") as file:
        command = [sys.executable, "-m", "litetext", "audit", str(path), "--json"]
        child = os.posix_spawn(
            sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, file.fileno(), 1)]
        )
        _, status, usage = os.wait4(child, 0)
    elapsed = time.perf_counter() - start
    assert os.waitstatus_to_exitcode(status) == 0
    unit = 1 if sys.platform == "darwin" else 1024
    return elapsed, usage.ru_maxrss * unit / 1e6, json.loads(output.read_text())


def measure() -> dict[str, object]:
    source, prompts = distinct_prompts(SIZES[-1])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.txt"
            path.write_text("\n".join(prompts[:size]), encoding="utf-8")
            runs = sorted(run_once(path)[:2] for _ in range(ROUNDS))
            report = run_once(path)[2]
            rows.append(
                {
                    "prompts": report["prompts"]["total"],
                    "distinct": report["prompts"]["distinct"],
                    "seconds": runs[ROUNDS // 2][0],
                    "peak_rss_mb": max(memory for _, memory in runs),
                }
            )
    draw(rows)
    return {"source": source, "rounds": ROUNDS, "rows": rows}


def draw(rows: list[dict[str, float]]) -> None:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, label in ((left, "seconds", "seconds"), (right, "peak_rss_mb", "peak resident MB")):
        axes.plot([row["prompts"] / 1000 for row in rows], [row[key] for row in rows], "o-")
        axes.set(xlabel="thousand prompts", ylabel=label, xlim=(0, None), ylim=(0, None))
    figure.suptitle("litetext audit FILE --json, whole process")
    figure.savefig(FIGURE, dpi=150)


if __name__ == "__main__":
    run(measure, __doc__)
