"""The loop of a distillation: steps, validations, checkpoints."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from litetext.checkpoints.writer import save_student
from litetext.distillation.curve import write_curve, write_events
from litetext.distillation.data import Data, Rows, batches_of, epoch_batches
from litetext.distillation.optimizer import rate_at
from litetext.distillation.parallel import World
from litetext.distillation.recipe import DistillRecipe
from litetext.distillation.report import STUDENT, DistillReport
from litetext.distillation.train_step import StepRunner
from litetext.distillation.training_state import CHECKPOINT, Run, writing
from litetext.distillation.validator import Host, Validator
from litetext.encoders.student import StudentEncoder
from litetext.errors import OptionError, TrainingError
from litetext.prompts.permutations import permute
from litetext.tokenizer.clean import clean

Progress = Callable[[str, float], None]
_PERMUTATIONS = 1  # beside the seed: another stream of numbers than the order of the batches


@dataclass(frozen=True, eq=False)
class RunContext:
    """Where a run takes place.

    Attributes:
        device: what computes.
        world: the processes.
        host: for losses and figures; None without one.
        progress: called with the stage and the share of it that is done, 0..1.
    """

    device: torch.device
    world: World
    host: Host | None
    progress: Progress


@dataclass(frozen=True, eq=False)
class Trainer:
    """A run and what it keeps at hand.

    Attributes:
        recipe: what to do.
        folder: of the run.
        data: phrases.
        run: the state.
        learner: makes gradients of phrases.
        examination: makes figures of a student.
        around: where it takes place.
        lengths: int64 [N], tokens of each phrase to train on.
        identity: what must be as it was for the run to go on.
    """

    recipe: DistillRecipe
    folder: Path
    data: Data
    run: Run
    learner: StepRunner
    examination: Validator
    around: RunContext
    lengths: Rows
    identity: dict[str, str]

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return batches_of(len(self.data.train), self.recipe.training.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole recipe."""
        return self.epoch_steps * self.recipe.training.epochs

    @property
    def is_stale(self) -> bool:
        """Whether it was not worth its while for so long that it ends early."""
        patience = self.recipe.validation.patience
        return patience > 0 and self.run.progress.stale >= patience

    def train(self) -> None:
        """To the end, from wherever the run is."""
        progress = self.run.progress
        self.begin()
        while True:
            if progress.step % self.epoch_steps == 0 and progress.validated < progress.step:
                self.validate()
            if progress.step >= self.steps or self.is_stale:
                return
            self.train_epoch()

    def begin(self) -> None:
        """Keep a first checkpoint where there is none; a folder that holds something else is refused."""
        if self.run.progress.validated >= 0 or self.run.progress.step or self.around.world.rank:
            return
        if not (self.folder / CHECKPOINT).exists():
            if (self.folder / STUDENT).exists():
                raise TrainingError(
                    f"a folder with a student, but without {CHECKPOINT}", where=str(self.folder), hint="give another"
                )
            self.save()

    def train_epoch(self) -> None:
        """From where the run is to the end of its epoch."""
        training, progress = self.recipe.training, self.run.progress
        epoch, done = divmod(progress.step, self.epoch_steps)
        batches = epoch_batches(self.lengths, training.batch, training.seed, epoch)
        for number, rows in enumerate(batches[done:], done):
            began = time.monotonic()
            texts = [self.data.train[row] for row in rows]
            losses = self.take_step(texts, self.permute(texts, epoch, number))
            progress.add(losses)
            progress.seconds += time.monotonic() - began
            self.around.progress("distilling", progress.step / self.steps)
            if progress.step % training.save_every == 0 and number + 1 < len(batches):
                self.save()

    def permute(self, texts: Sequence[str], epoch: int, number: int) -> list[str | None]:
        """A permutation of each phrase that has one, unless it is a phrase that training must not read."""
        if not self.recipe.losses.consistency:
            return [None] * len(texts)
        generator = np.random.default_rng([self.recipe.training.seed, epoch, number, _PERMUTATIONS])
        found = [permute(text, generator) for text in texts]
        return [None if other is None or clean(other) in self.data.kept_out else other for other in found]

    def take_step(self, texts: Sequence[str], permuted: Sequence[str | None]) -> dict[str, float]:
        """One step of the optimizers; each loss and their weighted sum.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        run, training = self.run, self.recipe.training
        rate = rate_at(run.progress.step, self.steps, training)
        run.optimizer.zero_grad(set_to_none=True)
        batch = self.learner.assemble(texts, permuted, min(training.accumulate, len(texts)))
        rows, losses = self.learner.gradients(batch, run.scale.value)
        if not np.isfinite(list(losses.values())).all():
            raise self.broken("loss", losses["loss"])
        norm = self.clip(rows)
        if not np.isfinite(norm):
            if run.scale.may_skip():
                return losses
            raise self.broken("gradient", norm)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        places = torch.from_numpy(batch.rows).to(rows.device)
        run.average.catch_up(places)
        run.optimizer.step()
        if rows.grad is not None:
            run.rows.step(places, rows.grad, rate)
        run.average.update(places)
        run.scale.count()
        return losses

    def clip(self, rows: Tensor) -> float:
        """Add up the gradients of all processes, take the scale out, and scale them down; their norm before that."""
        used = [*(one for group in self.run.optimizer.param_groups for one in group["params"]), rows]
        gradients = [one.grad for one in used if one.grad is not None]
        self.around.world.add_up(gradients)
        if self.run.scale.value != 1:
            for gradient in gradients:
                gradient.div_(self.run.scale.value)
        return float(clip_grad_norm_(used, self.recipe.training.most_norm))

    def broken(self, what: str, value: float) -> TrainingError:
        """What to say of a number that is not finite."""
        return TrainingError(
            f"the {what} of step {self.run.progress.step + 1} is {value}",
            where=str(self.folder),
            hint="begin anew in another folder with a lower rate or dtype fp32; the last checkpoint and the best "
            "student are whole",
        )

    def validate(self) -> None:
        """Judge the averaged student, keep it if it is the best, and write curve and checkpoint."""
        progress, world = self.run.progress, self.around.world
        began = time.monotonic()
        averaged = self.run.average.averaged()
        row: dict[str, float] = {"step": progress.step, "epoch": progress.step / self.epoch_steps}
        score = 0.0
        if world.rank == 0:
            figures = self.examination.figures(StudentEncoder(averaged, str(self.folder)))
            score = self.score(figures)
            losses = {name: value / progress.since for name, value in progress.sums.items()}
            rate = rate_at(max(0, progress.step - 1), self.steps, self.recipe.training)
            row |= {"minutes": progress.seconds / 60, "rate": rate, **losses, **figures}
        (score,) = world.agree([score], self.around.device)
        is_best = progress.judge(row, score, self.recipe.validation.gain)
        progress.seconds += time.monotonic() - began
        if world.rank == 0:
            with writing(self.folder):
                if is_best:
                    save_student(averaged, self.folder / STUDENT)
                write_curve(progress.rows, self.folder)
                write_events(row, self.folder)
            self.save()

    def score(self, figures: dict[str, float]) -> float:
        """The figure that decides, the higher the better."""
        best = self.recipe.validation.best
        if best == "loss":
            return -figures["val_loss"]
        if best not in figures:
            raise OptionError(f"nothing says how high {best} is", hint="give a host that can be evaluated")
        return figures[best]

    def save(self) -> None:
        """Write the checkpoint, if this is the process that writes."""
        if self.around.world.rank == 0:
            self.run.save(self.folder, self.identity)

    def report(self) -> DistillReport:
        """What became of it; process 0 writes it down."""
        run, host = self.run, self.around.host
        rows = tuple(run.progress.rows)
        report = DistillReport(
            self.folder,
            self.recipe,
            self.learner.cache.teacher,
            self.data,
            None if host is None else host.name,
            sum(parameter.numel() for parameter in run.student.parameters()),
            (run.progress.step, self.steps),
            run.progress.seconds,
            rows,
            rows[run.progress.best_row],
            rows[run.progress.mark_row],
            run.progress.step < self.steps,
        )
        if self.around.world.rank == 0:
            with writing(self.folder):
                report.write()
        return report
