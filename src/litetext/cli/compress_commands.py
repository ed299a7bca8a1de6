"""Smaller students: `litetext compress`."""

from typing import Annotated, Any, Literal

import typer

from litetext.cli._app import Result, command
from litetext.cli._options import ContextLength, OutputFile, Positions, Sources, StudentArgument, read_corpus
from litetext.cli._output import check_target, echo, show_progress


@command(
    "Device",
    "litetext compress micro-student -o small.safetensors",
    "litetext compress s0.safetensors prompts.txt -o small.safetensors --prune --quantize int4 --report other.txt",
    "litetext compress s0_ctx16.pt -o folded.safetensors --fold --positions slice --context-length 16",
    "litetext compress s0.safetensors prompts.txt -o low.safetensors --low-rank 0.99 --json",
)
def compress(
    student: StudentArgument,
    output: OutputFile,
    sources: Sources = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Keep only the token rows that the phrases need; nothing changes for them.")
    ] = False,
    fold: Annotated[
        bool, typer.Option("--fold", help="Fold RepMixer blocks and batch norms; the features stay the same.")
    ] = False,
    low_rank: Annotated[
        float | None,
        typer.Option(metavar="R", help="Factorize the token table: rank, or below 1 the share of variance to keep."),
    ] = None,
    quantize: Annotated[
        Literal["int8", "int4", "int8-weight-only", "int4-weight-only", "fp16", "bf16", "fp32"] | None,
        typer.Option(
            help="int8: weights, activations and token table; int4: the same with an int4 table; weight-only: float "
            "activations; or all in another floating-point type. The student is folded first."
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Other phrases: how many of them pruning splits into smaller pieces."),
    ] = None,
    calibrate: Annotated[int, typer.Option(help="The most phrases that ranges of activations are chosen on.")] = 1000,
    check: Annotated[int, typer.Option(help="The most phrases that the student is compared on.")] = 1000,
    positions: Positions = "auto",
    context_length: ContextLength = None,
) -> Result:
    """Make a student smaller and report the error.

    Without --prune, --fold, --low-rank and --quantize: prune to the phrases, fold, int8. The steps are done in this
    order, and after each the features are compared with those of the student that went in.
    """
    check_target(output, models=[student], sources=[*(sources or ()), *([] if report is None else [report])])
    corpus = read_corpus(sources)
    others = None if report is None else read_corpus([report]).texts
    from litetext.checkpoints.load import load_stored_student
    from litetext.export.compress import CLOSE, Student
    from litetext.export.compress import compress as compress_student
    from litetext.export.table_compression import coverage

    if not (prune or fold or low_rank is not None or quantize):
        prune, fold, quantize = True, True, "int8"
    module = load_stored_student(student, positions=positions, context_length=context_length)
    before = Student(module, student)
    with show_progress() as progress:
        after = compress_student(
            before,
            corpus,
            prune=prune,
            fold=fold,
            low_rank=low_rank,
            quantize=quantize,
            check=check,
            calibrated=calibrate,
            progress=progress,
        )
    lost = None if others is None else coverage(before, after, others)
    after.save(output)
    result = after.report
    if not result.is_close:
        least = " or ".join(f"{name} below {value}" for name, value in CLOSE.items())
        echo(f"warning: cosines of {least}: litetext evaluate retention measures what they cost", err=True)
    size = output.stat().st_size
    values = result.to_json() | {"target": str(output), "bytes": size} | ({} if lost is None else {"report": lost})
    lines = [*result.lines(), f"{output}: {size / 1e6:.2f} MB", *([] if lost is None else _coverage_lines(lost))]
    return Result(values, "\n".join(lines))


def _coverage_lines(coverage: dict[str, Any]) -> list[str]:
    tokens, truncated = coverage["tokens"], coverage["truncated"]
    split, phrases = coverage["split"], coverage["phrases"]
    lines = [
        f"{split:,} of {phrases:,} other phrases ({split / phrases:.1%}) fall into smaller pieces: "
        f"{tokens['after']:,} tokens instead of {tokens['before']:,}, {truncated['after']:,} longer than the context "
        f"instead of {truncated['before']:,}"
    ]
    if coverage["cosine"] is not None:
        cosine = coverage["cosine"]
        figures = f"mean {cosine['mean']:.3f}, 1st percentile {cosine['p1']:.3f}, least {cosine['min']:.3f}"
        lines.append(f"cosine of their mean features with what they were: {figures}")
        lines.append("most frequent: " + ", ".join(f"{word} ({count})" for word, count in coverage["words"][:8]))
    return lines
