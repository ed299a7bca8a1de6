"""`litetext distill`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.outputs import check_target
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    import torch

    from litetext.distillation.recipe import DistillRecipe
    from litetext.distillation.report import DistillReport
    from litetext.distillation.validator import Host


@app.command(
    epilog="\b\nExamples:\n  litetext embed prompts.txt -o features --model sam3.pt\n"
    "  litetext distill s0.toml -o s0 --features features --hold-out gold.json\n"
    "  litetext distill --features features --preset xs --epochs 40 -o xs --json\n"
    "  torchrun --nproc-per-node 2 -m litetext distill s0.toml -o s0\n"
    "\b\ns0.toml says what differs from the defaults:\n  [student]\n  preset = 's0'\n  init = 'mobileclip_s0.pt'\n"
    "  [losses]\n  consistency = 0.1\n  [training]\n  epochs = 40\n  dtype = 'bf16'"
)
def distill(
    recipe: Annotated[
        Path | None,
        typer.Argument(metavar="RECIPE.toml", show_default=False, help="The recipe; none for the defaults."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            show_default=False,
            help="Student, checkpoint, curve and model card; a run that is there goes on. Default: the recipe's name.",
        ),
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="CACHE", help="Features of the teacher, from `litetext embed`.")
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Size of the student: s0, s1, l, xs, xxs.")] = None,
    init: Annotated[
        str | None, typer.Option(metavar="PATH|HF_ID", help="A MobileCLIP or LiteText checkpoint to start from.")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Tokens that the student reads.")] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="PATH|HF_ID", help="SAM3 model for the losses keys, values and scoring."),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Prompts of an evaluation set, not to be trained on; may be repeated."),
    ] = None,
    gold: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Pairs to validate with, cgF1 of the host after each epoch; with --images."),
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="Where the pictures of --gold are; may be repeated.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often each phrase is seen.")] = None,
    batch: Annotated[int | None, typer.Option(help="Phrases of a step, of all processes together.")] = None,
    rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    dtype: Annotated[str | None, typer.Option(help="What to compute in: fp32, bf16 or fp16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, split, order and permutations.")] = None,
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda, mps.")] = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Train a student on a teacher's features by a recipe; after an interruption it goes on where it was."""
    try:
        from litetext.distillation.distill import distill
    except ImportError as error:
        raise MissingExtraError("distillation", "sam3") from error
    from litetext.device import choose_share
    from litetext.distillation.parallel import is_first, local_number
    from litetext.distillation.recipe import read_recipe

    changes: dict[str, dict[str, Any]] = {
        "student": {"preset": preset, "init": init, "context_length": context},
        "data": {"cache": features, "host": host},
        "training": {"epochs": epochs, "batch": batch, "rate": rate, "dtype": dtype, "seed": seed},
        "validation": {"gold": gold or None, "images": images or None},
    }
    found = read_recipe(recipe, changes)
    held = (*found.data.hold_out, *(hold_out or ()))
    found = replace(found, data=replace(found.data, hold_out=held))
    folder = _folder(recipe, output)
    read = (recipe, found.data.cache, found.student.init, found.data.host, *found.validation.gold)
    check_target(folder, models=(*read, *found.validation.images), sources=held, folder=True)
    target = choose_share(device, local_number())
    with show_progress() as progress:
        report = distill(found, folder, _host(found, target), target, progress)
    if not is_first():
        return
    if json:
        print_json(report.to_json())
    else:
        echo(_summary(report))


def _folder(recipe: Path | None, output: Path | None) -> Path:
    if output is None and recipe is None:
        raise OptionError("no folder to write", hint="give -o DIR")
    return output or Path(recipe.stem if recipe else "")


def _host(recipe: "DistillRecipe", device: "torch.device") -> "Host | None":
    """The host that the recipe names; of one that nothing asks for, nothing is loaded."""
    from litetext.distillation.validator import Host

    name, gold = recipe.data.host, recipe.validation.gold
    if not name:
        if gold:
            raise OptionError("pairs to validate with, but no model that segments", hint="give --host")
        return None
    if not recipe.losses.kinds and not gold:
        return Host(name)
    from litetext.evaluation.host_eval import HostEvaluator, NullTextEncoder
    from litetext.evaluation.labeled_pairs import GoldPairs
    from litetext.features.store import FeatureCache
    from litetext.sam3.segmenter import Segmenter
    from litetext.sam3.text_projections import text_readers

    paths = [Path(one) for one in recipe.validation.images]
    pairs = GoldPairs.read([Path(one) for one in gold], paths) if gold else None  # before anything large is loaded
    segmenter = Segmenter.load(name, NullTextEncoder(FeatureCache.open(recipe.data.cache).width), device=device)
    reader = text_readers(segmenter.detector) if recipe.losses.kinds else None
    return Host(name, reader, None if pairs is None else HostEvaluator(segmenter, pairs).figures)


def _summary(report: "DistillReport") -> str:
    best = report.best
    names = ("cosine", "end_cosine", "retrieval", "order", "val_loss", "cgf1")
    figures = ", ".join(f"{name} {best[name]:.4f}" for name in names if name in best)
    held = ", ".join(one.name for one in report.data.hold_outs) or "nothing"
    return (
        f"{report.path}: {report.parameters / 1e6:.2f} M parameters, best after epoch {best['epoch']:g}: {figures}\n"
        f"{report.growth} Held out: {held}."
    )
