"""Retention: what of a teacher's scores is left with a student in its place, in percent.

Source: SAM3-LiteText (arXiv 2602.12173), where students keep 96 to 99 % of cgF1 on SA-Co Gold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.checkpoints.size import EncoderSize
from litetext.errors import OptionError
from litetext.evaluation.cgf1 import CgF1, Tally, score
from litetext.evaluation.comparison import Comparison

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bootstrap:
    """How an interval is found: pictures are drawn again and again, with replacement.

    Attributes:
        seed: of the drawing.
        resamples: how often.
        level: share of the resamples that the interval holds.

    Raises:
        OptionError: a value makes no sense.
    """

    seed: int = 0
    resamples: int = 2000
    level: float = 0.95

    def __post_init__(self) -> None:
        """Check the values."""
        if self.seed < 0:
            raise OptionError(f"seed {self.seed} is negative", hint="give 0 or more")
        if self.resamples < 1 or not 0 < self.level < 1:
            raise OptionError(f"{self.resamples} resamples at the level {self.level}", hint="give 2000 and 0.95")


@dataclass(frozen=True)
class Retention:
    """Scores of a student in percent of those of its teacher.

    Attributes:
        cgf1: of cgF1.
        il_mcc: of IL_MCC.
        pmf1: of pmF1.
        interval: of cgf1, by bootstrap; None where there are too few pictures to say.
    """

    cgf1: float
    il_mcc: float
    pmf1: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class EncoderScores:
    """A text encoder and the scores of the host with it.

    Attributes:
        size: of the encoder, and its name.
        scores: on the pairs.
    """

    size: EncoderSize
    scores: CgF1

    def to_json(self) -> dict[str, Any]:
        """The scores on their official scales."""
        return {
            "name": self.size.name,
            **self.scores.headline,
            "parameters": self.size.parameters,
            "bytes": self.size.bytes,
        }


@dataclass(frozen=True, eq=False)
class RetentionReport:
    """How much of a teacher a student keeps.

    Attributes:
        teacher: the one.
        student: the other.
        comparison: what was counted.
        retention: None where the teacher's cgF1 is not above 0: there is nothing to be kept.
        bootstrap: how its interval was found.
    """

    teacher: EncoderScores
    student: EncoderScores
    comparison: Comparison
    retention: Retention | None
    bootstrap: Bootstrap

    @property
    def agreement(self) -> float:
        """Mean over all pairs."""
        return float(self.comparison.agreements.mean())

    @property
    def agreement_found(self) -> float | None:
        """Mean over the pairs where at least one found something; None if there are none."""
        some = self.comparison.agreements[self.comparison.found.any(axis=1)]
        return float(some.mean()) if len(some) else None

    @property
    def presence_agreement(self) -> float:
        """Share of the pairs where both found something, or neither did."""
        there = self.comparison.found > 0
        return float((there[:, 0] == there[:, 1]).mean())

    @property
    def parameters(self) -> dict[str, float]:
        """Of both, and the reduction in percent."""
        return _reduction(self.teacher.size.parameters, self.student.size.parameters)

    @property
    def bytes(self) -> dict[str, float]:
        """Of both, and the reduction in percent."""
        return _reduction(self.teacher.size.bytes, self.student.size.bytes)

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``retention`` is null where it is undefined."""
        kept = self.retention
        told = None if kept is None else vars(kept) | {"interval": kept.interval and list(kept.interval)}
        return {
            "teacher": self.teacher.to_json(),
            "student": self.student.to_json(),
            "retention": told,
            "agreement": self.agreement,
            "agreement_found": self.agreement_found,
            "presence_agreement": self.presence_agreement,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "pairs": len(self.comparison.agreements),
            "pictures": len(self.comparison.teacher),
            "seed": self.bootstrap.seed,
            "resamples": self.bootstrap.resamples,
            "level": self.bootstrap.level,
            "disagreements": [
                {
                    "picture": one.pair.picture,
                    "phrase": one.pair.phrase,
                    "agreement": one.agreement,
                    "true": len(one.pair.truths[0]),
                    "teacher": len(one.teacher),
                    "student": len(one.student),
                }
                for one in self.comparison.worst
            ],
        }


def report_retention(
    comparison: Comparison, teacher: EncoderSize, student: EncoderSize, bootstrap: Bootstrap = Bootstrap()
) -> RetentionReport:
    """Score what was counted.

    Args:
        comparison: what was counted.
        teacher: name and size of its encoder.
        student: name and size of the other.
        bootstrap: how to find the interval.
    """
    theirs, ours = (score(sum(tallies, Tally.of([]))) for tallies in (comparison.teacher, comparison.student))
    kept = None
    if theirs.cgf1 > 0:  # then so are the other two
        interval = retention_interval(comparison.teacher, comparison.student, bootstrap)
        kept = Retention(
            cgf1=_percent(ours.cgf1, theirs.cgf1),
            il_mcc=_percent(ours.il_mcc, theirs.il_mcc),
            pmf1=_percent(ours.pmf1, theirs.pmf1),
            interval=interval,
        )
    return RetentionReport(EncoderScores(teacher, theirs), EncoderScores(student, ours), comparison, kept, bootstrap)


def retention_interval(
    teacher: Sequence[Tally], student: Sequence[Tally], bootstrap: Bootstrap = Bootstrap()
) -> Interval | None:
    """Percentile interval of the student's cgF1 in percent of the teacher's.

    Pictures are drawn, not pairs: the pairs of a picture depend on each other. Both are scored on the same draw. A draw
    in which the teacher's cgF1 is not above 0 has no ratio, and counts as the worst on either side.

    Args:
        teacher: counts of each picture.
        student: counts of each picture, in the same order.
        bootstrap: how often, and from which seed.

    Returns:
        Lower and upper end; None if there is one picture only, or an end falls on a draw without a ratio.
    """
    pictures = len(teacher)
    if pictures < 2:
        return None
    rng, even = np.random.default_rng(bootstrap.seed), np.full(pictures, 1 / pictures)
    theirs, ours = _stack(teacher), _stack(student)
    ratios = np.full(bootstrap.resamples, np.nan)
    for number in range(bootstrap.resamples):
        times = rng.multinomial(pictures, even)
        whole = _weigh(theirs, times)
        if whole > 0:
            ratios[number] = _percent(_weigh(ours, times), whole)
    outside = (1 - bootstrap.level) / 2
    undefined = np.isnan(ratios)
    low = np.quantile(np.where(undefined, -np.inf, ratios), outside, method="lower")
    high = np.quantile(np.where(undefined, np.inf, ratios), 1 - outside, method="higher")
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def _stack(tallies: Sequence[Tally]) -> dict[str, npt.NDArray[Any]]:
    """The counts of pictures, each field [N, ...]."""
    return {one.name: np.array([getattr(tally, one.name) for tally in tallies]) for one in fields(Tally)}


def _weigh(counts: dict[str, npt.NDArray[Any]], times: npt.NDArray[np.int64]) -> float:
    """The cgF1 of pictures of which each counts so many times."""
    whole: dict[str, Any] = {name: np.tensordot(times, values, 1) for name, values in counts.items()}
    return score(Tally(**whole)).cgf1


def _reduction(teacher: int, student: int) -> dict[str, float]:
    return {"teacher": teacher, "student": student, "reduction": 100 - _percent(student, teacher)}


def _percent(part: float, whole: float) -> float:
    return 100 * (part / whole)  # in this order: of itself, everything is exactly 100
