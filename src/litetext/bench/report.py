"""What a run of the benchmark found: a result for each row, medians over its rounds, and ratios within rounds."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from litetext.bench.rows import Row

Found = dict[str, Any]  # what a worker says, see `litetext.bench.worker`


@dataclass(frozen=True)
class Result:
    """What was found of a row.

    Attributes:
        row: which.
        title: its name for people, the student's in it.
        weights: what they are: a file, or random.
        reason: why there are no figures; None where there are.
        bytes: of its file or folder.
        length: tokens that are computed of every prompt, padding included; None where only the valid ones are.
        flops: operations of a prompt; None where nothing is computed.
        rounds: one for each round: with all threads, and of single phrases with one thread.
    """

    row: Row
    title: str
    weights: str = ""
    reason: str | None = None
    bytes: int | None = None
    length: int | None = None
    flops: float | None = None
    rounds: tuple[tuple[Found, Found], ...] = ()

    def rates(self, batch: int) -> list[float]:
        """Phrases a second of each round, in batches of this size; empty where it was not measured."""
        speeds = [_speed(together, batch) for together, _ in self.rounds]
        return [speed["rate"] for speed in speeds if speed is not None]

    def alone(self, quantile: str = "p50_ms") -> list[float]:
        """Milliseconds of one phrase with one thread, of each round."""
        return [alone["speeds"][0][quantile] for _, alone in self.rounds]

    @property
    def cosine(self) -> Found | None:
        """How its features compare with the reference's; found in the first round."""
        return self.rounds[0][0]["cosine"] if self.rounds else None

    def middle(self, get: Callable[[Found], float | None]) -> float | None:
        """The median over the rounds of a figure with all threads; None where it is not known."""
        values = [value for together, _ in self.rounds if (value := get(together)) is not None]
        return median(values) if values else None

    def resident(self, when: str) -> float | None:
        """MB of resident memory since the imports: after "load", the "first" phrase, or the "batches"."""
        size = self.middle(lambda found: found["resident"][when])
        return None if size is None else size / 1e6

    def to_json(self, peak: dict[str, Any]) -> Found:
        """Plain values.

        Args:
            peak: GFLOP/s of matrix products by precision.
        """
        named = {
            "name": self.row.name,
            "title": self.title,
            "group": self.row.group,
            "precision": self.row.precision,
            "weights": self.weights,
            "reason": self.reason,
        }
        return named if self.reason is not None else named | self._figures(peak)

    def batches(self) -> list[int]:
        """The sizes that were measured."""
        return [speed["batch"] for speed in self.rounds[0][0]["speeds"]] if self.rounds else []

    def reached(self, batch: int) -> float | None:
        """GFLOP/s in batches of this size; None where nothing is computed."""
        rates = self.rates(batch)
        return None if self.flops is None or not rates else self.flops * median(rates) / 1e9

    def share(self, batch: int, peak: dict[str, Any]) -> float | None:
        """Of the machine's speed in matrix products: bfloat16's for bf16, float32's for all else."""
        reached, most = self.reached(batch), peak.get("bf16" if self.row.precision == "bf16" else "fp32")
        return None if reached is None or not most else reached / most

    def _figures(self, peak: dict[str, Any]) -> Found:
        def latency(find: Callable[[tuple[Found, Found]], Found | None]) -> Found | None:
            speeds = [speed for pair in self.rounds if (speed := find(pair)) is not None]
            if not speeds:
                return None
            calls = sum(speed["calls"] for speed in speeds)
            return {name: median(speed[f"{name}_ms"] for speed in speeds) for name in ("p50", "p99")} | {"calls": calls}

        batches = self.batches()
        return {
            "prompts_per_second": {str(batch): median(self.rates(batch)) for batch in batches},
            "latency_ms": latency(lambda pair: _speed(pair[0], 1)),
            "latency_one_thread_ms": latency(lambda pair: pair[1]["speeds"][0]),
            "resident_mb": {when: self.resident(when) for when in ("load", "first", "batches")},
            "process_mb": _mega(self.middle(lambda found: found["process"])),
            "file_mb": _mega(self.bytes),
            "import_seconds": self.middle(lambda found: found["import_seconds"]),
            "load_seconds": self.middle(lambda found: found["load_seconds"]),
            "first_seconds": self.middle(lambda found: found["first_seconds"]),
            "imports_torch": any(together["torch"] for together, _ in self.rounds),
            "tokens_computed": self.length,
            "gflop_per_prompt": None if self.flops is None else self.flops / 1e9,
            "gflops": {str(batch): self.reached(batch) for batch in batches},
            "share_of_peak": {str(batch): self.share(batch, peak) for batch in batches},
            "reference": self.row.reference,
            "cosine": self.cosine,
            "rounds": {
                "prompts_per_second": {str(batch): self.rates(batch) for batch in batches},
                "one_thread_p50_ms": self.alone(),
            },
        }


def _speed(found: Found, batch: int) -> Found | None:
    """What a worker says of one batch size; None where it was not asked for."""
    return next((speed for speed in found["speeds"] if speed["batch"] == batch), None)


def _mega(size: float | None) -> float | None:
    return None if size is None else size / 1e6
