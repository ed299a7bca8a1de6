"""The curve of a training: a table (CSV), its picture (PNG), and events for TensorBoard where it is installed."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from litetext.storage import atomic_file, write_text

TABLE, PICTURE, EVENTS = "curve.csv", "curve.png", "tensorboard"
# Column and label; what is not a loss is a share, but cgF1, which is in percent.
_LOSSES = (("loss", "training"), ("val_loss", "validation"))
_SHARES = (
    ("cosine", "cosine, valid tokens"),
    ("end_cosine", "cosine, end token"),
    ("retrieval", "retrieval@1"),
    ("order", "order invariance"),
    ("cgf1", "cgF1"),
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
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.8g}" for name, value in row.items()})
    write_text(folder / TABLE, text.getvalue())
    _draw(rows, folder / PICTURE)


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
        for column, label in lines:
            points = [(row["epoch"], row[column]) for row in rows if column in row]
            if points:
                scale = 1 if axes is panels[0] or column == "cgf1" else 100
                epochs, values = zip(*points, strict=True)
                axes.plot(epochs, [scale * value for value in values], marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    if all(row.get(name, 1.0) > 0 for row in rows for name, _ in _LOSSES):
        panels[0].set_yscale("log")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
