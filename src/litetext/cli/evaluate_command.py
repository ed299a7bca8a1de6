"""`litetext evaluate gold`: cgF1 of predictions, which a model may make first."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli._app import Result, app, command, make_group
from litetext.cli._options import (
    MODEL_HELP,
    PATH_OR_HUB,
    ContextLength,
    Device,
    Dtype,
    Fallback,
    ModelChoice,
    MoreTruths,
    PictureFolders,
    Positions,
    TextEncoderOption,
    split_files,
)
from litetext.cli._output import echo, print_scores, print_subsets, show_progress
from litetext.errors import EvaluationError, MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.subsets import GoldScores, GoldSet

SCORE = 0.5

evaluate_group = make_group("Score segmentations: cgF1, and what a student keeps of it.")
app.add_typer(evaluate_group, name="evaluate", rich_help_panel="Evaluation")


@command(
    None,
    "litetext evaluate gold --gt gold_a.json --pred found.json",
    "litetext evaluate gold --gt a.json b.json c.json --pred found.json --json",
    "litetext evaluate gold --gt a.json,b.json,c.json --pred found.json",
    "litetext evaluate gold --gt a.json --model facebook/sam3 --images metaclip --text-encoder s0.pt --pred s0.json",
    "litetext evaluate gold --gt annotations/ --model facebook/sam3 --images metaclip --images sa1b --pred teacher/",
    "litetext evaluate gold --gt annotations/ --pred teacher/ --ap",
    group=evaluate_group,
)
def gold(
    truths: Annotated[
        list[str],
        typer.Option(
            "--gt",
            metavar="FILE|DIR",
            show_default=False,
            help="Ground truth of an annotator (COCO JSON). Several: one after another, --gt again, or with commas. "
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
    more: MoreTruths = None,
    model: Annotated[
        str | None, typer.Option(metavar=PATH_OR_HUB, help=f"Predict first, then score. {MODEL_HELP}")
    ] = None,
    images: PictureFolders = None,
    threshold: Annotated[
        float | None, typer.Option(help="Predict this score or better, at most 0.5 (the default). --ap needs less.")
    ] = None,
    text_encoder: TextEncoderOption = None,
    fallback: Fallback = None,
    positions: Positions = "auto",
    context_length: ContextLength = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    ap: Annotated[bool, typer.Option("--ap", help="COCO's average precision of masks too.")] = False,
) -> Result:
    """Score cgF1, pmF1 and IL_MCC on SA-Co Gold.

    As the official evaluator computes them. With --model, predict first; interrupted predictions resume automatically.
    """
    try:
        import litetext.evaluation.cgf1  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("evaluation", "sam3") from error

    files = split_files([*truths, *(more or ())])
    choice = None
    if model is not None:
        if not images:
            raise typer.BadParameter("a --model needs the folder of the pictures", param_hint="--images")
        choice = ModelChoice(model, text_encoder, positions, context_length, device, dtype, fallback)
        if ap and threshold is None:
            echo("warning: AP is too low without poor predictions: give --threshold 0.01, for example", err=True)
    elif any((images, text_encoder, fallback, threshold, context_length)) or {positions, device, dtype} != {"auto"}:
        raise OptionError("options of a model without a model", hint="give --model, or leave them out")
    elif predictions is None:
        raise typer.BadParameter("give predictions, or a --model that makes them", param_hint="--pred")

    def predict(sets: Sequence["GoldSet"]) -> None:
        if choice is not None:
            _predict(choice, images or [], sets, SCORE if threshold is None else threshold)

    if any(path.is_dir() for path in files):
        return _evaluate_subsets(files, predictions or Path("predictions"), predict, with_ap=ap)
    from litetext.evaluation.subsets import GoldSet, score_set

    whole = GoldSet("", tuple(files), predictions or Path("predictions.json"))
    predict([whole])
    with show_progress() as progress:
        scores = score_set(whole, progress, with_ap=ap)
    _warn_of_misfits(whole, scores)
    return Result(scores.to_json(), lambda: print_scores(scores))


def _evaluate_subsets(
    files: list[Path], predictions: Path, predict: Callable[[Sequence["GoldSet"]], None], *, with_ap: bool
) -> Result:
    """Predict and score every subset of a folder."""
    from litetext.evaluation.subsets import ANNOTATORS, SubsetScores, find_subsets, score_set

    if len(files) > 1:
        raise OptionError("a folder among several files", where="--gt", hint="give one folder, or the files of one set")
    if predictions.is_file():
        raise OptionError("one file for several subsets", where="--pred", hint="give a folder")
    sets = find_subsets(files[0], predictions)
    for subset in sets.values():
        if len(subset.truths) < ANNOTATORS:
            names = ", ".join(path.name for path in subset.truths)
            echo(f"warning: {subset.title} has {len(subset.truths)} of {ANNOTATORS} annotators: {names}", err=True)
    predict(list(sets.values()))
    predicted = {name: subset for name, subset in sets.items() if subset.predictions.is_file()}
    if not predicted:
        names = ", ".join(subset.predictions.name for subset in sets.values())
        raise EvaluationError("no predictions", where=str(predictions), hint=f"it should hold {names}")
    with show_progress() as progress:
        scores = SubsetScores({name: score_set(one, progress, with_ap=with_ap) for name, one in predicted.items()})
    for name, subset in predicted.items():
        _warn_of_misfits(subset, scores.scores[name])
    for missing in scores.missing:
        lacking = f"predictions ({sets[missing].predictions})" if missing in sets else f"annotations in {files[0]}"
        echo(f"warning: not in the average: {missing.title} has no {lacking}", err=True)
    return Result(scores.to_json(), lambda: print_subsets(scores))


def _predict(choice: ModelChoice, images: Sequence[Path], sets: Sequence["GoldSet"], threshold: float) -> None:
    """Predict what is not predicted yet; says on standard error where it goes.

    All files are looked at before the model is loaded, which is not loaded where nothing is left to do. Until the end
    no other process can make the same predictions.
    """
    from litetext.evaluation.predict import PredictionJob, options_for, plan_predictions, predict
    from litetext.features.encode import AsTextEncoder

    options = options_for(threshold)
    made_by = {**choice.describe(), "threshold": str(threshold)}
    jobs = [PredictionJob(one.truths[0], tuple(images), one.predictions, made_by) for one in sets]
    with ExitStack() as held:
        plans = [plan_predictions(job, held) for job in jobs]
        for job, plan in zip(jobs, plans, strict=True):
            state = f" (resuming after {plan.finished} of {len(plan.pictures)} pictures)" if plan.finished else ""
            state = " (complete already)" if plan.is_complete else state
            echo(f"Predictions: {job.output}{state}", err=True)
        if all(plan.is_complete for plan in plans):
            return
        phrases = [phrase for plan in plans for picture in plan.pictures for phrase in picture.phrases.values()]
        segmenter = choice.load(options, phrases)
        segmenter.encoder = AsTextEncoder(segmenter.encoder, one_by_one=True)
        with show_progress() as progress:
            for one, plan in zip(sets, plans, strict=True):
                predict(plan, segmenter, one.tells(progress))


def _warn_of_misfits(subset: "GoldSet", scores: "GoldScores") -> None:
    """Warn of predictions that match nothing by their size."""
    count = scores.cgf1.tally.misfits
    if count:
        name = f"{subset.title}: " if subset.title else ""
        echo(f"warning: {name}predictions of another size than the true mask, which match nothing: {count}", err=True)
