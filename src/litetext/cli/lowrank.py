"""`litetext lowrank`."""

from typing import Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import Context, Positions
from litetext.cli.students import CHECKED, Check, Output, Sources, Student, student_files, warn_if_far
from litetext.errors import OptionError


@app.command(
    epilog="\b\nExamples:\n  litetext lowrank s0.safetensors -o low.safetensors --rank 96\n"
    "  litetext lowrank s0.safetensors prompts.txt -o low.safetensors --rank auto --share 0.98 --json"
)
def lowrank(
    file: Student,
    output: Output,
    sources: Sources = None,
    rank: Annotated[str, typer.Option(metavar="R", help="Rank of the token table; auto: as low as --share allows.")] = (
        "auto"
    ),
    share: Annotated[
        float, typer.Option(help="Share of the tokens' variance that --rank auto keeps, above 0 and at most 1.")
    ] = 0.99,
    check: Check = CHECKED,
    positions: Positions = "auto",
    context: Context = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Make the token table the product of two small ones, nearest where the phrases are, and say what that loses.

    Each token counts as often as the phrases have it; one that they do not have counts a hundredth of an occurrence.
    """
    from litetext.export.low_rank import LowRankOptions, lower_rank
    from litetext.prompts.readers import ReadOptions

    options = LowRankOptions(rank=_rank(rank), share=share, check=check)
    files = student_files(file, output, positions, context, sources)
    corpus = read_corpus(sources, ReadOptions())
    with show_progress() as progress:
        done = lower_rank(files, corpus, options, lambda part: progress("comparing", part))
    warn_if_far(done.reduction.fidelity)
    if json:
        print_json(done.to_json())
    else:
        echo("\n".join(done.lines()))


def _rank(word: str) -> int | None:
    if word == "auto":
        return None
    if not word.isdecimal():
        raise OptionError(f"a rank of '{word}'", where="--rank", hint="give a number, or auto")
    return int(word)
