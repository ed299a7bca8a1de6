"""`litetext evaluate retention`: what of a model's cgF1 a student keeps."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from litetext.cli._app import Result, command
from litetext.cli._options import (
    PATH_OR_HUB,
    ContextLength,
    Device,
    Dtype,
    Model,
    ModelChoice,
    MoreTruths,
    PictureFolders,
    Positions,
    Truths,
    measure,
    open_encoder,
    split_files,
)
from litetext.cli._output import echo, score_table, show_progress
from litetext.cli.evaluate_command import SCORE, evaluate_group
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.labeled_pairs import LabeledPair
    from litetext.evaluation.retention import RetentionReport

PAIRS = 1000
_SCORES = (("cgf1", "cgF1", ".2f"), ("il_mcc", "IL_MCC", ".4f"), ("pmf1", "pmF1", ".2f"))


class Pairs(NamedTuple):
    """Labelled (picture, phrase) pairs, made or read when their turn comes, and how many there are."""

    pairs: Iterable["LabeledPair"]
    total: int

    def progress(self, update: Callable[[str, float], None]) -> Callable[[str, float], None]:
        """A progress that takes the number of pairs done instead of the share."""
        return lambda stage, done: update(stage, done / self.total)


@command(
    None,
    "litetext evaluate retention --model micro --student micro --pairs 1000 --seed 7 -o kept",
    "litetext evaluate retention --model micro --student run/student.safetensors --json",
    "litetext evaluate retention --model facebook/sam3 --student s0.pt --positions slice --context-length 16 "
    "--gt a.json b.json c.json --images metaclip",
    group=evaluate_group,
)
def retention(
    model: Model,
    student: Annotated[
        str,
        typer.Option(
            metavar=PATH_OR_HUB,
            show_default=False,
            help="Text encoder to compare with the model's own: a file, the folder of a run, a prompt bank, or micro: "
            "the student in this package.",
        ),
    ],
    pairs: Annotated[
        int | None, typer.Option(help=f"(Picture, phrase) pairs of the micro world; {PAIRS} unless --gt is given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the pairs of the micro world, and of the interval.")] = 0,
    truths: Truths = None,
    more: MoreTruths = None,
    images: PictureFolders = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write index.html, retention.json and pictures there."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst disagreements to show.")] = 12,
    positions: Positions = "auto",
    context_length: ContextLength = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> Result:
    """Measure what of the model's cgF1 a student keeps.

    Both read the same phrases; masks, parameters and bytes are compared.
    """
    try:
        from litetext.evaluation.comparison import compare
        from litetext.evaluation.predict import options_for
        from litetext.evaluation.retention import Bootstrap, report_retention
    except ImportError as error:
        raise MissingExtraError("evaluation", "sam3") from error

    bootstrap = Bootstrap(seed=seed)
    asked = _choose_pairs(split_files([*(truths or ()), *(more or ())]), images or [], pairs, seed)
    if output is not None:
        from litetext.evaluation.worst_cases import check_page

        check_page(output)
    chosen = student_name(student)
    encoder = open_encoder(chosen, positions, context_length, device, dtype)
    teacher = ModelChoice(model, device=device, dtype=dtype).load(options_for(SCORE))
    sizes = measure(model, teacher.encoder), measure(chosen, encoder)
    with show_progress() as progress:
        update = asked.progress(progress)
        comparison = compare(teacher, teacher.with_encoder(encoder), asked.pairs, worst, update)
    report = report_retention(comparison, *sizes, bootstrap)
    misfits = report.teacher.scores.tally.misfits + report.student.scores.tally.misfits
    if misfits:
        echo(f"warning: masks of another size than the true mask, which match nothing: {misfits}", err=True)
    if report.retention is None:
        echo("warning: the teacher's cgF1 is not above 0 on these pairs: retention is undefined", err=True)
    if output is not None:
        from litetext.evaluation.worst_cases import write_retention

        echo(f"Page: {write_retention(report, output)}", err=True)
    return Result(report.to_json(), lambda: print_retention(report))


def student_name(name: str) -> str:
    """The student that comes with the package for a model of that name; any other name as it is."""
    from litetext.checkpoints.shipped import SHIPPED

    shipped = f"{name}-student"
    return shipped if shipped in SHIPPED else name


def _choose_pairs(files: list[Path], images: list[Path], pairs: int | None, seed: int) -> Pairs:
    """Pairs of files, or of the micro world without any.

    Raises:
        LiteTextError: a file cannot be read, or the options do not belong together.
    """
    if not files:
        if images:
            raise OptionError("pictures without ground truth", where="--images", hint="give --gt, or leave them out")
        return micro_pairs(PAIRS if pairs is None else pairs, seed)
    from litetext.evaluation.labeled_pairs import GoldPairs

    if pairs is not None:
        raise OptionError("a number of pairs for files", where="--pairs", hint="leave it out: all of them are used")
    if not images:
        raise typer.BadParameter("--gt needs the folder of the pictures", param_hint="--images")
    gold = GoldPairs.read(files, images)
    return Pairs(gold, len(gold))


def micro_pairs(count: int, seed: int) -> Pairs:
    """Pairs that training never saw, as `litetext micro evaluate` draws them."""
    from litetext.micro.evaluation import known_pairs
    from litetext.micro.model import SIZE
    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    if count < 1:
        raise OptionError(f"{count} pairs", where="--pairs", hint="ask for 1 or more")
    return Pairs(known_pairs(make_pairs(seed, count, SceneOptions(size=SIZE, split="test"))), count)


def print_retention(report: "RetentionReport", names: tuple[str, str] = ("teacher", "student")) -> None:
    """One table: scores of both and what is kept of them, sizes of both, and how alike their masks are."""
    from rich.console import Console

    caption = (
        f"{len(report.comparison.agreements)} (picture, phrase) pairs of {len(report.comparison.teacher)} pictures"
    )
    table = score_table("", *names, "kept", caption=caption)
    kept, both = report.retention, (report.teacher, report.student)
    for name, label, form in _SCORES:
        values = (format(getattr(contestant.scores, name), form) for contestant in both)
        table.add_row(label, *values, "-" if kept is None else f"{getattr(kept, name):.1f} %")
    if kept is not None:
        ends = "too few pictures" if kept.interval is None else f"{kept.interval[0]:.1f} to {kept.interval[1]:.1f} %"
        table.add_row(f"{100 * report.bootstrap.level:g} % interval", "", "", ends)
    table.add_section()
    for label, sizes in (("parameters", report.parameters), ("bytes", report.bytes)):
        table.add_row(label, f"{sizes['teacher']:,}", f"{sizes['student']:,}", f"{100 - sizes['reduction']:.1f} %")
    table.add_section()
    table.add_row("mask agreement", "", "", f"{report.agreement:.4f}")
    found = report.agreement_found
    table.add_row("where either found some", "", "", "-" if found is None else f"{found:.4f}")
    table.add_row("agree on presence", "", "", f"{100 * report.presence_agreement:.1f} %")
    Console().print(table)
