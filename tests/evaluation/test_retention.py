"""Retention worked out by hand: ratios, the bootstrap's interval, sizes, and where a ratio is undefined."""

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import OptionError
from litetext.evaluation.cgf1 import PairCounts, Tally, score
from litetext.evaluation.comparison import Comparison, compare, report_retention, retention_interval
from tests.evaluation.contests import Scripted, known

A, HALF, B = (0, 20), (0, 10), (50, 70)
PAIRS = [known(1, "dog", [A]), known(1, "cat", []), known(2, "dog", [B]), known(2, "bus", [])]
TEACHER = {(1, "dog"): [A], (2, "dog"): [B]}
SIZES = (EncoderSize("big", 1000, 4000), EncoderSize("small", 120, 500))
HITS = {"good": np.full(10, 1), "half": np.array([1] * 5 + [0] * 5), "poor": np.array([1] + [0] * 9)}


def contest(student: Any, teacher: Any = TEACHER, pairs: Any = PAIRS, **options: Any) -> Comparison:
    return compare(Scripted(teacher), Scripted(student), pairs, **options)  # type: ignore[arg-type]


def report(student: Any, teacher: Any = TEACHER, **options: Any) -> dict[str, Any]:
    return report_retention(contest(student, teacher, **options), *SIZES, resamples=100)


def picture(*kinds: str) -> Tally:
    """Of an absent phrase that is rightly refused, and a present one for each kind: found so well, or missed."""
    nothing = np.zeros(10, dtype=np.int64)
    found = [PairCounts(HITS[kind], 1, 1) if kind in HITS else PairCounts(nothing, 0, 1) for kind in kinds]
    return Tally.of([PairCounts(nothing, 0, 0), *found])


def both(teacher: list[Tally], student: list[Tally]) -> list[tuple[Tally, Tally]]:
    return list(zip(teacher, student, strict=True))


def kept(teacher: list[Tally], student: list[Tally]) -> float:
    whole = [score(sum(some, Tally.of([]))).cgf1 for some in (student, teacher)]
    return 100 * (whole[0] / whole[1])


def f1(hits: float, predictions: float, truths: float) -> float:
    precision, recall = hits / (predictions + 1e-4), hits / (truths + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)


def test_a_ratio_by_hand() -> None:
    """Both tell presence rightly; one of two masks of the student has an IoU of 0.5."""
    found = report({**TEACHER, (1, "dog"): [HALF]})
    share = 100 * (f1(2, 2, 2) + 9 * f1(1, 2, 2)) / (10 * f1(2, 2, 2))
    assert found["retention"]["cgf1"] == pytest.approx(share, abs=1e-9)
    assert found["retention"]["pmf1"] == pytest.approx(share, abs=1e-9)
    assert found["retention"]["il_mcc"] == pytest.approx(100, abs=1e-9)
    assert (found["agreement"], found["agreement_found"], found["presence_agreement"]) == (0.875, 0.75, 1.0)


def test_all_that_can_differ_by_hand() -> None:
    found = report({(1, "dog"): [HALF], (2, "bus"): [B]}, worst=1)
    assert found["student"]["il_mcc"] == 0  # 1 of each outcome
    assert found["retention"]["cgf1"] == found["retention"]["il_mcc"] == 0
    assert found["agreement"] == pytest.approx(1.5 / 4)
    assert found["agreement_found"] == pytest.approx(0.5 / 3)
    assert found["presence_agreement"] == 0.5


def test_an_identical_student_keeps_everything() -> None:
    found = report(TEACHER)
    assert (found["retention"]["cgf1"], found["retention"]["il_mcc"], found["retention"]["pmf1"]) == (100, 100, 100)
    assert found["retention"]["interval"] == [100, 100]
    assert found["agreement"] == found["agreement_found"] == found["presence_agreement"] == 1


def test_a_student_may_be_better() -> None:
    found = report(TEACHER, {**TEACHER, (2, "dog"): [(50, 60)]})
    assert found["retention"]["cgf1"] > 100


def test_sizes() -> None:
    found = report(TEACHER)
    assert found["parameters"] == {"teacher": 1000, "student": 120, "reduction": pytest.approx(88)}
    assert found["bytes"] == {"teacher": 4000, "student": 500, "reduction": pytest.approx(87.5)}


