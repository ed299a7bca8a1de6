"""What a run writes for people and programs: its curve, a summary and a model card."""

import csv
import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from litetext.checkpoints.tensors import STUDENT_FILE
from litetext.distillation.data import PhraseSplit
from litetext.distillation.recipe import DistillRecipe
from litetext.features.store import Teacher
from litetext.storage import atomic_file, to_json, write_text

TABLE, PICTURE, EVENTS = "curve.csv", "curve.png", "tensorboard"
SUMMARY, CARD, STUDENT = "summary.json", "MODEL_CARD.md", STUDENT_FILE
# Column, label and scale: shares are drawn in percent.
_LOSSES = (("loss", "training", 1), ("val_loss", "validation", 1))
_SHARES = (
    ("cosine", "cosine, valid tokens", 100),
    ("end_cosine", "cosine, end token", 100),
    ("retrieval", "retrieval@1", 100),
    ("order", "order invariance", 100),
    ("cgf1", "cgF1", 1),
)
_LABELS = {
    "cosine": "cosine with the teacher, valid tokens",
    "end_cosine": "cosine with the teacher, end token",
    "retrieval": "retrieval@1 of the teacher's features",
    "order": "cosine of a phrase with its permutation",
    "val_loss": "loss",
}
Row = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class DistillReport:
    """The result of a run."""

    path: Path  # the folder
    recipe: DistillRecipe
    teacher: Teacher
    split: PhraseSplit = field(repr=False)
    host: str | None
    parameters: int
    steps: tuple[int, int]  # that were done, and all that the recipe has
    seconds: float
    rows: tuple[Row, ...]  # of the curve, one for each validation
    best: Row  # that of the student that is kept
    last_improvement: Row  # that of the last improvement by ``min_delta``

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping ended the training."""
        return self.steps[0] < self.steps[1]

    @property
    def growth(self) -> str:
        """When quality stopped growing, in one sentence."""
        if self.recipe.monitor == "last":
            return f"The student of the last epoch is kept ({self.rows[-1]['epoch']:g})."
        figure, last, until = self.recipe.monitor, self.rows[-1]["epoch"], self.last_improvement["epoch"]
        if until == last:
            return f"{figure} was still improving after the last epoch ({last:g}): more epochs may help."
        end = ", which ended the training" if self.stopped_early else ""
        return f"{figure} stopped improving after epoch {until:g} of {last:g}{end}."

    def __repr__(self) -> str:
        """One line."""
        return f"DistillReport('{self.path}': {self.parameters / 1e6:.2f} M parameters; {self.growth})"

    def _repr_html_(self) -> str:
        from litetext.pages import html_table

        figures = [(label, self.best[name]) for name, label in _LABELS.items() if name in self.best]
        table = html_table(self.growth, ("figure", f"epoch {self.best['epoch']:g}"), figures)
        curve = self.path / PICTURE
        if not curve.is_file():
            return table
        return f'{table}<img alt="curve" src="data:image/png;base64,{b64encode(curve.read_bytes()).decode()}">'

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "student": str(self.path / STUDENT),
            "parameters": self.parameters,
            "best": dict(self.best),
            "last": dict(self.rows[-1]),
            "growth": self.growth,
            "last_improvement_epoch": self.last_improvement["epoch"],
            "stopped_early": self.stopped_early,
            "steps": self.steps[0],
            "steps_of_recipe": self.steps[1],
            "seconds": self.seconds,
            "phrases": {"train": len(self.split.train), "validation": len(self.split.validation)},
            "held_out": list(self.split.held_out),
            "teacher": asdict(self.teacher),
            "host": self.host,
            "recipe": asdict(self.recipe),
        }

    def write(self) -> None:
        """Write summary and model card."""
        write_text(self.path / SUMMARY, to_json(self.to_json()) + "\n")
        write_text(self.path / CARD, self.card())

    def card(self) -> str:
        """The model card, in Markdown."""
        recipe, teacher, split = self.recipe, self.teacher, self.split
        context_length = recipe.student_config(teacher.width).context_length
        start = f"started from `{recipe.init}`" if recipe.init else "from random weights"
        host = f" Losses and figures of the host `{self.host}`." if self.host else ""
        sources = ", ".join(f"`{source}`" for source in recipe.sources) or f"all of `{recipe.features}`"
        trained = {"step", "epoch", "minutes", "lr", "loss", *asdict(recipe.losses)} - _LABELS.keys()
        names = [name for name in (*_LABELS, *sorted(self.best.keys() - _LABELS.keys() - trained)) if name in self.best]
        figures = "\n".join(f"| {_LABELS.get(name, name)} | {self.best[name]:.4g} |" for name in names)
        return f"""# A text encoder for SAM3, distilled with LiteText

