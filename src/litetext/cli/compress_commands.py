"""Smaller students: `litetext prune`, `fold`, `lowrank` and `quantize`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from litetext.cli._app import Result, command
from litetext.cli._options import (
    MODEL_HELP,
    PATH_OR_HUB,
    ContextLength,
    ModelChoice,
    OutputFile,
    Positions,
    PositionTable,
    Sources,
    StudentArgument,
    open_encoder,
    read_corpus,
)
from litetext.cli._output import check_target, echo, show_progress
from litetext.cli.evaluate_command import SCORE
from litetext.cli.retention_command import Pairs, micro_pairs, print_retention
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.evaluation.retention import RetentionReport
    from litetext.export.compress_io import StudentFiles
    from litetext.export.prune import Coverage, Pruning
    from litetext.features.compare import Fidelity
    from litetext.sam3.segmenter import Segmenter

STAGE = "Device"
PAIRS = 500

Check = Annotated[int, typer.Option(help="The most phrases that the student is compared on, before and after.")]


def _student_files(
    student: str, output: Path, positions: PositionTable, context_length: int | None, sources: Sequence[str] | None
) -> "StudentFiles":
    """A student and where it goes, which is checked."""
    from litetext.export.compress_io import StudentFiles

    check_target(output, models=[student], sources=sources)
    return StudentFiles(student, output, positions, context_length)


def _warn_if_far(fidelity: "Fidelity") -> None:
    """One line on standard error if the features are not those that they were."""
    from litetext.features.compare import CLOSE_MEAN, CLOSE_MIN

    if not fidelity.is_close:
        echo(
            f"warning: a mean cosine below {CLOSE_MEAN}, or a least below {CLOSE_MIN}: evaluate it with --model",
            err=True,
        )


@command(
    STAGE,
    "litetext prune micro-student -o pruned.safetensors",
    "litetext prune s0.safetensors prompts.txt 'more/*.json' -o pruned.safetensors --report other.txt",
)
def prune(
    student: StudentArgument,
    output: OutputFile,
    sources: Sources = None,
    report: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Other phrases: how many of them fall into smaller pieces.")
    ] = None,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Keep only the token rows that the phrases need.

    Nothing changes for these phrases. Any other text can still be read: a word whose token is gone falls into smaller
    pieces, down to bytes. --positions and --context-length are for --report.
    """
    from litetext.export.prune import prune_checkpoint

    check_target(output, models=[student], sources=[*(sources or ()), *([] if report is None else [report])])
    texts = read_corpus(sources).texts
    others = None if report is None else read_corpus([report]).texts
    done = prune_checkpoint(student, texts, output)
    coverage = None if others is None else _cover(done, others, positions, context_length)
    return Result(
        done.to_json() | ({} if coverage is None else {"report": coverage.to_json()}),
        "\n".join([*_pruning_lines(done), *([] if coverage is None else _coverage_lines(coverage))]),
    )


def _cover(done: "Pruning", texts: Sequence[str], positions: PositionTable, context_length: int | None) -> "Coverage":
    from litetext.export.prune import compare_features, cover, split_rows

    before, after = (open_encoder(spec, positions, context_length, "cpu") for spec in (done.source, done.target))
    with show_progress() as progress:
        changed = [texts[row] for row in split_rows(done.kept, texts)]
        cosine = compare_features(before, after, changed, lambda share: progress("comparing", share))
    return replace(cover(done.kept, texts, after.context_length), cosine=cosine)


def _pruning_lines(done: "Pruning") -> list[str]:
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


