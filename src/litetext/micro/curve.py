"""The validation curve of a training run: a table (CSV) and its picture (PNG)."""

import csv
from collections.abc import Mapping
from pathlib import Path

from litetext.distillation.curve import plot_lines, write_table
from litetext.errors import OptionError
from litetext.storage import atomic_file

COLUMNS = (
    "step", "minutes", "loss", "contrast", "concept", "presence", "score", "l1", "giou", "mask", "dice",
    "edge", "point_dice", "semantic", "semantic_dice", "guess", "nouns_right", "cgf1", "il_mcc", "pmf1",
)  # fmt: skip
# Title; then column, label and scale: shares are drawn in percent.
_PANELS = (
    ("words: one of 424 nouns for an instance", (("nouns_right", "instances named rightly", 100),)),
    ("masks: validation pairs", (("cgf1", "cgF1", 1), ("pmf1", "pmF1", 1), ("il_mcc", "IL_MCC x 100", 100))),
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
        write_table(self.rows, COLUMNS, self.table, digits=6)
        self._draw()

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        for axes, (title, lines) in zip(figure.subplots(1, 2), _PANELS, strict=True):
            plot_lines(axes, self.rows, "step", lines)
            axes.set(title=title, ylabel="percent", ylim=(0, 100))
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
        raise OptionError("not a validation curve", where=str(path), hint="remove it") from error
