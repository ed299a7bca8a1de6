"""The application: the decorator that adds a command, help by stage, and one line for each error."""

import inspect
import io
import logging
import re
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import litetext
from litetext.cli._output import echo, print_json
from litetext.errors import LiteTextError, MissingExtraError, OptionError

# Typer carries a copy of click without publishing it; the base of its public BadParameter is click's UsageError.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
_INTERRUPTED = 130  # 128 and the number of the signal, as a shell says it
# Loggers that tell of retries, each before the one error line, and of what PyTorch thinks of torchao where that is
# installed. Filtered, because their libraries set their levels when they are imported.
CHATTY = ("huggingface_hub.utils._http", "torch.utils._pytree")

_ADDRESS = re.compile(r"local|auto|(ray://)?[\w.\-\[\]:]+:\d+")  # of a Ray cluster
_HOST = re.compile(r"\w[\w.-]*|\w+://.*")  # a word that may be meant as one

STAGES = ("Prompts", "Encoders", "Training", "Segmenting", "Evaluation", "Device", "Micro world")  # of the pipeline

# Words of other tools, and what they are called here; of several the first that the command has.
COMMANDS = {
    "predict": "segment",
    "detect": "segment",
    "infer": "segment",
    "video": "track",
    "train": "distill",
    "shrink": "compress",
    "prune": "compress --prune",
    "fold": "compress --fold",
    "quantize": "compress --quantize",
    "quantise": "compress --quantize",
    "lowrank": "compress --low-rank",
    "info": "inspect",
    "show": "inspect",
    "val": "evaluate",
    "eval": "evaluate",
    "benchmark": "bench",
    "help": "--help",
    "version": "--version",
}
OPTIONS = {
    "--conf": "--threshold",
    "--confidence": "--threshold",
    "--classes": "--prompts -p",
    "--text": "--text-encoder --prompt",
    "--encoder": "--text-encoder",
    "--student": "--text-encoder",
    "--bank": "--text-encoder",
    "--teacher": "--text-encoder --model",
    "--weights": "--model --init",
    "--checkpoint": "--model --init",
    "--format": "--to",
    "--target": "--to",
    "--bits": "--quantize",
    "--save": "--output",
    "--out": "--output",
    "--project": "--output",
    "--rate": "--lr",
    "--learning-rate": "--lr",
    "--batch": "--batch-size --batches",
    "--input": "",
    "--source": "",
    "--name": "",
}

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on standard output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Result(NamedTuple):
    """What a command prints: the JSON object, the text (or what prints it), and the error that follows it."""

    values: Mapping[str, Any]
    text: str | Callable[[], None]
    error: LiteTextError | None = None


