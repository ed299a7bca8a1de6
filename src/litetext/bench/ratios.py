"""The ratios that the benchmark is for: each within a round, so that a slow one slows both sides, then the median."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from litetext.bench.report import Result
from litetext.bench.rows import TEACHER, Group

# What still counts as the same features: the mean and the least cosine at valid tokens.
SAME_MEAN, SAME_LEAST = 0.999, 0.995
BEST_OF: tuple[Group, ...] = ("exact-L", "masked")
SMALL = ("pruned-onnx-int8", "masked-pruned-onnx-int8", "bank")


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


def compare_rows(results: Sequence[Result], batch: int, student: str) -> list[Ratio]:
    """Every ratio and size whose rows were measured.

    Args:
        results: of all rows.
        batch: phrases of a call where throughput is compared.
        student: what it is called.
    """
    rows = _Measured({one.row.name: one for one in results if one.reason is None}, batch, student)
    return [*rows.speeds(), *rows.latencies(), *rows.sizes()]


def faithful(result: Result) -> bool:
    """Whether its features are those of fp32 PyTorch, as far as they were compared."""
    cosine = result.cosine
    return cosine is None or (cosine["mean"] >= SAME_MEAN and cosine["least"] >= SAME_LEAST)


Get = Callable[[Result], list[float]]  # a figure of each round


@dataclass(frozen=True)
class _Measured:
    """The rows that were measured, by name; the batch size that is compared; the student's name."""

    rows: dict[str, Result]
    batch: int
    student: str

    def speeds(self) -> Iterator[Ratio]:
        """Of throughput."""
        for title, best in (*self._bests(self._rates), ("bank", self.rows.get("bank"))):
            for name, base in self._bases():
                yield from _ratio(f"{title} / {name}, batch {self.batch}", best, base, self._rates)
        for title, above, below in (
            (f"Hugging Face {self.student} / teacher fp32", "huggingface", TEACHER),
            (f"folded {self.student} / unfolded, PyTorch", "folded", "torch"),
            (f"masked {self.student} / attended, PyTorch", "masked-folded", "folded"),
        ):
            pair = self.rows.get(above), self.rows.get(below)
            yield from _ratio(f"{title}, batch {self.batch}", *pair, self._rates)

    def latencies(self) -> Iterator[Ratio]:
        """Of the time of one phrase with one thread."""
        for title, best in self._bests(lambda one: [1 / time for time in one.alone()]):
            for name, base in self._bases():
                yield from _ratio(f"one phrase, one thread: time of {name} / {title}", base, best, Result.alone)

    def sizes(self) -> Iterator[Ratio]:
        """Memory of the rows that matter for it: how much, and how much less than the teacher."""
        teacher = self.rows.get(TEACHER)
        for name in ("huggingface", *SMALL):
            result = self.rows.get(name)
            yield from _ratio(f"resident memory: teacher fp32 / {name}", teacher, result, _resident)
            yield from _ratio(f"on disk: teacher fp32 / {name}", teacher, result, _on_disk)
        for name in (TEACHER, "huggingface", *SMALL):
            if (result := self.rows.get(name)) is not None:
                loaded, used = ("resident memory after load", _loaded), ("resident memory", _resident)
                for title, get in (loaded, used, ("on disk", _on_disk)):
                    yield from _size(f"{title}: {name}", result, get(result))

    def _rates(self, result: Result) -> list[float]:
        return result.rates(self.batch)

    def _bases(self) -> tuple[tuple[str, Result | None], ...]:
        """What everything is compared with."""
        names = ((f"Hugging Face {self.student}", "huggingface"), ("teacher fp32", TEACHER))
        return tuple((title, self.rows.get(name)) for title, name in names)

    def _bests(self, get: Get) -> Iterator[tuple[str, Result]]:
        """The fastest row that reads padding and the fastest that masks it, of those that give the same features."""
        for group in BEST_OF:
            fit = [one for one in self.rows.values() if one.row.group == group and faithful(one) and get(one)]
            if fit:
                best = max(fit, key=lambda one: median(get(one)))
                yield f"best {'masked' if best.length is None else f'exact-L{best.length}'} {self.student}", best


def _loaded(result: Result) -> list[float]:
    """MB of resident memory after loading, the median; nothing where the system does not say it."""
    size = result.resident("load")
    return [] if size is None else [size]


def _resident(result: Result) -> list[float]:
    """MB after the first phrase, the median; nothing where the system does not say it, or it is below a page."""
    size = result.resident("first")
    return [size] if size else []


def _on_disk(result: Result) -> list[float]:
    return [] if result.bytes is None else [result.bytes / 1e6]


def _ratio(name: str, above: Result | None, below: Result | None, get: Get) -> Iterator[Ratio]:
    if above is None or below is None:
        return
    rounds = tuple(one / other for one, other in zip(get(above), get(below), strict=False))
    if rounds:
        yield Ratio(name, median(rounds), "x", (above.row.name, below.row.name), rounds)


def _size(name: str, result: Result, sizes: Sequence[float]) -> Iterator[Ratio]:
    if sizes:
        yield Ratio(name, median(sizes), "MB", (result.row.name,), tuple(sizes))
