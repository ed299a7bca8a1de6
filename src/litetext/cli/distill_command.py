"""`litetext distill`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from litetext.checkpoints.tensors import STUDENT_FILE
from litetext.cli._app import Result, command
from litetext.cli._options import (
    PATH_OR_HUB,
    ContextLength,
    Device,
    argument,
    open_encoder,
    option,
    read_corpus,
)
from litetext.cli._output import check_target, echo, show_progress
from litetext.errors import OptionError

if TYPE_CHECKING:
    from litetext.distillation.training_report import DistillReport

PRESET_HELP = "Size: s0, s1, l, xs, xxs; micro-s, micro-xs (for micro); tiny (a test). Default: by the teacher."
FEW_KEPT = 80  # percent of cgF1
KEPT_PAIRS = 300  # of the micro world, at the end of a run


@command(
    "Training",
    "litetext distill prompts.txt --teacher micro -o small",
    "litetext distill prompts.txt --teacher facebook/sam3 --preset xs -o xs",
    "litetext embed prompts.txt -o features --teacher sam3.pt",
    "litetext distill s0.toml -o s0 --features features --hold-out gold.json",
    "torchrun --nproc-per-node 2 -m litetext distill s0.toml -o s0",
    "\b\ns0.toml has what differs from the defaults:\n  preset = 's0'\n  init = 'mobileclip_s0.pt'\n"
    "  epochs = 40\n  dtype = 'bf16'\n  [losses]\n  consistency = 0.1",
)
def distill(
    sources: Annotated[
        list[str] | None,
        argument("A recipe (NAME.toml), phrases as `litetext audit` reads them, or both.", metavar="RECIPE|SOURCE"),
    ] = None,
    output: Annotated[
        Path | None, option("Folder. Default: the recipe's name.", "-o", "--output", metavar="DIR")
    ] = None,
    teacher: Annotated[
        str | None, option("Encoder to learn from: embeds the phrases first.", metavar=PATH_OR_HUB)
    ] = None,
    features: Annotated[
        str | None, option("Features of `litetext embed`; with --teacher: where they go.", metavar="CACHE")
    ] = None,
    preset: Annotated[str | None, option(PRESET_HELP, metavar="NAME")] = None,
    init: Annotated[str | None, option("Checkpoint to start from.", metavar=PATH_OR_HUB)] = None,
    context_length: ContextLength = None,
    model: Annotated[str | None, option("SAM3 for decoder losses and --gold.", metavar=PATH_OR_HUB)] = None,
    hold_out: Annotated[list[str] | None, option("Prompts not to train on; may be repeated.", metavar="FILE")] = None,
    gold: Annotated[list[str] | None, option("Pairs to validate with, by cgF1.", metavar="FILE")] = None,
    images: Annotated[list[str] | None, option("Where the pictures of --gold are.", metavar="DIR")] = None,
    epochs: Annotated[int | None, option("How often each phrase is seen.", min=1)] = None,
    batch_size: Annotated[int | None, option("Phrases of a step, of all processes together.", min=1)] = None,
    lr: Annotated[float | None, option("The highest learning rate.", min=1e-12)] = None,
    dtype: Annotated[Literal["fp32", "bf16", "fp16"] | None, option("What to compute in.")] = None,
    seed: Annotated[int | None, option("Of weights, split, order and permutations.")] = None,
    device: Device = "auto",
) -> Result | None:
    """Train a student on a teacher's features.

    The folder gets the student, a checkpoint, the curve and a model card. An interrupted run resumes automatically.
    Learning rate, batch size and epochs follow from the preset and the number of phrases unless they are given.
    """
    from litetext._face import open_host
    from litetext.device import choose_share
    from litetext.distillation.recipe import read_recipe
    from litetext.distillation.train import rank, train_student

    recipe, prompts = _split(sources or [])
    if prompts and teacher is None and features is None and recipe is None:
        raise OptionError("phrases without a teacher", hint="give --teacher MODEL, or --features of litetext embed")
    folder = _folder(recipe, output)
    if teacher is not None and features is None:
        features = str(folder / "features")
    changes = {
        "features": features,
        "sources": (prompts or None) if teacher is None else (),
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
    read = (recipe, teacher, settings.init, settings.model, *settings.gold, *settings.images)
    read = (*read, settings.features) if teacher is None else read
    check_target(folder, models=read, sources=(*prompts, *settings.hold_out), folder=True)
    target = choose_share(device, rank(local=True))
    with show_progress() as progress:
        if teacher is not None:
            from litetext.features.embed import embed

            if rank():
                raise OptionError("--teacher under torchrun", hint="run litetext embed first, then give --features")
            embed(
                read_corpus(prompts),
                open_encoder(teacher, "auto", None, device),
                Path(settings.features),
                progress=progress,
            )
        host = open_host(settings, target)
        report = train_student(settings, folder, host, target, progress, log=partial(echo, err=True))
    if rank():
        return None
    kept = _kept(report)
    return Result(report.to_json() | {"kept": kept}, _summary(report, kept))


def _split(sources: list[str]) -> tuple[Path | None, list[str]]:
    """The recipe among what was given, if there is one, and the sources of phrases."""
    recipes = [Path(source) for source in sources if source.endswith(".toml")]
    if len(recipes) > 1:
        raise OptionError(f"{len(recipes)} recipes", where=str(recipes[1]), hint="give one")
    return next(iter(recipes), None), [source for source in sources if not source.endswith(".toml")]


def _folder(recipe: Path | None, output: Path | None) -> Path:
    if output is None and recipe is None:
        raise OptionError("no folder to write", hint="give -o DIR")
    return output or Path(recipe.stem if recipe else "")


def _kept(report: "DistillReport") -> dict[str, Any] | None:
    """What the student keeps of micro's cgF1; None for another teacher, whose pictures and truth are not at hand."""
    from litetext.cli.evaluate_commands import retention

    if report.teacher.name != "micro":
        return None
    result = retention("micro", str(report.path / STUDENT_FILE), pairs=KEPT_PAIRS)
    return None if result is None else result.values["retention"]


def _summary(report: "DistillReport", kept: dict[str, Any] | None) -> str:
    best = report.best
    names = ("cosine", "end_cosine", "retrieval", "order", "val_loss", "cgf1")
    figures = ", ".join(f"{name} {best[name]:.4f}" for name in names if name in best)
    held = ", ".join(str(item["name"]) for item in report.split.held_out) or "nothing"
    student, model = report.path / STUDENT_FILE, report.host or report.teacher.name
    lines = [
        f"{student}: {report.parameters / 1e6:.2f} M parameters, epoch {best['epoch']:g}: {figures}",
        f"{report.growth} Held out: {held}. The curve: {report.path / 'curve.png'}",
    ]
    if kept is not None:
        low, high = kept["interval"] or (kept["cgf1"], kept["cgf1"])
        share = f"It keeps {kept['cgf1']:.1f} % of micro's cgF1 ({low:.1f} to {high:.1f}"
        lines.append(f"{share}, {KEPT_PAIRS} pairs of the test split).")
        if kept["cgf1"] < FEW_KEPT:
            lines.append("That is little: give more phrases (litetext micro phrases --count 20000), or more --epochs.")
    else:
        measure = f"litetext evaluate retention --model {model} --student {student} --gt FILE --images DIR"
        lines.append(f"What masks lose by it: {measure}")
    lines.append(f"Next: litetext segment IMAGE -p PHRASE --model {model} --text-encoder {student} -o found")
    return "\n".join(lines)
