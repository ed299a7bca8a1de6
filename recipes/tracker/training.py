"""Train the micro tracker by its recipe: resumable at any step, with a validation curve."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_

from litetext.errors import OptionError
from litetext.micro.clips import MIN_PIXELS, Plot
from litetext.micro.tracker_model import join_tracker, micro_video_config
from litetext.sam3.host import load_host
from litetext.storage import atomic_file
from recipes.micro.training import fast_arithmetic, keep_recipe, locate, training_dtype, warm_cosine
from recipes.tracker.unrolled import WEIGHTS, Step, follow, track_losses
from recipes.tracker.windows import WindowOptions, Windows, WindowStream

CHECKPOINT, CURVE = "checkpoint.pt", "curve.csv"
_APART = 1000  # between the seeds of two stages
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Stage:
    """One stage: its batches, the highest learning rate, and how often a later frame's mask is given too."""

    steps: int
    lr: float
    batch: WindowOptions
    prompted: float = 0.0
    neck_lr_scale: float = 0.0  # 0: the neck stays as it is, which saves a third of the time
    min_lr_ratio: float = 0.05
    warmup_steps: int = 60

    def lr_at(self, step: int) -> float:
        """The learning rate of a step of this stage, from 0."""
        return warm_cosine(step, self.steps, self.lr, self.warmup_steps, self.min_lr_ratio)


@dataclass(frozen=True)
class TrackerRecipe:
    """How the micro tracker is trained; the defaults made the weights that are shipped."""

    seed: int = 0
    layers: int = 2
    stages: tuple[Stage, ...] = (
        Stage(800, 1.5e-3, WindowOptions(2, 16, strides=(1, 2, 3, 4)), neck_lr_scale=0.3, min_lr_ratio=0.4),
        Stage(850, 1e-3, WindowOptions(5, 7, damaged=0.3, strides=(1, 2)), prompted=0.1),
        Stage(200, 5e-4, WindowOptions(8, 6, damaged=0.5), prompted=0.1),
    )
    weight_decay: float = 0.03
    max_grad_norm: float = 1.0
    validate_every: int = 200  # 0: never
    save_every: int = 50
    threads: int = 1


def begin(recipe: TrackerRecipe) -> Any:
    """The video model with random weights in the tracker, and a neck that begins as the detector's."""
    from transformers import Sam3VideoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        fresh: Any = Sam3VideoModel(micro_video_config(recipe.layers))
    tensors = {f"tracker_model.{name}": tensor for name, tensor in fresh.tracker_model.state_dict().items()}
    model: Any = join_tracker(load_host("micro", text_tower=False, dtype="float32"), tensors)
    model.requires_grad_(False)
    model.tracker_model.requires_grad_(True)
    model.tracker_neck.requires_grad_(True)
    return model


