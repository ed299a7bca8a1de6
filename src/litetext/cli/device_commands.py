"""Deployment: `litetext compress`, `export` and `bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import argument, integers, open_encoder, option, read_corpus
from litetext.cli._output import check_ours, check_target, echo, show_progress
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.export.graphs.graph_layers import Attention

STAGE = "Device"
BATCHES = "1,8,32,128"
FEW_PHRASES = 100  # to calibrate on


@command(
    STAGE,
    "litetext compress micro-student -o small.safetensors",
    "litetext compress s0.safetensors prompts.txt -o small.safetensors --prune --quantize int4 --report other.txt",
    "litetext compress s0_ctx16.pt -o folded.safetensors --fold --positions slice --context-length 16",
    "litetext compress s0.safetensors prompts.txt -o low.safetensors --low-rank 0.99 --json",
)
def compress(
    student: opt.StudentArgument,
    output: opt.OutputFile,
    sources: opt.Sources = None,
    prune: Annotated[bool, option("Keep only the token rows that the phrases need.", "--prune")] = False,
    fold: Annotated[bool, option("Fold RepMixer blocks and batch norms.", "--fold")] = False,
    low_rank: Annotated[float | None, option("Table's rank; below 1: share of variance.", metavar="R")] = None,
    quantize: Annotated[
        Literal["int8", "int4", "int8-weight-only", "int4-weight-only", "fp16", "bf16", "fp32"] | None,
        option("Weights, activations and token table."),
    ] = None,
    report: Annotated[str | None, option("Other phrases: how many pruning splits.", metavar="SOURCE")] = None,
    calibrate: Annotated[int, option("The most phrases that ranges of activations are chosen on.")] = 1000,
    check: Annotated[int, option("The most phrases that the student is compared on.")] = 1000,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
) -> Result:
    """Make a student smaller and report the error.

    Without --prune, --fold, --low-rank and --quantize: prune to the phrases, fold, int8. The steps are done in this
    order, and after each the features are compared with those of the student that went in. int8 and int4 (of the token
    table alone) quantize activations too, weight-only leaves them; fp16, bf16 and fp32 store all in that type.
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
    if quantize in ("int8", "int4") and (count := min(calibrate, len(corpus.texts))) < FEW_PHRASES:
        echo(f"warning: {count} phrases are few to choose the ranges of activations on; give {FEW_PHRASES}", err=True)
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
        measure = f"litetext evaluate retention --model MODEL --student {output}"
        echo(f"warning: cosines of {least}; what the masks lose by it: {measure}", err=True)
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


