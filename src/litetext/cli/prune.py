"""`litetext prune`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import open_encoder
from litetext.cli.outputs import check_target
from litetext.cli.students import Output, Student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litetext.export.prune import Coverage, Pruning


@app.command(
    epilog="\b\nExamples:\n  litetext prune micro-student -o pruned.safetensors\n"
    "  litetext prune s0.safetensors prompts.txt 'more/*.json' -o pruned.safetensors --report other.txt"
)
def prune(
    student: Student,
    output: Output,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="Phrases that must keep their tokens: files, folders, globs or - as `litetext audit` reads them. "
            "None: the bundled corpus.",
        ),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Other phrases: how many of them fall into smaller pieces.")
    ] = None,
    positions: Annotated[
        str, typer.Option(metavar="HOW", help="Position table for --report: auto, slice, interpolate or keep.")
    ] = "auto",
    context: Annotated[int | None, typer.Option(help="Tokens that the student reads, for --report.")] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Keep only the token rows that phrases need, without changing anything about these phrases.

    Any other text can still be read: a word whose token is gone falls into smaller pieces, down to bytes.
    """
    from litetext.export.prune import prune_checkpoint
    from litetext.prompts.readers import ReadOptions

    check_target(output, models=[student], sources=[*(sources or ()), *([] if report is None else [report])])
    texts = read_corpus(sources, ReadOptions()).texts
    others = None if report is None else read_corpus([report], ReadOptions()).texts
    done = prune_checkpoint(student, texts, output)
    coverage = None if others is None else _cover(done, others, positions, context)
    if json:
        print_json(done.to_json() | ({} if coverage is None else {"report": coverage.to_json()}))
    else:
        echo("\n".join([*_lines(done), *([] if coverage is None else _coverage_lines(coverage))]))


def _cover(done: "Pruning", texts: "Sequence[str]", positions: str, context: int | None) -> "Coverage":
    from litetext.export.prune import compare_features, cover, split_rows

    before, after = (open_encoder(spec, positions, context, "cpu") for spec in (done.source, done.target))
    with show_progress() as progress:
        changed = [texts[row] for row in split_rows(done.kept, texts)]
        cosine = compare_features(before, after, changed, lambda share: progress("comparing", share))
    return replace(cover(done.kept, texts, after.context_length), cosine=cosine)


def _lines(done: "Pruning") -> list[str]:
    rows, parameters, size = done.rows, done.parameters, done.bytes
    return [
        f"{done.target}: {rows[1]:,} of {rows[0]:,} token rows, {parameters[1] / 1e6:.2f} M of "
        f"{parameters[0] / 1e6:.2f} M parameters, {size[1] / 1e6:.2f} MB of {size[0] / 1e6:.2f}",
        f"{done.phrases:,} phrases keep their tokens (each was checked), and so their features",
    ]


def _coverage_lines(coverage: "Coverage") -> list[str]:
    share = coverage.split / coverage.phrases
    lines = [
        f"{coverage.split:,} of {coverage.phrases:,} other phrases ({share:.1%}) fall into smaller pieces: "
        f"{coverage.tokens[1]:,} tokens instead of {coverage.tokens[0]:,}, {coverage.truncated[1]:,} longer than the "
        f"context instead of {coverage.truncated[0]:,}"
    ]
    if coverage.cosine is not None:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in coverage.cosine.items())
        lines.append(f"cosine of their mean features with what they were: {figures}")
    if coverage.words:
        lines.append("most frequent: " + ", ".join(f"{word} ({count})" for word, count in coverage.words[:8]))
    return lines
