"""Sheets: many glyphs, each with its mask, the same for a seed."""

import numpy as np

from litetext.micro.dense_scenes import ROWS, make_sheet
from litetext.micro.scenes import SceneOptions


def test_a_sheet_is_full_and_exact() -> None:
    options = SceneOptions(size=160)
    sheets = [make_sheet(seed, options) for seed in range(8)]
    for sheet in sheets:
        assert sheet.pixels.shape == (160, 160, 3)
        assert ROWS * ROWS - 3 <= len(sheet.instances) <= ROWS * ROWS
        assert np.sum([one.mask for one in sheet.instances], axis=0).max() == 1  # disjoint
    concepts = {one.concept.index for sheet in sheets for one in sheet.instances}
    assert len(concepts) > 80
    assert any(one.colour for sheet in sheets for one in sheet.instances)


def test_the_seed_decides() -> None:
    options = SceneOptions(size=64)
    assert np.array_equal(make_sheet(4, options).pixels, make_sheet(4, options).pixels)
    assert not np.array_equal(make_sheet(4, options).pixels, make_sheet(5, options).pixels)
    assert not np.array_equal(make_sheet(4, options).pixels, make_sheet(4, SceneOptions(size=64, split="test")).pixels)