@command(
    STAGE,
    "litetext export micro --to onnx -o micro-onnx",
    "litetext export facebook/sam3 --text-encoder s0.pt --positions slice --context-length 16 --to onnx -o sam3-s0",
    "litetext export micro-student --to onnx -o student-onnx",
    "litetext export vil-uob/sam3-litetext-s0 --text-only --to onnx --dtype fp16 -o s0-onnx",
    "litetext export small.safetensors prompts.txt --to executorch -o s0-executorch",
)
def export(
    model: Annotated[str, argument("A SAM3 model, or a student.", metavar="MODEL|STUDENT")],
    output: opt.OutputFolder,
    sources: opt.Sources = None,
    target: Annotated[
        Literal["onnx", "openvino", "executorch", "coreml"],
        option("What runs it; executorch and coreml (experimental): students only.", "--to"),
    ] = "onnx",
    text_encoder: opt.TextEncoderOption = None,
    text_only: Annotated[bool, option("Of a SAM3 model its text encoder alone.", "--text-only")] = False,
    dtype: Annotated[
        Literal["fp32", "fp16", "int8-vision"], option("Of float weights; int8-vision: of a SAM3 model's images.")
    ] = "fp32",
    attention: Annotated[
        Literal["auto", "fused", "standard"],
        option("Of a SAM3 model; standard: no operators of ONNX Runtime's own."),
    ] = "auto",
    length: Annotated[int | None, option("Tokens that a student takes. None: any number, where it can.")] = None,
    batch_size: Annotated[int | None, option("Texts that a student takes at once. None: any number.")] = None,
    phrases: Annotated[int, option("Phrases to compare a student with PyTorch on.")] = 500,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
) -> Result:
    """Write a SAM3 model or a student as programs.

    With tokenizer and checksums: a folder that segments, or encodes, without PyTorch. What is written is compared with
    PyTorch first.
    """
    check_target(output, models=[model, text_encoder], sources=sources, folder=True)
    from litetext.checkpoints.hub import SAM3_KINDS, model_kind

    if not text_only and (model == "micro" or (not _is_student(model) and model_kind(model) in SAM3_KINDS)):
        if length is not None or batch_size is not None or target not in ("onnx", "openvino"):
            hint = "leave --length and --batch-size out and give --to onnx or openvino, or give --text-only"
            raise OptionError("a whole segmenter is exported", where=model, hint=hint)
        choice = opt.ModelChoice(model, text_encoder, positions, context_length, "cpu", engine="torch")
        return _export_segmenter(choice, output, target, dtype, None if attention == "auto" else attention)
    if text_encoder is not None or attention != "auto" or target == "openvino":
        hint = "give a SAM3 model, or leave out --text-encoder and --attention; OpenVINO runs --to onnx"
        raise OptionError("options of a whole segmenter for a text encoder", where=model, hint=hint)
    from litetext.export.targets import TargetOptions

    if dtype == "int8-vision":
        hint = "give fp32 or fp16; int8: litetext compress --quantize int8 first"
        raise OptionError("int8-vision for a text encoder", where=model, hint=hint)
    options = TargetOptions(length, batch_size, dtype)
    corpus = read_corpus(sources)
    encoder = open_encoder(model, positions, context_length, "cpu")
    from litetext.export.compress import draw_texts
    from litetext.export.exporter import export_student

    texts = draw_texts(corpus.texts, phrases)
    with show_progress() as progress:
        bundle = export_student(
            encoder,
            output,
            texts,
            target=target,
            options=options,
            name=Path(model).name,
            progress=lambda share: progress("comparing", share),
        )
    first = f"{output}: {bundle.model} ({bundle.options.precision}), {_megabytes(output)} with its tokenizer"
    return Result(
        bundle.to_json() | {"folder": str(output), "bytes": _bytes(output)}, f"{first}\n{bundle.comparison()}"
    )


def _is_student(spec: str) -> bool:
    """Whether it is a student of this package, or a file; what is neither may be a model."""
    from litetext.checkpoints.hub import SHIPPED

    return spec in SHIPPED or Path(spec).is_file()


def _export_segmenter(
    choice: opt.ModelChoice,
    output: Path,
    target: Literal["onnx", "openvino"],
    dtype: Literal["fp32", "fp16", "int8-vision"],
    attention: "Attention | None",
) -> Result:
    """Write a whole segmenter; a bank and an exported text encoder go into the folder as they are."""
    from litetext.export.runtime import is_served
    from litetext.sam3.segmenter import SegmentOptions

    try:
        from litetext.export.segment_exporter import export_segmenter
    except ImportError as error:
        raise MissingExtraError("the export of a segmenter", "sam3,onnx") from error
    served = choice.text_encoder if choice.text_encoder is not None and is_served(choice.text_encoder) else None
    segmenter = choice.load(SegmentOptions())
    bundle = export_segmenter(
        segmenter,
        output,
        ["dog", "a person in a red coat"],
        target=target,
        attention=attention,
        precision=dtype,
        text=served,
        name=Path(choice.model).name,
    )
    first = f"{output}: {_megabytes(output)}; litetext segment IMAGE -p PHRASE --model {output}"
    values = bundle.to_json() | {"folder": str(output), "bytes": _bytes(output)}
    return Result(values, "\n".join([*bundle.lines(), first]))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _megabytes(folder: Path) -> str:
    return f"{_bytes(folder) / 1e6:.2f} MB"


