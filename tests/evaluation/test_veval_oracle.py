"""Equality with the official VEval evaluator on random sets with negatives, nulls, crowds, swaps and ties."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("trackeval")
from litetext.evaluation.veval import evaluate_veval
from tests.evaluation.official import VEvalScores, load_official_veval, official_names, official_pair
from tests.evaluation.videos import video_set

pytestmark = [pytest.mark.sam3, pytest.mark.slow]
Official = Callable[[Path, Path], VEvalScores]
Change = Callable[[dict[str, Any], list[dict[str, Any]]], Any]


@pytest.fixture(scope="module")
def official() -> Official:
    found = load_official_veval()
    if found is None:
        pytest.skip("the PyPI package `sam3`, or something that its evaluator imports, is not installed")
    return found


def assert_equal(official: Official, truth: Path, predictions: Path) -> dict[str, float]:
    want, want_pairs = official(truth, predictions)
    report = evaluate_veval(truth, predictions)
    got = official_names(report)
    assert got.keys() == want.keys()
    defined = [name for name, value in want.items() if np.isfinite(value)]  # IL_MCC at a threshold is a quotient there
    assert {name.partition("demo_")[2][:6] for name in want.keys() - defined} <= {"ilmcc_"}
    np.testing.assert_allclose([got[name] for name in defined], [want[name] for name in defined], atol=1e-9, rtol=0)
    pairs = {(pair["video_id"], pair["category_id"]): official_pair(pair) for pair in report.pairs}
    assert pairs.keys() == want_pairs.keys()
    for key, scores in want_pairs.items():
        assert pairs[key].keys() == scores.keys()
        np.testing.assert_allclose([pairs[key][name] for name in scores], list(scores.values()), atol=1e-9, rtol=0)
    return want


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_official_evaluator(official: Official, tmp_path: Path, seed: int) -> None:
    truth, predictions = video_set(seed, tmp_path, videos=12)
    assert len(json.loads(predictions.read_text(encoding="utf-8"))) > 100
    want = assert_equal(official, truth, predictions)
    assert 0 < want["video_mask_demo_cgf1_micro_50_95"] < 1
    assert want["video_mask_all_phrase_HOTA"] != want["video_bbox_all_phrase_HOTA"]


def keep(count: int) -> Change:
    def change(_truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
        found[:] = [one for one in found if one["score"] > 0.5 and any(one["segmentations"])][:count]

    return change


def without_things(truth: dict[str, Any], _found: list[dict[str, Any]]) -> None:
    """Only one thing is left in the whole set: everything else that is found is false."""
    del truth["annotations"][1:]


def one_category(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """Videos of one phrase, so that no class is confused with another."""
    (name, *_) = {one["category_id"] for one in truth["annotations"]}
    for listed in (truth["annotations"], truth["video_np_pairs"], found):
        listed[:] = [one for one in listed if one["category_id"] == name]
    for one in found:
        one["score"] = max(one["score"], 0.6)


def all_equal(_truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    for one in found:
        one["score"] = 0.75


def crowds(truth: dict[str, Any], _found: list[dict[str, Any]]) -> None:
    for number, one in enumerate(truth["annotations"]):
        one["iscrowd"] = number % 2


@pytest.mark.parametrize("change", [keep(1), keep(3), without_things, one_category, all_equal, crowds])
def test_equals_it_at_the_borders(official: Official, tmp_path: Path, change: Change) -> None:
    truth, predictions = video_set(5, tmp_path, videos=5)
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in (truth, predictions)]
    change(*documents)
    assert documents[1]
    for path, document in zip((truth, predictions), documents, strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    assert_equal(official, truth, predictions)
