"""Train the micro SAM3: resumable at any step, with a validation curve."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from litetext.checkpoints.tensors import SINGLE_FILE
from litetext.errors import OptionError
from litetext.micro.batches import Batch, BatchStream
from litetext.micro.concepts import concepts
from litetext.micro.curve import Curve
from litetext.micro.forward import Tutor, contrast_losses, set_losses, weigh
from litetext.micro.model import VISION_WIDTH, make_model
from litetext.micro.patch_whitening import whiten_patches
from litetext.micro.recipe import MicroRecipe, Stage
from litetext.micro.validation import validate, validation_pairs
from litetext.storage import atomic_file, fingerprint, to_json, write_text

if TYPE_CHECKING:
    from transformers import Sam3Model

CHECKPOINT, RECIPE = "checkpoint.pt", "recipe.json"
_LOSSES = {"contrast": contrast_losses, "set": set_losses}
_READS = "text_"  # the text tower and its projection
_EYE = ("vision_encoder", _READS)  # what sees and reads
_LEARNT = ("embed", "token", "reference_points")  # by position: no decay
_APART = 1000  # between the seeds of two stages

Progress = Callable[[str, float], None]


@dataclass(eq=False)
class Run:
    """A training run between two steps.

    Attributes:
        model: what is trained.
        tutor: helps to train it.
        optimizers: of the stage: one for matrices and vectors, one for the rows of the token table.
        step: steps done, of all stages.
        seconds: spent so far.
    """

    model: "Sam3Model"
    tutor: Tutor
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        state = {
            "model": self.model.state_dict(),
            "tutor": self.tutor.state_dict(),
            "optimizers": [one.state_dict() for one in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        with atomic_file(path) as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe.

        Raises:
            OptionError: the file is no such checkpoint.
        """
        try:
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.tutor.load_state_dict(state["tutor"])
            for one, saved in zip(self.optimizers, state["optimizers"], strict=True):
                one.load_state_dict(saved)
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except Exception as error:  # whatever a damaged file makes of it
            raise OptionError("not a checkpoint", where=str(path), hint="remove it to begin anew") from error


