"""Train the micro SAM3 by its recipe: resumable at any step, with a validation curve."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from litetext.checkpoints.tensors import SINGLE_FILE
from litetext.errors import OptionError
from litetext.micro.concepts import concepts
from litetext.micro.model import VISION_WIDTH
from litetext.micro.scenes import SceneOptions
from litetext.storage import atomic_file, fingerprint, to_json, write_text
from recipes.micro.batches import Batch, BatchOptions, BatchStream, make_dense_scene
from recipes.micro.forward import AuxiliaryHeads, contrast_losses, set_losses, weigh
from recipes.micro.model import make_model
from recipes.micro.validation import Curve, validate, validation_pairs

if TYPE_CHECKING:
    from transformers import Sam3Model


def warm_cosine(step: int, steps: int, lr: float, warmup_steps: int, min_lr_ratio: float) -> float:
    """The learning rate of a step of a stage, from 0: linear warm-up, then half a cosine."""
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, steps - warmup_steps)
    return lr * (min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * share)) / 2)


def locate(stages: Sequence[int], step: int) -> tuple[int, int]:
    """The number of the stage of a step, and the step's number in it, from how many steps each stage has."""
    for number, steps in enumerate(stages):
        if step < steps:
            return number, step
        step -= steps
    raise OptionError(f"the recipe ends before step {step}")


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        losses: "contrast": names of instances alone; "set": everything.
        steps: how many.
        lr: the highest learning rate.
        backbone_lr_scale: of it, for the vision encoder, the text tower and its projection.
        train_text: whether the text tower and its projection are trained; if not, their students stay valid.
        min_lr_ratio: the last learning rate, as a share of it.
        batch: what is in a batch.
        warmup_steps: steps until the rate is reached.
    """

    losses: Literal["contrast", "set"]
    steps: int
    lr: float
    min_lr_ratio: float
    batch: BatchOptions
    warmup_steps: int = 100
    backbone_lr_scale: float = 1.0
    train_text: bool = True

    def lr_at(self, step: int) -> float:
        """The learning rate of a step of this stage, from 0: linear warm-up, then half a cosine."""
        return warm_cosine(step, self.steps, self.lr, self.warmup_steps, self.min_lr_ratio)


_WORDS = BatchOptions(pictures=40, phrases=0, nouns=1000, coloured=40, strange=40, dense=0.8)
_SETS = BatchOptions(pictures=16, phrases=6, nouns=160, coloured=12, strange=20)
_GUESSES = replace(_SETS, guesses=12)
_EDGES = replace(_GUESSES, points=256)


@dataclass(frozen=True)
class MicroRecipe:
    """How the micro SAM3 is trained; the defaults made the weights that are shipped.

    Attributes:
        seed: of the weights and of the world.
        stages: one after another.
        weight_decay: of matrices; biases, norms and tables have none.
        max_grad_norm: gradients are scaled down to this norm.
        validate_every: steps between two validations.
        validation_pairs: pairs of the validation split, always the same.
        save_every: steps between two checkpoints.
        threads: of PyTorch.

    Raises:
        OptionError: a number that makes no sense.
    """

    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage("contrast", 1500, 1e-3, 0.1, _WORDS),
        Stage("set", 1150, 8e-4, 0.01, _SETS, backbone_lr_scale=0.5),
        Stage("set", 3600, 8e-4, 0.01, _GUESSES, backbone_lr_scale=0.6),
        Stage("set", 3800, 6e-4, 0.01, _EDGES, backbone_lr_scale=0.8, train_text=False),
    )
    weight_decay: float = 0.03
    max_grad_norm: float = 1.0
    validate_every: int = 400
    validation_pairs: int = 300
    save_every: int = 150
    threads: int = 2

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if not self.stages or any(stage.steps < 1 for stage in self.stages):
            raise OptionError("a recipe without steps", hint="give each stage 1 or more")
        for name in ("validate_every", "validation_pairs", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} {getattr(self, name)}", hint="give 1 or more")

    def first_step_of(self, number: int) -> int:
        """The first step of a stage; negative numbers count from the end."""
        return sum(stage.steps for stage in self.stages[:number])

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def locate(self, step: int) -> tuple[int, int]:
        """The number of the stage of a step, and the step's number in it."""
        return locate([stage.steps for stage in self.stages], step)


CHECKPOINT, RECIPE = "checkpoint.pt", "recipe.json"
_LOSSES = {"contrast": contrast_losses, "set": set_losses}
_TEXT = "text_"  # the text tower and its projection
_BACKBONE = ("vision_encoder", _TEXT)  # what sees and reads
_LEARNT = ("embed", "token", "reference_points")  # by position: no decay
_APART = 1000  # between the seeds of two stages

