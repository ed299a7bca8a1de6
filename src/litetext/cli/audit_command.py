"""`litetext audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import argument, integers, open_encoder, option, read_corpus, tell_reading
from litetext.cli._output import check_ours, check_target, echo, failed_rows, show_progress
from litetext.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litetext.auditing.counting import CorpusCounts
    from litetext.prompts.corpus import PromptCorpus
    from litetext.sam3.segmenter import Segmenter

MICRO = "micro"  # as a model; a folder of the user's that is called so is given as ./micro


@command(
    "Prompts",
    "litetext audit",
    "litetext audit prompts.txt 'data/*.json' -o report",
    "litetext audit annotations.json.gz --json",
    "litetext audit 'table.csv:column=Prompt text,count=hits' instances_val2017.json 'refs(unc).p'",
    "cut -f1 log.tsv | litetext audit - --lengths 8,12,16",
    "litetext audit --student student.safetensors --model micro -o report",
    "litetext audit prompts.txt --student s0.safetensors --model facebook/sam3 --images photos/",
)
def audit(
    sources: Annotated[
        list[str] | None,
        argument(
            "Files, folders, globs or - for standard input: .txt .csv .tsv .json .jsonl .parquet, COCO, LVIS, "
            "SA-Co, RefCOCO .p, Hugging Face data sets; .gz and .zst too. Options of one source stand behind it: "
            "FILE:column=NAME,count=NAME,format=NAME. None: the bundled corpus.",
            metavar="SOURCE",
        ),
    ] = None,
    output: Annotated[Path | None, option("Write report.html and more there.", "-o", "--output", metavar="DIR")] = None,
    lengths: Annotated[str, option("Context lengths to report.", metavar="L,L,...")] = "8,16,32,77",
    limit: Annotated[float, option("Share of prompts that the advised context may truncate.")] = 0.01,
    file_format: opt.Format = None,
    column: opt.Column = None,
    count_column: Annotated[str | None, option("Column or field with the count.", metavar="NAME")] = None,
    embeddings: Annotated[str | None, option("Embeddings [N, D] to measure.", metavar="FILE[#NAME]")] = None,
    text_encoder: Annotated[str | None, option("Encoder to measure.", metavar=opt.PATH_OR_HUB)] = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    position_table: Annotated[str | None, option("Array [T, C], or a checkpoint.", metavar="FILE[#NAME]")] = None,
    student: Annotated[str | None, option("Follow its error through --model.", metavar=opt.PATH_OR_HUB)] = None,
    model: Annotated[str | None, option(f"With --student. {opt.MODEL_HELP}", metavar=opt.PATH_OR_HUB)] = None,
    images: Annotated[list[str] | None, option("With --student: images, folders, globs.", metavar="PATH")] = None,
    pairs: Annotated[int, option("With --student: the most (image, phrase) pairs.")] = 300,
    sample: Annotated[int, option("Distinct prompts whose features the encoder computes.")] = 5000,
    discard: Annotated[float, option("Share of the largest ratios that TwoNN leaves out.")] = 0.1,
    neighbors: Annotated[str, option("Range of neighbors that the MLE averages over.", metavar="K,K")] = "10,20",
    seed: Annotated[int, option("Seed of samples and bootstraps.")] = 0,
    device: opt.Device = "auto",
    ray: opt.Ray = None,
    workers: opt.Workers = None,
) -> Result:
    """Measure what prompts use of a text encoder.

    And say what size is enough: context length, vocabulary, rank, and whether word order matters; and which prompts
    SAM3 hardly honors: negations, places, counts and more. --text-encoder, which geometry and word order are measured
    with, is any that `inspect` knows, or another Hugging Face text model. --student follows the error of a student's
    features through --model to the attention weights and the masks, on --images that the prompts are asked of, or with
    --model micro on scenes of the micro world.
    """
    from litetext.auditing.run import audit as run_audit

    if (student is None) != (model is None):
        raise OptionError("--student and --model belong together", hint="give both, for example --model micro")
    if images and student is None:
        raise OptionError("--images without a student", hint="give --student and --model")
    contexts, ks = integers(lengths, "--lengths"), integers(neighbors, "--neighbors", count=2)
    if output is not None:
        read = [*(sources or ()), *(images or ())]
        check_target(output, models=(text_encoder, student, model), sources=read, folder=True)
        check_ours(output / "report.html", "<title>LiteText audit")
    inputs: dict[str, Any] = {"embeddings": embeddings, "positions": position_table}
    job: dict[str, Any] | None = None
    if opt.check_workers(ray, workers, output):
        asked = (sources, file_format, column, count_column, contexts)
        corpus, inputs["counts"], job = _count_on_cluster(*asked, Path(output or ""), str(ray), workers)
    else:
        corpus = read_corpus(sources, file_format, column, count_column)
    if text_encoder is not None:
        inputs["encoder"] = open_encoder(text_encoder, positions, context_length, device)
    if student is not None and model is not None:
        inputs["student"] = open_encoder(student, "auto", None, device)
        inputs["model"], inputs["images"] = _open_model(model, images, pairs, seed, device)
    with show_progress() as progress:
        report = run_audit(
            corpus,
            contexts=contexts,
            limit=limit,
            **inputs,
            pairs=pairs,
            sample=sample,
            discard=discard,
            neighbors=(ks[0], ks[1]),
            seed=seed,
            progress=progress,
        )
    from litetext.auditing.rendering import print_report, write_report

    if output is not None:
        echo(f"Report: {write_report(report, output)}", err=True)
    if job is None:
        return Result(report.to_json(), lambda: print_report(report))
    return Result({**report.to_json(), "ray": job}, lambda: print_report(report), failed_rows(job))


def _count_on_cluster(
    sources: list[str] | None,
    file_format: str | None,
    column: str | None,
    count_column: str | None,
    contexts: tuple[int, ...],
    output: Path,
    ray: str,
    workers: int | None,
) -> "tuple[PromptCorpus, CorpusCounts, dict[str, Any]]":
    """The corpus and its counts, and what the job says of itself; the parts stand in a folder of the output."""
    from litetext.prompts.readers import ReadOptions
    from litetext.scale.audit_jobs import count_prompts
    from litetext.scale.jobs import connect

    if not sources:
        raise OptionError("no sources", where="--ray", hint="give files of prompts that every node sees")
    options = ReadOptions(file_format, column, count_column)
    with connect(ray, workers) as cluster, show_progress() as progress:
        corpus, counts, job = count_prompts(
            cluster, sources, options, contexts=contexts, folder=output / "counts", progress=progress
        )
        tell_reading(corpus.read_as, corpus.warnings)
        return corpus, counts, job.report(cluster)


def _open_model(
    model: str, images: list[str] | None, pairs: int, seed: int, device: str
) -> "tuple[Segmenter, Sequence[Any]]":
    """A segmenter and what it is asked: images, or scenes of the micro world with phrases of their own."""
    from litetext.sam3.images import find_images
    from litetext.sam3.segmenter import Segmenter

    if images:
        paths = find_images(images)
        return Segmenter.from_pretrained(model, device=device), paths
    if model != MICRO:
        raise OptionError("no images to ask the prompts of", where=model, hint="give --images, or --model micro")
    from itertools import groupby

    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    segmenter = Segmenter.from_pretrained(model, device=device)
    options = SceneOptions(size=segmenter.processor.size["height"], split="test")
    scenes = [list(group) for _, group in groupby(make_pairs(seed, pairs, options), key=lambda pair: pair.picture)]
    return segmenter, [(scene[0].scene.pixels, [pair.phrase.text for pair in scene]) for scene in scenes]
