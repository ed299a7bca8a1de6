"""Matching and its counts, worked out by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")
from litetext.evaluation.cgf1 import THRESHOLDS, PairCounts, choose_best, count_pair, f1_score, match

NONE = np.zeros(10, dtype=np.int64)


def ones(count: int, value: int = 1) -> np.ndarray:
    """`value` hits at the first `count` thresholds."""
    return np.where(np.arange(10) < count, value, 0)


def test_the_thresholds_are_those_of_coco() -> None:
    np.testing.assert_allclose(THRESHOLDS, np.arange(50, 100, 5) / 100, atol=1e-15)
    assert THRESHOLDS[5] == 0.75
    with pytest.raises(ValueError, match="read-only"):
        THRESHOLDS[0] = 0


@pytest.mark.parametrize(("predictions", "truths"), [(0, 0), (3, 0), (0, 2)])
def test_without_one_side_nothing_is_hit(predictions: int, truths: int) -> None:
    found = count_pair(np.zeros((predictions, truths)))
    assert (found.predictions, found.truths, found.hits.tolist()) == (predictions, truths, NONE.tolist())
    assert found.mean_f1 == (1.0 if predictions == truths == 0 else 0.0)


def test_the_sum_decides_and_not_the_best_single_overlap() -> None:
    # Greedy takes 0.9 and leaves 0.0; the optimum is 0.8 + 0.7.
    ious = np.array([[0.9, 0.8], [0.7, 0.0]])
    assert match(ious).tolist() == [0.8, 0.7]
    assert count_pair(ious).hits.tolist() == [2, 2, 2, 2, 2, 1, 1, 0, 0, 0]


def test_every_mask_is_matched_once() -> None:
    twice = count_pair(np.array([[1.0], [1.0]]))
    assert (twice.hits.tolist(), twice.predictions, twice.truths) == ([1] * 10, 2, 1)


@pytest.mark.parametrize(("iou", "count"), [(0.4999, 0), (0.5, 1), (0.75, 6), (0.9, 9), (0.95, 10), (1.0, 10)])
def test_an_overlap_of_the_threshold_is_a_hit(iou: float, count: int) -> None:
    assert count_pair(np.array([[iou]])).hits.tolist() == ones(count).tolist()


def test_masks_of_another_size_match_nothing() -> None:
    found = count_pair(np.array([[-1.0, -1.0], [0.8, 0.2], [0.0, 0.0]]))
    assert (found.hits[0], found.misfits) == (1, 1)


def test_f1_by_hand() -> None:
    # P = 1 / 2.0001, R = 1 / 1.0001
    precision, recall = 1 / 2.0001, 1 / 1.0001
    want = 2 * precision * recall / (precision + recall + 1e-4)
    assert f1_score(np.array([1]), 2, 1)[0] == pytest.approx(want, abs=1e-15)
    assert f1_score(np.array([0]), 0, 0)[0] == 0


def test_the_kindest_annotator_is_taken() -> None:
    poor, good, empty = PairCounts(ones(3), 1, 1), PairCounts(ones(7), 1, 1), PairCounts(NONE, 0, 0)
    missed = PairCounts(NONE, 0, 2)
    assert choose_best([poor, good]) is choose_best([good, poor]) is good
    assert choose_best([missed, empty, missed]) is empty  # nothing there, nothing predicted: perfect
    assert choose_best([poor]) is poor


def test_of_equally_kind_annotators_the_first_is_taken() -> None:
    two, three = PairCounts(NONE, 0, 2), PairCounts(NONE, 0, 3)
    assert choose_best([two, three]) is two
    assert choose_best([three, two]) is three


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_no_other_matching_has_a_greater_sum(predictions: int, truths: int, seed: int) -> None:
    ious = np.random.default_rng(seed).random((predictions, truths))
    wide = ious if predictions <= truths else ious.T
    sums = [sum(wide[row, column] for row, column in enumerate(one)) for one in _injections(*wide.shape)]
    assert match(ious).sum() == pytest.approx(max(sums))


def _injections(count: int, among: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(among), count))