class _ByStage(TyperGroup):
    """A group whose help lists the commands by stage."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click's signature
        stages: dict[str, list[Any]] = {stage: [] for stage in STAGES}
        commands: Any = self.commands.values()
        for command in commands:
            stages.setdefault(command.rich_help_panel or "Commands", []).append(command)
        width = max(len(name) for name in self.commands)
        for stage, members in stages.items():
            if members:
                with formatter.section(stage):
                    limit = formatter.width - 6 - width
                    formatter.write_dl([(one.name.ljust(width), one.get_short_help_str(limit)) for one in members])


def make_group(help_text: str) -> typer.Typer:
    """A group of commands; help is written without rich, whose import takes longer than the rest."""
    return typer.Typer(
        help=help_text, cls=_ByStage, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )


app = make_group("Measure what the prompts use, then give the segmenter a text encoder of that size.")
app.pretty_exceptions_enable = False


def command(
    stage: str | None, *examples: str, group: typer.Typer = app
) -> Callable[[Callable[..., Result | None]], Callable[..., Result | None]]:
    """Add a function as a command with the options --json and --debug, and print its result.

    The stage is its heading in the help of the group; None: one heading for all. The examples stand below its help. A
    package that it imports and that is not installed is one of the extra sam3.
    """

    def add(function: Callable[..., Result | None]) -> Callable[..., Result | None]:
        @wraps(function)
        def run_command(*, json: bool, debug: bool, **values: Any) -> None:  # noqa: ARG001 - `run` looks for --debug
            try:
                result = function(**values)
            except ModuleNotFoundError as error:
                if str(error.name).startswith("litetext"):
                    raise
                raise MissingExtraError(f"litetext {function.__name__}", "sam3") from error
            if result is None:  # a process that does not report
                return
            if json:
                print_json(result.values)
            elif isinstance(result.text, str):
                echo(result.text)
            else:
                result.text()
            if result.error is not None:
                raise result.error

        kind, signature = inspect.Parameter.KEYWORD_ONLY, inspect.signature(function)
        own = [parameter.replace(kind=kind) for parameter in signature.parameters.values()]
        shared = [
            inspect.Parameter(name, kind, default=False, annotation=option)
            for name, option in (("json", Json), ("debug", Debug))
        ]
        run_command.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        epilog = "\b\nExamples:\n  " + "\n  ".join(examples)
        group.command(function.__name__, epilog=epilog, rich_help_panel=stage)(run_command)
        return function

    return add


def main() -> None:
    """Run the command line; an error that LiteText can name is one line and exit status 1 (usage: 2)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where it is closed, or somebody else's
            stream.reconfigure(errors="backslashreplace")  # a phrase that the terminal's encoding does not have
    sys.exit(run(sys.argv[1:]))


def _named(word: str, after: str) -> list[str]:
    """An argument; `--ray` with an address, since its own is optional, which Typer does not know."""
    if word != "--ray" or _ADDRESS.fullmatch(after):
        return [word]
    if _HOST.fullmatch(after) and not Path(after).exists():
        hint = "give local, auto, or HOST:PORT of a running cluster (ray start --head)"
        raise OptionError("neither an address of a cluster nor a file", where=f"--ray {after}", hint=hint)
    return [word, "local"]


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    for name in CHATTY:
        logging.getLogger(name).addFilter(_is_error)
    try:
        pairs = zip(arguments, [*arguments[1:], ""], strict=False)
        words = [part for word, after in pairs for part in _named(word, after)]
        status = int(app(words or ["--help"], prog_name="litetext", standalone_mode=False) or 0)
        # Typer makes this status of Ctrl-C, and says nothing.
        return _fail("interrupted", status) if status == _INTERRUPTED else status
    except _USAGE_ERROR as error:
        message = _usage_message(error)
        see = " See" if message.endswith("?") else "; see"
        return _fail(f"{message}{see} 'litetext --help' or 'litetext COMMAND --help'", 2)
    except (LiteTextError, OSError, MemoryError) as error:
        if "--debug" in arguments:
            raise
        return _fail(_error_message(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"litetext {litetext.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def _usage_message(error: Any) -> str:
    """What is wrong with the command line, and what may have been meant: in words of other tools, or misspelled."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is None or context is None:
        message = str(error.format_message()).rstrip(".")
        name = (re.findall(r"^No such command '(.*?)'", message) or [""])[0]
        return f"no command is called '{name}'; did you mean '{COMMANDS[name]}'?" if name in COMMANDS else message
    known = [name for parameter in context.command.params for name in parameter.opts]
    if option in OPTIONS and not OPTIONS[option]:
        return f"no such option: {option}; what is read is an argument, without a name"
    meant = [name for name in OPTIONS.get(option, "").split() if name in known] or get_close_matches(
        option, known, 1, 0.7
    )
    return f"no such option: {option}" + (f"; did you mean '{meant[0]}'?" if meant else "")


def _error_message(error: LiteTextError | OSError | MemoryError) -> str:
    if isinstance(error, OSError):
        where = f", {error.filename}" if error.filename else ""
        return f"{(error.strerror or str(error)).lower()}{where}"
    return "not enough memory" if isinstance(error, MemoryError) else str(error)


def _fail(message: str, status: int) -> int:
    echo(f"error: {' '.join(message.split())}", err=True)
    return status
