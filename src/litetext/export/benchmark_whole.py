"""Whole segmenters side by side on this machine's processor: PyTorch, ONNX Runtime and OpenVINO, warm and cold.

Warm figures are of one process for each row and round, which has the model open; cold ones are of `litetext segment`
as a user calls it. Both are fresh processes that import what they need and nothing else.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from litetext.device import describe_machine, usable_cores
from litetext.errors import EncoderError, LiteTextError, OptionError
from litetext.export.benchmark import Progress, describe, middle, table
from litetext.export.benchmark_jobs import Figures, answer_job, deal, run_job, time_batches

if TYPE_CHECKING:
    from PIL.Image import Image

    from litetext.sam3.segmenter import Segmenter

ENGINES = ("torch", "torch-eager", "onnx", "openvino")  # PyTorch's fused attention, and its plain one
DECODED = (1, 8, 32)  # phrases of an image
WARM = {"vision": "vision"} | {f"decoder_{count}": f"decoder, {count}" for count in DECODED} | {"text": "text, 1"}
COLD = {"seconds": "s", "peak_mb": "MB at most"}
MOST_TEXTS = 1000
PICTURE, PROMPTS = "scene.png", "prompts.json"


@dataclass(frozen=True)
class WholeOptions:
    """What to measure, and how; an `OptionError` where a value makes no sense."""

    engines: tuple[str, ...] = ENGINES
    threads: tuple[int, ...] | None = None  # None: one, and one for each core that this process may use
    rounds: int = 3  # passes over all rows; medians are reported
    seconds: float = 1.0  # to spend on each figure of a warm row in a round

    def __post_init__(self) -> None:
        """Check the ranges."""
        threads = (1, usable_cores()) if self.threads is None else self.threads
        if self.rounds < 1 or not self.seconds > 0 or not threads or min(threads) < 1:
            how = f"{self.rounds} rounds of {self.seconds} seconds with {', '.join(map(str, threads))} threads"
            raise OptionError(how, hint="give more than 0")
        if unknown := set(self.engines) - set(ENGINES):
            raise OptionError(f"no engine is called '{min(unknown)}'", hint=f"there are {', '.join(ENGINES)}")
        object.__setattr__(self, "threads", tuple(sorted(set(threads))))


class WholeRow(NamedTuple):
    """A line of the table."""

    name: str
    model: str  # as the user named it
    engine: str  # in `ENGINES`
    threads: int | None  # None: a cold process, which takes as many as the command does

    @property
    def in_torch(self) -> bool:
        """Whether ratios are to it."""
        return self.engine.startswith("torch")


def run_whole(
    models: Sequence[str],
    texts: Sequence[str],
    picture: "Image",
    options: WholeOptions,
    progress: Progress = lambda *_: None,
) -> Figures:
    """Measure whole segmenters side by side; a row that cannot be measured has a reason instead of figures.

    Args:
        models: exported folders, and what `Segmenter.from_pretrained` takes.
        texts: distinct phrases, 32 at least; the first is what a cold process looks for.
        picture: is segmented.
        options: what to measure, and how.
        progress: called with a stage and the share done, 0..1.

    Returns:
        ``machine``, ``options``, ``warm`` (milliseconds) and ``cold`` rows: plain values. Ratios are how many times
        better than the best row of PyTorch with as many threads.
    """
    if len(texts) < max(DECODED):
        raise OptionError(f"{len(texts)} distinct phrases for {max(DECODED)} at once", hint="give more")
    machine = describe_machine()  # its load is that before the run
    rows = _plan(models, options)
    some = random.Random(0).sample(list(texts[1:]), min(len(texts), MOST_TEXTS) - 1)  # noqa: S311 - nothing is secret
    with TemporaryDirectory(prefix="litetext-bench-") as folder:
        picture.save(Path(folder, PICTURE))
        Path(folder, PROMPTS).write_text(json.dumps([texts[0], *some]), encoding="utf-8")
        rounds, reasons = _measure_all(rows, folder, options, progress)
    if len(reasons) == len(rows):
        raise LiteTextError(f"no row can be measured: {reasons[rows[0]]}", where=rows[0].name)
    measured = {row: figures for row, figures in rounds.items() if row not in reasons}
    report = [_summarize(row, measured) | {"reason": reasons.get(row)} for row in rows]
    warm, cold = ([one for one in report if (one["threads"] is None) == is_cold] for is_cold in (False, True))
    return {"machine": machine, "options": asdict(options), "picture": list(picture.size), "warm": warm, "cold": cold}


def _plan(models: Sequence[str], options: WholeOptions) -> list[WholeRow]:
    """The rows, warm ones first; an exported folder has none in PyTorch."""
    from litetext.export.segment_bundle import is_segment_bundle

    stems = [Path(model).name for model in models]
    pairs = [
        (model if stems.count(stem) > 1 else stem, model, engine)
        for model, stem in zip(models, stems, strict=True)
        for engine in options.engines
        if not (engine.startswith("torch") and is_segment_bundle(Path(model)))
    ]
    if not pairs:
        raise OptionError("nothing to measure", hint="give a model, and engines that run it")
    warm = [
        WholeRow(f"{name}/{engine}", model, engine, count)
        for count in options.threads or ()
        for name, model, engine in pairs
    ]
    cold = [
        WholeRow(f"{name}/{engine}", model, engine, None) for name, model, engine in pairs if engine != "torch-eager"
    ]
    return [*warm, *cold]


def _measure_all(
    rows: Sequence[WholeRow], folder: str, options: WholeOptions, progress: Progress
) -> tuple[dict[WholeRow, list[Figures]], dict[WholeRow, str]]:
    """Every row once a round: the figures of each, or why it has none."""
    rounds: dict[WholeRow, list[Figures]] = {row: [] for row in rows}
    reasons: dict[WholeRow, str] = {}
    for number in range(options.rounds):
        for place, row in enumerate(rows):
            if row not in reasons:
                job = {"row": row, "folder": folder, "seconds": options.seconds, "seed": number}
                try:
                    rounds[row].append(run_job(job, row.threads or usable_cores(), __name__))
                except LiteTextError as error:
                    reasons[row] = str(error)
            progress("measuring", (number + (place + 1) / len(rows)) / options.rounds)
    return rounds, reasons


def measure(job: Figures) -> Figures:
    """The figures of a row in a round."""
    row, folder = WholeRow(*job["row"]), Path(job["folder"])
    texts: list[str] = json.loads((folder / PROMPTS).read_bytes())
    if row.threads is None:
        return measure_cold(row, folder, texts[0])
    segmenter = open_whole(row.model, row.engine, row.threads)
    return measure_warm(segmenter, folder / PICTURE, texts, job["seconds"], job["seed"])


def open_whole(model: str, engine: str, threads: int) -> "Segmenter":
    """A segmenter in one of `ENGINES`; PyTorch takes as many threads as its environment says."""
    from litetext.sam3.segmenter import Segmenter

    if not engine.startswith("torch"):
        from litetext.export.segment_runtime import open_segmenter

        return Segmenter(open_segmenter(model, engine, threads))
    segmenter = Segmenter.from_pretrained(model, device="cpu")
    if engine == "torch-eager":
        segmenter.host.set_attn_implementation("eager")
    return segmenter


def measure_warm(
    segmenter: "Segmenter", picture: Path, texts: Sequence[str], seconds: float, seed: int
) -> dict[str, float]:
    """Milliseconds, medians: from an image to its features, from these to candidates for masks, and of a text.

    Phrases go through the decoder in batches, as the segmenter makes them.
    """
    from litetext.features.encode import valid_rows
    from litetext.sam3.images import read_image

    image, step = read_image(picture), segmenter.options.prompt_batch
    embedding, rows = segmenter.embed(image), segmenter.rows(texts[: max(DECODED)])
    engine, encoder = segmenter.engine, segmenter.encoder

    def decode(count: int) -> Callable[[Sequence[str]], Any]:
        batches = [rows[start : min(start + step, count)] for start in range(0, count, step)]
        return lambda _: [engine.run(embedding, batch) for batch in batches]

    actions: dict[str, Callable[[Sequence[str]], Any]] = {"vision": lambda _: engine.embed(image)}
    actions |= {f"decoder_{count}": decode(count) for count in DECODED}
    actions["text"] = lambda batch: valid_rows(encoder, batch)
    singles = deal(texts, (1,), seed)[0]  # no phrase again before all others: none is remembered
    return {name: time_batches(action, singles, seconds)["p50_ms"] for name, action in actions.items()}


def measure_cold(row: WholeRow, folder: Path, phrase: str) -> Figures:
    """Seconds and peak resident megabytes of `litetext segment` with overlay and annotations written.

    It has to be the only child of this process, whose children's peak is what the system tells.
    """
    with TemporaryDirectory(dir=folder) as output:
        names = ["--model", row.model, "--engine", row.engine, "-o", output]
        command = [sys.executable, "-m", "litetext", "segment", str(folder / PICTURE), "-p", phrase, *names]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
        seconds = time.perf_counter() - start
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise EncoderError(lines[-1].removeprefix("error: "))
    return {"seconds": seconds, "peak_mb": _peak_of_children()}


def _peak_of_children() -> float | None:
    """Megabytes that the largest of this process's children had resident at most; None where no system says it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6


