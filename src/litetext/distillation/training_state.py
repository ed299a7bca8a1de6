"""A training between two steps: everything that the next step depends on, kept in one file."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from litetext.distillation.average import Average
from litetext.distillation.optimizer import LossScale, RowAdam
from litetext.encoders.student import TextStudent
from litetext.errors import TrainingError
from litetext.records import record
from litetext.storage import atomic_file

CHECKPOINT = "last.ckpt"
VERSION = 1
ANEW = "remove it to begin anew"


@dataclass(eq=False)
class Progress:
    """How far a run is. What is random (order, permutations) follows from the seed and the step: nothing else is kept.

    Attributes:
        step: steps done.
        validated: the step of the last validation; -1 before the first.
        seconds: spent so far.
        sums: of each loss since the last validation.
        since: steps since then.
        rows: of the curve, one for each validation.
        best: the highest score; None before the first validation.
        best_row: the row of the student that is kept.
        mark: the score of the last gain, to which the next is compared.
        mark_row: its row.
    """

    step: int = 0
    validated: int = -1
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    since: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_row: int = 0
    mark: float | None = None
    mark_row: int = 0

    def add(self, losses: Mapping[str, float]) -> None:
        """Count a step."""
        self.step += 1
        self.since += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def judge(self, row: dict[str, float], score: float, gain: float) -> bool:
        """Take in the row of a validation; whether its student is the best so far."""
        self.rows.append(row)
        self.validated, self.sums, self.since = self.step, {}, 0
        number = len(self.rows) - 1
        if self.mark is None or score > self.mark + gain:
            self.mark, self.mark_row = score, number
        if self.best is None or score > self.best:
            self.best, self.best_row = score, number
            return True
        return False

    @property
    def stale(self) -> int:
        """Validations since the last gain."""
        return len(self.rows) - 1 - self.mark_row


@dataclass(eq=False)
class Run:
    """A training between two steps.

    Attributes:
        student: what is trained.
        optimizer: of all its parameters but the rows of the token table.
        rows: the optimizer of those.
        average: of its weights.
        scale: of the loss.
        progress: how far it is.
    """

    student: TextStudent
    optimizer: torch.optim.AdamW
    rows: RowAdam
    average: Average
    scale: LossScale
    progress: Progress = field(default_factory=Progress)

    def save(self, folder: Path, identity: Mapping[str, str]) -> None:
        """Write the checkpoint in one step.

        Args:
            folder: of the run.
            identity: what the run is of, by name.

        Raises:
            TrainingError: it cannot be written; the one before is whole.
        """
        state = {
            "version": VERSION,
            "identity": dict(identity),
            **{name: part.state_dict() for name, part in self._parts().items()},
            "progress": vars(self.progress),
        }
        with writing(folder), atomic_file(folder / CHECKPOINT) as file:
            torch.save(state, file)

    def load(self, folder: Path, identity: Mapping[str, str]) -> None:
        """Go on from the checkpoint of a folder.

        Raises:
            TrainingError: it is damaged, or of another recipe, teacher or corpus.
        """
        path = folder / CHECKPOINT
        try:
            _check_sums(path)
            state = torch.load(path, weights_only=True, map_location="cpu")
            found, version = dict(state["identity"]), state["version"]
        except Exception as error:  # whatever a damaged file makes of it
            raise TrainingError("not a checkpoint", where=str(path), hint=ANEW) from error
        if version != VERSION:
            raise TrainingError(f"a checkpoint of version {version}", where=str(path), hint=ANEW)
        other = [name for name in {**found, **identity} if found.get(name) != identity.get(name)]
        if other:
            said = "; ".join(f"{name} was {found.get(name)}, is {identity.get(name)}" for name in other[:3])
            raise TrainingError(
                f"a run of another recipe ({said})", where=str(folder), hint="give another folder, or the old recipe"
            )
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.progress = record(Progress, state["progress"])
        except Exception as error:
            raise TrainingError("a checkpoint that does not fit", where=str(path), hint=ANEW) from error

    def _parts(self) -> dict[str, Any]:
        return {
            "student": self.student,
            "optimizer": self.optimizer,
            "rows": self.rows,
            "average": self.average,
            "scale": self.scale,
        }


def _check_sums(path: Path) -> None:
    """Compare the CRC-32 of each part of a file of ``torch.save``, which PyTorch writes and does not read.

    Raises:
        ValueError: one differs; zipfile raises others.
    """
    with zipfile.ZipFile(path) as parts:
        bad = parts.testzip()
    if bad is not None:
        raise ValueError(f"the checksum of '{bad}' is another")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """While the block writes files of a run: say in one line what goes wrong.

    Raises:
        TrainingError: a file cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # PyTorch's writer says RuntimeError where the file that it writes to says OSError.
        cause = error if isinstance(error, OSError) else error.__context__
        said = cause.strerror if isinstance(cause, OSError) else None
        raise TrainingError(
            (said or str(error).splitlines()[0]).lower(),
            where=str(folder),
            hint="fix that and run it again: the last checkpoint is whole, and training goes on from it",
        ) from error