Progress = Callable[[str, float], None]


@dataclass(eq=False)
class Run:
    """A training run between two steps.

    Attributes:
        model: what is trained.
        heads: helps to train it.
        optimizers: of the stage: one for matrices and vectors, one for the rows of the token table.
        step: steps done, of all stages.
        seconds: spent so far.
    """

    model: "Sam3Model"
    heads: AuxiliaryHeads
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
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
            self.heads.load_state_dict(state["heads"])
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
    with fast_arithmetic(recipe.threads):
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
    run = Run(model, AuxiliaryHeads(VISION_WIDTH, len(concepts())), (), step)
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
            if name.startswith(_TEXT):
                one.requires_grad_(stage.train_text)
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
            group["lr"] = stage.lr_at(within) * (stage.backbone_lr_scale if group["is_backbone"] else 1)
    device, dtype = batch.pixels.device, training_dtype(batch.pixels.device)
    with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        losses = _LOSSES[stage.losses](run.model, run.heads, batch)
    loss = weigh(losses)
    if not bool(loss.isfinite()):
        raise OptionError(f"the loss of step {run.step} is {loss.item()}", hint="begin anew with a lower learning rate")
    loss.backward()  # type: ignore[no-untyped-call]
    clip_grad_norm_([one for group in run.optimizers[0].param_groups for one in group["params"]], recipe.max_grad_norm)
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
    named = [*run.model.named_parameters(), *run.heads.named_parameters()]
    sorts: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, one in named:
        if one is not table.weight and not name.startswith("geometry_encoder"):
            sorts.setdefault(
                (name.startswith(_BACKBONE), one.ndim > 1 and not any(word in name for word in _LEARNT)), []
            ).append(one)
    groups = [
        {"params": some, "weight_decay": recipe.weight_decay * decays, "is_backbone": is_backbone}
        for (is_backbone, decays), some in sorts.items()
    ]
    rows = {"params": [table.weight], "is_backbone": True}
    return (torch.optim.AdamW(groups, betas=(0.9, 0.98)), torch.optim.SparseAdam([rows]))


def _load(stream: BatchStream, steps: range, workers: int) -> Iterator[Batch]:
    return iter(DataLoader(stream, batch_size=None, sampler=steps, num_workers=workers))


def _keep_recipe(folder: Path, recipe: MicroRecipe, weights: Path | None) -> None:
    """Write the recipe, and of the weights that it begins with the fingerprint, or refuse the run of another."""
    told = json.loads(json.dumps(asdict(recipe)))
    if weights is not None:
        told["start"] = fingerprint([weights.read_bytes()])
    keep_recipe(folder, told)


def keep_recipe(folder: Path, told: dict[str, Any]) -> None:
    """Write what a run does into its folder, or refuse a folder with a run of another recipe."""
    path, text = folder / RECIPE, to_json(told)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise OptionError("a run of another recipe is in this folder", where=str(folder), hint="choose another folder")
    write_text(path, text)


@contextmanager
def fast_arithmetic(threads: int) -> Iterator[None]:
    """So many threads, and no denormal numbers, which make some processors crawl."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


_PICTURES = 60
_FLOOR = 0.1  # added to the variance: what varies less is mostly grain


def whiten_patches(model: "Sam3Model", seed: int) -> None:
    """Set the patch embedding to the strongest principal components of patches, each of variance 1, in random order.

    Args:
        model: a micro model; its patch embedding is changed.
        seed: of the pictures.
    """
    projection = model.vision_encoder.backbone.embeddings.patch_embeddings.projection
    width, _, side, _ = projection.weight.shape
    options = SceneOptions(size=16 * side)
    pixels = np.stack([make_dense_scene(seed + number, options).pixels for number in range(_PICTURES)])
    patches = (
        torch.from_numpy(pixels)
        .float()
        .permute(0, 3, 1, 2)
        .div(127.5)
        .sub(1)
        .unfold(2, side, side)
        .unfold(3, side, side)
    )
    flat = patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1)  # [N, 3 * side * side]
    variances, directions = torch.linalg.eigh(torch.cov(flat.T))
    strongest = torch.argsort(variances, descending=True)[:width]
    filters = (directions[:, strongest] / (variances[strongest] + _FLOOR).sqrt()).T
    with torch.no_grad():
        projection.weight.copy_(filters.reshape(projection.weight.shape))


def training_dtype(device: str | torch.device) -> torch.dtype:
    """bfloat16 where the device is fast in it, else float32: on a CPU without it PyTorch takes ten times as long."""
    slow = torch.device(device).type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.float32 if slow else torch.bfloat16
