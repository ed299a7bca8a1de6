"""Equality with the official evaluator, on random sets of every notation, crowd, tie and disagreement."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.evaluation.cgf1 import CgF1, evaluate_gold
from tests.evaluation.official import load_official
from tests.evaluation.synthetic import gold_set, rectangle, rle

pytestmark = pytest.mark.sam3
Official = Callable[[list[Path], Path], dict[str, float]]


@pytest.fixture(scope="module")
def official() -> Official:
    found = load_official()
    if found is None:
        pytest.skip("the PyPI package `sam3`, or something that its evaluator imports, is not installed")
    return found


def scores(result: CgF1) -> dict[str, float]:
    found = result.to_json()
    return {**found["raw"], **{name: value for name, value in found.items() if name.startswith("il_")}}


@pytest.mark.parametrize("annotators", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_official_evaluator(official: Official, tmp_path: Path, seed: int, annotators: int) -> None:
    truths, predictions = gold_set(seed, 60, annotators, tmp_path)
    want = official(truths, predictions)
    got = scores(evaluate_gold(truths, predictions))
    assert got.keys() == want.keys()
    assert 0 < want["cgf1"] < 1
    np.testing.assert_allclose([got[name] for name in want], list(want.values()), atol=1e-12, rtol=0)


@pytest.mark.parametrize("annotators", [1, 3])
@pytest.mark.parametrize("kept", ["nothing", "first", "poor", "only absent"])
def test_equals_it_at_the_borders(official: Official, tmp_path: Path, kept: str, annotators: int) -> None:
    truths, predictions = gold_set(3, 12, annotators, tmp_path)
    listed: list[dict[str, Any]] = json.loads(predictions.read_text(encoding="utf-8"))
    if kept == "nothing":
        listed = []
    elif kept == "first":
        listed = listed[:1]
    elif kept == "poor":
        listed = [{**one, "score": 0.1} for one in listed]
    else:
        for truth in truths:
            document = json.loads(truth.read_text(encoding="utf-8"))
            truth.write_text(json.dumps({**document, "annotations": []}), encoding="utf-8")
    predictions.write_text(json.dumps(listed), encoding="utf-8")
    want = official(truths, predictions)
    got = scores(evaluate_gold(truths, predictions))
    np.testing.assert_allclose([got[name] for name in want], list(want.values()), atol=1e-12, rtol=0)


def test_equals_it_on_masks_of_another_size_and_boxes_without_masks(official: Official, tmp_path: Path) -> None:
    truths, predictions = gold_set(5, 20, 3, tmp_path)
    listed: list[dict[str, Any]] = json.loads(predictions.read_text(encoding="utf-8"))
    for index, one in enumerate(listed):
        if index % 3 == 0:
            del one["segmentation"]
        elif index % 3 == 1:
            one["segmentation"] = rle(rectangle((20, 20), 2, 2, 18, 18))
    predictions.write_text(json.dumps(listed), encoding="utf-8")
    want = official(truths, predictions)
    result = evaluate_gold(truths, predictions)
    got = scores(result)
    assert result.tally.misfits
    np.testing.assert_allclose([got[name] for name in want], list(want.values()), atol=1e-12, rtol=0)
