"""The ratios that the benchmark is for: each within a round, so that a slow one slows both sides, then the median."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from litetext.bench.report import Result
from litetext.bench.rows import Group

# What still counts as the same features: the mean and the least cosine at valid tokens.
SAME_MEAN, SAME_LEAST = 0.999, 0.995


@dataclass(frozen=True)
class Ratio:
    """A figure that compares rows.

    Attributes:
        name: what it is.
        value: the median over the rounds.
        unit: "x" of a ratio, or "MB".
        rows: names of the row above and, in a ratio, the row below.
        rounds: the value of each round.
    """

    name: str
    value: float
    unit: str
    rows: tuple[str, ...]
    rounds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_rows(results: Sequence[Result], batch: int) -> list[Ratio]:
    """Every ratio and size whose rows were measured.

    Args:
        results: of all rows.
        batch: phrases of a call where throughput is compared.
    """
    measured = {result.row.name: result for result in results if result.reason is None}
    return [*_speeds(measured, batch), *_latencies(measured), *_sizes(measured)]


def faithful(result: Result) -> bool:
    """Whether its features are those of fp32 PyTorch, as far as they were compared."""
    cosine = result.cosine
    return cosine is None or (cosine["mean"] >= SAME_MEAN and cosine["least"] >= SAME_LEAST)


def _speeds(measured: dict[str, Result], batch: int) -> Iterator[Ratio]:
    """Of throughput in batches of one size."""

    def rates(result: Result) -> list[float]:
        return result.rates(batch)

    exact = _best(measured, "exact-L", rates)
    bests = {
        _exact_name(exact): exact,
        "best masked": _best(measured, "masked", rates),
        "bank": measured.get("bank"),
    }
    for title, best in bests.items():
        for name, base in (("Hugging Face", "huggingface"), ("teacher fp32", "teacher-fp32")):
            yield from _ratio(f"{title} / {name}, batch {batch}", best, measured.get(base), rates)
    for above, below, name in (
        ("huggingface", "teacher-fp32", "Hugging Face / teacher fp32"),
        ("folded", "torch", "folded / unfolded, PyTorch"),
        ("masked-folded", "folded", "masked / attended, PyTorch"),
    ):
        yield from _ratio(f"{name}, batch {batch}", measured.get(above), measured.get(below), rates)


def _latencies(measured: dict[str, Result]) -> Iterator[Ratio]:
    """Of the time of one phrase with one thread."""

    def speed(result: Result) -> list[float]:
        return [1 / milliseconds for milliseconds in result.alone()]

    base = measured.get("huggingface")
    exact, masked = _best(measured, "exact-L", speed), _best(measured, "masked", speed)
    for name, best in ((_exact_name(exact), exact), ("best masked", masked)):
        yield from _ratio(f"one phrase, one thread: time of Hugging Face / {name}", base, best, Result.alone)


def _sizes(measured: dict[str, Result]) -> Iterator[Ratio]:
    """Memory, which is no ratio, of the rows whose memory matters."""
    for name in ("teacher-fp32", "huggingface", "pruned-onnx-int8", "masked-pruned-onnx-int8", "bank"):
        result = measured.get(name)
        if result is None:
            continue
        sizes = {"after load": result.resident("load"), "after the first phrase": result.resident("first")}
        for when, size in sizes.items():
            if size is not None:
                yield Ratio(f"resident memory of {name} {when}", size, "MB", (name,), (size,))
        if result.bytes is not None:
            size = result.bytes / 1e6
            yield Ratio(f"{name} on disk", size, "MB", (name,), (size,))


def _exact_name(best: Result | None) -> str:
    return "" if best is None else f"best exact-L{best.length}"


def _best(measured: dict[str, Result], group: Group, rates: Callable[[Result], list[float]]) -> Result | None:
    """The fastest row of a group that gives the same features."""
    fit = [result for result in measured.values() if result.row.group == group and faithful(result) and rates(result)]
    return max(fit, key=lambda result: median(rates(result)), default=None)


def _ratio(
    name: str, above: Result | None, below: Result | None, get: Callable[[Result], list[float]]
) -> Iterator[Ratio]:
    if above is None or below is None:
        return
    rounds = tuple(one / other for one, other in zip(get(above), get(below), strict=False))
    if rounds:
        yield Ratio(name, median(rounds), "x", (above.row.name, below.row.name), rounds)