def _summarize(row: WholeRow, measured: Mapping[WholeRow, Sequence[Figures]]) -> Figures:
    """A row of the report: medians over the rounds, and of the ratios within a round."""
    if row not in measured:
        return row._asdict()
    mine = measured[row]
    others = [rounds for one, rounds in measured.items() if one.in_torch and one.threads == row.threads]
    ratios = {
        name: median(
            min(one[name] for one in together) / figures[name] for *together, figures in zip(*others, mine, strict=True)
        )
        for name in mine[0]
        if others and mine[0][name]
    }
    return row._asdict() | {"figures": middle(mine), "ratios": ratios, "rounds": list(mine)}


def whole_markdown(report: Figures) -> str:
    """The report as tables: warm and cold, each with its ratios to PyTorch, and what could not be measured."""
    rounds, (width, height) = report["options"]["rounds"], report["picture"]
    lines = [
        "# Whole segmenters side by side\n",
        f"{describe(report['machine'])}. A picture of {width} x {height}. Medians of {rounds} rounds, each row in "
        "fresh processes.",
    ]
    warm, cold = ([_titled(row) for row in report[kind]] for kind in ("warm", "cold"))
    for title, rows, names in (("Warm, ms", warm, WARM), ("A cold `litetext segment`", cold, COLD)):
        lines += [f"\n## {title}\n", *_measured(rows, "figures", names)]
        if any(row.get("ratios") for row in rows):
            lines += ["\nTimes better than PyTorch at its best:\n", *_measured(rows, "ratios", names)]
    if failed := [row for row in (*warm, *cold) if row["reason"] is not None]:
        lines += ["\n## Not measured\n", *table(failed, {"why": "reason"})]
    return "\n".join(lines) + "\n"


def _titled(row: Figures) -> Figures:
    """A row with its threads in its name, and with figures below 1 in three digits: no cosines are among them."""
    threads = {None: "cold", 1: "1 thread"}.get(row["threads"], f"{row['threads']} threads")
    short = {
        kind: {name: f"{value:.3g}" if value and value < 1 else value for name, value in row[kind].items()}
        for kind in ("figures", "ratios")
        if kind in row
    }
    return row | short | {"name": f"{row['name']}, {threads}"}


def _measured(rows: Sequence[Figures], kind: str, names: Mapping[str, str]) -> Iterator[str]:
    columns = {title: f"{kind}/{name}" for name, title in names.items()}
    return table([row for row in rows if row["reason"] is None], columns)


if __name__ == "__main__":
    answer_job(measure)
