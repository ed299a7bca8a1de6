"""Agreement worked out by hand, and what is kept of a comparison."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.errors import EvaluationError
from litetext.evaluation.comparison import Comparison, agree, compare
from tests.evaluation.contests import Scripted, Stripes, known

A, HALF, B = (0, 20), (0, 10), (50, 70)
PAIRS = [known(1, "dog", [A]), known(1, "cat", []), known(2, "dog", [B]), known(2, "bus", [])]
TEACHER = {(1, "dog"): [A], (2, "dog"): [B]}
STUDENT = {(1, "dog"): [HALF], (2, "bus"): [B]}


def contest(teacher: Any, student: Any, pairs: Any = PAIRS, **options: Any) -> Comparison:
    return compare(Scripted(teacher), Scripted(student), pairs, **options)  # type: ignore[arg-type]


def agreement_of(left: Stripes, right: Stripes) -> float:
    return float(contest({(1, "dog"): left}, {(1, "dog"): right}, PAIRS[:1]).agreements[0])


@pytest.mark.parametrize(
    ("ious", "agreement"),
    [
        (np.zeros((0, 0)), 1.0),
        (np.zeros((0, 2)), 0.0),
        (np.zeros((3, 0)), 0.0),
        (np.array([[1.0]]), 1.0),
        (np.array([[0.5, 0.9], [0.8, 0.7]]), 0.85),  # 0.9 + 0.8, not 0.5 + 0.7
        (np.array([[0.9, 0.8], [0.8, 0.1]]), 0.8),  # the greatest sum, not the greatest first
        (np.array([[0.8], [0.3]]), 0.4),  # one too many
        (np.array([[0.6, 0.0, 0.3]]), 0.2),  # two missing
    ],
)
def test_agreement_by_hand(ious: npt.NDArray[np.float64], agreement: float) -> None:
    assert agree(ious) == pytest.approx(agreement, abs=1e-12)


SETS = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 60)).map(lambda one: (one[0], sum(one))), max_size=5)


@given(SETS, SETS, st.randoms())
def test_agreement_is_a_likeness(left: Stripes, right: Stripes, random: Any) -> None:
    found = agreement_of(left, right)
    assert 0 <= found <= 1
    assert agreement_of(right, left) == pytest.approx(found, abs=1e-12)
    shuffled = [*left]
    random.shuffle(shuffled)
    assert agreement_of(shuffled, right) == pytest.approx(found, abs=1e-12)
    assert agreement_of(left, shuffled) == 1
    assert agreement_of(left, [*shuffled, (0, 1)]) == pytest.approx(len(left) / (len(left) + 1), abs=1e-12)


def test_masks_without_a_pixel_are_alike() -> None:
    assert agreement_of([(5, 5), A], [A, (3, 3)]) == 1
    assert agreement_of([(5, 5)], [A]) == 0


def test_four_pairs_by_hand() -> None:
    told: list[tuple[str, float]] = []
    found = contest(TEACHER, STUDENT, worst=2, progress=lambda *one: told.append(one))
    assert found.agreements.tolist() == [0.5, 1, 0, 0]
    assert found.found.tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]
    assert told == [("segmenting", 2.0), ("segmenting", 4.0)]
    # By picture: both, predicted only, neither, missed.
    assert [one.present.tolist() for one, _ in found.tallies] == [[1, 0, 1, 0], [1, 0, 1, 0]]
    assert [one.present.tolist() for _, one in found.tallies] == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert found.tallies[0][1].hits.tolist() == [1] + 9 * [0]  # IoU 0.5 with the truth


def test_the_worst_come_first() -> None:
    found = contest(TEACHER, STUDENT, worst=12).worst
    assert [(one.pair.phrase, one.agreement) for one in found] == [("dog", 0), ("bus", 0), ("dog", 0.5)]
    assert [(len(one.teacher), len(one.student)) for one in found] == [(1, 0), (0, 1), (1, 1)]
    assert contest(TEACHER, STUDENT, worst=1).worst[0].pair is PAIRS[2]
    assert contest(TEACHER, STUDENT).worst == []
    assert contest(TEACHER, TEACHER, worst=12).worst == []


def test_a_picture_is_embedded_once_for_both() -> None:
    teacher, student = Scripted(TEACHER, prompt_batch=2), Scripted(STUDENT, prompt_batch=2)
    pairs = [*PAIRS[:2], known(1, "bus", []), *PAIRS[2:]]
    compare(teacher, student, iter(pairs))  # type: ignore[arg-type]
    assert teacher.embedded == [1, 2]
    assert student.embedded == []
    assert teacher.asked == student.asked == [["dog", "cat", "bus"], ["dog", "bus"]]


def test_each_is_counted_against_the_annotator_that_is_kindest_to_it() -> None:
    pair = known(1, "dog", [A], [HALF], [])
    found = contest({(1, "dog"): [A]}, {(1, "dog"): [HALF]}, [pair])
    nothing = contest({}, {(1, "dog"): [B]}, [pair])
    for tally in found.tallies[0]:
        assert tally.hits.tolist() == [1] * 10
    assert nothing.tallies[0][0].present.tolist() == [0, 0, 1, 0]  # as the third
    assert nothing.tallies[0][1].false_alarms.tolist() == [1] * 10


def test_no_pairs() -> None:
    with pytest.raises(EvaluationError, match="no pairs; give one or more"):
        contest(TEACHER, STUDENT, [])
