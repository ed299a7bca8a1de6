"""`litetext evaluate`: scores of predictions, which a model may make first, and what of them a student keeps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.cli import _options as opt
from litetext.cli._app import Result, app, command, make_group
from litetext.cli._options import measure, open_encoder, option, split_files
from litetext.cli._output import check_target, echo, print_scores, print_subsets, print_table, show_progress
from litetext.errors import EvaluationError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.coco import Annotations
    from litetext.evaluation.gold import GoldSet
    from litetext.evaluation.labeled_pairs import LabeledPair
    from litetext.evaluation.predict import PredictionPlan
    from litetext.sam3.segmenter import Segmenter

Place = tuple[str | None, int | None]
SCORE = 0.5
PAIRS, CALIBRATION_PAIRS = 1000, 3000
CLIPS = 10
SCORES = (("cgf1", "cgF1", ".2f"), ("il_mcc", "IL_MCC", ".4f"), ("pmf1", "pmF1", ".2f"))
VIDEO_SCORES = (("phota", "pHOTA", ".2f"), ("deta", "DetA", ".2f"), ("assa", "AssA", ".2f"))

evaluate_group = make_group("Score masks: cgF1, pHOTA, and what a student keeps of them.")
app.add_typer(evaluate_group, name="evaluate", rich_help_panel="Evaluation")


@command(
    None,
    "litetext evaluate gold --gt gold_a.json --pred found.json",
    "litetext evaluate gold --gt a.json b.json c.json --pred found.json --json",
    "litetext evaluate gold --gt a.json,b.json,c.json --pred found.json",
    "litetext evaluate gold --gt a.json --model facebook/sam3 --images metaclip --text-encoder s0.pt --pred s0.json",
    "litetext evaluate gold --gt annotations/ --model facebook/sam3 --images metaclip --images sa1b --pred teacher/",
    "litetext evaluate gold --gt annotations/ --pred teacher/ --ap",
    "litetext evaluate gold --gt instances_val2017.json --model micro --images val2017 --pred coco.json",
    "litetext evaluate gold --gt lvis_v1_val.json --pred found/annotations.json",
    group=evaluate_group,
)
def gold(
    truths: Annotated[
        list[str] | None, option(f"{opt.TRUTHS_HELP} Or Gold's folder.", "--gt", metavar="FILE|DIR")
    ] = None,
    predictions: Annotated[Path | None, option("COCO results; with --model written.", "--pred", metavar="PATH")] = None,
    more: opt.MoreTruths = None,
    exhaustive: Annotated[
        bool | None,
        option(
            "Of plain COCO: whether what is not annotated is absent. Default: it is; in LVIS, what it lists as absent.",
            "--exhaustive/--no-exhaustive",
        ),
    ] = None,
    model: Annotated[str | None, option("Predict first, with this SAM3 model.", metavar=opt.PATH_OR_HUB)] = None,
    images: opt.PictureFolders = None,
    threshold: Annotated[float | None, option("Lowest score to predict. Default: 0.5; --ap needs less.")] = None,
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
    no_calibration: opt.NoCalibration = False,
    ap: Annotated[bool, option("COCO's average precision of masks too.", "--ap")] = False,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> Result:
    """Score cgF1, pmF1 and IL_MCC on SA-Co Gold, COCO or LVIS.

    As the official evaluator computes them. --gt may be a folder of Gold's files: each subset in it is scored, --pred
    is a folder with SUBSET.json then. Of a plain COCO file each picture makes a pair with each category. With --model,
    predict first; interrupted predictions resume automatically.
    """
    opt.check_workers(ray, workers, model, "no model to predict with", "give --model")
    if model is None:
        if any((images, text_encoder, fallback, threshold, context_length, no_calibration)) or {
            positions,
            device,
            dtype,
            engine,
        } != {"auto"}:
            raise OptionError("options of a model without a model", hint="give --model, or leave them out")
        if predictions is None:
            raise typer.BadParameter("give predictions, or a --model that makes them", param_hint="--pred")
    elif not images:
        raise typer.BadParameter("a --model needs the folder of the pictures", param_hint="--images")
    elif ap and threshold is None:
        echo("warning: AP is too low without poor predictions: give --threshold 0.01, for example", err=True)
    named = [*(truths or ()), *(more or ())]
    if not named:
        raise typer.BadParameter("give the ground truth", param_hint="--gt FILE")
    sets = _find_sets(split_files(named), predictions, exhaustive)
    job = None
    if model is not None:
        loaded = (positions, context_length, device, dtype, fallback, engine, None, no_calibration)
        choice = opt.ModelChoice(model, text_encoder, *loaded)
        lowest = SCORE if threshold is None else threshold
        job = _predict(choice, images or [], list(sets.values()), lowest, (ray, workers))
    result = _score(sets, named[0], with_ap=ap)
    return result if job is None else result._replace(values={**result.values, "ray": job})


def _read_truths(files: Sequence[Path], exhaustive: bool | None = None) -> "tuple[Annotations, ...]":
    """The ground truth of one set; which pairs a plain COCO file was taken for goes to standard error."""
    from litetext.evaluation.coco import read_annotations

    listed = tuple(read_annotations(path, exhaustive) for path in files)
    for one in listed:
        if one.rule:
            echo(f"{one.name}: {one.rule}", err=True)
    return listed


def _find_sets(files: list[Path], predictions: Path | None, exhaustive: bool | None) -> "dict[str, GoldSet]":
    """The set of these files, called "", or the subsets of a folder by name."""
    from litetext.evaluation.gold import ANNOTATORS, GoldSet, find_subsets

    if not any(path.is_dir() for path in files):
        return {"": GoldSet("", _read_truths(files, exhaustive), predictions or Path("predictions.json"))}
    if exhaustive is not None:
        raise OptionError("--exhaustive or --no-exhaustive for SA-Co Gold", where="--gt", hint="leave it out")
    if len(files) > 1:
        raise OptionError("a folder among several files", where="--gt", hint="give one folder, or the files of one set")
    if predictions is not None and predictions.is_file():
        raise OptionError("one file for several subsets", where="--pred", hint="give a folder")
    sets = find_subsets(files[0], predictions or Path("predictions"))
    for one in sets.values():
        if len(one.truths) < ANNOTATORS:
            names = ", ".join(path.name for path in one.truths if isinstance(path, Path))
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
        if not scores[""].tally.present[1:3].sum():
            echo("warning: every phrase is there in its picture: IL_MCC and cgF1 say nothing, pmF1 does", err=True)
        return Result(scores[""].to_json(), lambda: print_scores(scores[""]))
    table = SubsetScores(scores)
    for name in table.missing:
        lacking = f"predictions ({sets[name].predictions})" if name in sets else f"annotations in {folder}"
        echo(f"warning: not in the average: {SUBSETS[name][0]} has no {lacking}", err=True)
    return Result(table.to_json(), lambda: print_subsets(table))


def _predict(
    choice: opt.ModelChoice, images: Sequence[Path], sets: Sequence["GoldSet"], threshold: float, place: Place
) -> dict[str, Any] | None:
    """Predict what is not predicted yet; what a cluster says of it."""
    from litetext.evaluation.predict import options_for, plan_predictions

    options = options_for(threshold)
    made_by = {**choice.describe(), "threshold": str(threshold)}
    with ExitStack() as held:
        plans = {one.title: plan_predictions(one.truths[0], images, one.predictions, made_by, held) for one in sets}
        chosen = choice if place[0] is None else choice.on_an_actor()
        return predict_plans(plans, lambda phrases: chosen.load(options, phrases), place=place)


def predict_plans(
    plans: Mapping[str, "PredictionPlan"],
    load: "Callable[[list[str]], Segmenter]",
    find: "Callable[[Segmenter, Any], list[dict[str, Any]]] | None" = None,
    things: str = "pictures",
    place: Place = (None, None),
) -> dict[str, Any] | None:
    """Do what is left of plans by their titles; says on standard error where the predictions go.

    All files were looked at before the model is loaded, which is not loaded where nothing is left to do. While the
    plans are held no other process can make the same predictions. The place is a cluster (None: this process) and the
    number of its workers; what it says of the job is returned.
    """
    from litetext.evaluation.predict import predict

    for plan in plans.values():
        state = f" (resuming after {plan.finished} of {len(plan.pictures)} {things})" if plan.finished else ""
        state = " (complete already)" if plan.is_complete else state
        echo(f"Predictions: {plan.output}{state}", err=True)
    if all(plan.is_complete for plan in plans.values()):
        return None
    phrases = (phrase for plan in plans.values() for one in plan.pictures for phrase in one.phrases.values())
    start = partial(_load_alone, load, list(dict.fromkeys(phrases)))
    if place[0] is not None:
        from litetext.scale.jobs import connect
        from litetext.scale.picture_jobs import predict_plan

        with connect(place[0], place[1], "auto") as cluster, show_progress() as progress:
            jobs = {
                title: predict_plan(cluster, plan, start, find, named_stage(progress, title))
                for title, plan in plans.items()
                if not plan.is_complete
            }
        return jobs if len(plans) > 1 else next(iter(jobs.values()))
    segmenter = start()
    with show_progress() as progress:
        for title, plan in plans.items():
            predict(plan, segmenter, named_stage(progress, title), find)
    return None


def _load_alone(load: "Callable[[list[str]], Segmenter]", phrases: list[str]) -> "Segmenter":
    """A segmenter that reads each phrase alone, so that what it finds does not depend on where a run was stopped."""
    from litetext.features.encode import AsTextEncoder

    segmenter = load(phrases)
    segmenter.encoder = AsTextEncoder(segmenter.encoder, one_by_one=True)
    return segmenter


def named_stage(progress: Callable[[str, float], None], title: str) -> Callable[[str, float], None]:
    """The same progress, with a title before each stage, if there is one."""
    return lambda stage, share: progress(f"{title}: {stage}" if title else stage, share)


@command(
    None,
    "litetext evaluate retention --model micro --student micro --pairs 1000 --seed 7 -o kept",
    "litetext evaluate retention --model micro --student small.safetensors --teacher micro-student --json",
    "litetext evaluate retention --model facebook/sam3 --student s0.pt --positions slice --context-length 16 "
    "--gt a.json b.json c.json --images metaclip",
    "litetext evaluate retention --model micro --student micro --video --clips 10 --plot crossing -o kept",
    "litetext evaluate retention --model facebook/sam3 --student s0.pt --video --gt sav_val.json --videos sav",
    group=evaluate_group,
)
def retention(
    model: opt.Model,
    student: Annotated[str, option("Text encoder or bank; micro: the shipped student.", metavar=opt.PATH_OR_HUB)],
    teacher: Annotated[str | None, option("Default: the model's own encoder.", metavar=opt.PATH_OR_HUB)] = None,
    pairs: Annotated[int | None, option(f"Pairs of the micro world; {PAIRS} unless --gt is given.")] = None,
    seed: Annotated[int, option("Of what is drawn of the micro world, and of the interval.", min=0)] = 0,
    truths: opt.Truths = None,
    more: opt.MoreTruths = None,
    images: opt.PictureFolders = None,
    video: Annotated[bool, option("Track clips: video cgF1 and pHOTA.", "--video")] = False,
    clips: Annotated[int | None, option(f"With --video: clips of each plot; {CLIPS} unless --gt is given.")] = None,
    plot: opt.Plots = None,
    videos: opt.VideoFolders = None,
    method: opt.Method = "auto",
    output: Annotated[Path | None, option("Write a page with pictures there.", "-o", "--output", metavar="DIR")] = None,
    worst: Annotated[int, option("How many of the worst disagreements to show.", min=0)] = 12,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
    no_calibration: opt.NoCalibration = False,
) -> Result:
    """Measure what of the model's cgF1 a student keeps.

    Both read the same phrases; masks, parameters and bytes are compared. With --video they follow things through clips:
    of the micro world, or of a VEval set (--gt) whose frames are in --videos.
    """
    from litetext.cli.evaluate_video import choose_clips
    from litetext.evaluation.comparison import compare, compare_clips, report_retention
    from litetext.evaluation.labeled_pairs import share_embeddings
    from litetext.evaluation.predict import options_for
    from litetext.video.methods import choose_method, make_tracker

    files = split_files([*(truths or ()), *(more or ())])
    if video and (pairs is not None or images):
        raise OptionError("--pairs or --images with --video", hint="give --clips or --videos")
    if not video and (clips is not None or plot or videos or method != "auto"):
        raise OptionError("options of --video without it", hint="give --video, or leave them out")
    films, total = choose_clips(files, videos or [], clips, plot, seed) if video else ((), 0)
    labeled, total = ((), total) if video else _choose_pairs(files, images or [], pairs, seed)
    if output is not None:
        from litetext.evaluation.worst_cases import check_page

        check_page(output)
    chosen = student_name(student)
    choice = opt.ModelChoice(model, teacher, device=device, dtype=dtype, engine=engine, no_calibration=no_calibration)
    reference = choice.load(options_for(SCORE), video=video and choose_method(method) == "tracker")
    encoder = open_encoder(chosen, positions, context_length, device, dtype, engine=reference.engine.name)
    sizes = measure(teacher or model, reference.encoder), measure(chosen, encoder)
    swapped = reference.with_encoder(encoder)
    swapped.calibration = opt.ModelChoice(
        model, chosen, positions, context_length, no_calibration=no_calibration
    ).calibration
    with show_progress() as progress:
        both, told = (reference, swapped), partial(_tell_share, progress, total)
        if video:
            makers = [partial(make_tracker, one, method=method) for one in share_embeddings(*both)]
            comparison = compare_clips(makers, films, worst, told)
        else:
            comparison = compare(*both, labeled, worst, told)
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


def _tell_share(progress: Callable[[str, float], None], total: int, stage: str, done: float) -> None:
    progress(stage, done / total)


def student_name(name: str) -> str:
    """The student that comes with the package for a model of that name; any other name as it is."""
    from litetext.checkpoints.hub import SHIPPED

    shipped = f"{name}-student"
    return shipped if shipped in SHIPPED else name


def _choose_pairs(
    files: list[Path], images: list[Path], count: int | None, seed: int, default: int = PAIRS
) -> tuple[Iterable["LabeledPair"], int]:
    """Pairs of files, or of the micro world without any, and how many there are."""
    if files:
        from litetext.evaluation.labeled_pairs import GoldPairs

        if count is not None:
            raise OptionError("a number of pairs for files", where="--pairs", hint="leave it out: all of them are used")
        if not images:
            raise typer.BadParameter("--gt needs the folder of the pictures", param_hint="--images")
        gold = GoldPairs.read(_read_truths(files), images)
        return gold, len(gold)
    if images:
        raise OptionError("pictures without ground truth", where="--images", hint="give --gt, or leave them out")
    from litetext.micro.evaluation import known_pairs
    from litetext.micro.model import SIZE
    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    count = default if count is None else count
    if count < 1:
        raise OptionError(f"{count} pairs", where="--pairs", hint="ask for 1 or more")
    return known_pairs(make_pairs(seed, count, SceneOptions(size=SIZE, split="test"))), count


def _print_retention(report: Mapping[str, Any]) -> None:
    """One table: scores of both and what is kept of them, sizes of both, and how alike their masks are."""
    kept, both = report["retention"] or {}, (report["teacher"], report["student"])
    things = "clips" if "clips" in report else "pictures"
    rows: list[Sequence[str] | None] = []
    for scores, ends in ((SCORES, "interval"), (VIDEO_SCORES, "phota_interval")):
        for name, label, form in scores:
            if name in both[0]:
                share = "-" if kept.get(name) is None else f"{kept[name]:.1f} %"
                rows.append((label, *(format(encoder[name], form) for encoder in both), share))
        if ends in kept:
            low, high = kept[ends] or (None, None)
            interval = f"too few {things}" if low is None else f"{low:.1f} to {high:.1f} %"
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
    caption = f"{report['pairs']} ({things.removesuffix('s')}, phrase) pairs of {report[things]} {things}"
    print_table(("", "teacher", "student", "kept"), rows, caption)


@command(
    None,
    "litetext evaluate calibrate --model micro --text-encoder small.safetensors --pairs 3000",
    "litetext evaluate calibrate --model facebook/sam3 --text-encoder s0.safetensors --gt a.json --images metaclip",
    "litetext evaluate calibrate --model facebook/sam3 --text-encoder s0.safetensors --gt instances.json --images mine "
    "--no-labels -o reliability.svg",
    group=evaluate_group,
)
def calibrate(
    model: opt.Model,
    text_encoder: opt.TextEncoderOption = None,
    pairs: Annotated[int | None, option(f"Pairs of the micro world; {CALIBRATION_PAIRS} unless --gt is given.")] = None,
    seed: Annotated[int, option("Of what is drawn: pairs of the micro world, halves, resamples.", min=0)] = 0,
    truths: opt.Truths = None,
    more: opt.MoreTruths = None,
    images: opt.PictureFolders = None,
    no_labels: Annotated[
        bool, option("What the model finds with its own encoder stands for the truth.", "--no-labels")
    ] = False,
    output: Annotated[
        Path | None, option("Draw reliability before and after.", "-o", "--output", metavar="FILE.svg")
    ] = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
) -> Result:
    """Find by how much scores are off with a text encoder.

    Shifts of class and presence are fitted to the highest cgF1 on half of the pictures, and measured on the others.
    Kept beside the encoder in NAME.calibration.json, which segment, track and evaluate read.
    """
    from litetext.evaluation.calibration import calibrate as fit
    from litetext.evaluation.calibration import score_pairs
    from litetext.evaluation.predict import options_for
    from litetext.sam3.score_shift import Calibration, calibration_file

    if no_labels and text_encoder is None:
        raise OptionError("the model's own encoder as its own teacher", where="--no-labels", hint="give --text-encoder")
    if output is not None:
        if output.suffix != ".svg":
            raise OptionError("a picture that is no SVG", where=f"-o {output}", hint="call it NAME.svg")
        check_target(output, models=(model, text_encoder))
    kept = calibration_file(model, text_encoder)
    if kept is not None:
        check_target(kept)
        if kept.exists():
            Calibration.read(kept)  # refuses what is not ours before the work
    files = split_files([*(truths or ()), *(more or ())])
    labeled, total = _choose_pairs(files, images or [], pairs, seed, CALIBRATION_PAIRS)
    loaded = (positions, context_length, device, dtype, None, engine, None, True)
    options = options_for(SCORE)
    if no_labels:
        teacher = opt.ModelChoice(model, None, "auto", None, *loaded[2:]).load(options)
        encoder = open_encoder(text_encoder or "", *loaded[:4], engine=teacher.engine.name)
        segmenter, reference = teacher.with_encoder(encoder), teacher
    else:
        segmenter, reference = opt.ModelChoice(model, text_encoder, *loaded).load(options), None
    with show_progress() as progress:
        scored = score_pairs(segmenter, labeled, reference, partial(_tell_share, progress, total))
        report = fit(scored, seed)
    placed = {"positions": positions, "context_length": context_length, "presence": report["presence"]}
    found = Calibration.of(report["shift"], model, text_encoder, **placed)
    report = {**asdict(found), **report, "truth": "teacher" if no_labels else "labels", "file": kept and str(kept)}
    if kept is None:
        echo(f"not kept: {text_encoder or model} is no file or folder here", err=True)
    else:
        found.write(kept)
        echo(f"Kept: {kept}", err=True)
    if output is not None:
        from litetext.evaluation.calibration import draw_reliability
        from litetext.storage import write_text

        write_text(output, draw_reliability(report).svg)
    return Result(report, lambda: _print_calibration(report))


def _print_calibration(report: Mapping[str, Any]) -> None:
    """Scores before and after with intervals, then reliability by tenths of the score."""
    both = (report["before"], report["after"])
    ends = [*(one["interval"] for one in both), report["change"]["interval"]]
    rows = [(label, *(format(one[name], form) for one in both), "") for name, label, form in SCORES]
    rows[0] = (*rows[0][:3], f"{report['change']['cgf1']:+.2f}")
    rows.append(("95 % interval", *(f"{low:.2f} to {high:.2f}" for low, high in ends)))
    shift = f"shifted by class {report['shift']:+.2f}, presence {report['presence']:+.2f} logits"
    judge = "the model's own encoder" if report["truth"] == "teacher" else "the labels"
    caption = f"{shift}; fitted on {report['pairs'][0]} pairs, measured on {report['pairs'][1]} others by {judge}"
    print_table(("", "before", "after", "change"), rows, caption)
    tenths = []
    for pair in zip(*report["reliability"].values(), strict=True):
        cells = [f"{pair[0]['from']:.1f} to {pair[0]['from'] + 0.1:.1f}"]
        for one in pair:
            cells += [str(one["candidates"]), "-" if one["right"] is None else f"{100 * one['right']:.1f} %"]
        tenths.append(cells)
    print_table(("score", "masks before", "right", "masks after", "right"), tenths)
