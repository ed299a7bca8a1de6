"""Results as a run would find them, made up."""

from typing import Any

from litetext.bench.ratios import compare_rows
from litetext.bench.report import Result
from litetext.bench.rows import find_row
from litetext.bench.run import BenchOptions, BenchReport

MACHINE: dict[str, Any] = {
    "cpu": "a processor",
    "features": ["avx2"],
    "cores": 4,
    "usable_cores": 2,
    "memory_mb": 1000,
    "system": "a system",
    "python": "3.11",
    "packages": {"litetext": "0.1.0"},
    "load": 0.5,
    "threads": 2,
    "gflops": {"fp32": 100.0, "bf16": 400.0, "by": "torch.mm"},
}


def speed(batch: int, rate: float) -> dict[str, Any]:
    milliseconds = 1000 * batch / rate
    return {"batch": batch, "rate": rate, "p50_ms": milliseconds, "p99_ms": 2 * milliseconds, "calls": 10}


def found(rate: float, cosine: dict[str, Any] | None = None, resident: int | None = 50_000_000) -> dict[str, Any]:
    """One round of a row: batches of 32 at a rate, single phrases at a tenth of it."""
    return {
        "import_seconds": 1.0,
        "load_seconds": 0.5,
        "first_seconds": 0.1,
        "resident": dict.fromkeys(("load", "first", "batches"), resident),
        "process": None if resident is None else resident + 40_000_000,
        "torch": False,
        "speeds": [speed(1, rate / 10), speed(32, rate)],
        "cosine": cosine,
    }


def result(name: str, *rates: float, cosine: tuple[float, float] | None = None, **changes: Any) -> Result:
    """A row measured in as many rounds as there are rates, ten times as fast in batches as with one thread alone."""
    compared = None
    if cosine is not None:
        compared = {"phrases": 100, "skipped": 0, "mean": cosine[0], "p1": cosine[1], "least": cosine[1]}
    rounds = tuple((found(rate, compared if not place else None), found(rate)) for place, rate in enumerate(rates))
    row = find_row(name)
    whole = {"weights": "random", "bytes": 2_000_000, "length": row.computed(16), "flops": 1e9, "rounds": rounds}
    return Result(row, row.title.format(student="S0"), **whole | changes)


def report(*results: Result) -> BenchReport:
    options = BenchOptions(rounds=3, batches=(1, 32), threads=2)
    prompts = {"source": "a file", "count": 5000}
    return BenchReport(MACHINE, prompts, options, results, tuple(compare_rows(results, 32, "S0")))
