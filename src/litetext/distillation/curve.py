"""The curve of a training: a table (CSV), its picture (PNG), and events for TensorBoard where it is installed."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from litetext.storage import atomic_file, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PICTURE, EVENTS = "curve.csv", "curve.png", "tensorboard"
# Column, label and scale: shares are drawn in percent.
_LOSSES = (("loss", "training", 1), ("val_loss", "validation", 1))
_SHARES = (
    ("cosine", "cosine, valid tokens", 100),
    ("end_cosine", "cosine, end token", 100),
    ("retrieval", "retrieval@1", 100),
    ("order", "order invariance", 100),
    ("cgf1", "cgF1", 1),
)

Row = Mapping[str, float]


def write_curve(rows: Sequence[Row], folder: Path) -> None:
    """Write table and picture anew.

    Args:
        rows: one for each validation, by column.
        folder: where ``curve.csv`` and ``curve.png`` are kept.

    Raises:
        OSError: they cannot be written.
    """
    write_table(rows, list(dict.fromkeys(name for row in rows for name in row)), folder / TABLE)
    _draw(rows, folder / PICTURE)


def write_table(rows: Sequence[Row], columns: Sequence[str], path: Path, *, digits: int = 8) -> None:
    """Write rows as CSV; what a row does not have stays empty.

    Raises:
        ValueError: a row has something that is no column; nothing is written.
        OSError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.{digits}g}" for name, value in row.items()})
    write_text(path, text.getvalue())


def plot_lines(axes: "Axes", rows: Sequence[Row], along: str, lines: Sequence[tuple[str, str, float]]) -> None:
    """Draw columns against another one, with a grid, and a legend where there is a line.

    Args:
        axes: where to draw.
        rows: those without a column are left out of its line.
        along: the column of the abscissa.
        lines: column, label, and what its values are multiplied with.
    """
    for column, label, scale in lines:
        points = [(row[along], row[column]) for row in rows if column in row]
        if points:
            places, values = zip(*points, strict=True)
            axes.plot(places, [scale * value for value in values], marker=".", label=label)
    axes.set_xlabel(along)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def write_events(row: Row, folder: Path) -> bool:
    """Add a row to the events for TensorBoard; whether its package is there to write them."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    step = int(row["step"])
    # Events of a run that was killed after this step are taken back by the step at which it goes on.
    with SummaryWriter(str(folder / EVENTS), purge_step=step) as writer:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, step)
    return True


def _draw(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, lines, title in zip(panels, (_LOSSES, _SHARES), ("losses", "validation phrases, percent"), strict=True):
        plot_lines(axes, rows, "epoch", lines)
        axes.set_title(title)
    if all(row.get(name, 1.0) > 0 for row in rows for name, *_ in _LOSSES):
        panels[0].set_yscale("log")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
