"""Distillation: train a student by a recipe, resumable at any step, with validation and the best student kept."""

from contextlib import ExitStack
from pathlib import Path

import torch

from litetext.distillation.average import Average
from litetext.distillation.curve import PICTURE, TABLE
from litetext.distillation.data import Data, token_lengths
from litetext.distillation.optimizer import LossScale, RowAdam, make_optimizer
from litetext.distillation.parallel import all_processes, share_statistics
from litetext.distillation.recipe import DistillRecipe
from litetext.distillation.report import CARD, STUDENT, SUMMARY, DistillReport
from litetext.distillation.start import start_student
from litetext.distillation.train_step import StepRunner
from litetext.distillation.trainer import Progress, RunContext, Trainer
from litetext.distillation.training_state import CHECKPOINT, Run
from litetext.distillation.validator import Host, Validator
from litetext.errors import OptionError
from litetext.features.store import FeatureCache
from litetext.storage import fingerprint, only_writer


def distill(
    recipe: DistillRecipe,
    folder: Path,
    host: Host | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> DistillReport:
    """Train a student, or go on where a run in this folder stopped; the weights come out the same.

    Under ``torchrun`` the processes share each batch; process 0 alone writes.

    Args:
        recipe: what to do.
        folder: of the run: ``student.safetensors`` (the best by validation), ``last.ckpt``, curve, summary, model card.
        host: for losses and figures of a segmenter.
        device: where to compute; None for the CPU.
        progress: called with the stage and the share of it that is done, 0..1.

    Raises:
        OptionError: the recipe asks for a host, or for a figure, that is not there; or too little data.
        OutputError: another process trains in this folder, or it cannot be one.
        CacheError: the features are missing, damaged or not finite.
        EncoderError: the student cannot start from what the recipe names.
        TrainingError: a loss is not finite, a file cannot be written, or the folder holds a run of another recipe.
    """
    place = device or torch.device("cpu")
    _check_host(recipe, host)
    cache = FeatureCache.open(recipe.data.cache)
    cache.verify()
    data = Data.read(cache, recipe.data, recipe.training.seed)
    with ExitStack() as stack:
        world = stack.enter_context(all_processes(place))
        if world.rank == 0:
            stack.enter_context(only_writer(folder, "this run"))
            _remove_leftovers(folder)
        trainer = prepare_run(recipe, folder, cache, data, RunContext(place, world, host, progress or _silent))
        trainer.train()
        return trainer.report()


def prepare_run(recipe: DistillRecipe, folder: Path, cache: FeatureCache, data: Data, around: RunContext) -> Trainer:
    """Build the student and its optimizers, and load what was kept of the run.

    Args:
        recipe: what to do.
        folder: of the run; nothing is written.
        cache: features of the teacher.
        data: phrases of the cache.
        around: where it takes place.

    Raises:
        EncoderError: the student cannot start from what the recipe names.
        TrainingError: what was kept is damaged, or of another recipe.
    """
    training = recipe.training
    student = start_student(recipe.student, cache.width, training.seed)
    share_statistics(student, around.world)
    student.to(around.device).train()
    student.token_table.weight.requires_grad_(False)
    number: torch.dtype = getattr(torch, training.number)
    run = Run(
        student,
        make_optimizer(student, training.weight_decay),
        RowAdam(student.token_table.weight),
        Average(student, training.ema),
        LossScale(number),
    )
    identity = _identity(recipe, cache, data)
    if (folder / CHECKPOINT).exists():
        run.load(folder, identity)
    around.world.wait(around.device)  # process 0 must not write a checkpoint before all have looked for one
    host = around.host
    learner = StepRunner(student, cache, recipe.losses, host.reader if host else None, around.world, number)
    asked = data.validation[: recipe.validation.phrases]
    examination = Validator(cache, asked, recipe.losses, host, training.seed)
    lengths = token_lengths(data.train, student.config.context_length)
    return Trainer(recipe, folder, data, run, learner, examination, around, lengths, identity)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed run has half written."""
    for name in (CHECKPOINT, STUDENT, TABLE, PICTURE, SUMMARY, CARD):
        for path in folder.glob(f".{name}.*"):  # of `atomic_file`
            path.unlink(missing_ok=True)


def _identity(recipe: DistillRecipe, cache: FeatureCache, data: Data) -> dict[str, str]:
    """What a run is of: to go on, all of it must be as it was. Where its files stand does not matter."""
    told = recipe.to_json()
    places = {"cache", "sources", "hold_out", "host"}
    values = {f"{section}.{name}": str(value) for section, table in told.items() for name, value in table.items()}
    return {name: value for name, value in values.items() if name.removeprefix("data.") not in places} | {
        "teacher": cache.teacher.fingerprint,
        "training phrases": fingerprint(data.train),
        "validation phrases": fingerprint(data.validation),
        "phrases kept out": fingerprint(sorted(data.kept_out)),
    }


def _check_host(recipe: DistillRecipe, host: Host | None) -> None:
    kinds = recipe.losses.kinds
    if kinds and (host is None or host.reader is None):
        raise OptionError(
            f"weights for {', '.join(kinds)}, but no decoder", hint="give a host (--host PATH), or weight 0"
        )
    if recipe.validation.best == "cgf1" and (host is None or host.evaluate is None):
        raise OptionError("the best by cgf1, but nothing to evaluate on", hint="give a host that can be evaluated")


def _silent(_: str, __: float) -> None:
    pass
