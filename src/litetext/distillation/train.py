"""Distillation: train a student by a recipe, resumable at any step, with validation and the best student kept."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import BatchNorm1d
from torch.nn.utils import clip_grad_norm_

from litetext.checkpoints.writer import save_student
from litetext.device import DTYPES, collective_backend
from litetext.distillation.data import PhraseSplit, Rows, count_batches, epoch_batches, split_phrases
from litetext.distillation.losses import compute_losses
from litetext.distillation.recipe import DistillRecipe
from litetext.distillation.state import (
    CHECKPOINT,
    TrainingState,
    prune_table,
    restore_table,
    start_student,
    start_tokens,
    writing,
)
from litetext.distillation.training_report import STUDENT, DistillReport, epoch_line, write_curve, write_events
from litetext.distillation.validation import Host, to_device, validate_student
from litetext.encoders.encoder import prepare_rows
from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.errors import OptionError, TrainingError
from litetext.features.encode import token_lengths
from litetext.features.fingerprint import fingerprint_encoder
from litetext.features.protocol import TextFeatures
from litetext.features.store import FeatureStore
from litetext.prompts.words import permute
from litetext.storage import fingerprint, only_writer
from litetext.tokenizer.bpe import TokenBatch
from litetext.tokenizer.clean import clean

StageProgress = Callable[[str, float], None]
Log = Callable[[str], None]
TIMEOUT = timedelta(hours=6)  # of one process for another: the first one may evaluate a host meanwhile
_CPU = torch.device("cpu")
_LOCATIONS = {"features", "sources", "hold_out", "model"}
_PERMUTATIONS = 1  # beside the seed: another stream of numbers than the order of the batches


def train_student(
    recipe: DistillRecipe,
    folder: Path,
    host: Host | None = None,
    device: torch.device = _CPU,
    progress: StageProgress = lambda *_: None,
    *,
    log: Log = lambda _: None,
) -> DistillReport:
    """Train a student by a recipe, or resume the run in this folder; the weights come out the same.

    Under ``torchrun`` the processes share each batch; process 0 alone writes.

    Args:
        recipe: what to do.
        folder: of the run: ``student.safetensors`` (the best by validation), ``last.ckpt``, curve, summary, model card.
        host: for losses and figures of a segmenter.
        device: where to compute.
        progress: called with the stage and the share of it that is done, 0..1.
        log: called with a line before the first step (what was chosen for the recipe, and whether the phrases are few)
            and after each epoch.

    Raises:
        OptionError: the recipe needs a host, or a figure, that is not there; or too little data.
        OutputError: another process trains in this folder, or it cannot be one.
        TrainingError: a loss is not finite, a file cannot be written, or the folder holds a run of another recipe.
    """
    recipe.losses.check_projections(host.projections if host else None)
    if recipe.monitor == "cgf1" and (host is None or host.evaluate is None):
        what = "monitor is 'cgf1', but there is nothing to evaluate on"
        raise OptionError(what, hint="give a model, gold and images")
    cache = FeatureStore.open(recipe.features)
    cache.verify()
    split = split_phrases(cache, recipe)
    with ExitStack() as stack:
        stack.enter_context(process_group(device))
        if rank() == 0:
            stack.enter_context(only_writer(folder, "this run"))
        trainer = Trainer(recipe, folder, cache, split, device=device, host=host, progress=progress, log=log)
        trainer.train()
        return trainer.report()


@dataclass(frozen=True, eq=False)
class Part:
    """Phrases that are computed at once."""

    tokens: TokenBatch  # of B phrases
    teacher: TextFeatures  # of the same phrases, on the CPU
    permuted: TokenBatch | None  # permutations of P of them; None where there are none
    rows: Rows  # which phrases these are, int64 [P]

    @property
    def counts(self) -> dict[str, int]:
        """What each loss is a mean over: pairs of tokens, phrases, or permutations."""
        pairs = int(np.minimum(self.tokens.mask.sum(axis=1), self.teacher.mask.sum(dim=1).numpy()).sum())
        by_token = dict.fromkeys(("mse", "cosine", "keys", "values"), pairs)
        return {**by_token, "scoring": len(self.tokens.mask), "consistency": len(self.rows)}


class Trainer:
    """A run in a folder. Building one loads its checkpoint, where there is one, and writes nothing.

    Attributes:
        start: the student before the first step, on the CPU, with its whole token table.
        state: between two steps.
        lengths: int64 [N], tokens of each phrase to train on.
        identity: what must be as it was for the run to resume; where its files are does not matter.
    """

    def __init__(
        self,
        recipe: DistillRecipe,
        folder: Path,
        cache: FeatureStore,
        split: PhraseSplit,
        *,
        device: torch.device,
        host: Host | None = None,
        progress: StageProgress = lambda *_: None,
        log: Log = lambda _: None,
    ) -> None:
        left_open, recipe = recipe, recipe.fitted(cache.teacher, len(split.train))
        self.recipe, self.folder, self.cache, self.split = recipe, folder, cache, split
        self.device, self.host, self.progress = device, host, progress
        self.log = log
        self.epoch_steps = count_batches(len(split.train), recipe.batch_size)
        self.steps = self.epoch_steps * recipe.epochs
        self.start = start_student(recipe, cache.width)
        origin = fingerprint_encoder(StudentEncoder(self.start, ""))
        if recipe.start_tokens and not recipe.init:
            start_tokens(self.start, cache, split.train)
        self.lengths = token_lengths(split.train, self.start.config.context_length)
        student = prune_table(self.start, split.train + split.validation).to(device)
        self.state = TrainingState.begin(student, recipe, lambda step: lr_ratio(step, self.steps, recipe))
        settings = {name: str(value) for name, value in asdict(recipe).items() if name not in _LOCATIONS}
        self.identity = settings | {
            "version": "3",
            "teacher": cache.teacher.fingerprint,
            "training phrases": fingerprint(split.train),
            "validation phrases": fingerprint(split.validation),
            "excluded phrases": fingerprint(sorted(split.excluded)),
            "weights before the first step": origin,
        }
        if (folder / CHECKPOINT).exists():
            self.state.load(folder, self.identity)
        for line in recipe.remarks(left_open, len(split.train)) if rank() == 0 else ():
            log(line)
        if distributed.is_initialized():  # process 0 must not write a checkpoint before all have looked for one
            distributed.barrier()

    def train(self) -> None:
        """Train to the end, from wherever the run is."""
        progress, recipe = self.state.progress, self.recipe
        self.begin()
        while True:
            if progress.step % self.epoch_steps == 0 and progress.validated < progress.step:
                self.validate()
            since = len(progress.rows) - 1 - progress.improved(recipe.min_delta)
            if progress.step >= self.steps or 0 < recipe.patience <= since:
                return
            self.train_epoch()

    def begin(self) -> None:
        """Keep a first checkpoint where there is none; a folder that holds something else is refused."""
        if (self.folder / CHECKPOINT).exists() or rank():
            return
        if (self.folder / STUDENT).exists():
            what = f"a folder with a student, but without {CHECKPOINT}"
            raise TrainingError(what, where=str(self.folder), hint="give another")
        self.save()

    def train_epoch(self) -> None:
        """Train from where the run is to the end of its epoch."""
        recipe, progress = self.recipe, self.state.progress
        epoch, done = divmod(progress.step, self.epoch_steps)
        batches = epoch_batches(self.lengths, recipe.batch_size, recipe.seed, epoch)
        for number, rows in enumerate(batches[done:], done):
            began = time.monotonic()
            texts = [self.split.train[row] for row in rows]
            progress.add(self.take_step(texts, self.permute(texts, epoch, number)))
            progress.seconds += time.monotonic() - began
            self.progress("distilling", progress.step / self.steps)
            if progress.step % recipe.save_steps == 0 and number + 1 < len(batches):
                self.save()

    def permute(self, texts: Sequence[str], epoch: int, number: int) -> list[str | None]:
        """A permutation of each phrase that has one, unless training must not read it."""
        if not self.recipe.losses.consistency:
            return [None] * len(texts)
        generator = np.random.default_rng([self.recipe.seed, epoch, number, _PERMUTATIONS])
        permuted = [permute(text, generator) for text in texts]
        return [None if text is None or clean(text) in self.split.excluded else text for text in permuted]

    def take_step(self, texts: Sequence[str], permuted: Sequence[str | None]) -> dict[str, float]:
        """One step of the optimizer; each loss, and their weighted sum as ``loss``."""
        state, scaler = self.state, self.state.scaler
        state.optimizer.zero_grad(set_to_none=True)
        losses = self.backward(self.assemble(texts, permuted))
        if not np.isfinite(list(losses.values())).all():
            raise self.not_finite("loss", losses["loss"])
        scaler.unscale_(state.optimizer)
        norm = float(clip_grad_norm_(state.student.parameters(), self.recipe.max_grad_norm))
        if not math.isfinite(norm) and scaler.get_scale() <= 1:
            raise self.not_finite("gradient", norm)
        scaler.step(state.optimizer)
        scaler.update()
        if math.isfinite(norm):  # else the step was left out, and the next one has a smaller scale
            state.averaged.update_parameters(state.student)
        state.schedule.step()
        return losses

    def assemble(self, texts: Sequence[str], permuted: Sequence[str | None]) -> list[Part]:
        """Tokens and features of a batch, in parts that are computed one after another, or by other processes."""
        number = min(len(texts), self.recipe.accumulation_steps * world_size())
        config, parts = self.state.student.config, []
        for rows in np.array_split(np.arange(len(texts)), number):
            some = [texts[row] for row in rows]
            others = {place: other for place, row in enumerate(rows) if (other := permuted[row]) is not None}
            tokens = prepare_rows(others.values(), config) if others else None
            places = np.array(list(others), dtype=np.int64)
            parts.append(Part(prepare_rows(some, config), self.cache.features(some), tokens, places))
        return parts

    def backward(self, parts: Sequence[Part]) -> dict[str, float]:
        """Compute the parts of this process, and add up the gradients of all; each loss and their weighted sum.

        Means are over the whole batch, whatever its parts; only the relative errors of the decoder's layers are
        relative to each part's own features, and batch statistics are a part's own.
        """
        weights = self.recipe.losses
        totals = {name: sum(part.counts[name] for part in parts) for name in parts[0].counts}
        sums = {name: torch.zeros((), device=self.device) for name in (*totals, "loss")}
        for part in parts[rank() :: world_size()]:
            shares = {name: count / max(1, totals[name]) for name, count in part.counts.items()}
            total, losses = compute_losses(
                replace(weights, **{name: getattr(weights, name) * share for name, share in shares.items()}),
                self.forward(part.tokens),
                to_device(part.teacher, self.device),
                permuted=self.forward_permuted(part),
                projections=self.host.projections if self.host else None,
            )
            self.state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
            sums["loss"] += total.detach()
            for name, loss in losses.items():
                sums[name] += shares[name] * loss
        values = torch.stack(list(sums.values()))
        if distributed.is_initialized():
            for parameter in self.state.student.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)
            distributed.all_reduce(values)
        named = dict(zip(sums, values.tolist(), strict=True))
        return {name: value for name, value in named.items() if name == "loss" or getattr(weights, name)}

    def forward(self, tokens: TokenBatch) -> TextFeatures:
        """The student's features, float32 with a gradient."""
        device, dtype = self.device, getattr(torch, DTYPES[self.recipe.dtype])
        ids, mask = torch.from_numpy(tokens.ids).to(device), torch.from_numpy(tokens.mask).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            values = self.state.student(ids, mask)
        return TextFeatures(values.float(), mask)

    def forward_permuted(self, part: Part) -> tuple[TextFeatures, Tensor] | None:
        """Features of a part's permutations, which stay out of the running statistics: they are not real phrases."""
        if part.permuted is None:
            return None
        norms = [module for module in self.state.student.modules() if isinstance(module, BatchNorm1d)]
        for norm in norms:
            norm.track_running_stats = False
        try:
            return self.forward(part.permuted), torch.from_numpy(part.rows).to(self.device)
        finally:
            for norm in norms:
                norm.track_running_stats = True

    def not_finite(self, what: str, value: float) -> TrainingError:
        """The error of a number that is not finite."""
        fault = f"the {what} of step {self.state.progress.step + 1} is {value}"
        hint = "begin again in another folder with a lower lr or dtype fp32"
        hint += "; the last checkpoint and the best student are whole"
        return TrainingError(fault, where=str(self.folder), hint=hint)

    def validate(self) -> None:
        """Validate the averaged student, keep it if it is the best, and write curve and checkpoint."""
        recipe, progress = self.recipe, self.state.progress
        began, scores = time.monotonic(), [0.0]
        row: dict[str, float] = {"step": progress.step, "epoch": progress.step / self.epoch_steps}
        student = restore_table(cast("TextStudent", self.state.averaged.module), self.start)
        if rank() == 0:
            texts = self.split.validation[: recipe.validation_phrases]
            figures = validate_student(StudentEncoder(student, str(self.folder)), self.cache, texts, recipe, self.host)
            since = progress.step - max(0, progress.validated)
            losses = {name: value / since for name, value in progress.sums.items()}
            lr = float(self.state.schedule.get_last_lr()[0])
            row |= {"minutes": progress.seconds / 60, "lr": lr, **losses, **figures}
            figures_by_name = figures | {"loss": -figures["val_loss"], "last": float(progress.step)}
            scores = [figures_by_name[recipe.monitor]]
        if distributed.is_initialized():
            distributed.broadcast_object_list(scores, device=self.device)
        progress.rows.append(row)
        progress.scores += scores
        progress.sums = {}
        progress.seconds += time.monotonic() - began
        if rank() == 0:
            with writing(self.folder):
                if progress.best == len(progress.rows) - 1:
                    save_student(student, self.folder / STUDENT)
                write_curve(progress.rows, self.folder)
                write_events(row, self.folder)
            self.log(epoch_line(row, recipe.epochs))
            self.save()

    def save(self) -> None:
        """Write the checkpoint, if this is process 0."""
        if rank() == 0:
            self.state.save(self.folder, self.identity)

    def report(self) -> DistillReport:
        """The result of the run; process 0 writes it to the folder."""
        progress = self.state.progress
        report = DistillReport(
            path=self.folder,
            recipe=self.recipe,
            teacher=self.cache.teacher,
            split=self.split,
            host=self.host.name if self.host else None,
            parameters=sum(parameter.numel() for parameter in self.start.parameters()),
            steps=(progress.step, self.steps),
            seconds=progress.seconds,
            rows=tuple(progress.rows),
            best=progress.rows[progress.best],
            last_improvement=progress.rows[progress.improved(self.recipe.min_delta)],
        )
        if rank() == 0:
            with writing(self.folder):
                report.write()
        return report


def lr_ratio(step: int, steps: int, recipe: DistillRecipe) -> float:
    """The learning rate of a step, from 0, as a share of the highest: linear warm-up, then half a cosine."""
    warmup = round(recipe.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return recipe.min_lr_ratio + (1 - recipe.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that `torchrun` started; without it nothing happens."""
    if world_size() == 1:
        yield
        return
    try:
        distributed.init_process_group(collective_backend(device), timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        what = f"the processes do not find each other ({str(error).splitlines()[0]})"
        raise TrainingError(what, hint="start them with torchrun") from error
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_size() -> int:
    """How many processes train together, as `torchrun` has it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank(*, local: bool = False) -> int:
    """Number of this process, from 0; or its number on its machine. Process 0 alone writes and prints."""
    return int(os.environ.get("LOCAL_RANK" if local else "RANK", "0"))
