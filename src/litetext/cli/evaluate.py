"""`litetext evaluate`: scores of segmentations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.models import MODEL_HELP, Context, Device, Dtype, Fallback, ModelChoice, Positions, Text
from litetext.cli.predicting import SCORE, Maker
from litetext.cli.scores import print_scores, print_subsets
from litetext.errors import EvaluationError, MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.subsets import GoldScores, GoldSet

evaluate_app = typer.Typer(rich_markup_mode=None)
app.add_typer(evaluate_app, name="evaluate", help="Score segmentations: cgF1, and what a student keeps of it.")


@evaluate_app.callback()
def _root() -> None:
    """Score segmentations: cgF1 on SA-Co Gold, and what a student keeps of it."""


@evaluate_app.command(
    epilog="\b\nExamples:\n  litetext evaluate gold --gt gold_a.json --pred found.json\n"
    "  litetext evaluate gold --gt a.json b.json c.json --pred found.json --json\n"
    "  litetext evaluate gold --gt a.json,b.json,c.json --pred found.json\n"
    "  litetext evaluate gold --gt a.json --model facebook/sam3 --images metaclip --text s0.pt --pred s0.json\n"
    "  litetext evaluate gold --gt annotations/ --model facebook/sam3 --images metaclip --images sa1b --pred teacher/\n"
    "  litetext evaluate gold --gt annotations/ --pred teacher/ --ap"
)
def gold(
    truths: Annotated[
        list[str],
        typer.Option(
            "--gt",
            metavar="FILE|DIR",
            show_default=False,
            help="Ground truth of an annotator (COCO JSON). Of several: one after another, --gt again, or with commas. "
            "A folder with Gold's files: each subset in it, and their average.",
        ),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--pred",
            metavar="FILE|DIR",
            help="Predictions: COCO results, bbox optional; of a folder of subsets a folder with SUBSET.json. With "
            "--model they are written there (default: predictions.json, or predictions/).",
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", show_default=False, help="Ground truth of more annotators."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PATH|HF_ID", help=f"Predict first, then score. {MODEL_HELP}")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Where the pictures' file_name starts; may be repeated. With --model."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Predict this score or better, at most 0.5 (the default). --ap needs less.")
    ] = None,
    text: Text = None,
    fallback: Fallback = None,
    positions: Positions = "auto",
    context: Context = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    ap: Annotated[bool, typer.Option("--ap", help="COCO's average precision of masks too.")] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """CgF1, pmF1 and IL_MCC on SA-Co Gold, as the official evaluator counts them; with --model, predict first.

    Stopped while it predicts, the same command goes on where it was.
    """
    try:
        import litetext.evaluation.cgf1  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("evaluation", "sam3") from error

    files = [path for spec in (*truths, *(more or ())) for path in split_files(spec)]
    maker = None
    if model is not None:
        if not images:
            raise typer.BadParameter("a --model needs the folder of the pictures", param_hint="--images")
        choice = ModelChoice(model, text, positions, context, device, dtype, fallback)
        maker = Maker(choice, tuple(images), SCORE if threshold is None else threshold)
        if ap and threshold is None:
            echo("warning: AP is too low without poor predictions: give --threshold 0.01, for example", err=True)
    elif (
        images
        or text
        or fallback
        or threshold is not None
        or context is not None
        or {positions, device, dtype} != {"auto"}
    ):
        raise OptionError("options of a model without a model", hint="give --model, or leave them out")
    elif predictions is None:
        raise typer.BadParameter("give predictions, or a --model that makes them", param_hint="--pred")
    if any(path.is_dir() for path in files):
        _evaluate_subsets(files, predictions or Path("predictions"), maker, with_ap=ap, json=json)
    else:
        _evaluate_one(files, predictions or Path("predictions.json"), maker, with_ap=ap, json=json)


def _evaluate_one(files: list[Path], predictions: Path, maker: Maker | None, *, with_ap: bool, json: bool) -> None:
    """Predict and score one set, and print its scores."""
    from litetext.evaluation.subsets import GoldSet, score_set

    one = GoldSet("", tuple(files), predictions)
    if maker is not None:
        maker.predict([one])
    with show_progress() as progress:
        scores = score_set(one, progress, with_ap=with_ap)
    _tell_misfits(one, scores)
    if json:
        print_json(scores.to_json())
    else:
        print_scores(scores)


def _evaluate_subsets(files: list[Path], predictions: Path, maker: Maker | None, *, with_ap: bool, json: bool) -> None:
    """Predict and score every subset of a folder, and print their table."""
    from litetext.evaluation.subsets import ANNOTATORS, SubsetScores, find_subsets, score_set

    if len(files) > 1:
        raise OptionError("a folder among several files", where="--gt", hint="give one folder, or the files of one set")
    if predictions.is_file():
        raise OptionError("one file for several subsets", where="--pred", hint="give a folder")
    sets = find_subsets(files[0], predictions)
    for one in sets.values():
        if len(one.truths) < ANNOTATORS:
            names = ", ".join(path.name for path in one.truths)
            echo(f"warning: {one.title} has {len(one.truths)} of {ANNOTATORS} annotators: {names}", err=True)
    if maker is not None:
        maker.predict(list(sets.values()))
    there = {subset: one for subset, one in sets.items() if one.predictions.is_file()}
    if not there:
        names = ", ".join(one.predictions.name for one in sets.values())
        raise EvaluationError("no predictions", where=str(predictions), hint=f"it should hold {names}")
    with show_progress() as progress:
        scores = SubsetScores({subset: score_set(one, progress, with_ap=with_ap) for subset, one in there.items()})
    for subset, one in there.items():
        _tell_misfits(one, scores.scores[subset])
    for subset in scores.missing:
        lacking = f"predictions ({sets[subset].predictions})" if subset in sets else f"annotations in {files[0]}"
        echo(f"warning: not in the average: {subset.title} has no {lacking}", err=True)
    if json:
        print_json(scores.to_json())
    else:
        print_subsets(scores)


def _tell_misfits(one: "GoldSet", scores: "GoldScores") -> None:
    """Warn of predictions that match nothing by their size."""
    count = scores.cgf1.tally.misfits
    if count:
        name = f"{one.title}: " if one.title else ""
        echo(f"warning: {name}predictions of another size than the true mask, which match nothing: {count}", err=True)


def split_files(spec: str) -> list[Path]:
    """The files of ``A,B,C``; a file whose name has a comma is itself."""
    return [Path(spec)] if Path(spec).exists() else [Path(part.strip()) for part in spec.split(",") if part.strip()]
