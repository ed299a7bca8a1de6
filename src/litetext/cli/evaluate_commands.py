"""`litetext evaluate`: scores of predictions, which a model may make first, and what of them a student keeps."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.cli import _options as opt
from litetext.cli._app import Result, app, command, make_group
from litetext.cli._options import measure, open_encoder, option, split_files
from litetext.cli._output import echo, print_scores, print_subsets, print_table, show_progress
from litetext.errors import EvaluationError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.gold import GoldSet
    from litetext.evaluation.labeled_pairs import LabeledPair
    from litetext.evaluation.veval import VEvalReport

SCORE = 0.5
PAIRS = 1000
_SCORES = (("cgf1", "cgF1", ".2f"), ("il_mcc", "IL_MCC", ".4f"), ("pmf1", "pmF1", ".2f"))

_VIDEO_LABELS = ("cgF1", "IL_MCC", "pmF1", "pHOTA", "TETA", "mAP", "phrase AP")

evaluate_group = make_group("Score segmentations: cgF1, pHOTA and others, and what a student keeps of them.")
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
    truths: Annotated[list[str], option(f"{opt.TRUTHS_HELP} Or Gold's folder.", "--gt", metavar="FILE|DIR")],
    predictions: Annotated[Path | None, option("COCO results; with --model written.", "--pred", metavar="PATH")] = None,
    more: opt.MoreTruths = None,
    model: Annotated[str | None, option("Predict first, with this SAM3 model.", metavar=opt.PATH_OR_HUB)] = None,
    images: opt.PictureFolders = None,
    threshold: Annotated[float | None, option("Lowest score to predict. Default: 0.5; --ap needs less.")] = None,
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    ap: Annotated[bool, option("COCO's average precision of masks too.", "--ap")] = False,
) -> Result:
    """Score cgF1, pmF1 and IL_MCC on SA-Co Gold.

    As the official evaluator computes them. --gt may be a folder of Gold's files: each subset in it is scored, --pred
    is a folder with SUBSET.json then. With --model, predict first; interrupted predictions resume automatically.
    """
    if model is None:
        if any((images, text_encoder, fallback, threshold, context_length)) or {positions, device, dtype} != {"auto"}:
            raise OptionError("options of a model without a model", hint="give --model, or leave them out")
        if predictions is None:
            raise typer.BadParameter("give predictions, or a --model that makes them", param_hint="--pred")
    elif not images:
        raise typer.BadParameter("a --model needs the folder of the pictures", param_hint="--images")
    elif ap and threshold is None:
        echo("warning: AP is too low without poor predictions: give --threshold 0.01, for example", err=True)
    sets = _find_sets(split_files([*truths, *(more or ())]), predictions)
    if model is not None:
        choice = opt.ModelChoice(model, text_encoder, positions, context_length, device, dtype, fallback)
        _predict(choice, images or [], list(sets.values()), SCORE if threshold is None else threshold)
    return _score(sets, truths[0], with_ap=ap)


def _find_sets(files: list[Path], predictions: Path | None) -> "dict[str, GoldSet]":
    """The set of these files, called "", or the subsets of a folder by name."""
    from litetext.evaluation.gold import ANNOTATORS, GoldSet, find_subsets

    if not any(path.is_dir() for path in files):
        return {"": GoldSet("", tuple(files), predictions or Path("predictions.json"))}
    if len(files) > 1:
        raise OptionError("a folder among several files", where="--gt", hint="give one folder, or the files of one set")
    if predictions is not None and predictions.is_file():
        raise OptionError("one file for several subsets", where="--pred", hint="give a folder")
    sets = find_subsets(files[0], predictions or Path("predictions"))
    for one in sets.values():
        if len(one.truths) < ANNOTATORS:
            names = ", ".join(path.name for path in one.truths)
            echo(f"warning: {one.title} has {len(one.truths)} of {ANNOTATORS} annotators: {names}", err=True)
    return sets


def _score(sets: "dict[str, GoldSet]", folder: str, *, with_ap: bool) -> Result:
    """Score every set that has predictions; warn of what is not in the average, or matches nothing by its size."""
    from litetext.evaluation.gold import SUBSETS, SubsetScores, score_set

    predicted = {name: one for name, one in sets.items() if one.predictions.is_file() or not name}
    if not predicted:
        names = ", ".join(one.predictions.name for one in sets.values())
        raise EvaluationError("no predictions", where=folder, hint=f"it should hold {names}")
    with show_progress() as progress:
        scores = {name: score_set(one, progress, with_ap=with_ap) for name, one in predicted.items()}
    for name, one in predicted.items():
        if count := scores[name].tally.misfits:
            where = f"{one.title}: " if one.title else ""
            echo(
                f"warning: {where}predictions of another size than the true mask, which match nothing: {count}",
                err=True,
            )
    if "" in scores:
        return Result(scores[""].to_json(), lambda: print_scores(scores[""]))
    table = SubsetScores(scores)
    for name in table.missing:
        lacking = f"predictions ({sets[name].predictions})" if name in sets else f"annotations in {folder}"
        echo(f"warning: not in the average: {SUBSETS[name][0]} has no {lacking}", err=True)
    return Result(table.to_json(), lambda: print_subsets(table))


def _predict(choice: opt.ModelChoice, images: Sequence[Path], sets: Sequence["GoldSet"], threshold: float) -> None:
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


@command(
    None,
    "litetext evaluate veval --gt saco_veval_sav_test.json --pred found.json",
    "litetext evaluate veval --gt saco_veval_sav_test.json --pred found.json --json",
    "litetext evaluate veval --gt annotations/ --pred found/",
    group=evaluate_group,
)
def veval(
    truths: Annotated[Path, option("Ground truth of a VEval set, or the folder of several.", "--gt", metavar="PATH")],
    predictions: Annotated[Path, option("Masklets; of a folder, the folder of them.", "--pred", metavar="PATH")],
) -> Result:
    """Score video cgF1, pHOTA, TETA, mAP and phrase AP on SA-Co VEval.

    As the official evaluator computes them. In a folder each set saco_veval_NAME.json is scored with the predictions
    saco_veval_NAME_preds.json, or NAME.json. With --json there are the scores of each video and pair too.
    """
    from litetext.evaluation.veval import SETS, evaluate_veval, find_veval_sets

    if not truths.is_dir():
        with show_progress() as progress:
            report = evaluate_veval(truths, predictions, progress)
        return Result(report.to_json(), lambda: _print_video_scores(report))
    if predictions.is_file():
        raise OptionError("one file for several sets", where="--pred", hint="give a folder")
    sets = find_veval_sets(truths, predictions)
    predicted = {name: files for name, files in sets.items() if files[1].is_file()}
    for name in sets.keys() - predicted.keys():
        echo(f"warning: not in the table: {SETS[name]} has no predictions ({sets[name][1]})", err=True)
    if not predicted:
        names = ", ".join(path.name for _, path in sets.values())
        raise EvaluationError("no predictions", where=str(predictions), hint=f"it should hold {names}")
    with show_progress() as progress:
        reports = {
            name: evaluate_veval(*files, lambda stage, share, name=name: progress(f"{SETS[name]}: {stage}", share))  # type: ignore[misc]
            for name, files in predicted.items()
        }
    result = {
        "sets": {name: report.to_json() for name, report in reports.items()},
        "missing": [name for name in SETS if name not in reports],
    }
    rows = [(SETS[name], *_video_row(report.headline)) for name, report in reports.items()]
    caption = f"{len(rows)} of {len(SETS)} sets of SA-Co VEval"
    return Result(result, lambda: print_table(("set", *_VIDEO_LABELS), rows, caption))


def _video_row(headline: Mapping[str, float]) -> list[str]:
    """Scores to 100, IL_MCC to 1; a dash where one is undefined."""
    return [
        format(value, ".4f") if name == "il_mcc" else "-" if value == -1 else format(value, ".2f")
        for name, value in headline.items()
    ]


def _print_video_scores(report: "VEvalReport") -> None:
    """Scores of masks and of boxes to 100, IL_MCC to 1: cgF1, HOTA, TETA and their parts, average precision."""
    from litetext.evaluation.hota import HOTA_SCORES, TETA_SCORES

    kinds = report.masks, report.boxes
    rows: list[Sequence[str] | None] = [
        (label, *(format(kind["cgf1"][name], form) for kind in kinds)) for name, label, form in _SCORES
    ]
    precisions = {"mAP": "map", "phrase AP": "phrase_ap", "phrase AP50": "phrase_ap50", "phrase AP75": "phrase_ap75"}
    for group, labels in (("hota", HOTA_SCORES), ("teta", TETA_SCORES), ("ap", precisions)):
        rows.append(None)
        for label in labels:
            name = precisions.get(label, label.lower())
            values = [kind[group][name] if group in kind else -1 for kind in kinds]
            title = "pHOTA" if label == "HOTA" else label
            rows.append((title, *("-" if value == -1 else f"{100 * value:.2f}" for value in values)))
    print_table(("score", "masks", "boxes"), rows, f"{len(report.pairs)} (video, phrase) pairs")


@command(
    None,
    "litetext evaluate retention --model micro --student micro --pairs 1000 --seed 7 -o kept",
    "litetext evaluate retention --model micro --student small.safetensors --teacher micro-student --json",
    "litetext evaluate retention --model facebook/sam3 --student s0.pt --positions slice --context-length 16 "
    "--gt a.json b.json c.json --images metaclip",
    group=evaluate_group,
)
def retention(
    model: opt.Model,
    student: Annotated[str, option("Text encoder or bank; micro: the shipped student.", metavar=opt.PATH_OR_HUB)],
    teacher: Annotated[str | None, option("Default: the model's own encoder.", metavar=opt.PATH_OR_HUB)] = None,
    pairs: Annotated[int | None, option(f"Pairs of the micro world; {PAIRS} unless --gt is given.")] = None,
    seed: Annotated[int, option("Of the pairs of the micro world, and of the interval.", min=0)] = 0,
    truths: opt.Truths = None,
    more: opt.MoreTruths = None,
    images: opt.PictureFolders = None,
    output: Annotated[Path | None, option("Write a page with pictures there.", "-o", "--output", metavar="DIR")] = None,
    worst: Annotated[int, option("How many of the worst disagreements to show.", min=0)] = 12,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
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
    reference = opt.ModelChoice(model, teacher, device=device, dtype=dtype).load(options_for(SCORE))
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
    from litetext.checkpoints.hub import SHIPPED

    shipped = f"{name}-student"
    return shipped if shipped in SHIPPED else name


def _choose_pairs(
    files: list[Path], images: list[Path], count: int | None, seed: int
) -> tuple[Iterable["LabeledPair"], int]:
    """Pairs of files, or of the micro world without any, and how many there are."""
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
    kept, both = report["retention"], (report["teacher"], report["student"])
    rows: list[Sequence[str] | None] = [
        (label, *(format(encoder[name], form) for encoder in both), "-" if kept is None else f"{kept[name]:.1f} %")
        for name, label, form in _SCORES
    ]
    if kept is not None:
        ends = kept["interval"]
        interval = "too few pictures" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f} %"
        rows.append((f"{100 * report['level']:g} % interval", "", "", interval))
    rows.append(None)
    for name in ("parameters", "bytes"):
        sizes = report[name]
        rows.append((name, f"{sizes['teacher']:,}", f"{sizes['student']:,}", f"{100 - sizes['reduction']:.1f} %"))
    found = report["agreement_found"]
    rows += [
        None,
        ("mask agreement", "", "", f"{report['agreement']:.4f}"),
        ("where either found some", "", "", "-" if found is None else f"{found:.4f}"),
        ("agree on presence", "", "", f"{100 * report['presence_agreement']:.1f} %"),
    ]
    caption = f"{report['pairs']} (picture, phrase) pairs of {report['pictures']} pictures"
    print_table(("", "teacher", "student", "kept"), rows, caption)
