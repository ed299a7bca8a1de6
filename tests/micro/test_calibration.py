"""Calibration finds what was done to the scores, and folds into the weights exactly."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.micro.calibration import Calibration, Candidates, calibrate, collect, fold  # noqa: E402
from litetext.micro.phrases import make_pairs  # noqa: E402
from litetext.micro.scenes import SceneOptions  # noqa: E402
from tests.micro.models import fresh_model  # noqa: E402

pytestmark = pytest.mark.torch
PAIRS = list(make_pairs(0, 6, SceneOptions(size=160, split="validation")))


def candidates(shift: float, scale: float) -> list[Candidates]:
    """Of a model that knows everything, but says it shifted and scaled: 20 present pairs, 20 absent ones."""
    good, bad = np.array([3.0, -3.0]) * scale, np.array([-3.0, -3.0]) * scale
    one = np.array([[0.92], [0.0]])
    there = [Candidates(2.0 + shift, good, one) for _ in range(20)]
    return there + [Candidates(-2.0 + shift, bad, np.zeros((2, 0))) for _ in range(20)]


def test_a_shy_presence_is_moved() -> None:
    found = calibrate(candidates(-2.0, 1.0))
    assert found.before == 0  # nothing passes
    assert found.presence_shift > 0 or found.presence_scale > 1
    assert found.cgf1 == pytest.approx(90, abs=0.1)  # IoU 0.92 passes nine of the ten thresholds


def test_shy_scores_are_stretched() -> None:
    found = calibrate(candidates(0.0, 0.05))
    assert found.before == 0
    assert found.cgf1 == pytest.approx(90, abs=0.1)


def test_what_is_right_stays() -> None:
    found = calibrate(candidates(0.0, 1.0))
    assert (found.presence_scale, found.presence_shift, found.score_scale) == (1.0, 0.0, 1.0)
    assert found.cgf1 == found.before == pytest.approx(90, abs=0.1)


def test_folding_does_what_was_found() -> None:
    model = copy.deepcopy(fresh_model()).eval()
    before = collect(model, PAIRS)
    fold(model, Calibration(1.5, -0.25, 2.0, 0, 0))
    after = collect(model, PAIRS)
    assert len(before) == len(PAIRS)
    for one, other in zip(before, after, strict=True):
        assert other.presence == pytest.approx(1.5 * one.presence - 0.25, abs=1e-4)
        assert other.scores == pytest.approx(2 * one.scores, abs=1e-4)
        assert other.ious == pytest.approx(one.ious)
