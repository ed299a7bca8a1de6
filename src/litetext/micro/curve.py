"""The validation curve of a training run: a table (CSV) and its picture (PNG)."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from litetext.errors import OptionError
from litetext.storage import atomic_file, write_text

COLUMNS = (
    "step", "minutes", "loss", "contrast", "concept", "presence", "score", "l1", "giou", "mask", "dice", "semantic",
    "semantic_dice", "nouns_right", "cgf1", "il_mcc", "pmf1",
)  # fmt: skip
# Column, label and panel; what is a share is drawn in percent.
_LINES = (
    ("nouns_right", "instances named rightly", 0),
    ("cgf1", "cgF1", 1),
    ("pmf1", "pmF1", 1),
    ("il_mcc", "IL_MCC x 100", 1),
)

Row = Mapping[str, float]


class Curve:
    """The rows of a run, kept in a folder.

    Args:
        folder: holds ``curve.csv`` and ``curve.png``.
        until: rows of later steps are dropped: the run goes on from there.

    Raises:
        OptionError: the table is not one of these.
    """

    def __init__(self, folder: Path, until: int) -> None:
        self.table, self.picture = folder / "curve.csv", folder / "curve.png"
        self.rows = [row for row in _read(self.table) if row["step"] <= until]

    def add(self, row: Row) -> None:
        """Append a row, and write table and picture anew."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for one in self.rows:
            writer.writerow({name: f"{value:.6g}" for name, value in one.items()})
        write_text(self.table, text.getvalue())
        self._draw()

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for column, label, panel in _LINES:
            points = [(row["step"], row[column]) for row in self.rows if column in row]
            if points:
                scale = 1 if column in {"cgf1", "pmf1"} else 100
                steps, values = zip(*points, strict=True)
                panels[panel].plot(steps, [scale * value for value in values], marker=".", label=label)
        for axes, title in zip(
            panels, ("words: one of 424 nouns for an instance", "masks: validation pairs"), strict=True
        ):
            axes.set(title=title, xlabel="step", ylabel="percent", ylim=(0, 100))
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(loc="best")
        with atomic_file(self.picture) as file:
            figure.savefig(file, format="png", dpi=110)


def _read(path: Path) -> list[Row]:
    """The rows of a table; none if there is no file."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file, strict=True)
            ]
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise OptionError("not a validation curve", where=str(path), mend="remove it") from error