`{STUDENT}`: preset {recipe.preset}, {self.parameters / 1e6:.2f} M parameters, context {context_length}, padding \
{recipe.padding}, {start}.

## Teacher

`{teacher.name}`, context {teacher.context_length}, width {teacher.width}, fingerprint `{teacher.fingerprint}`.{host}

## Data

{len(split.train):,} distinct phrases to train on, {len(split.validation):,} others to validate with, from {sources}.

{self._held_out()}

## Figures

Of the weights of epoch {self.best["epoch"]:g}, chosen by {recipe.monitor}, on \
{min(len(split.validation), recipe.validation_phrases):,} validation phrases. {self.growth}

| figure | value |
|---|---|
{figures}

## Recipe

```json
{to_json(asdict(recipe))}
```
"""

    def _held_out(self) -> str:
        if not self.split.held_out:
            return (
                "**No phrases of an evaluation set were held out**: the training may have seen the phrases of the sets "
                "that the student is measured on."
            )
        lines = "\n".join(
            f"- `{item['name']}`: {item['phrases']:,} phrases, of which {item['removed']:,} were in the corpus."
            for item in self.split.held_out
        )
        return f"Held out of training and validation, whatever their spelling or case:\n\n{lines}"


def epoch_line(row: Row, epochs: int) -> str:
    """What a validation found, in a line."""
    figures = {
        "loss": "loss",
        "val_loss": "validation loss",
        "cosine": "cosine",
        "retrieval": "retrieval",
        "cgf1": "cgF1",
    }
    shown = ", ".join(f"{label} {row[name]:.4f}" for name, label in figures.items() if name in row)
    minutes = row["minutes"]
    left = f", about {minutes / row['epoch'] * (epochs - row['epoch']):.1f} min left" if row["epoch"] else ""
    return f"epoch {row['epoch']:g} of {epochs}: {shown} ({minutes:.1f} min{left})"


def write_curve(rows: Sequence[Row], folder: Path) -> None:
    """Write ``curve.csv`` and ``curve.png``, of one row for each validation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in rows)
    write_text(folder / TABLE, text.getvalue())
    figure = Figure(figsize=(5, 6.6), layout="constrained")  # one above the other: legible on a screen of 390 pixels
    panels = figure.subplots(2, 1)
    is_log = all(row.get(name, 1.0) > 0 for row in rows for name, *_ in _LOSSES)
    titles = ("loss (log scale)" if is_log else "loss", "validation phrases, percent")
    for axes, lines, title in zip(panels, (_LOSSES, _SHARES), titles, strict=True):
        for column, label, scale in lines:
            points = [(row["epoch"], scale * row[column]) for row in rows if column in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    if is_log:
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        panels[0].yaxis.set_major_formatter("{x:.3g}")
        panels[0].yaxis.set_minor_formatter(NullFormatter())
    with atomic_file(folder / PICTURE) as file:
        figure.savefig(file, format="png", dpi=150)


def write_events(row: Row, folder: Path) -> bool:
    """Add a row to the events for TensorBoard; whether its package is there to write them."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    step = int(row["step"])
    # Events of a run that was killed after this step are taken back by the step from which it resumes.
    with SummaryWriter(str(folder / EVENTS), purge_step=step) as writer:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, step)
    return True