def train(folder: Path, recipe: TrackerRecipe, progress: Progress = lambda *_: None) -> Any:
    """Train by a recipe, or go on where a run in this folder stopped; the trained video model.

    Raises:
        OptionError: the folder holds a run of another recipe, or a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_recipe(folder, asdict(recipe))
    with fast_arithmetic(recipe.threads):
        return _train(folder, recipe, progress)


def _train(folder: Path, recipe: TrackerRecipe, progress: Progress) -> Any:
    model = begin(recipe)
    optimizer = make_optimizer(model, recipe)
    step, seconds, rows = 0, 0.0, []
    if (folder / CHECKPOINT).exists():
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        model.tracker_model.load_state_dict(state["tracker"])
        model.tracker_neck.load_state_dict(state["neck"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds, rows = state["step"], state["seconds"], state["rows"]
    total = sum(stage.steps for stage in recipe.stages)
    sums: dict[str, float] = {}
    since = 0
    while step < total:
        began = time.monotonic()
        for name, value in take_step(model, optimizer, recipe, step).items():
            sums[name] = sums.get(name, 0.0) + value
        step, since = step + 1, since + 1
        seconds += time.monotonic() - began
        progress("tracking", step / total)
        if recipe.validate_every and (step % recipe.validate_every == 0 or step == total):
            row = {"step": step, "minutes": seconds / 60, **{name: value / since for name, value in sums.items()}}
            rows.append(row | validate(model))
            write_curve(folder / CURVE, rows)
            sums, since = {}, 0
        if step % recipe.save_every == 0 or step == total:
            state = {"tracker": model.tracker_model.state_dict(), "neck": model.tracker_neck.state_dict()}
            with atomic_file(folder / CHECKPOINT) as file:
                torch.save(
                    {**state, "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds, "rows": rows}, file
                )
    return model.eval()


def make_optimizer(model: Any, recipe: TrackerRecipe) -> torch.optim.Optimizer:
    """AdamW; matrices decay, what is learnt by position, biases and norms do not."""
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, one in model.named_parameters():
        if one.requires_grad:
            decays = one.ndim > 1 and not any(word in name for word in ("embed", "token", "memory_", "pointer"))
            groups.setdefault((name.startswith("tracker_neck"), decays), []).append(one)
    return torch.optim.AdamW(
        [
            {"params": some, "weight_decay": recipe.weight_decay * decays, "is_neck": is_neck}
            for (is_neck, decays), some in groups.items()
        ],
        betas=(0.9, 0.98),
    )


def take_step(model: Any, optimizer: torch.optim.Optimizer, recipe: TrackerRecipe, step: int) -> dict[str, float]:
    """One step; returns each loss and their weighted sum."""
    number, within = locate([stage.steps for stage in recipe.stages], step)
    stage = recipe.stages[number]
    windows = WindowStream(recipe.seed + _APART * number, stage.batch)[within]
    rng = np.random.default_rng([recipe.seed, step, 1])
    prompted = {0} | {now for now in range(1, stage.batch.frames - 1) if rng.random() < stage.prompted}
    for group in optimizer.param_groups:
        group["lr"] = stage.lr_at(within) * (stage.neck_lr_scale if group["is_neck"] else 1)
    model.tracker_model.train()
    model.tracker_neck.requires_grad_(stage.neck_lr_scale > 0)
    dtype = training_dtype("cpu")
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        steps = follow(model, windows, frozenset(prompted))
    losses = track_losses(steps, windows.masks[1:])
    loss = torch.stack([WEIGHTS[name] * value for name, value in losses.items() if name in WEIGHTS]).sum()
    if not bool(loss.isfinite()):
        raise OptionError(f"the loss of step {step} is {loss.item()}", hint="begin anew with a lower learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], recipe.max_grad_norm)
    optimizer.step()
    return {"loss": loss.item(), **{name: value.item() for name, value in losses.items()}}


VALIDATION: dict[Plot, int] = {"ordinary": 16, "crossing": 20, "hidden": 24}


def validate(model: Any) -> dict[str, float]:
    """J, the mean IoU of things with their first masks given, on whole validation clips of each plot.

    Twelve things of each plot, always the same, which training never sees.
    """
    model.tracker_model.eval()
    scores = {}
    for plot, frames in VALIDATION.items():
        windows = WindowStream(7, WindowOptions(frames, 12, plot=plot), "validation")[0]
        with torch.no_grad():
            steps = follow(model, windows)
        scores[f"J_{plot}"] = float(np.nanmean(ious(steps, windows)))
    return scores


def ious(steps: list[Step], windows: Windows) -> npt.NDArray[np.float32]:
    """IoU of each thing in each frame after the first, [O, T - 1]; NaN where it is not seen."""
    size = windows.masks.shape[-2:]
    found = []
    for step, truth in zip(steps, windows.masks[1:].bool(), strict=True):
        fine = torch.nn.functional.interpolate(step.masks, size=size, mode="bilinear", align_corners=False)[:, 0]
        hard = (fine > 0) & (step.scores > 0)[..., None]
        both, either = (hard & truth).flatten(1).sum(1), (hard | truth).flatten(1).sum(1)
        value = both / either.clamp(min=1)
        found.append(torch.where(truth.flatten(1).sum(1) >= MIN_PIXELS, value, torch.nan))
    values: npt.NDArray[np.float32] = torch.stack(found, dim=1).numpy()
    return values


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    """The rows as a table."""
    with atomic_file(path) as file:
        lines = [",".join(rows[0]), *(",".join(f"{value:.6g}" for value in row.values()) for row in rows)]
        file.write(("\n".join(lines) + "\n").encode())


def save_weights(model: Any, folder: Path) -> int:
    """The tracker's and its neck's tensors in float16; the size of the file in bytes."""
    tensors = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith(("tracker_model.", "tracker_neck."))
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    save_file(tensors, path)
    return path.stat().st_size