@command(
    STAGE,
    "litetext bench micro-student",
    "litetext bench s0.safetensors --prompts prompts.txt --teacher sam3.pt -o bench",
    "litetext bench s0 --backends huggingface,onnx-int8 --baseline s0/huggingface --threads 1",
    "litetext bench exported bank.safetensors --batches 1,8 --json",
    "litetext bench --whole micro --threads 1,2 -o bench",
)
def bench(
    students: Annotated[
        list[str] | None, argument("Students, sizes, exported folders, banks.", metavar="STUDENT")
    ] = None,
    whole: Annotated[
        list[str] | None, option("Whole SAM3 model, exported or not; may be repeated.", metavar="MODEL")
    ] = None,
    teacher: Annotated[str | None, option("Measured beside them.", metavar=opt.PATH_OR_HUB)] = None,
    backends: Annotated[str | None, option("By commas. Default: all.", metavar="NAMES")] = None,
    baseline: Annotated[str | None, option("Row to compare with.", metavar="ROW")] = None,
    prompts: Annotated[list[str] | None, option("Phrases to encode; may be repeated.", metavar="SOURCE")] = None,
    output: Annotated[Path | None, option("Write bench.json and bench.md.", "-o", "--output", metavar="DIR")] = None,
    batches: Annotated[
        str | None,
        option(f"Phrases of a call, by commas. Default: {BATCHES}, as far as there are phrases.", metavar="SIZES"),
    ] = None,
    rounds: Annotated[int, option("Passes over all rows; medians are reported.")] = 3,
    seconds: Annotated[float, option("To spend on each batch size of a row in a round.")] = 1.0,
    phrases: Annotated[int, option("Phrases whose features are compared with fp32 PyTorch.")] = 1000,
    threads: Annotated[
        str | None, option("To compute with; of --whole several, by commas. Default: one for each core.", metavar="N")
    ] = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
) -> Result:
    """Measure text encoders or segmenters side by side.

    Speed, memory and exactness of each row, in fresh processes; failed rows show the reason. A size (s0, s1, l, ...) is
    a student with random weights. Backends: huggingface, torch, torch-bf16, torch-int8, onnx, onnx-int8, openvino,
    openvino-int8, bank. The default baseline is the teacher, else Hugging Face's LiteText.

    With --whole: images to features, these with 1, 8 and 32 phrases to masks, and seconds and memory of a cold
    `litetext segment`. Backends: torch, torch-eager, onnx, openvino. Default threads: one, and one for each core.
    """
    from litetext.storage import to_json, write_text

    names = None if backends is None else tuple(name.strip() for name in backends.split(","))
    if output is not None:
        check_target(output, models=[teacher, *(students or ()), *(whole or ())], sources=prompts, folder=True)
        check_ours(output / "bench.json", '"machine"')
    if whole:
        if students or teacher is not None or baseline is not None:
            raise OptionError(
                "students, --teacher or --baseline beside --whole", hint="measure them in a run of their own"
            )
        counts = None if threads is None else integers(threads, "--threads")
        report, text = _bench_whole(whole, prompts, names, counts, rounds, seconds)
    else:
        from litetext.export.benchmark import BACKENDS, BenchOptions, run_benchmark, to_markdown

        texts = read_corpus(prompts).texts
        sizes = integers(batches or BATCHES, "--batches")
        if batches is None and len(texts) < max(sizes):
            sizes = tuple(size for size in sizes if size <= len(texts)) or (1,)
            echo(f"{len(texts)} phrases: batches of {', '.join(map(str, sizes))} only", err=True)
        options = BenchOptions(
            names or BACKENDS,
            teacher,
            baseline,
            sizes,
            rounds,
            seconds,
            phrases,
            None if threads is None else integers(threads, "--threads", 1)[0],
            positions,
            context_length,
        )
        with show_progress() as progress:
            report = run_benchmark(students or [], texts, options, progress)
        text = to_markdown(report)
    if output is not None:
        for file, content in (("bench.json", to_json(report) + "\n"), ("bench.md", text)):
            write_text(output / file, content)
            echo(f"{output / file} written", err=True)
    return Result(report, text)


def _bench_whole(
    models: list[str],
    prompts: list[str] | None,
    engines: tuple[str, ...] | None,
    threads: tuple[int, ...] | None,
    rounds: int,
    seconds: float,
) -> tuple[dict[str, Any], str]:
    """Whole segmenters on a picture of the micro world, as plain values and as text."""
    from PIL import Image

    from litetext.export.benchmark_whole import ENGINES, WholeOptions, run_whole, whole_markdown
    from litetext.micro.scenes import make_scene

    options = WholeOptions(engines or ENGINES, threads, rounds, seconds)
    texts = read_corpus(prompts).texts
    texts = texts if prompts else tuple(dict.fromkeys(["swan", *texts]))  # several are in the picture
    with show_progress() as progress:
        report = run_whole(models, texts, Image.fromarray(make_scene(0).pixels), options, progress)
    return report, whole_markdown(report)