def train(
    folder: Path,
    recipe: MicroRecipe,
    *,
    start: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> "Sam3Model":
    """Train by a recipe, or go on where a run in this folder stopped.

    Args:
        folder: checkpoint, recipe and validation curve are kept there.
        recipe: what to do.
        start: a folder of trained weights: only the last stage is run, from these; None begins at the beginning.
        workers: processes that draw pictures; 0 draws them in this one.
        progress: told of every step.

    Returns:
        The trained model, in evaluation mode.

    Raises:
        OptionError: the folder holds a run of another recipe, or something damaged; or a loss is not finite.
    """
    weights = None if start is None else start / SINGLE_FILE
    run = begin(recipe, weights)
    _keep_recipe(folder, recipe, weights)
    if (folder / CHECKPOINT).exists():
        run.load(folder / CHECKPOINT)
    with _fast_arithmetic(recipe.threads):
        trainer = _Trainer(folder, recipe, run, Curve(folder, run.step), progress or (lambda *_: None))
        while run.step < recipe.steps:
            trainer.train_stage(workers)
    run.model.eval()  # type: ignore[no-untyped-call]
    return run.model


def begin(recipe: MicroRecipe, weights: Path | None) -> Run:
    """A run before its first step, or with trained weights before the first step of the last stage.

    Raises:
        OptionError: the weights are not of the micro model.
    """
    model = make_model(recipe.seed)
    step = 0
    if weights is None:
        whiten_patches(model, recipe.seed)
    else:
        try:
            model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise OptionError("no weights of the micro model", where=str(weights)) from error
        step = recipe.first_step_of(-1)
    run = Run(model, Tutor(VISION_WIDTH, len(concepts())), (), step)
    run.optimizers = make_optimizers(run, recipe)
    return run


@dataclass(frozen=True, eq=False)
class _Trainer:
    """What a run keeps at hand."""

    folder: Path
    recipe: MicroRecipe
    run: Run
    curve: Curve
    progress: Progress

    def train_stage(self, workers: int) -> None:
        """From where the run is to the end of its stage."""
        run, recipe = self.run, self.recipe
        number, within = recipe.locate(run.step)
        stage = recipe.stages[number]
        if within == 0:
            run.optimizers = make_optimizers(run, recipe)  # of another stage
        for name, one in run.model.named_parameters():
            if name.startswith(_READS):
                one.requires_grad_(stage.reads)
        stream = BatchStream(recipe.seed + _APART * number, stage.batch)
        steps = range(within, stage.steps)
        sums: dict[str, float] = {}
        since, began = 0, time.monotonic()
        for place, batch in zip(steps, _load(stream, steps, workers), strict=True):
            losses = take_step(run, recipe, stage, place, batch)
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
            since += 1
            now = time.monotonic()
            run.seconds, began = run.seconds + now - began, now
            self.progress(stage.losses, run.step / recipe.steps)
            last = place + 1 == stage.steps
            if run.step % recipe.validate_every == 0 or last:
                self._validate({name: value / since for name, value in sums.items()}, stage)
                sums, since, began = {}, 0, time.monotonic()
            if run.step % recipe.save_every == 0 or last:
                run.save(self.folder / CHECKPOINT)

    def _validate(self, losses: dict[str, float], stage: Stage) -> None:
        pairs = validation_pairs(self.recipe.validation_pairs)
        scores = validate(self.run.model, pairs, masks=stage.losses == "set")
        self.curve.add({"step": self.run.step, "minutes": self.run.seconds / 60, **losses, **scores})


def take_step(run: Run, recipe: MicroRecipe, stage: Stage, within: int, batch: Batch) -> dict[str, float]:
    """One step of the optimizers, the step `within` of its stage; returns each loss and their weighted sum.

    Raises:
        OptionError: the loss is not finite.
    """
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = stage.rate_at(within) * (stage.eye if group["is_eye"] else 1)
    with torch.autocast(batch.pixels.device.type, torch.bfloat16):
        losses = _LOSSES[stage.losses](run.model, run.tutor, batch)
    loss = weigh(losses)
    if not bool(loss.isfinite()):
        raise OptionError(f"the loss of step {run.step} is {loss.item()}", hint="begin anew with a lower rate")
    loss.backward()  # type: ignore[no-untyped-call]
    clip_grad_norm_([one for group in run.optimizers[0].param_groups for one in group["params"]], recipe.most_norm)
    for optimizer in run.optimizers:
        optimizer.step()
    run.step += 1
    return {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}


def make_optimizers(run: Run, recipe: MicroRecipe) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW, and for the token table an Adam that touches no row but those that occur.

    Matrices decay; biases, norms and everything that is learnt by position do not. The geometry encoder has no part.
    """
    table = cast("torch.nn.Embedding", run.model.text_encoder.get_input_embeddings())
    table.sparse = True
    named = [*run.model.named_parameters(), *run.tutor.named_parameters()]
    sorts: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, one in named:
        if one is not table.weight and not name.startswith("geometry_encoder"):
            sorts.setdefault(
                (name.startswith(_EYE), one.ndim > 1 and not any(word in name for word in _LEARNT)), []
            ).append(one)
    groups = [
        {"params": some, "weight_decay": recipe.weight_decay * decays, "is_eye": is_eye}
        for (is_eye, decays), some in sorts.items()
    ]
    rows = {"params": [table.weight], "is_eye": True}
    return (torch.optim.AdamW(groups, betas=(0.9, 0.98)), torch.optim.SparseAdam([rows]))


def _load(stream: BatchStream, steps: range, workers: int) -> Iterator[Batch]:
    return iter(DataLoader(stream, batch_size=None, sampler=steps, num_workers=workers))


def _keep_recipe(folder: Path, recipe: MicroRecipe, weights: Path | None) -> None:
    """Write the recipe, and of the weights that it begins with the fingerprint, or refuse the run of another."""
    path = folder / RECIPE
    told = json.loads(json.dumps(asdict(recipe)))
    if weights is not None:
        told["start"] = fingerprint([weights.read_bytes()])
    if path.exists() and path.read_text(encoding="utf-8") != to_json(told):
        raise OptionError("a run of another recipe is in this folder", where=str(folder), hint="choose another folder")
    write_text(path, to_json(told))


@contextmanager
def _fast_arithmetic(threads: int) -> Iterator[None]:
    """So many threads, and no denormal numbers, which make some processors crawl."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
