"""What commands print and write: lines, tables, JSON, progress, and outputs checked before the work."""

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from litetext.errors import LiteTextError, OutputError, printable, shortened

if TYPE_CHECKING:
    from litetext.evaluation.cgf1 import CgF1
    from litetext.evaluation.gold import SubsetScores

MOST_ROWS = 40  # of a table of phrases; of more only those that were found are listed
_HEAD = 1024
_FAILURES = 5  # that are named in an error
_LABELS = {
    "cgf1": "cgF1",
    "pmf1": "pmF1",
    "pm_precision": "pm precision",
    "f1": "F1",
    "positive_macro_f1": "positive macro F1",
    "mcc": "IL_MCC",
    "fpr": "IL FPR",
}
_AP_LABELS = {"ap_small": "AP small", "ap_medium": "AP medium", "ap_large": "AP large", "ar100": "AR"}
_AP_COLUMNS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, on standard error or output; what a terminal would obey is escaped."""
    typer.echo(printable(text), err=err)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    from litetext.storage import to_json

    typer.echo(to_json(value))  # escaped already


@contextmanager
def show_progress() -> Iterator[Callable[..., None]]:
    """A progress bar on standard error while the block runs; it draws only on a terminal and leaves nothing behind.

    It is called with the stage, the share of it that is done (None: unknown) and, if there is one, a note.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, share: float | None, note: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=None if share is None else 1.0)
            bar.update(tasks[stage], completed=share, description=f"{stage} {note}".rstrip())

        yield update


def check_target(
    output: Path, *, models: Iterable[str | Path | None] = (), sources: Iterable[str] | None = (), folder: bool = False
) -> None:
    """Refuse the output of a command before its work.

    ``models`` and ``sources`` (prompts, pictures) are what is read besides, as the user named it: files, folders,
    globs, names on the hub, - for standard input, None.
    """
    from litetext.storage import check_output

    if output.exists() and not (output.is_file() or output.is_dir()):
        raise OutputError("neither a file nor a folder", where=str(output), hint="give the name of a file")
    inputs = [path for spec in (*models, *(sources or ())) if spec for path in _paths(str(spec))]
    check_output(output, folder=folder, inputs=inputs)
    folders = [path.resolve() for spec in models if spec for path in _paths(str(spec)) if path.is_dir()]
    if not folder and output.exists() and any(path in output.resolve().parents for path in folders):
        raise OutputError("the output is a file of the folder that is read", where=str(output), hint="give another")


def check_ours(path: Path, mark: str) -> None:
    """Refuse to replace a file that the user did not name, unless its first kilobyte has the mark of ours."""
    from litetext.storage import check_output

    check_output(path)
    if path.exists():
        with path.open("rb") as file:
            if mark.encode() not in file.read(_HEAD):
                raise OutputError("it would be replaced, and is not ours", where=str(path), hint="give another folder")


def _paths(spec: str) -> Iterator[Path]:
    """What is there under a name: a file or folder, that of FILE#NAME or FILE:column=NAME, or what a glob finds."""
    from litetext.prompts.opening import split_source

    path = Path(spec).expanduser()
    if path.exists():
        yield path
    elif (file := Path(spec.partition("#")[0])).exists() or (file := Path(split_source(spec)[0])).exists():
        yield file
    elif glob.has_magic(spec):
        yield from map(Path, glob.iglob(spec, recursive=True))  # noqa: PTH207 - may be absolute


def failed_rows(job: Mapping[str, Any]) -> LiteTextError | None:
    """The error that names what a job on a cluster failed at, after its result; None where nothing failed."""
    failures = job["failures"]
    reasons = " | ".join(failure["reason"] for failure in failures[:_FAILURES])
    return (
        LiteTextError(f"{len(failures)} failed: {reasons}", hint="the same command tries again") if failures else None
    )


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str] | None], caption: str | None = None, texts: int = 1
) -> None:
    """A table on standard output; None among the rows draws a line.

    The first columns, as many as ``texts``, hold text, which is never read as markup; the others are flush right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, caption=caption)
    for place, column in enumerate(table.columns):
        column.justify, column.overflow = ("left", "fold") if place < texts else ("right", "ellipsis")
    for row in rows:
        table.add_section() if row is None else table.add_row(*(Text(printable(shortened(cell))) for cell in row))
    Console().print(table)


def print_missing(phrases: Sequence[str]) -> None:
    """Name phrases that found nothing, in a line."""
    if phrases:
        echo(f"nothing found ({len(phrases):,}): {shortened(', '.join(phrases))}")


def print_scores(scores: "CgF1") -> None:
    """Scores of masks to 100, averaged and at two IoU thresholds; scores of presence to 1."""
    levels, rows = (scores.mean, scores.at(0.5), scores.at(0.75)), list[Sequence[str] | None]()
    rows += [(_LABELS.get(name, name), *(_percent(level[name]) for level in levels)) for name in levels[0]]
    if scores.ap is not None:
        rows += [None, ("AP", *(_percent(scores.ap[name]) for name in _AP_COLUMNS))]
        rows += [(label, _percent(scores.ap[name])) for name, label in _AP_LABELS.items()]
    labels = _LABELS | {"f1": "IL F1"}
    rows += [None, *((labels.get(name, f"IL {name}"), f"{value:.4f}") for name, value in scores.presence.items())]
    caption = f"{scores.to_json()['pairs']['all']} (image, phrase) pairs"
    print_table(("score", "IoU 0.50:0.95", "0.50", "0.75"), rows, caption)


def print_subsets(result: "SubsetScores") -> None:
    """The papers' table: a row for each subset and one for their average; cgF1, pmF1 and AP to 100."""
    from litetext.evaluation.gold import SUBSETS

    def row(name: str, scores: "CgF1 | SubsetScores") -> list[str]:
        figures, precisions = scores.headline, scores.ap
        listed = [] if precisions is None else [_percent(precisions[name]) for name in _AP_COLUMNS]
        return [name, f"{figures['cgf1']:.2f}", f"{figures['il_mcc']:.4f}", f"{figures['pmf1']:.2f}", *listed]

    columns = ("subset", "cgF1", "IL_MCC", "pmF1", *([] if result.ap is None else _AP_COLUMNS.values()))
    rows = [*(row(SUBSETS[name][0], scores) for name, scores in result.scores.items()), None, row("average", result)]
    print_table(columns, rows, f"{len(result.scores)} of {len(SUBSETS)} subsets of SA-Co Gold")


def _percent(share: float) -> str:
    """A share to 100; a dash where it is undefined (-1)."""
    return "-" if share == -1 else f"{100 * share:.2f}"
