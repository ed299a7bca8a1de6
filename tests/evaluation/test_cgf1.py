"""cgF1 worked out by hand: presence, misses, false alarms, crowds, several annotators."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.errors import EvaluationError
from litetext.evaluation.cgf1 import CgF1, PairCounts, Tally, evaluate_gold, score
from tests.evaluation.files import stripe, write_predictions, write_truth

A, B = stripe(0, 20), stripe(50, 70)
HALF = stripe(0, 16)  # IoU 0.8 with A
ALL = np.full(10, 1)
NONE = np.zeros(10, dtype=np.int64)


def evaluate(tmp_path: Path, truth: Any, found: Any, **options: Any) -> CgF1:
    return evaluate_gold(
        [write_truth(tmp_path / "a.json", truth, **options)], write_predictions(tmp_path / "p.json", found)
    )


def f1(hits: float, predictions: float, truths: float) -> float:
    precision, recall = hits / (predictions + 1e-4), hits / (truths + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)


def test_a_perfect_answer(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A, B], 2: []}, [(1, B, 0.9), (1, A, 0.5)])
    assert result.il_mcc == pytest.approx(1 / (1 + 1e-6), abs=1e-12)
    assert result.pmf1 == pytest.approx(100 * f1(2, 2, 2), abs=1e-9)
    assert result.cgf1 == pytest.approx(100 * f1(2, 2, 2) / (1 + 1e-6), abs=1e-9)
    assert result.tally.present.tolist() == [1, 0, 1, 0]


def test_all_four_outcomes_of_presence(tmp_path: Path) -> None:
    # 1 found at IoU 0.8 (7 of 10 thresholds), 2 a false alarm, 3 rightly empty, 4 missed: two masks.
    result = evaluate(tmp_path, {1: [A], 2: [], 3: [], 4: [A, B]}, [(1, HALF, 0.9), (2, A, 0.7), (4, A, 0.49)])
    tally = result.tally
    assert tally.present.tolist() == [1, 1, 1, 1]
    hits = [1] * 7 + [0] * 3
    assert tally.hits.tolist() == hits
    assert tally.false_alarms.tolist() == [2 - one for one in hits]
    assert tally.paired_false_alarms.tolist() == [1 - one for one in hits]  # pair 2 has no ground truth
    assert tally.misses.tolist() == [3 - one for one in hits]
    assert result.il_mcc == 0
    assert result.cgf1 == 0
    assert result.at(0.5)["precision"] == pytest.approx(1 / 2.0001, abs=1e-12)
    assert result.at(0.5)["pm_precision"] == pytest.approx(1 / 1.0001, abs=1e-12)
    assert result.at(0.5)["recall"] == pytest.approx(1 / 3.0001, abs=1e-12)
    assert result.at(0.5)["pmf1"] == pytest.approx(f1(1, 1, 3), abs=1e-12)
    assert result.at(0.75)["f1"] == pytest.approx(f1(1, 2, 3), abs=1e-12)
    assert result.mean["f1"] == pytest.approx(0.7 * f1(1, 2, 3), abs=1e-12)
    assert result.mean["positive_macro_f1"] == pytest.approx(0.7 * f1(1, 1, 1), abs=1e-12)  # over pair 1 only
    assert result.presence["precision"] == pytest.approx(1 / (2 + 1e-6), abs=1e-12)
    assert result.presence["recall"] == pytest.approx(1 / (2 + 1e-6), abs=1e-12)
    assert result.presence["fpr"] == pytest.approx(1 / (2 + 1e-6), abs=1e-12)


def test_presence_told_wrongly_is_a_negative_score(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A], 2: [A], 3: [], 4: []}, [(2, A, 0.9), (3, A, 0.9), (4, A, 0.9)])
    # TP 1, FP 2, TN 0, FN 1: -2 / sqrt(3 * 2 * 2 * 1)
    assert result.il_mcc == pytest.approx(-2 / (12**0.5 + 1e-6), abs=1e-12)
    assert result.cgf1 == pytest.approx(100 * f1(1, 1, 2) * result.il_mcc, abs=1e-9)


def test_no_ground_truth_and_no_prediction_at_all(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [], 2: []}, [])
    assert (result.cgf1, result.pmf1, result.il_mcc) == (0, 0, 0)
    assert result.mean["positive_macro_f1"] == -1  # undefined
    assert result.to_json()["pairs"]["true_negative"] == 2


def test_crowds_are_dropped(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [], 2: [A]}, [(1, A, 0.9), (2, A, 0.9)], crowds={1: [A], 2: [B]})
    assert result.tally.present.tolist() == [1, 1, 0, 0]
    assert result.tally.misses.tolist() == NONE.tolist()


def test_pairs_that_are_not_exhaustive_do_not_count(tmp_path: Path) -> None:
    result = evaluate(tmp_path, {1: [A], 2: [A]}, [(1, A, 0.9), (2, B, 0.9)], partial=[2])
    assert result.tally.present.tolist() == [1, 0, 0, 0]
    assert result.tally.misses.tolist() == NONE.tolist()


def test_of_three_annotators_the_kindest_counts(tmp_path: Path) -> None:
    truths = [
        write_truth(tmp_path / "a.json", {1: [B], 2: [A], 3: [A]}),
        write_truth(tmp_path / "b.json", {1: [A], 2: [], 3: [A]}, partial=[3]),
        write_truth(tmp_path / "c.json", {1: [HALF], 2: [A, B], 3: [A]}),
    ]
    result = evaluate_gold(truths, write_predictions(tmp_path / "p.json", [(1, A, 0.9)]))
    assert result.tally.present.tolist() == [1, 0, 1, 0]  # 1 as b, 2 empty as b, 3 is not exhaustive for b
    assert result.tally.hits.tolist() == [1] * 10
    assert result.tally.misses.tolist() == NONE.tolist()


def test_tallies_add_up() -> None:
    counts = [PairCounts(ALL, 2, 1), PairCounts(NONE, 0, 2), PairCounts(NONE, 3, 0), PairCounts(NONE, 0, 0, misfits=1)]
    parts, whole = Tally.of(counts[:1]) + Tally.of([]) + Tally.of(counts[1:]), Tally.of(counts)
    assert parts.present.tolist() == whole.present.tolist() == [1, 1, 1, 1]
    assert score(parts).to_json() == score(whole).to_json()
    assert whole.misfits == 1


def test_every_number_is_in_the_json(tmp_path: Path) -> None:
    found = evaluate(tmp_path, {1: [A], 2: []}, [(1, HALF, 0.9)]).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["cgf1"] == pytest.approx(100 * found["raw"]["cgf1"])
    assert found["pmf1"] == pytest.approx(100 * found["raw"]["pmf1"])
    levels = ("", "@0.5", "@0.75")
    names = ("cgf1", "pmf1", "pm_precision", "precision", "recall", "f1", "positive_macro_f1")
    assert set(found["raw"]) == {name + level for name in names for level in levels}
    assert {"il_mcc", "il_precision", "il_recall", "il_f1", "il_fpr", "pairs", "misfits"} <= set(found)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    truth = write_truth(tmp_path / "a.json", {pair: [] for pair in range(401)})
    predictions = write_predictions(tmp_path / "p.json", [])
    evaluate_gold([truth], predictions, lambda stage, share: told.append((stage, share)))
    assert told == [("pairs", 0.0), ("pairs", 200 / 401), ("pairs", 400 / 401)]


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    one, two = write_truth(tmp_path / "a.json", {1: [A], 2: []}), write_truth(tmp_path / "b.json", {1: [A], 3: []})
    partial = write_truth(tmp_path / "c.json", {1: [A], 2: []}, partial=[1, 2])
    good = write_predictions(tmp_path / "p.json", [(1, A, 0.9)])
    unknown = write_predictions(tmp_path / "q.json", [(1, A, 0.9), (99, A, 0.1)])
    with pytest.raises(EvaluationError, match=r"pairs that are not in both files: 2, one is 2, .*a.json and .*b.json"):
        evaluate_gold([one, two], good)
    with pytest.raises(EvaluationError, match=r"predictions for unknown pairs: 1, one is 99, .*q.json; image_id is"):
        evaluate_gold([one], unknown)
    with pytest.raises(EvaluationError, match="no pair is exhaustive for every annotator"):
        evaluate_gold([one, partial], good)
    with pytest.raises(EvaluationError, match="no ground truth"):
        evaluate_gold([], good)


def test_a_category_that_the_ground_truth_does_not_have(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "a.json", {1: [A]})
    predictions = tmp_path / "p.json"
    entry = {"image_id": 1, "segmentation": A, "score": 0.9}
    predictions.write_text(json.dumps([{**entry, "category_id": 7}]), encoding="utf-8")
    with pytest.raises(
        EvaluationError, match=r"the category_id 7 is not in .*a.json, .*p.json; leave it out, or give 1"
    ):
        evaluate_gold([truth], predictions)
    predictions.write_text(json.dumps([entry]), encoding="utf-8")
    assert evaluate_gold([truth], predictions).tally.hits.tolist() == ALL.tolist()
