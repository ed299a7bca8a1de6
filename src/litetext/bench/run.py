"""A run of the benchmark: make the files, then measure row after row in fresh processes, round after round."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from litetext.bench.exactness import kept_texts
from litetext.bench.jobs import Job, JobError, run_job
from litetext.bench.machine import describe_machine, usable_cores
from litetext.bench.ratios import Ratio, compare_rows
from litetext.bench.report import Found, Result
from litetext.bench.rows import TEACHER, Row
from litetext.bench.work import Work
from litetext.errors import LiteTextError, OptionError

TEACHER_PHRASES = 64  # compared of a teacher, which is slow
COMPARED = 32  # phrases of a call, in the ratios

Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class BenchOptions:
    """How to measure.

    Attributes:
        rounds: passes over all rows; the medians are reported.
        seconds: to spend on each batch size of a row in a round.
        batches: phrases of a call, 1 among them, which the latencies are of.
        phrases: whose features are compared with the reference's.
        threads: to compute with; None for all cores that this process may use.

    Raises:
        OptionError: a value makes no sense.
    """

    rounds: int = 3
    seconds: float = 2.0
    batches: tuple[int, ...] = (1, 8, 32, 128)
    phrases: int = 5000
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check each value."""
        if self.rounds < 1 or self.phrases < 1 or not self.seconds > 0:
            raise OptionError(
                f"{self.rounds} rounds of {self.seconds} seconds, {self.phrases} phrases compared",
                hint="give at least 1 of each",
            )
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"{self.threads} threads", hint="give at least 1")
        if 1 not in self.batches or min(self.batches) < 1:
            sizes = ", ".join(map(str, self.batches))
            raise OptionError(f"batches of {sizes} phrases", hint="give positive numbers, and 1 among them")

    @property
    def compared(self) -> int:
        """The batch size of the ratios: 32, or the largest where that is not measured."""
        return COMPARED if COMPARED in self.batches else max(self.batches)


QUICK = BenchOptions(rounds=1, seconds=0.5, phrases=200)  # for a first look, or a slow device


@dataclass(frozen=True)
class BenchReport:
    """What a run found.

    Attributes:
        machine: as `describe_machine` has it, with the threads and the speed of matrix products in GFLOP/s.
        prompts: where they are from, and how many.
        options: how it was measured.
        results: one for each row, in the order of the table.
        ratios: between them.
    """

    machine: dict[str, Any]
    prompts: dict[str, Any]
    options: BenchOptions
    results: tuple[Result, ...]
    ratios: tuple[Ratio, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "machine": self.machine,
            "prompts": self.prompts,
            "options": vars(self.options) | {"compared": self.options.compared},
            "rows": [result.to_json(self.machine["gflops"]) for result in self.results],
            "ratios": [ratio.to_json() for ratio in self.ratios],
        }


def run_bench(work: Work, rows: Sequence[Row], options: BenchOptions, tell: Tell = lambda *_: None) -> BenchReport:
    """Measure rows side by side; one that cannot be measured has a reason instead of figures.

    Args:
        work: the folder, in which a run has begun.
        rows: what to measure.
        options: how.
        tell: called with a stage and the share of it that is done.

    Raises:
        LiteTextError: not one row could be measured; the reason of the first is said.
        OptionError: fewer distinct phrases than the largest batch has.
    """
    count = len(work.texts())
    if count < max(options.batches):
        raise OptionError(
            f"{count} distinct phrases for batches of {max(options.batches)}",
            hint="give more, or no source: the bundled corpus has enough",
        )
    options = replace(options, threads=options.threads or usable_cores())
    machine = describe_machine()  # its load is that before the run
    results = _prepare(work, rows, tell)
    _check_some(results)
    _check_some([result for result in results if result.row.group != "teacher"])
    _keep_references(work, results, options, tell)
    results, peaks = _measure(work, results, options, tell)
    _check_some(results)
    speeds = {name: peaks[0][name] and median(peak[name] for peak in peaks) for name in ("fp32", "bf16")}
    return BenchReport(
        machine=machine | {"threads": options.threads, "gflops": speeds | {"by": peaks[0]["by"]}},
        prompts={"source": work.inputs().prompts, "count": count},
        options=options,
        results=tuple(results),
        ratios=tuple(compare_rows(results, options.compared, work.inputs().student_name)),
    )


def _prepare(work: Work, rows: Sequence[Row], tell: Tell) -> list[Result]:
    """Make the files of all rows."""
    student = work.inputs().student_name
    results = []
    for number, row in enumerate(rows):
        result = Result(row, row.title.replace("{student}", student))
        try:
            facts = run_job(Job("prepare", str(work.folder), row.name))
            results.append(replace(result, **facts))
        except JobError as failure:
            results.append(replace(result, reason=str(failure)))
        tell("making files", (number + 1) / len(rows))
    return results


def _keep_references(work: Work, results: Sequence[Result], options: BenchOptions, tell: Tell) -> None:
    """Keep the features of the rows that others are compared with, wherever these are to be had."""
    wanted = {result.row.reference for result in results if result.reason is None and result.row.reference is not None}
    for number, name in enumerate(sorted(wanted)):
        phrases = min(_compared(name, options), len(work.texts()))
        if kept_texts(work.reference(name)) < phrases:
            job = Job("prepare", str(work.folder), name)
            with suppress(JobError):  # then nothing is compared, or what another run kept
                run_job(job)
                run_job(replace(job, kind="reference", threads=_threads(options), phrases=phrases))
        tell("reference features", (number + 1) / len(wanted))


def _measure(work: Work, results: list[Result], options: BenchOptions, tell: Tell) -> tuple[list[Result], list[Found]]:
    """Every row once a round, with all threads and with one, and the speed of matrix products before."""
    peaks = []
    for number in range(options.rounds):
        peaks.append(run_job(Job("peak", str(work.folder), threads=_threads(options))))
        for place, result in enumerate(results):
            if result.reason is None:
                together, alone = _jobs(work, result.row, options, number)
                try:
                    results[place] = replace(result, rounds=(*result.rounds, (run_job(together), run_job(alone))))
                except JobError as failure:
                    results[place] = replace(result, reason=str(failure))
            tell("measuring", (number + (place + 1) / len(results)) / options.rounds)
    return results, peaks


def _check_some(results: Sequence[Result]) -> None:
    """Raise a `LiteTextError` if there are results, and none of them has figures: the reason is the user's mistake."""
    if results and all(result.reason is not None for result in results):
        raise LiteTextError(f"no row can be measured: {results[0].reason}", where=f"the row {results[0].row.name}")


def _jobs(work: Work, row: Row, options: BenchOptions, number: int) -> tuple[Job, Job]:
    """What is measured of a row in one round: with all threads, then single phrases with one."""
    job = Job(
        kind="measure",
        folder=str(work.folder),
        row=row.name,
        threads=_threads(options),
        batches=options.batches,
        seconds=options.seconds,
        seed=number,
        phrases=_compared(row.reference, options) if number == 0 else 0,
    )
    return job, replace(job, threads=1, batches=(1,), phrases=0)


def _threads(options: BenchOptions) -> int:
    return options.threads or usable_cores()


def _compared(reference: str | None, options: BenchOptions) -> int:
    """How many phrases are compared with a reference."""
    return min(options.phrases, TEACHER_PHRASES) if reference == TEACHER else options.phrases
