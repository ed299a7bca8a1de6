"""Encoders: `litetext embed`, `bank`, `inspect` and `convert`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import argument, open_encoder, option, read_corpus
from litetext.cli._output import check_target, echo, failed_rows, show_progress
from litetext.errors import EncoderError, OptionError

if TYPE_CHECKING:
    from litetext.features.protocol import TextEncoder
    from litetext.features.store import FeatureStore

STAGE = "Encoders"


@command(
    STAGE,
    "litetext embed prompts.txt -o features --teacher sam3.pt",
    "litetext embed 'data/*.json' more.csv -o features --teacher facebook/sam3 --store-dtype bf16 --json",
    "litetext embed -o features --teacher s0.pt --positions slice --context-length 16",
)
def embed(
    output: Annotated[Path, option("Folder; an existing cache is extended.", "-o", "--output", metavar="CACHE")],
    teacher: Annotated[str, option("Any that `inspect` knows, or a Hugging Face text model.", metavar=opt.PATH_OR_HUB)],
    sources: opt.Sources = None,
    file_format: opt.Format = None,
    column: opt.Column = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    store_dtype: Annotated[Literal["fp16", "bf16"], option("What to store features in.")] = "fp16",
    batch_tokens: Annotated[int, option("The most tokens that the teacher reads at once.")] = 2048,
    shard_tokens: Annotated[int, option("Tokens of a shard; a crash costs at most one.")] = 16_384,
    device: opt.Device = "auto",
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> Result:
    """Compute a teacher's features of prompts into a cache.

    An interrupted run resumes automatically.
    """
    from litetext.features.embed import embed as run_embed

    check_target(output, models=[teacher], sources=sources, folder=True)
    corpus = read_corpus(sources, file_format, column)
    sizes: dict[str, Any] = {"dtype": store_dtype, "batch_tokens": batch_tokens, "shard_tokens": shard_tokens}
    if opt.check_workers(ray, workers):
        from litetext.scale.embed_jobs import embed_phrases
        from litetext.scale.jobs import connect

        start = partial(open_encoder, teacher, positions, context_length, device)
        with connect(str(ray), workers, device) as cluster, show_progress() as progress:
            store, job = embed_phrases(cluster, corpus, start, output, **sizes, progress=progress)
        done = job.report(cluster)
        return Result({**store.to_json(), "ray": done}, _embedded(store), failed_rows(done))
    encoder = open_encoder(teacher, positions, context_length, device)
    _tell_version(teacher)
    with show_progress() as progress:
        store = run_embed(corpus, encoder, output, **sizes, progress=progress)
    return Result(store.to_json(), _embedded(store))


def _embedded(store: "FeatureStore") -> str:
    size = f"{len(store):,} phrases, {store.tokens:,} tokens, {store.bytes / 1e6:,.1f} MB, {len(store.shards):,} shards"
    embedded, rate = store.report["embedded"], store.report["prompts_per_second"]
    if not embedded:
        return f"{store.name}: complete already ({size})"
    return f"{store.name}: {size}; {embedded:,} phrases embedded, {rate:,.1f} prompts/s"


@command(
    STAGE,
    "litetext bank phrases.txt -o bank.safetensors --text-encoder facebook/sam3",
    "litetext bank phrases.txt -o bank.safetensors --text-encoder micro --store-dtype int8 --json",
    "litetext bank -o bank.safetensors --features CACHE",
    "litetext segment photo.jpg -p 'white dog' --text-encoder bank.safetensors",
)
def bank(
    output: opt.OutputFile,
    sources: opt.Sources = None,
    text_encoder: Annotated[
        str | None, option("Encodes the phrases.", "--text-encoder", "--teacher", metavar=opt.PATH_OR_HUB)
    ] = None,
    features: Annotated[Path | None, option("Instead: what `litetext embed` wrote.", metavar="CACHE")] = None,
    store_dtype: Annotated[Literal["fp16", "int8"], option("What to store features in.")] = "fp16",
    file_format: opt.Format = None,
    column: opt.Column = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
) -> Result:
    """Store the features of a closed list of phrases.

    The bank is a text encoder without parameters, for --text-encoder. Made with SAM3, it keeps SAM3's own quality.
    """
    from litetext.features.bank import make_bank
    from litetext.features.store import FeatureStore, is_bank

    if (text_encoder is None) == (features is None):
        raise OptionError("features come from an encoder or a cache", hint="give either --text-encoder or --features")
    if text_encoder is not None and is_bank(text_encoder):
        raise OptionError("a bank of a bank", where=text_encoder, hint="give the encoder that it was made with")
    if features is not None and (context_length is not None or {positions, device, dtype} != {"auto"}):
        raise OptionError("options of an encoder for features that are there", hint="leave them out")
    check_target(output, models=(text_encoder, features), sources=sources)
    # A missing file of phrases is reported before an encoder is loaded.
    every = features is not None and not sources
    phrases = None if every else read_corpus(sources, file_format, column).texts
    if features is not None:
        source: TextEncoder | FeatureStore = FeatureStore.open(features)
    else:
        source = open_encoder(str(text_encoder), positions, context_length, device, dtype)
    with show_progress() as progress:
        made = make_bank(output, phrases, source, store_dtype, lambda share: progress("encoding", share))
    cosine = made.report["cosine"]
    return Result(
        made.to_json(),
        f"{made.describe()}\nread back: {made.report['checked']:,} phrases, cosine with the features as computed: mean "
        f"{cosine['mean']:.6f}, min {cosine['min']:.6f}",
    )


@command(
    STAGE, "litetext inspect sam3.pt", "litetext inspect vil-uob/sam3-litetext-s0 --json", "litetext inspect exported"
)
def inspect(
    file: Annotated[str, argument("Checkpoint, folder, hub name, bank or exported folder.", metavar="FILE")],
) -> Result:
    """Describe a checkpoint, a bank or an exported folder.

    Format, variant, position table and parameters; status 1 if something is wrong with it. FILE is a .pt or
    .safetensors file, a model folder, a name on the Hugging Face hub, a bank, or what `litetext export` wrote.
    """
    from litetext.export.bundle import is_bundle, open_bundle
    from litetext.export.segment_bundle import is_segment_bundle, open_segment_bundle
    from litetext.features.store import is_bank

    if is_bank(file):
        from litetext.features.bank import PromptBank

        bank = PromptBank.open(file)
        bank.verify()
        return Result(bank.to_json(), bank.describe())
    if is_segment_bundle(folder := Path(file)):
        segmenter = open_segment_bundle(folder)
        return Result(segmenter.to_json(), "\n".join(segmenter.lines()))
    if is_bundle(folder):
        bundle = open_bundle(folder)
        return Result(bundle.to_json(), "\n".join(bundle.lines()))
    from litetext.checkpoints.inspection import summarize_checkpoint, summary_lines

    summary = summarize_checkpoint(file)
    error = EncoderError(summary["faults"], where=file) if summary["faults"] else None
    return Result(summary, "\n".join(summary_lines(summary)), error)


@command(
    STAGE,
    "litetext convert efficient_sam3_image_encoder_mobileclip_s0_ctx16.pt -o s0.safetensors --to litetext",
    "litetext convert s0.safetensors -o s0-transformers --to huggingface",
    "litetext convert sam3.pt -o sam3 --host",
)
def convert(
    file: Annotated[str, argument("What `litetext inspect` takes.", metavar="FILE")],
    output: opt.OutputFile,
    to: Annotated[Literal["litetext", "upstream", "huggingface"] | None, option("Format.")] = None,
    host: Annotated[bool, option("Instead: Meta's whole SAM3 as a folder of transformers.", "--host")] = False,
    heads: Annotated[int | None, option("Attention heads, where the sizes are of no released encoder.")] = None,
) -> Result:
    """Write a text encoder, or all of SAM3, in another format.

    Numbers stay bit for bit, the position table is not resized. For huggingface the output is a folder, or a file that
    ends in .safetensors.
    With --host, sam3.pt of Meta becomes a folder for --model, its tracker included; of SAM 3.1 the detector.
    """
    if host == (to is not None):
        raise OptionError("what is to be written?", hint="give --to FORMAT for the text encoder, or --host")
    if host:
        return _convert_host(file, output, heads)
    from litetext.checkpoints.writer import convert_checkpoint

    check_target(output, models=[file], folder=to == "huggingface" and output.suffix != ".safetensors")
    done = convert_checkpoint(file, output, str(to), heads=heads)
    _tell_version(file)
    return Result(
        done,
        "{target}: {target_format}, {variant}, {tensors} tensors, {rows} position rows".format_map(done)
        + (f", of SAM {done['sam']}" if done["sam"] else ""),
    )


def _convert_host(file: str, output: Path, heads: int | None) -> Result:
    from litetext.checkpoints.meta_host import convert_host

    check_target(output, models=[file], folder=True)
    with show_progress() as progress:
        done = convert_host(file, output, heads=heads, progress=lambda share: progress("writing", share))
    lines = [f"{output}: {done['model']}, {done['tensors']:,} tensors, {done['parameters']:,} numbers, bit for bit"]
    lines += [f"left out: {count} tensors ({reason})" for reason, count in done["left_out"].items()]
    lines += [f"zeros: {done['zeros']} tensors of a level that is computed and not used"] if done["zeros"] else []
    return Result(done, "\n".join([*lines, f"use it with --model {output}"]))


def _tell_version(spec: str) -> None:
    """Tell which SAM was guessed, if any: a student of one does not fit the other."""
    from litetext.checkpoints.inspection import guessed_version

    if line := guessed_version(spec):
        echo(line, err=True)
