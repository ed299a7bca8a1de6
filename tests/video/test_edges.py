"""Masks that follow the edges of their picture."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import uniform_filter, zoom

from litetext.sam3.masks import resize_masks
from litetext.video.edges import FLAT, fit_colors, make_masks, pack_masks, unpack_masks

Mask = npt.NDArray[np.bool_]


def disk(size: tuple[int, int], radius: float) -> Mask:
    rows, columns = np.ogrid[: size[0], : size[1]]
    return np.asarray((rows - 0.55 * size[0]) ** 2 + (columns - 0.45 * size[1]) ** 2 < radius**2)


def painted(mask: Mask) -> npt.NDArray[np.uint8]:
    """A picture in which a mask has another color, on a slope of light, with noise."""
    rng = np.random.default_rng(0)
    light = np.linspace(0, 30, mask.shape[1])[None, :, None]
    colors = np.where(mask[..., None], (200, 60, 40), (40, 90, 120)) + light + rng.normal(0, 2, (*mask.shape, 3))
    return colors.clip(0, 255).astype(np.uint8)


def coarse_logits(mask: Mask, grid: tuple[int, int], moved: int = 0) -> npt.NDArray[np.float32]:
    """A mask as a model gives it on a grid, moved by some cells."""
    rows, columns = (np.arange(cells) * length // cells for cells, length in zip(grid, mask.shape, strict=True))
    cells = np.roll(mask[np.ix_(rows, columns)], moved, axis=1)
    return np.where(cells, 4.0, -4.0).astype(np.float32)[None]


def masks_from(picture: npt.NDArray[np.uint8], logits: npt.NDArray[np.float32]) -> tuple[Mask, Mask]:
    return make_masks(picture, logits, 0.5)[0], resize_masks(logits, picture.shape[:2], 0.5)[0]


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("size", [(160, 160), (90, 170), (700, 500)])
def test_a_coarse_mask_finds_the_edge(size: tuple[int, int]) -> None:
    true = disk(size, min(size) / 4)
    refined, plain = masks_from(painted(true), coarse_logits(true, (64, 64)))
    assert iou(plain, true) < 0.96
    assert iou(refined, true) > 0.995
    refined, plain = masks_from(painted(true), coarse_logits(true, (64, 64), moved=1))
    assert iou(refined, true) > iou(plain, true) + 0.08


def test_fine_masks_are_resized_as_sam3_does_it_unless_asked() -> None:
    true = disk((120, 150), 30)
    picture, logits = painted(true), coarse_logits(true, (72, 72), moved=2)
    plain = resize_masks(logits, (120, 150), 0.5)
    np.testing.assert_array_equal(make_masks(picture, logits, 0.5), plain)
    np.testing.assert_array_equal(
        make_masks(picture, logits[:, :64, :64], 0.5, refine=False), resize_masks(logits[:, :64, :64], (120, 150), 0.5)
    )
    assert iou(make_masks(picture, logits, 0.5, refine=True)[0], true) > iou(plain[0], true) + 0.05


def test_the_fit_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(1)
    picture = rng.random((3, 40, 50)).astype(np.float32)
    shares = zoom(rng.random((8, 10)), 5, order=1).astype(np.float32)
    inner = np.s_[12:-12, 12:-12]  # at the border the windows are cut off here, and mirrored there

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(uniform_filter(values, size=(7, 5)))

    colors = picture.astype(np.float64)
    covariance = np.empty((40, 50, 3, 3))
    for one in range(3):
        for other in range(3):
            both = mean(colors[one] * colors[other]) - mean(colors[one]) * mean(colors[other])
            covariance[..., one, other] = both + FLAT * (one == other)
    along = np.stack([mean(color * shares) - mean(color) * mean(shares) for color in colors], axis=-1)
    slopes = np.linalg.solve(covariance, along[..., None])[..., 0].transpose(2, 0, 1)
    added = mean(shares) - sum(slope * mean(color) for slope, color in zip(slopes, colors, strict=True))
    expected = np.stack([mean(part) for part in [*slopes, added]])
    np.testing.assert_allclose(fit_colors(picture, shares, (3, 2))[:, *inner], expected[:, *inner], atol=2e-4)


def test_nothing_empty_masks_and_single_pixels() -> None:
    picture = painted(disk((20, 30), 6))
    assert make_masks(picture, np.zeros((0, 8, 8), dtype=np.float32), 0.5).shape == (0, 20, 30)
    assert not make_masks(picture, np.full((2, 8, 8), -90, dtype=np.float16), 0.5).any()
    assert make_masks(picture[:1, :1], np.full((1, 8, 8), 90, dtype=np.float16), 0.5).all()


def test_packed_masks_come_back() -> None:
    true = disk((60, 80), 20)
    picture, logits = painted(true), coarse_logits(true, (16, 16))
    packed = pack_masks(picture, [*logits, -logits[0]], 0.5, None)
    np.testing.assert_array_equal(unpack_masks(packed, [60, 80])[0], make_masks(picture, logits, 0.5)[0])
    assert unpack_masks(pack_masks(picture, [], 0.5, None), [60, 80]).shape == (0, 60, 80)
