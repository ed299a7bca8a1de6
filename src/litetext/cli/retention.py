"""`litetext evaluate retention`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, echo, print_json, show_progress
from litetext.cli.evaluate import evaluate_app, split_files
from litetext.cli.models import MODEL_HELP, Context, Device, Dtype, ModelChoice, Positions, measure, open_encoder
from litetext.cli.predicting import SCORE
from litetext.cli.scores import score_table
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.cgf1 import Progress
    from litetext.evaluation.labeled_pairs import LabeledPair
    from litetext.evaluation.retention import RetentionReport

PAIRS = 1000
_SCORES = (("cgf1", "cgF1", ".2f"), ("il_mcc", "IL_MCC", ".4f"), ("pmf1", "pmF1", ".2f"))


@evaluate_app.command(
    epilog="\b\nExamples:\n  litetext evaluate retention --model micro --student micro --pairs 1000 --seed 7 -o kept\n"
    "  litetext evaluate retention --model micro --student run/student.safetensors --json\n"
    "  litetext evaluate retention --model facebook/sam3 --student s0.pt --positions slice --context 16 "
    "--gt a.json b.json c.json --images metaclip"
)
def retention(
    model: Annotated[str, typer.Option(metavar="PATH|HF_ID", show_default=False, help=MODEL_HELP)],
    student: Annotated[
        str,
        typer.Option(
            metavar="PATH|HF_ID",
            show_default=False,
            help="Text encoder to compare with the model's own: a file, the folder of a run, a prompt bank, or micro: "
            "the student in this package.",
        ),
    ],
    pairs: Annotated[
        int | None, typer.Option(help=f"(Picture, phrase) pairs of the micro world; {PAIRS} unless --gt is given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the pairs of the micro world, and of the interval.")] = 0,
    truths: Annotated[
        list[str] | None,
        typer.Option(
            "--gt",
            metavar="FILE",
            show_default=False,
            help="Pairs of your own: ground truth of an annotator (COCO JSON of SA-Co Gold's kind). Of several: one "
            "after another, --gt again, or with commas.",
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", show_default=False, help="Ground truth of more annotators."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Where the pictures' file_name starts; may be repeated. With --gt."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write index.html, retention.json and pictures there."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst disagreements to show.")] = 12,
    positions: Positions = "auto",
    context: Context = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """What of the model's cgF1 a student keeps: both read the same phrases; masks, parameters and bytes compared."""
    try:
        from litetext.evaluation.comparison import compare
        from litetext.evaluation.predict import options_for
        from litetext.evaluation.retention import Bootstrap, report_retention
    except ImportError as error:
        raise MissingExtraError("evaluation", "sam3") from error

    bootstrap = Bootstrap(seed=seed)
    files = [path for spec in (*(truths or ()), *(more or ())) for path in split_files(spec)]
    asked = _choose_pairs(files, images or [], pairs, seed)
    if output is not None:
        from litetext.evaluation.worst_cases import check_page

        check_page(output)
    chosen = student_name(student)
    encoder = open_encoder(chosen, positions, context, device, dtype)
    teacher = ModelChoice(model, device=device, dtype=dtype).load(options_for(SCORE))
    sizes = measure(model, teacher.encoder), measure(chosen, encoder)
    with show_progress() as progress:
        comparison = compare(teacher, teacher.with_encoder(encoder), asked.pairs, worst, asked.tells(progress))
    _tell(report_retention(comparison, *sizes, bootstrap), output, json=json)


def student_name(name: str) -> str:
    """The student that comes with the package for a model of that name; any other name as it is."""
    from litetext.checkpoints.shipped import SHIPPED

    shipped = f"{name}-student"
    return shipped if shipped in SHIPPED else name


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of both.

    Attributes:
        pairs: made or read when their turn comes.
        count: how many there are.
    """

    pairs: Iterable["LabeledPair"]
    count: int

    def tells(self, progress: "Progress") -> "Progress":
        """A progress that is told the share instead of the number of pairs."""
        return lambda stage, done: progress(stage, done / self.count)


def _choose_pairs(files: list[Path], images: list[Path], pairs: int | None, seed: int) -> Asked:
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
        raise OptionError("a number of pairs for files", where="--pairs", hint="leave it out: all of them are asked")
    if not images:
        raise typer.BadParameter("--gt needs the folder of the pictures", param_hint="--images")
    found = GoldPairs.read(files, images)
    return Asked(found, len(found))


def micro_pairs(count: int, seed: int) -> Asked:
    """Pairs that training never saw, as `litetext micro evaluate` draws them."""
    from litetext.micro.evaluation import known_pairs
    from litetext.micro.model import SIZE
    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    if count < 1:
        raise OptionError(f"{count} pairs", where="--pairs", hint="ask for 1 or more")
    return Asked(known_pairs(make_pairs(seed, count, SceneOptions(size=SIZE, split="test"))), count)


def _tell(report: "RetentionReport", output: Path | None, *, json: bool) -> None:
    """Write the page and print the result."""
    misfits = report.teacher.scores.tally.misfits + report.student.scores.tally.misfits
    if misfits:
        echo(f"warning: masks of another size than the true mask, which match nothing: {misfits}", err=True)
    if report.retention is None:
        echo("warning: the teacher's cgF1 is not above 0 on these pairs: retention is undefined", err=True)
    if output is not None:
        from litetext.evaluation.worst_cases import write_retention

        echo(f"Page: {write_retention(report, output)}", err=True)
    if json:
        print_json(report.to_json())
    else:
        print_retention(report)


def print_retention(report: "RetentionReport", names: tuple[str, str] = ("teacher", "student")) -> None:
    """One table: scores of both and what is kept of them, sizes of both, and how alike their masks are."""
    from rich.console import Console

    caption = (
        f"{len(report.comparison.agreements)} (picture, phrase) pairs of {len(report.comparison.teacher)} pictures"
    )
    table = score_table("", *names, "kept", caption=caption)
    kept, both = report.retention, (report.teacher, report.student)
    for name, label, form in _SCORES:
        values = (format(getattr(one.scores, name), form) for one in both)
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