@command(
    STAGE,
    "litetext fold micro-student -o folded.safetensors",
    "litetext fold s0_ctx16.pt prompts.txt -o folded.safetensors --positions slice --context-length 16",
)
def fold(
    student: StudentArgument,
    output: OutputFile,
    sources: Sources = None,
    check: Check = 1000,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Fold RepMixer blocks and batch norms for inference.

    Unused tensors are dropped. The features are the same up to rounding, which is measured on the phrases.
    """
    from litetext.export.compress_io import draw_texts
    from litetext.export.fold import fold_checkpoint

    files = _student_files(student, output, positions, context_length, sources)
    texts = draw_texts(read_corpus(sources).texts, check)
    with show_progress() as progress:
        done = fold_checkpoint(files, texts, lambda share: progress("comparing", share))
    _warn_if_far(done.fidelity)
    return Result(done.to_json(), "\n".join(done.lines()))


@command(
    STAGE,
    "litetext lowrank s0.safetensors -o low.safetensors --rank 96",
    "litetext lowrank s0.safetensors prompts.txt -o low.safetensors --rank auto --share 0.98 --json",
)
def lowrank(
    student: StudentArgument,
    output: OutputFile,
    sources: Sources = None,
    rank: Annotated[str, typer.Option(metavar="R", help="Rank of the token table; auto: as low as --share allows.")] = (
        "auto"
    ),
    share: Annotated[
        float, typer.Option(help="Share of the tokens' variance that --rank auto keeps, above 0 and at most 1.")
    ] = 0.99,
    check: Check = 1000,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Factorize the token table where the phrases are.

    Each token counts as often as the phrases have it; one that they do not have counts a hundredth of an occurrence.
    """
    from litetext.export.low_rank import LowRankOptions, lower_rank

    if rank != "auto" and not rank.isdecimal():
        raise OptionError(f"a rank of '{rank}'", where="--rank", hint="give a number, or auto")
    options = LowRankOptions(rank=None if rank == "auto" else int(rank), share=share, check=check)
    files = _student_files(student, output, positions, context_length, sources)
    corpus = read_corpus(sources)
    with show_progress() as progress:
        done = lower_rank(files, corpus, options, lambda part: progress("comparing", part))
    _warn_if_far(done.reduction.fidelity)
    return Result(done.to_json(), "\n".join(done.lines()))


@command(
    STAGE,
    "litetext quantize micro-student -o small.safetensors --model micro --pairs 500",
    "litetext quantize s0.safetensors prompts.txt -o small.safetensors --table int4",
    "litetext quantize s0.safetensors -o half.safetensors --weights fp16 --json",
)
def quantize(
    student: StudentArgument,
    output: OutputFile,
    sources: Sources = None,
    weights: Annotated[
        Literal["int8", "fp16", "bf16", "fp32"],
        typer.Option(help="Of the linear layers: int8; or of all but the token table: fp16, bf16, fp32."),
    ] = "int8",
    activations: Annotated[
        Literal["auto", "int8", "float"],
        typer.Option(help="What the linear layers read: int8, which engines are fast with; auto: as --weights."),
    ] = "auto",
    table: Annotated[
        Literal["auto", "int8", "int4", "fp16", "bf16", "fp32", "same"],
        typer.Option(help="Token table; same: as it is; auto: as --weights."),
    ] = "auto",
    calibrate: Annotated[int, typer.Option(help="The most phrases that ranges of activations are chosen on.")] = 1000,
    check: Check = 1000,
    model: Annotated[
        str | None,
        typer.Option(metavar=PATH_OR_HUB, help=f"Measure what of its cgF1 is kept too. {MODEL_HELP}"),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help=f"(Picture, phrase) pairs of the micro world for --model. Default: {PAIRS}.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of these pairs, and of the interval.")] = 0,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Quantize a student and report the error.

    The student is folded first. Ranges of activations are chosen on some of the phrases; the student is compared on
    others: cosines of tokens, and cgF1 with --model.
    """
    from litetext.export.quantize import QuantizeOptions, quantize_checkpoint

    options = QuantizeOptions(weights, activations, table, calibrate, check)
    if model is None and pairs is not None:
        raise OptionError("pairs without a model", where="--pairs", hint="give --model, or leave them out")
    files = _student_files(student, output, positions, context_length, sources)
    # The model comes first: what cannot be loaded fails before the work, not after it.
    segmenter, asked = None, None
    if model is not None:
        asked = micro_pairs(PAIRS if pairs is None else pairs, seed)
        segmenter = _load_model(files, model)
    texts = read_corpus(sources).texts
    with show_progress() as progress:
        done = quantize_checkpoint(files, texts, options, progress)
    _warn_if_far(done.reduction.fidelity)
    if segmenter is None or asked is None:
        return Result(done.to_json(), "\n".join(done.lines()))
    report = _compare_students(segmenter, files, asked, seed)
    if report.retention is None:
        echo("warning: cgF1 was not above 0 before: what is kept of it is undefined", err=True)

    def show() -> None:
        echo("\n".join(done.lines()))
        print_retention(report, ("before", "after"))

    return Result(done.to_json() | {"retention": report.to_json()}, show)


def _load_model(files: "StudentFiles", model: str) -> "Segmenter":
    """The model with the student as it is."""
    try:
        from litetext.evaluation.predict import options_for
    except ImportError as error:
        raise MissingExtraError("evaluation", "sam3") from error
    choice = ModelChoice(model, files.source, files.positions, files.context_length, device="cpu")
    return choice.load(options_for(SCORE))


def _compare_students(segmenter: "Segmenter", files: "StudentFiles", asked: Pairs, seed: int) -> "RetentionReport":
    """What the model scores with the student that was written, against that which was read."""
    from litetext.checkpoints.size import measure_encoder
    from litetext.evaluation.comparison import compare
    from litetext.evaluation.retention import Bootstrap, report_retention

    before, after, target = segmenter.encoder, files.load_target(), str(files.target)
    sizes = measure_encoder(files.source, before), measure_encoder(target, after)
    with show_progress() as progress:
        update = asked.progress(progress)
        comparison = compare(segmenter, segmenter.with_encoder(after), asked.pairs, 0, update)
    return report_retention(comparison, *sizes, Bootstrap(seed=seed))
