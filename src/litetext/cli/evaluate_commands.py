"""`litetext evaluate`: cgF1 of predictions, which a model may make first, and what of it a student keeps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.cli._app import Result, app, command, make_group
from litetext.cli._options import (
    MODEL_HELP,
    PATH_OR_HUB,
    ContextLength,
    Device,
    Dtype,
    Fallback,
    Model,
    ModelChoice,
    MoreTruths,
    PictureFolders,
    Positions,
    TextEncoderOption,
    Truths,
    measure,
    open_encoder,
    option,
    split_files,
)
from litetext.cli._output import echo, print_scores, print_subsets, score_table, show_progress
from litetext.errors import EvaluationError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.cgf1 import CgF1
    from litetext.evaluation.gold import GoldSet
    from litetext.evaluation.labeled_pairs import LabeledPair

SCORE = 0.5
PAIRS = 1000
_SCORES = (("cgf1", "cgF1", ".2f"), ("il_mcc", "IL_MCC", ".4f"), ("pmf1", "pmF1", ".2f"))

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
        option(
            "Ground truth of an annotator (COCO JSON). Several: one after another, --gt again, or with commas. "
            "A folder with Gold's files: each subset in it, and their average.",
            "--gt",
            metavar="FILE|DIR",
        ),
    ],
    predictions: Annotated[
        Path | None,
        option(
            "Predictions: COCO results, bbox optional; of a folder of subsets a folder with SUBSET.json. With "
            "--model they are written there (default: predictions.json, or predictions/).",
            "--pred",
            metavar="FILE|DIR",
        ),
    ] = None,
    more: MoreTruths = None,
    model: Annotated[str | None, option(f"Predict first, then score. {MODEL_HELP}", metavar=PATH_OR_HUB)] = None,
    images: PictureFolders = None,
    threshold: Annotated[
        float | None, option("Predict this score or better, at most 0.5 (the default). --ap needs less.")
    ] = None,
    text_encoder: TextEncoderOption = None,
    fallback: Fallback = None,
    positions: Positions = "auto",
    context_length: ContextLength = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    ap: Annotated[bool, option("COCO's average precision of masks too.", "--ap")] = False,
) -> Result:
    """Score cgF1, pmF1 and IL_MCC on SA-Co Gold.

    As the official evaluator computes them. With --model, predict first; interrupted predictions resume automatically.
    """
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
    from litetext.evaluation.gold import GoldSet, score_set

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
    from litetext.evaluation.gold import ANNOTATORS, SUBSETS, SubsetScores, find_subsets, score_set

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
        echo(f"warning: not in the average: {SUBSETS[missing][0]} has no {lacking}", err=True)
    return Result(scores.to_json(), lambda: print_subsets(scores))


def _predict(choice: ModelChoice, images: Sequence[Path], sets: Sequence["GoldSet"], threshold: float) -> None:
    """Predict what is not predicted yet; says on standard error where it goes.

    All files are looked at before the model is loaded, which is not loaded where nothing is left to do. Until the end
    no other process can make the same predictions.
    """
    from litetext.evaluation.predict import options_for, plan_predictions, predict
    from litetext.features.encode import AsTextEncoder

    options = options_for(threshold)
    made_by = {**choice.describe(), "threshold": str(threshold)}
    with ExitStack() as held:
        plans = [plan_predictions(one.truths[0], images, one.predictions, made_by, held) for one in sets]
        for plan in plans:
            state = f" (resuming after {plan.finished} of {len(plan.pictures)} pictures)" if plan.finished else ""
            state = " (complete already)" if plan.is_complete else state
            echo(f"Predictions: {plan.output}{state}", err=True)
        if all(plan.is_complete for plan in plans):
            return
        phrases = [phrase for plan in plans for picture in plan.pictures for phrase in picture.phrases.values()]
        segmenter = choice.load(options, phrases)
        segmenter.encoder = AsTextEncoder(segmenter.encoder, one_by_one=True)
        with show_progress() as progress:
            for one, plan in zip(sets, plans, strict=True):
                predict(plan, segmenter, one.named(progress))


def _warn_of_misfits(subset: "GoldSet", scores: "CgF1") -> None:
    """Warn of predictions that match nothing by their size."""
    count = scores.tally.misfits
    if count:
        name = f"{subset.title}: " if subset.title else ""
        echo(f"warning: {name}predictions of another size than the true mask, which match nothing: {count}", err=True)


@command(
    None,
    "litetext evaluate retention --model micro --student micro --pairs 1000 --seed 7 -o kept",
    "litetext evaluate retention --model micro --student small.safetensors --teacher micro-student --json",
    "litetext evaluate retention --model facebook/sam3 --student s0.pt --positions slice --context-length 16 "
    "--gt a.json b.json c.json --images metaclip",
    group=evaluate_group,
)
def retention(
    model: Model,
    student: Annotated[
        str,
        option(
            "Text encoder to compare with the model's own: a file, the folder of a run, a prompt bank, or micro: "
            "the student in this package.",
            metavar=PATH_OR_HUB,
        ),
    ],
    teacher: Annotated[
        str | None,
        option("Compare with this text encoder instead of the model's own.", metavar=PATH_OR_HUB),
    ] = None,
    pairs: Annotated[
        int | None, option(f"(Picture, phrase) pairs of the micro world; {PAIRS} unless --gt is given.")
    ] = None,
    seed: Annotated[int, option("Of the pairs of the micro world, and of the interval.", min=0)] = 0,
    truths: Truths = None,
    more: MoreTruths = None,
    images: PictureFolders = None,
    output: Annotated[
        Path | None,
        option("Write index.html, retention.json and pictures there.", "-o", "--output", metavar="DIR"),
    ] = None,
    worst: Annotated[int, option("How many of the worst disagreements to show.", min=0)] = 12,
    positions: Positions = "auto",
    context_length: ContextLength = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> Result:
    """Measure what of the model's cgF1 a student keeps.

    Both read the same phrases; masks, parameters and bytes are compared.
    """
    from litetext.evaluation.comparison import compare, report_retention
    from litetext.evaluation.predict import options_for

    labeled, total = _choose_pairs(split_files([*(truths or ()), *(more or ())]), images or [], pairs, seed)
    if output is not None:
        from litetext.evaluation.worst_cases import check_page

        check_page(output)
    chosen = student_name(student)
    encoder = open_encoder(chosen, positions, context_length, device, dtype)
    reference = ModelChoice(model, teacher, device=device, dtype=dtype).load(options_for(SCORE))
    sizes = measure(teacher or model, reference.encoder), measure(chosen, encoder)
    with show_progress() as progress:
        both = reference, reference.with_encoder(encoder)
        comparison = compare(*both, labeled, worst, lambda stage, done: progress(stage, done / total))
    report = report_retention(comparison, *sizes, seed=seed)
    misfits = sum(scores.tally.misfits for scores in comparison.scores)
    if misfits:
        echo(f"warning: masks of another size than the true mask, which match nothing: {misfits}", err=True)
    if report["retention"] is None:
        echo("warning: the teacher's cgF1 is not above 0 on these pairs: retention is undefined", err=True)
    if output is not None:
        from litetext.evaluation.worst_cases import write_retention

        echo(f"Page: {write_retention(report, comparison.worst, output)}", err=True)
    return Result(report, lambda: _print_retention(report))


def student_name(name: str) -> str:
    """The student that comes with the package for a model of that name; any other name as it is."""
    from litetext.checkpoints.shipped import SHIPPED

    shipped = f"{name}-student"
    return shipped if shipped in SHIPPED else name


def _choose_pairs(
    files: list[Path], images: list[Path], count: int | None, seed: int
) -> tuple[Iterable["LabeledPair"], int]:
    """Pairs of files, or of the micro world without any, and how many there are.

    Raises:
        LiteTextError: a file cannot be read, or the options do not belong together.
    """
    if files:
        from litetext.evaluation.labeled_pairs import GoldPairs

        if count is not None:
            raise OptionError("a number of pairs for files", where="--pairs", hint="leave it out: all of them are used")
        if not images:
            raise typer.BadParameter("--gt needs the folder of the pictures", param_hint="--images")
        gold = GoldPairs.read(files, images)
        return gold, len(gold)
    if images:
        raise OptionError("pictures without ground truth", where="--images", hint="give --gt, or leave them out")
    from litetext.micro.evaluation import known_pairs
    from litetext.micro.model import SIZE
    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    count = PAIRS if count is None else count
    if count < 1:
        raise OptionError(f"{count} pairs", where="--pairs", hint="ask for 1 or more")
    return known_pairs(make_pairs(seed, count, SceneOptions(size=SIZE, split="test"))), count


def _print_retention(report: Mapping[str, Any]) -> None:
    """One table: scores of both and what is kept of them, sizes of both, and how alike their masks are."""
    from rich.console import Console

    caption = f"{report['pairs']} (picture, phrase) pairs of {report['pictures']} pictures"
    table = score_table("", "teacher", "student", "kept", caption=caption)
    kept, both = report["retention"], (report["teacher"], report["student"])
    for name, label, form in _SCORES:
        values = (format(encoder[name], form) for encoder in both)
        table.add_row(label, *values, "-" if kept is None else f"{kept[name]:.1f} %")
    if kept is not None:
        interval = kept["interval"]
        ends = "too few pictures" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f} %"
        table.add_row(f"{100 * report['level']:g} % interval", "", "", ends)
    table.add_section()
    for name in ("parameters", "bytes"):
        sizes = report[name]
        table.add_row(name, f"{sizes['teacher']:,}", f"{sizes['student']:,}", f"{100 - sizes['reduction']:.1f} %")
    table.add_section()
    table.add_row("mask agreement", "", "", f"{report['agreement']:.4f}")
    found = report["agreement_found"]
    table.add_row("where either found some", "", "", "-" if found is None else f"{found:.4f}")
    table.add_row("agree on presence", "", "", f"{100 * report['presence_agreement']:.1f} %")
    Console().print(table)
