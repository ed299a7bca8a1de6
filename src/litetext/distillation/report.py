"""What a run says about itself in the end: a summary for programs, and a model card for people."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from litetext.checkpoints.tensors import STUDENT_FILE
from litetext.distillation.data import Data
from litetext.distillation.recipe import DistillRecipe
from litetext.features.manifest import Teacher
from litetext.storage import to_json, write_text

SUMMARY, CARD, STUDENT = "summary.json", "MODEL_CARD.md", STUDENT_FILE
_LABELS = {
    "cosine": "cosine with the teacher, valid tokens",
    "end_cosine": "cosine with the teacher, end token",
    "retrieval": "retrieval@1 of the teacher's features",
    "order": "cosine of a phrase with its permutation",
    "val_loss": "loss",
}


@dataclass(frozen=True, eq=False)
class DistillReport:
    """What became of a run.

    Attributes:
        path: the folder.
        recipe: what was done.
        teacher: whose features were learnt.
        data: phrases, and those held out.
        host: name of the host; None without one.
        parameters: of the student.
        steps: that were done, and all that the recipe has.
        seconds: of training and validation.
        rows: of the curve.
        best: the row of the student that is kept.
        grew_until: the row after which the figure that decides did not grow any more.
        stopped_early: whether that ended the training.
    """

    path: Path
    recipe: DistillRecipe
    teacher: Teacher
    data: Data = field(repr=False)
    host: str | None
    parameters: int
    steps: tuple[int, int]
    seconds: float
    rows: tuple[Mapping[str, float], ...]
    best: Mapping[str, float]
    grew_until: Mapping[str, float]
    stopped_early: bool

    @property
    def growth(self) -> str:
        """When quality stopped growing, in one sentence."""
        figure, last = self.recipe.validation.best, self.rows[-1]["epoch"]
        until = self.grew_until["epoch"]
        if until == last:
            return f"{figure} was still growing after the last epoch ({last:g}): more epochs may help."
        end = ", which ended the training" if self.stopped_early else ""
        return f"{figure} stopped growing after epoch {until:g} of {last:g}{end}."

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "student": str(self.path / STUDENT),
            "parameters": self.parameters,
            "best": dict(self.best),
            "last": dict(self.rows[-1]),
            "growth": self.growth,
            "grew_until_epoch": self.grew_until["epoch"],
            "stopped_early": self.stopped_early,
            "steps": self.steps[0],
            "steps_of_recipe": self.steps[1],
            "seconds": self.seconds,
            "phrases": {"train": len(self.data.train), "validation": len(self.data.validation)},
            "held_out": [asdict(one) for one in self.data.hold_outs],
            "teacher": asdict(self.teacher),
            "host": self.host,
            "recipe": self.recipe.to_json(),
        }

    def write(self) -> None:
        """Write summary and model card.

        Raises:
            OSError: they cannot be written.
        """
        write_text(self.path / SUMMARY, to_json(self.to_json()) + "\n")
        write_text(self.path / CARD, self.card())

    def card(self) -> str:
        """The model card, in Markdown."""
        student, said = self.recipe.student, self.recipe.data
        context_length = student.config(self.teacher.width).context_length
        start = f"started from `{student.init}`" if student.init else "from random weights"
        figures = [f"| {_LABELS.get(name, name)} | {value:.4g} |" for name, value in self._figures().items()]
        return "\n".join(
            [
                "# A text encoder for SAM3, distilled with LiteText",
                "",
                f"`{STUDENT}`: preset {student.preset}, {self.parameters / 1e6:.2f} M parameters, "
                f"context {context_length}, "
                f"padding {student.padding}, {start}.",
                "",
                "## Teacher",
                "",
                f"`{self.teacher.name}`, context {self.teacher.context_length}, "
                f"width {self.teacher.width}, fingerprint "
                f"`{self.teacher.fingerprint}`."
                + (f" Losses and figures of the host `{self.host}`." if self.host else ""),
                "",
                "## Data",
                "",
                f"{len(self.data.train):,} distinct phrases to train on, {len(self.data.validation):,} others to "
                f"validate with, from {', '.join(f'`{one}`' for one in said.sources) or f'all of `{said.cache}`'}.",
                "",
                *self._hygiene(),
                "",
                "## Figures",
                "",
                f"Of the weights of epoch {self.best['epoch']:g}, the best by {self.recipe.validation.best} on "
                f"{min(len(self.data.validation), self.recipe.validation.phrases):,} validation phrases. {self.growth}",
                "",
                "| figure | value |",
                "|---|---|",
                *figures,
                "",
                "## Recipe",
                "",
                "```json",
                to_json(self.recipe.to_json()),
                "```",
                "",
            ]
        )

    def _figures(self) -> dict[str, float]:
        shown = {name: self.best[name] for name in _LABELS if name in self.best}
        trained = {"step", "epoch", "minutes", "rate", "loss", *asdict(self.recipe.losses)}
        return shown | {name: value for name, value in self.best.items() if name not in shown.keys() | trained}

    def _hygiene(self) -> list[str]:
        if not self.data.hold_outs:
            return [
                "**No phrases of an evaluation set were held out**: the training may have seen the phrases of the sets "
                "that the student is measured on."
            ]
        return ["Held out of training and validation, whatever their spelling or case:", ""] + [
            f"- `{one.name}`: {one.phrases:,} phrases, of which {one.removed:,} were in the corpus."
            for one in self.data.hold_outs
        ]
