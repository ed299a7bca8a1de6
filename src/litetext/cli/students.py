"""What the commands that make a student smaller share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from litetext.cli.app import echo
from litetext.cli.outputs import check_target

if TYPE_CHECKING:
    from litetext.export.compress_io import StudentFiles
    from litetext.features.compare import Fidelity

CHECKED = 1000

Student = Annotated[
    str, typer.Argument(metavar="STUDENT", show_default=False, help="A student, as `litetext inspect` takes it.")
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", show_default=False, help="The safetensors file to write.")
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="Phrases: files, folders, globs or - as `litetext audit` reads them. None: the bundled corpus.",
    ),
]
Check = Annotated[int, typer.Option(help="The most phrases that the student is compared on, before and after.")]


def student_files(
    source: str, target: Path, positions: str, context: int | None, sources: list[str] | None
) -> "StudentFiles":
    """A student as the command line names it, and where it goes.

    Raises:
        OutputError: it cannot go there, or that is the student, or one of the sources of phrases.
    """
    from litetext.checkpoints.load import Positions
    from litetext.export.compress_io import StudentFiles

    check_target(target, models=[source], sources=sources)
    return StudentFiles(source, target, cast("Positions", positions), context)  # which refuses any other word


def warn_if_far(fidelity: "Fidelity") -> None:
    """One line on standard error if the features are not those that they were."""
    from litetext.features.compare import CLOSE_MEAN, CLOSE_MIN

    if not fidelity.is_close:
        echo(
            f"warning: a mean cosine below {CLOSE_MEAN}, or a least below {CLOSE_MIN}: evaluate it with a host",
            err=True,
        )
