"""Text encoders side by side on this machine's processor: speed, memory and exactness, measured in fresh processes."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

from litetext.device import describe_machine, usable_cores
from litetext.errors import LiteTextError, OptionError
from litetext.export.benchmark_jobs import COMPARED, SERVED, TEACHER, Figures, Row, run_job

Progress = Callable[[str, float], None]

BACKENDS = (
    "huggingface", "torch", "torch-bf16", "torch-int8", "onnx", "onnx-int8", "openvino", "openvino-int8", "bank",
)  # fmt: skip


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how; an `OptionError` where a value makes no sense."""

    backends: tuple[str, ...] = BACKENDS  # of every student that is a checkpoint
    teacher: str | None = None  # a checkpoint of SAM3's text encoder
    baseline: str | None = None  # row that ratios are of; None: the teacher, else Hugging Face's, else the first
    batches: tuple[int, ...] = (1, 8, 32, 128)  # phrases of a call; 1, of which latencies are, is always among them
    rounds: int = 3  # passes over all rows; medians are reported
    seconds: float = 1.0  # to spend on each batch size of a row in a round
    phrases: int = 1000  # whose features are compared with those of fp32 PyTorch
    threads: int | None = None  # None: all cores that this process may use
    positions: Literal["auto", "slice", "interpolate", "keep"] = "auto"  # as `load_encoder` takes it
    context_length: int | None = None  # None: as many tokens as the position table has rows

    def __post_init__(self) -> None:
        for name in ("rounds", "phrases", "threads", "seconds"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise OptionError(f"{value} {name}", hint="give more than 0")
        if not self.batches or min(self.batches) < 1:
            raise OptionError(f"batches of {', '.join(map(str, self.batches))} phrases", hint="give positive numbers")
        if unknown := set(self.backends) - set(BACKENDS):
            raise OptionError(f"no backend is called '{min(unknown)}'", hint=f"there are {', '.join(BACKENDS)}")
        object.__setattr__(self, "batches", tuple(sorted({1, *self.batches})))


def run_benchmark(
    sources: Sequence[str], texts: Sequence[str], options: BenchOptions, progress: Progress = lambda *_: None
) -> Figures:
    """Measure encoders side by side; a row that cannot be measured has a reason instead of figures.

    Args:
        sources: students as `load_encoder` takes them, sizes such as "s0" (random weights), exported folders and banks.
        texts: distinct phrases, at least as many as the largest batch has.
        options: what to measure, and how.
        progress: called with a stage and the share done, 0..1.

    Returns:
        ``machine``, ``options``, ``baseline``, ``compared`` (the batch size of the ratios) and ``rows``: plain values.
    """
    if len(texts) < max(options.batches):
        raise OptionError(f"{len(texts)} distinct phrases for batches of {max(options.batches)}", hint="give more")
    options = replace(options, threads=options.threads or usable_cores())
    machine = describe_machine()  # its load is that before the run
    with TemporaryDirectory(prefix="litetext-bench-") as folder:
        rows = _plan(sources, options, folder)
        if options.baseline not in {None, *(names := [row.name for row in rows])}:
            raise OptionError(f"no row is called '{options.baseline}'", hint=f"there are {', '.join(names)}")
        order = random.Random(0).sample(list(texts), len(texts))  # noqa: S311 - nothing is secret
        Path(folder, "prompts.json").write_text(json.dumps(order), encoding="utf-8")
        results = _prepare_all(rows, options, progress)
        _measure_all(results, options, progress)
    report = [_summarize(row, result) for row, result in results.items()]
    measured = [figures for figures in report if figures["reason"] is None]
    if not measured:
        raise LiteTextError(f"no row can be measured: {report[0]['reason']}", where=report[0]["name"])
    ranked = min(measured, key=lambda each: (each["backend"] != TEACHER, each["backend"] != "huggingface"))
    base = next((figures for figures in report if figures["name"] == options.baseline), ranked)
    compared = str(COMPARED if COMPARED in options.batches else max(options.batches))
    for figures in report:
        figures["ratios"] = _ratios(figures, base, compared)
    settings = {"machine": machine, "options": asdict(options), "baseline": base["name"], "compared": compared}
    return settings | {"rows": report}


def _plan(sources: Sequence[str], options: BenchOptions, folder: str) -> list[Row]:
    """The rows of the table, the teacher first."""
    from litetext.export.runtime import is_served

    if not sources and options.teacher is None:
        raise OptionError("nothing to measure", hint="give a student, an exported folder or a bank")
    rows = [] if options.teacher is None else [Row(TEACHER, options.teacher, TEACHER, f"{folder}/{TEACHER}")]
    stems = [Path(source).stem for source in sources]
    for number, (source, stem) in enumerate(zip(sources, stems, strict=True)):
        name = stem if stems.count(stem) == 1 else source
        if is_served(source):
            rows.append(Row(name, source, SERVED, f"{folder}/{number}", str(Path(source).resolve())))
        else:
            rows += [Row(f"{name}/{backend}", source, backend, f"{folder}/{number}") for backend in options.backends]
    return rows


def _prepare_all(rows: Sequence[Row], options: BenchOptions, progress: Progress) -> dict[Row, Figures]:
    """Make the files of each source in one process: of each row its file and FLOPs, or why it cannot be measured."""
    made: dict[str, Figures] = {}
    sources = list(dict.fromkeys((row.folder, row.source) for row in rows if not row.path))
    for number, (folder, source) in enumerate(sources):
        backends = [row.backend for row in rows if row.folder == folder]
        job = {"kind": "prepare", "folder": folder, "source": source, "backends": backends, "phrases": options.phrases}
        try:
            read = {"positions": options.positions, "context_length": options.context_length}
            files = run_job(job | read, options.threads)
        except LiteTextError as error:
            files = {backend: {"reason": str(error)} for backend in backends}
        made[folder] = files
        progress("making files", (number + 1) / len(sources))
    results: dict[Row, Figures] = {}
    for row in rows:
        result: Figures = {"path": row.path, "flops": None} if row.path else made[row.folder][row.backend]
        results[row._replace(path=result.pop("path", ""))] = result
    return results


def _measure_all(results: dict[Row, Figures], options: BenchOptions, progress: Progress) -> None:
    """Every row once a round: with all threads, then single phrases with one thread."""
    for number in range(options.rounds):
        for place, (row, result) in enumerate(results.items()):
            if "reason" not in result:
                job = {"kind": "measure", "row": row, "seconds": options.seconds, "seed": number}
                together = job | {"batches": options.batches, "phrases": 0 if number else options.phrases}
                alone = job | {"batches": [1], "phrases": 0}
                try:
                    pair = run_job(together, options.threads), run_job(alone, 1)
                    result.setdefault("rounds", []).append(pair)
                except LiteTextError as error:
                    result["reason"] = str(error)
            progress("measuring", (number + (place + 1) / len(results)) / options.rounds)


def _summarize(row: Row, result: Figures) -> Figures:
    """The figures of a row: medians over its rounds, and what ratios are computed from."""
    named: Figures = {"name": row.name, "source": row.source, "backend": row.backend, "reason": result.get("reason")}
    if named["reason"] is not None:
        return named
    together, alone = zip(*result["rounds"], strict=True)
    figures: Figures = named | middle(together) | {"cosine": together[0]["cosine"]}
    figures["one_thread"] = middle([each["batches"]["1"] for each in alone])
    flops = result["flops"]
    figures["gflop_per_prompt"] = flops and flops / 1e9
    for speed in figures["batches"].values():
        speed["gflops"] = flops and flops * speed["prompts_per_second"] / 1e9
    rates = [{size: each["batches"][size]["prompts_per_second"] for size in each["batches"]} for each in together]
    times = [each["batches"]["1"]["p50_ms"] for each in alone]
    return figures | {"rounds": [rate | {"one_thread_ms": ms} for rate, ms in zip(rates, times, strict=True)]}


def middle(rounds: Sequence[Any]) -> Any:
    """The median of each number in objects of the same shape; what is no number is the first one's."""
    first = rounds[0]
    if isinstance(first, dict):
        return {name: middle([each[name] for each in rounds]) for name in first}
    return median(rounds) if isinstance(first, float) else first


def _ratios(figures: Figures, baseline: Figures, compared: str) -> Figures:
    """How many times better than the baseline: of speeds the median of the ratios within the rounds."""
    if figures["reason"] is not None or baseline["reason"] is not None:
        return {}
    rounds = list(zip(figures["rounds"], baseline["rounds"], strict=False))
    faster = [mine[compared] / base[compared] for mine, base in rounds if compared in mine and compared in base]
    resident, theirs = (each["resident_mb"]["first"] for each in (figures, baseline))
    return {
        "throughput": median(faster) if faster else None,
        "latency": median(base["one_thread_ms"] / mine["one_thread_ms"] for mine, base in rounds),
        "resident": theirs / resident if theirs and resident and resident > 0 else None,
        "file": baseline["file_mb"] / figures["file_mb"],
    }


def to_markdown(report: Figures) -> str:
    """The report as tables: speed, memory and exactness, ratios, and what could not be measured."""
    options, compared = report["options"], report["compared"]
    tables = {
        "Speed": {f"prompts/s at {size}": f"batches/{size}/prompts_per_second" for size in options["batches"]}
        | {"one phrase, ms p50": "batches/1/p50_ms", "p99": "batches/1/p99_ms", "one thread": "one_thread/p50_ms"}
        | {f"GFLOP/s at {compared}": f"batches/{compared}/gflops"},
        "Memory": {"file MB": "file_mb", "resident MB: load": "resident_mb/load", "first phrase": "resident_mb/first"}
        | {"batches": "resident_mb/batches", "whole process": "process_mb", "load s": "load_seconds"}
        | {"imports PyTorch": "imports_torch"},
        "Cosines with fp32 PyTorch": {name: f"cosine/{name}" for name in ("mean", "p1", "min", "phrases", "skipped")},
        f"Times better than {report['baseline']}": {f"prompts/s at {compared}": "ratios/throughput"}
        | {"one phrase, one thread": "ratios/latency", "resident memory": "ratios/resident", "file": "ratios/file"},
    }
    lines = [
        "# Text encoders side by side\n",
        f"{describe(report['machine'])}; threads: {options['threads']}. Medians of {options['rounds']} rounds, each "
        "row in fresh processes.",
    ]
    for title, columns in tables.items():
        lines += [f"\n## {title}\n", *table([row for row in report["rows"] if row["reason"] is None], columns)]
    if failed := [row for row in report["rows"] if row["reason"] is not None]:
        lines += ["\n## Not measured\n", *table(failed, {"why": "reason"})]
    return "\n".join(lines) + "\n"


def describe(machine: Figures) -> str:
    """The machine in a line for people."""
    packages = ", ".join(map(" ".join, machine["packages"].items()))
    cores = f"{machine['usable_cores']} of {machine['cores']} cores"
    features = ", ".join(machine["features"])
    return f"{machine['cpu']} ({features}), {cores}, {machine['system']}, Python {machine['python']}, {packages}"


def table(rows: Sequence[Figures], columns: Mapping[str, str]) -> Iterator[str]:
    """Lines of a table whose cells are found by paths such as "batches/1/p50_ms"."""
    yield f"| row | {' | '.join(columns)} |"
    yield "| --- " * (1 + len(columns)) + "|"
    for row in rows:
        cells = [row["name"]]
        for path in columns.values():
            value: Any = row
            for key in path.split("/"):
                value = (value or {}).get(key)
            cells.append(figure(value).replace("|", "/"))
        yield f"| {' | '.join(cells)} |"


def figure(value: Any) -> str:
    """A value for people, with three digits, cosines with five places; "" for None and False."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.5f}" if 0.9 < value < 1 else f"{value:.3g}"
    return str(value or "")