@pytest.mark.parametrize("teacher", [{}, {(1, "cat"): [A], (2, "bus"): [A]}, {(1, "dog"): [B]}])
def test_a_teacher_that_has_nothing_to_keep(teacher: Any) -> None:
    """Its cgF1 is 0, or below: presence told wrongly throughout."""
    found = report(TEACHER, teacher)
    assert found["teacher"]["cgf1"] <= 0
    assert found["retention"] is None
    assert json.loads(json.dumps(found, allow_nan=False))["retention"] is None


def test_nobody_found_anything() -> None:
    found = report({}, {})
    assert (found["agreement"], found["agreement_found"], found["presence_agreement"]) == (1, None, 1)


def test_every_number_is_in_the_json() -> None:
    found = report({(1, "dog"): [HALF], (2, "bus"): [B]}, worst=1)
    assert json.loads(json.dumps(found)) == found
    assert found["teacher"]["name"] == "big"
    assert set(found["student"]) == {"name", "cgf1", "il_mcc", "pmf1", "parameters", "bytes"}
    assert set(found["retention"]) == {"cgf1", "il_mcc", "pmf1", "interval"}
    assert found["parameters"]["reduction"] == pytest.approx(88)
    assert (found["pairs"], found["pictures"], found["seed"], found["level"]) == (4, 2, 0, 0.95)
    assert found["disagreements"] == [
        {"picture": "2.png", "phrase": "dog", "agreement": 0.0, "true": 1, "teacher": 1, "student": 0}
    ]


def test_the_interval_of_two_pictures() -> None:
    """Of four draws one has the first picture twice, one the second: those are the ends."""
    teacher, student = [picture("good"), picture("good", "good")], [picture("good"), picture("poor", "poor")]
    low, high = kept(teacher[1:], student[1:]), kept(teacher[:1], student[:1])
    assert low < high == 100
    assert retention_interval(both(teacher, student), 0, 200) == pytest.approx((low, high), abs=1e-9)


def test_the_interval_of_all_draws() -> None:
    """The 27 draws of three pictures, one by one; both are scored on the same draw."""
    teacher = [picture("good"), picture("half", "good", "missed"), picture("half")]
    student = [picture("half"), picture("half", "missed", "missed"), picture("half")]
    draws = [kept([teacher[n] for n in one], [student[n] for n in one]) for one in product(range(3), repeat=3)]
    for level in (0.5, 0.9):
        ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        found = retention_interval(both(teacher, student), 7, resamples=2000, level=level)
        assert found == pytest.approx(tuple(ends), abs=1e-9)


def test_pairs_of_a_picture_are_drawn_together() -> None:
    """Ten pairs of one picture say less than ten pictures."""
    good, poor = [picture("good")] * 5, [picture("poor")] * 5
    apart = retention_interval(both([picture("good")] * 10, [*good, *poor]), 0, 300)
    of_student = [picture(*["good"] * 5), picture(*["poor"] * 5)]
    together = retention_interval(both([picture(*["good"] * 5)] * 2, of_student), 0, 300)
    assert apart is not None
    assert together is not None
    assert apart[1] - apart[0] < together[1] - together[0]


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    names = np.array(["good", "half", "poor", "missed"])
    teacher, student = ([picture(*rng.choice(names, 3)) for _ in range(30)] for _ in range(2))
    first = retention_interval(both(teacher, student), 1, 200)
    assert retention_interval(both(teacher, student), 1, 200) == first
    assert retention_interval(both(teacher, student), 2, 200) != first


def test_an_interval_that_nobody_can_say() -> None:
    good, bad = picture("good"), picture("missed")
    assert retention_interval(both([good], [good])) is None
    assert retention_interval(both([good, bad], [good, good]), 0, 200) is None  # a quarter of the draws has no ratio
    # One of 729 draws is of the two bad ones alone: too rare to matter.
    few = retention_interval(both([good] * 4 + [bad] * 2, [good] * 4 + [bad] * 2), 0, 500)
    assert few == (100, 100)


@pytest.mark.parametrize("values", [{"seed": -1}, {"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_a_bootstrap_without_sense(values: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        retention_interval([], **values)
