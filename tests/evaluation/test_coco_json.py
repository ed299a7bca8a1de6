"""Masks before pycocotools sees them: what it would hang on, crash on or score in silence is refused by name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pycocotools")
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError
from litetext.evaluation import coco_json as module
from litetext.evaluation.coco_json import check_masks
from litetext.sam3.masks import mask_ious
from tests.evaluation.files import stripe
from tests.evaluation.synthetic import rle

GOOD = stripe(3, 30)


def refusal(*masks: Any) -> str:
    with pytest.raises(EvaluationError) as caught:
        check_masks(masks, lambda index: f"p.json, pair {index}")
    return str(caught.value)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1)), min_size=1, max_size=9))
def test_what_pycocotools_writes_is_read(sizes: list[tuple[int, int, int]]) -> None:
    masks = []
    for height, width, seed in sizes:
        rng = np.random.default_rng(seed)
        masks.append(rle(rng.random((height, width)) < rng.random()))
    assert [one["counts"].decode() for one in check_masks(masks, str)] == [one["counts"] for one in masks]


def test_blocks_of_one_mask_and_long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    large = coco_mask.frPyObjects(
        {"size": [40_000, 50_000], "counts": [10**9 + 7, 10**8, 9 * 10**8 - 7]}, 40_000, 50_000
    )
    masks = [GOOD, {**large, "counts": large["counts"].decode()}, GOOD]
    monkeypatch.setattr(module, "_BLOCK", 1)
    assert len(check_masks(masks, str)) == 3
    assert refusal(GOOD, GOOD, {**GOOD, "counts": GOOD["counts"][:-1]}).endswith("COCO")
    assert "pair 2" in refusal(GOOD, GOOD, {**GOOD, "counts": GOOD["counts"] + "1"})


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ({"counts": "!!!!"}, "the character '!'"),
        ({"counts": "Z18p"}, "the character 'p'"),
        ({"counts": "3\0"}, "the character '\\x00'"),
        ({"counts": "P"}, "end in the middle"),
        ({"counts": "T3", "size": [9, 11]}, "add up to 100, not to height x width = 99"),
        ({"counts": "T31"}, "add up to 101"),
        ({"counts": "PPPPPPPPPP0"}, "more than 32 bits"),
        ({"counts": "5o"}, "end in the middle"),
        ({"counts": "5O"}, "a run of length -1"),
        ({"counts": "b10b1"}, "length 0 that is neither"),
        ({"counts": ""}, "its counts are ''"),
        ({"counts": "é" * 100}, "its counts are"),
        ({"counts": "b'T3'"}, "decoded as ASCII"),
        ({"counts": None}, "its counts are None"),
        ({"counts": [50.0, 50.0]}, "list of integers"),
        ({"counts": [True, 99]}, "list of integers"),
        ({"counts": [-1, 101]}, "a run of length -1"),
        ({"counts": [2**64, 1]}, "add up to 18446744073709551617"),
        ({"counts": [50, 0, 50]}, "length 0 that is neither"),
        ({"size": [0, 10]}, "its size is"),
        ({"size": [-10, -10]}, "its size is"),
        ({"size": [2**31, 2]}, "more than 2147483647 pixels"),
        ({"size": [True, 100]}, "its size is"),
        ({"size": [10.0, 10]}, "its size is"),
        ({"size": [10, 10, 1]}, "its size is"),
        ({"size": None}, "its size is"),
    ],
)  # fmt: skip
def test_damaged_rle(mask: dict[str, Any], reason: str) -> None:
    told = refusal(GOOD, {**GOOD, **mask}, GOOD)
    assert reason in told
    assert "p.json, pair 1;" in told


@pytest.mark.parametrize(
    "polygons",
    [
        [[1e300] * 6],
        [[0, 0, 1e7, 1e7, 0, 1e7]],
        [[0, 0, 10**400, 1, 1, 1]],
        [[0, 0, True, 1, 1, 1]],
        [[0, 0, 1e5, 0, 1e5, 1e5, 0, 1e5] * 9],
        [[0, 0, float("inf"), 1, 1, 1]],
        [[0, 0, "1", 1, 1, 1]],
    ],
    ids=str,
)
def test_polygons_that_would_fill_the_memory(polygons: Any) -> None:
    assert "not a segmentation" in refusal(polygons)


def test_long_polygons_of_short_steps_are_read() -> None:
    outline = [value for step in range(20_000) for value in (step % 4000, step // 4000)]
    assert check_masks([[outline]], str) == [[outline]]


def test_runs_of_zero_at_the_ends_are_read() -> None:
    masks = check_masks([{"size": [10, 10], "counts": [0, 100]}, {"size": [10, 10], "counts": [40, 60, 0]}], str)
    assert mask_ious(masks[:1], masks[1:])[0, 0] == pytest.approx(0.6)
