"""The application: what every command of the command line shares."""

import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer

from litetext.errors import LiteTextError, printable, shortened

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(
    name="litetext",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# Typer carries a copy of click without publishing it; the base of its public BadParameter is click's UsageError.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
_DEBUG = "--debug"
_INTERRUPTED = 130  # 128 and the number of the signal, as a shell says it
LONGEST_CELL = 200
# Loggers that tell of retries, each before the one error line, and of what PyTorch thinks of torchao where that is
# installed. Filtered, because their libraries set their levels when they are imported.
CHATTY = ("huggingface_hub.utils._http", "torch.utils._pytree")

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")]


def main() -> None:
    """Run the command line; an error that LiteText can name is one line and exit status 1 (usage: 2)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where it is closed, or somebody else's
            stream.reconfigure(errors="backslashreplace")  # a phrase that the terminal's encoding does not have
    for name in CHATTY:
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.ERROR)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = int(app(arguments or ["--help"], prog_name="litetext", standalone_mode=False) or 0)
        # Typer makes this status of Ctrl-C, and says nothing.
        return _fail("interrupted", status) if status == _INTERRUPTED else status
    except _USAGE_ERROR as error:
        return _fail(f"{_usage_message(error)}; see 'litetext --help' or 'litetext COMMAND --help'", 2)
    except LiteTextError as error:
        if _DEBUG in arguments:
            raise
        return _fail(str(error), 1)
    except OSError as error:
        if _DEBUG in arguments:
            raise
        where = f", {error.filename}" if error.filename else ""
        return _fail(f"{(error.strerror or str(error)).lower()}{where}", 1)
    except MemoryError:
        if _DEBUG in arguments:
            raise
        return _fail("not enough memory", 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"litetext {version('litetext')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Measure what the prompts use, then give the segmenter a text encoder of that size."""


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, on standard error or output; what a terminal would obey is escaped."""
    typer.echo(printable(text), err=err)


def cell(text: str) -> "Text":
    """Text from elsewhere (a phrase, a name) for a cell of a table: escaped, and never read as markup."""
    from rich.text import Text

    return Text(printable(shortened(text, LONGEST_CELL)))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    from litetext.storage import to_json

    typer.echo(to_json(value))  # escaped already


@contextmanager
def show_progress() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on standard error while the block runs; it draws only on a terminal and leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0)
            bar.update(tasks[stage], completed=share)

        yield update


def _usage_message(error: Any) -> str:
    """What is wrong with the command line, in click's words."""
    return str(error.format_message()).rstrip(".")


def _fail(message: str, status: int) -> int:
    echo(f"error: {' '.join(message.split())}", err=True)
    return status
