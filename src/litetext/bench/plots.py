"""The report as pictures: throughput by batch size, latency, and memory."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from litetext.bench.report import Result
from litetext.bench.rows import Group
from litetext.bench.run import BenchReport
from litetext.bench.tables import figure
from litetext.storage import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: dict[Group, str] = {
    "teacher": "#64748b",
    "huggingface": "#f97316",
    "exact-L": "#3b82f6",
    "masked": "#10b981",
    "bank": "#a855f7",
    "bundle": "#ef4444",
}
KEYS: dict[Group, str] = {
    "teacher": "SAM3's text encoder",
    "huggingface": "Hugging Face",
    "exact-L": "reads padding, as released",
    "masked": "masks padding",
    "bank": "features kept",
    "bundle": "given",
}
Bar = tuple[Result, float]


def write_plots(report: BenchReport, folder: Path) -> list[Path]:
    """Write ``throughput.png``, ``latency.png`` and ``memory.png``; one that nothing is known for is left out.

    Raises:
        OSError: one cannot be written.
    """
    measured = [result for result in report.results if result.reason is None]
    batch = report.options.compared
    plots = {
        "throughput": (f"prompts/s in batches of {batch}", [(one, median(one.rates(batch))) for one in measured]),
        "latency": ("ms for one phrase with one thread, p50", [(one, median(one.alone())) for one in measured]),
        "memory": ("resident MB after the first phrase, imports left out", _memory(measured)),
    }
    return [_bars(title, bars, folder / f"{name}.png") for name, (title, bars) in plots.items() if bars]


def _memory(results: Sequence[Result]) -> list[Bar]:
    return [(one, size) for one in results if (size := one.resident("first")) is not None and size > 0]


def _bars(title: str, bars: Sequence[Bar], path: Path) -> Path:
    """A bar for each row on a scale of powers of ten, its figure beside it."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8.6, 1.2 + 0.28 * len(bars)), layout="constrained")
    axes = picture.subplots()
    for place, (result, value) in enumerate(bars):
        axes.barh(place, value, color=COLOURS[result.row.group], height=0.7)
        axes.text(value, place, f" {figure(value)}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [result.title for result, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    values = [value for _, value in bars]
    axes.set_xlim(min(values) / 3, max(values) * 3)  # room for the figures
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes, bars)
    with atomic_file(path) as file:
        picture.savefig(file, format="png", dpi=120)
    return path


def _legend(axes: "Axes", bars: Sequence[Bar]) -> None:
    from matplotlib.patches import Patch

    groups = dict.fromkeys(result.row.group for result, _ in bars)
    handles = [Patch(color=COLOURS[group], label=KEYS[group]) for group in groups]
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
