"""`litetext distill`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from litetext.cli._app import Result, command
from litetext.cli._options import PATH_OR_HUB, ContextLength, Device, argument, option
from litetext.cli._output import check_target, show_progress
from litetext.errors import OptionError

if TYPE_CHECKING:
    from litetext.distillation.training_report import DistillReport


@command(
    "Training",
    "litetext embed prompts.txt -o features --teacher sam3.pt",
    "litetext distill s0.toml -o s0 --features features --hold-out gold.json",
    "litetext distill --features features --preset xs --epochs 40 -o xs --json",
    "torchrun --nproc-per-node 2 -m litetext distill s0.toml -o s0\n"
    "\b\ns0.toml has what differs from the defaults:\n  preset = 's0'\n  init = 'mobileclip_s0.pt'\n"
    "  epochs = 40\n  dtype = 'bf16'\n  [losses]\n  consistency = 0.1",
)
def distill(
    recipe: Annotated[Path | None, argument("None: the defaults.", metavar="RECIPE.toml")] = None,
    output: Annotated[
        Path | None, option("Folder. Default: the recipe's name.", "-o", "--output", metavar="DIR")
    ] = None,
    features: Annotated[str | None, option("Features of the teacher, from `litetext embed`.", metavar="CACHE")] = None,
    preset: Annotated[str | None, option("Size of the student: s0, s1, l, xs, xxs.", metavar="NAME")] = None,
    init: Annotated[str | None, option("Checkpoint to start from.", metavar=PATH_OR_HUB)] = None,
    context_length: ContextLength = None,
    model: Annotated[str | None, option("SAM3 for decoder losses and --gold.", metavar=PATH_OR_HUB)] = None,
    hold_out: Annotated[list[str] | None, option("Prompts not to train on; may be repeated.", metavar="FILE")] = None,
    gold: Annotated[list[str] | None, option("Pairs to validate with, by cgF1.", metavar="FILE")] = None,
    images: Annotated[list[str] | None, option("Where the pictures of --gold are.", metavar="DIR")] = None,
    epochs: Annotated[int | None, option("How often each phrase is seen.")] = None,
    batch_size: Annotated[int | None, option("Phrases of a step, of all processes together.")] = None,
    lr: Annotated[float | None, option("The highest learning rate.")] = None,
    dtype: Annotated[Literal["fp32", "bf16", "fp16"] | None, option("What to compute in.")] = None,
    seed: Annotated[int | None, option("Of weights, split, order and permutations.")] = None,
    device: Device = "auto",
) -> Result | None:
    """Train a student on a teacher's features by a recipe.

    The folder gets the student, a checkpoint, the curve and a model card. An interrupted run resumes automatically.
    """
    from litetext._face import open_host
    from litetext.device import choose_share
    from litetext.distillation.recipe import read_recipe
    from litetext.distillation.train import rank, train_student

    changes = {
        "features": features,
        "preset": preset,
        "init": init,
        "context_length": context_length,
        "model": model,
        "gold": gold or None,
        "images": images or None,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "dtype": dtype,
        "seed": seed,
    }
    settings = read_recipe(recipe, changes)
    settings = replace(settings, hold_out=(*settings.hold_out, *(hold_out or ())))
    folder = _folder(recipe, output)
    read = (recipe, settings.features, settings.init, settings.model, *settings.gold, *settings.images)
    check_target(folder, models=read, sources=settings.hold_out, folder=True)
    target = choose_share(device, rank(local=True))
    with show_progress() as progress:
        report = train_student(settings, folder, open_host(settings, target), target, progress)
    return Result(report.to_json(), _summary(report)) if rank() == 0 else None


def _folder(recipe: Path | None, output: Path | None) -> Path:
    if output is None and recipe is None:
        raise OptionError("no folder to write", hint="give -o DIR")
    return output or Path(recipe.stem if recipe else "")


def _summary(report: "DistillReport") -> str:
    best = report.best
    names = ("cosine", "end_cosine", "retrieval", "order", "val_loss", "cgf1")
    figures = ", ".join(f"{name} {best[name]:.4f}" for name in names if name in best)
    held = ", ".join(str(item["name"]) for item in report.split.held_out) or "nothing"
    return (
        f"{report.path}: {report.parameters / 1e6:.2f} M parameters, best after epoch {best['epoch']:g}: {figures}\n"
        f"{report.growth} Held out: {held}."
    )
