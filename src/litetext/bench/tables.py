"""The report as Markdown: speed, memory, ratios, what could not be measured, and the machine."""

from collections.abc import Iterable, Sequence
from typing import Any

from litetext.bench.report import Result
from litetext.bench.run import BenchReport

PRECISIONS = ("fp32", "bf16")  # of matrix products


def to_markdown(report: BenchReport) -> str:
    """The whole report."""
    measured = [result for result in report.results if result.reason is None]
    parts = [
        "# Text encoders side by side",
        _about(report),
        "## Speed",
        _speed(measured, report),
        "## Memory and exactness",
        _memory(measured),
    ]
    if report.ratios:
        parts += ["## Ratios", _ratios(report)]
    if left := [result for result in report.results if result.reason is not None]:
        rows = [[result.row.name, result.title, str(result.reason)] for result in left]
        parts += ["## Not measured", _table(["row", "what", "why"], rows)]
    return "\n\n".join(parts) + "\n"


def _about(report: BenchReport) -> str:
    machine, options = report.machine, report.options
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} before the run"
    peaks = [f"{machine['gflops'][name]:,.0f} in {name}" for name in PRECISIONS if machine["gflops"][name]]
    return (
        f"{machine['cpu']} ({', '.join(machine['features']) or 'no features known'}), {machine['usable_cores']} of "
        f"{machine['cores']} cores, {_count(options.threads or 1, 'thread')}{load}; {machine['system']}, "
        f"Python {machine['python']}, {packages}. Matrix products ({machine['gflops']['by']}), GFLOP/s: "
        f"{' and '.join(peaks)}.\n\n"
        f"{report.prompts['count']:,} distinct phrases of {report.prompts['source']}. Medians of "
        f"{_count(options.rounds, 'round')}, each row in fresh processes."
    )


def _speed(results: Sequence[Result], report: BenchReport) -> str:
    batches, compared, peak = report.options.batches, report.options.compared, report.machine["gflops"]
    heads = [
        "row",
        "weights",
        *(f"prompts/s at {batch}" for batch in batches),
        "one phrase, ms p50 / p99",
        "with one thread",
        f"GFLOP/s at {compared} (of the peak)",
    ]
    rows = []
    for result in results:
        found = result.to_json(peak)
        rates = [figure(found["prompts_per_second"].get(str(batch))) for batch in batches]
        times = [_latency(found[name]) for name in ("latency_ms", "latency_one_thread_ms")]
        share = found["share_of_peak"].get(str(compared))
        reached = figure(found["gflops"].get(str(compared))) + ("" if share is None else f" ({share:.0%})")
        rows.append([result.title, result.weights, *rates, *times, reached])
    return _table(heads, rows)


def _memory(results: Sequence[Result]) -> str:
    heads = [
        "row",
        "file MB",
        "resident MB: load",
        "first phrase",
        "batches",
        "whole process",
        "PyTorch",
        "load s",
        "cosine, mean / least (phrases)",
    ]
    rows = []
    for result in results:
        found = result.to_json({})
        sizes = [*found["resident_mb"].values(), found["process_mb"]]
        rows.append(
            [
                result.title,
                figure(found["file_mb"]),
                *(figure(size) for size in sizes),
                "yes" if found["imports_torch"] else "no",
                figure(found["load_seconds"]),
                _cosine(result),
            ]
        )
    return _table(heads, rows)


def _ratios(report: BenchReport) -> str:
    rows = [[ratio.name, f"{figure(ratio.value)} {ratio.unit}", ", ".join(ratio.rows)] for ratio in report.ratios]
    return _table(["what", "value", "rows"], rows)


def _latency(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{figure(found['p50'])} / {figure(found['p99'])}"


def _cosine(result: Result) -> str:
    if result.row.reference == result.row.name:
        return "the reference"
    cosine = result.cosine
    return "" if cosine is None else f"{cosine['mean']:.5f} / {cosine['least']:.5f} ({cosine['phrases']:,})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def figure(value: float | None) -> str:
    """A number for people, with three digits that count; "" for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
