"""`litetext evaluate` on video: scores of VEval, which a model may predict first, and clips to compare students on."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import option
from litetext.cli._output import echo, print_table, show_progress
from litetext.cli.evaluate_commands import CLIPS, SCORE, SCORES, Place, evaluate_group, named_stage, predict_plans
from litetext.errors import EvaluationError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.labeled_pairs import LabeledClip
    from litetext.evaluation.veval import VEvalReport

PLOTS = ("ordinary", "crossing", "hidden", "returning")
_LABELS = ("cgF1", "IL_MCC", "pmF1", "pHOTA", "TETA", "mAP", "phrase AP")


@command(
    None,
    "litetext evaluate veval --gt saco_veval_sav_test.json --pred found.json",
    "litetext evaluate veval --gt saco_veval_sav_test.json --pred found.json --json",
    "litetext evaluate veval --gt annotations/ --pred found/",
    "litetext evaluate veval --gt saco_veval_sav_test.json --pred s0.json --model facebook/sam3 --text-encoder s0.pt "
    "--videos sav",
    "litetext evaluate veval --gt clips/veval.json --pred found.json --model micro --videos clips/videos",
    group=evaluate_group,
)
def veval(
    truths: Annotated[Path, option("Ground truth of a VEval set, or the folder of several.", "--gt", metavar="PATH")],
    predictions: Annotated[
        Path, option("Masklets, of a folder the folder of them; with --model written.", "--pred", metavar="PATH")
    ],
    model: Annotated[str | None, option("Predict first, with this SAM3 model.", metavar=opt.PATH_OR_HUB)] = None,
    videos: opt.VideoFolders = None,
    method: opt.Method = "auto",
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
    no_calibration: opt.NoCalibration = False,
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> Result:
    """Score video cgF1, pHOTA, TETA, mAP and phrase AP on SA-Co VEval.

    As the official evaluator computes them. In a folder each set saco_veval_NAME.json is scored with the predictions
    saco_veval_NAME_preds.json, or NAME.json. With --model, predict first; interrupted predictions resume automatically.
    With --json there are the scores of each video and pair too.
    """
    from litetext.evaluation.hota import hota_metric
    from litetext.evaluation.veval import SETS, evaluate_veval, find_veval_sets

    opt.check_workers(ray, workers, model, "no model to predict with", "give --model")
    job = None
    if model is None:
        own = {positions, device, dtype, method, engine} != {"auto"}
        if own or any((videos, text_encoder, fallback, context_length, no_calibration)):
            raise OptionError("options of a model without a model", hint="give --model, or leave them out")
    elif not videos:
        raise typer.BadParameter("a --model needs the folder of the videos", param_hint="--videos")
    if truths.is_dir() and predictions.is_file():
        raise OptionError("one file for several sets", where="--pred", hint="give a folder")
    hota_metric()
    sets = find_veval_sets(truths, predictions) if truths.is_dir() else {"": (truths, predictions)}
    if model is not None:
        loaded = (positions, context_length, device, dtype, fallback, engine, None, no_calibration)
        choice = opt.ModelChoice(model, text_encoder, *loaded)
        named = {SETS.get(name, ""): files for name, files in sets.items()}
        job = _predict(choice, videos or [], named, method, (ray, workers))
    told = {} if job is None else {"ray": job}
    if not truths.is_dir():
        with show_progress() as progress:
            report = evaluate_veval(truths, predictions, progress)
        return Result({**report.to_json(), **told}, lambda: _print_video_scores(report))
    predicted = {name: files for name, files in sets.items() if files[1].is_file()}
    for name in sets.keys() - predicted.keys():
        echo(f"warning: not in the table: {SETS[name]} has no predictions ({sets[name][1]})", err=True)
    if not predicted:
        names = ", ".join(path.name for _, path in sets.values())
        raise EvaluationError("no predictions", where=str(predictions), hint=f"it should hold {names}")
    with show_progress() as progress:
        reports = {name: evaluate_veval(*files, named_stage(progress, SETS[name])) for name, files in predicted.items()}
    result = {
        "sets": {name: report.to_json() for name, report in reports.items()},
        "missing": [name for name in SETS if name not in reports],
        **told,
    }
    rows = [(SETS[name], *_video_row(report.headline)) for name, report in reports.items()]
    caption = f"{len(rows)} of {len(SETS)} sets of SA-Co VEval"
    return Result(result, lambda: print_table(("set", *_LABELS), rows, caption))


def _predict(
    choice: opt.ModelChoice,
    videos: list[Path],
    sets: Mapping[str, tuple[Path, Path]],
    method: opt.TrackMethod,
    place: Place,
) -> dict[str, Any] | None:
    """Predict what is not predicted yet, of sets (ground truth and predictions) by their titles."""
    from litetext.evaluation.labeled_pairs import find_masklets, read_clips
    from litetext.evaluation.predict import options_for, plan_predictions
    from litetext.video.methods import choose_method

    way = choose_method(method)
    made_by = {**choice.describe(), "method": way}
    chosen = choice if place[0] is None else choice.on_an_actor(video=way == "tracker")
    load = partial(chosen.load, options_for(SCORE), video=way == "tracker")
    with ExitStack() as held:
        plans = {
            title: plan_predictions(truth, videos, output, made_by, held, read=read_clips)
            for title, (truth, output) in sets.items()
        }
        return predict_plans(plans, load, partial(find_masklets, method=way), "videos", place)


def choose_clips(
    files: list[Path], folders: list[Path], count: int | None, plots: list[str] | None, seed: int
) -> tuple[Iterable["LabeledClip"], int]:
    """The clips of a VEval set, or those of the micro world without one, so many of each plot; and how many."""
    from litetext.evaluation.hota import hota_metric
    from litetext.evaluation.labeled_pairs import read_clips
    from litetext.micro.evaluation import known_clips

    hota_metric()
    if not files:
        if folders:
            raise OptionError("videos without ground truth", where="--videos", hint="give --gt, or leave them out")
        count, plots = CLIPS if count is None else count, plots or list(PLOTS)
        if count < 1:
            raise OptionError(f"{count} clips", where="--clips", hint="ask for 1 or more")
        return known_clips(seed, count, plots), count * len({*plots})
    if count is not None or plots:
        raise OptionError("clips of the micro world beside files", where="--clips, --plot", hint="leave them out")
    if len(files) > 1:
        raise OptionError("several files of ground truth", where="--gt", hint="a set of videos has one")
    if not folders:
        raise typer.BadParameter("--gt needs the folder of the videos", param_hint="--videos")
    clips = read_clips(files[0], folders)
    return clips, len(clips)


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
        (label, *(format(kind["cgf1"][name], form) for kind in kinds)) for name, label, form in SCORES
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
