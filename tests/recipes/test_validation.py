"""Calibration finds what was done to the scores and folds into the weights exactly; the validation curve."""

import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recipes.micro.validation import COLUMNS, Calibration, Candidates, Curve, calibrate, collect, fold

from litetext.errors import OptionError
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from tests.micro.models import fresh_model

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


def test_rows_come_back_and_later_ones_are_dropped(tmp_path: Path) -> None:
    curve = Curve(tmp_path, 0)
    curve.add({"step": 10, "minutes": 0.5, "loss": 3.25, "nouns_right": 0.25})
    curve.add({"step": 20, "minutes": 1, "loss": 2, "cgf1": 12.5, "il_mcc": 0.4, "pmf1": 31})
    assert (tmp_path / "curve.csv").read_text("utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert Curve(tmp_path, 20).rows == curve.rows
    resumed = Curve(tmp_path, 10)
    assert [row["step"] for row in resumed.rows] == [10]
    resumed.add({"step": 15, "loss": 1.0})
    assert [row["step"] for row in Curve(tmp_path, 99).rows] == [10, 15]
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size[0] > 600


def test_something_else_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("step,loss\n1,many\n", encoding="utf-8")
    with pytest.raises(OptionError, match="not a validation curve"):
        Curve(tmp_path, 0)


def test_an_unknown_column_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fieldnames"):
        Curve(tmp_path, 0).add({"step": 1, "colour": 2})
    assert not (tmp_path / "curve.csv").exists()
