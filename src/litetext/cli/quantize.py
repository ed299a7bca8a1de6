"""`litetext quantize`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import MODEL_HELP, Context, ModelChoice, Positions
from litetext.cli.students import CHECKED, Check, Output, Sources, Student, student_files, warn_if_far
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.cli.retention import Asked
    from litetext.evaluation.retention import RetentionReport
    from litetext.export.compress_io import StudentFiles
    from litetext.export.quantize import Quantization
    from litetext.sam3.segmenter import Segmenter

PAIRS = 500
BOTH = ("before", "after")


@app.command(
    epilog="\b\nExamples:\n  litetext quantize micro-student -o small.safetensors --model micro --pairs 500\n"
    "  litetext quantize s0.safetensors prompts.txt -o small.safetensors --table int4\n"
    "  litetext quantize s0.safetensors -o half.safetensors --weights fp16 --json"
)
def quantize(
    file: Student,
    output: Output,
    sources: Sources = None,
    weights: Annotated[
        str, typer.Option(help="Of the linear layers: int8; or of all but the token table: fp16, bf16, fp32.")
    ] = "int8",
    activations: Annotated[
        str,
        typer.Option(
            help="What the linear layers read: int8, which engines are fast with; float; auto (as --weights)."
        ),
    ] = "auto",
    table: Annotated[
        str, typer.Option(help="Token table: int8, int4, fp16, bf16, fp32, same (as it is), auto (as --weights).")
    ] = "auto",
    calibrate: Annotated[int, typer.Option(help="The most phrases that ranges of activations are chosen on.")] = 1000,
    check: Check = CHECKED,
    model: Annotated[
        str | None,
        typer.Option(metavar="PATH|HF_ID", help=f"Say what of cgF1 is kept too, with this host. {MODEL_HELP}"),
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help=f"(Picture, phrase) pairs of the micro world for --model: {PAIRS} unless said.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of these pairs, and of the interval.")] = 0,
    positions: Positions = "auto",
    context: Context = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Store a student in smaller numbers, folded, and say how true it stays: cosines of tokens, and cgF1 with a host.

    Ranges of activations are chosen on some of the phrases; the student is compared on others.
    """
    from litetext.export.quantize import QuantizeOptions, quantize_checkpoint
    from litetext.prompts.readers import ReadOptions

    options = QuantizeOptions(weights, activations, table, calibrate, check)
    if model is None and pairs is not None:
        raise OptionError("pairs without a host", where="--pairs", hint="give --model, or leave them out")
    files = student_files(file, output, positions, context, sources)
    # The host comes first: what cannot be loaded fails before the work, not after it.
    host = None if model is None else _Host.load(files, model, PAIRS if pairs is None else pairs, seed)
    texts = read_corpus(sources, ReadOptions()).texts
    with show_progress() as progress:
        done = quantize_checkpoint(files, texts, options, progress)
    warn_if_far(done.reduction.fidelity)
    _tell(done, None if host is None else host.compare(files, seed), json=json)


@dataclass(frozen=True, eq=False)
class _Host:
    """A host that reads its text with the student as it was, and what it is asked."""

    segmenter: "Segmenter"
    asked: "Asked"

    @classmethod
    def load(cls, files: "StudentFiles", model: str, count: int, seed: int) -> "_Host":
        try:
            from litetext.cli.predicting import SCORE
            from litetext.cli.retention import micro_pairs
            from litetext.evaluation.predict import options_for
        except ImportError as error:
            raise MissingExtraError("evaluation", "sam3") from error

        asked = micro_pairs(count, seed)
        chosen = ModelChoice(model, files.source, files.positions, files.context_length, device="cpu")
        return cls(chosen.load(options_for(SCORE)), asked)

    def compare(self, files: "StudentFiles", seed: int) -> "RetentionReport":
        """What it scores with the student that was written, against that which was read."""
        from litetext.checkpoints.size import measure_encoder
        from litetext.evaluation.comparison import compare
        from litetext.evaluation.retention import Bootstrap, report_retention

        before, after, target = self.segmenter.encoder, files.load_target(), str(files.target)
        sizes = measure_encoder(files.source, before), measure_encoder(target, after)
        with show_progress() as progress:
            told = self.asked.tells(progress)
            comparison = compare(self.segmenter, self.segmenter.with_encoder(after), self.asked.pairs, 0, told)
        return report_retention(comparison, *sizes, Bootstrap(seed=seed))


def _tell(done: "Quantization", report: "RetentionReport | None", *, json: bool) -> None:
    if report is not None and report.retention is None:
        echo("warning: cgF1 was not above 0 before: what is kept of it is undefined", err=True)
    if json:
        print_json(done.to_json() | ({} if report is None else {"retention": report.to_json()}))
        return
    echo("\n".join(done.lines()))
    if report is not None:
        from litetext.cli.retention import print_retention

        print_retention(report, BOTH)
