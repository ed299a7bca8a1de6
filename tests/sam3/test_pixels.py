"""Pixels without PyTorch are those of PyTorch: bit for bit torchvision's resize, and `Sam3ImageProcessor`'s values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.sam3.pixels import resize, to_pixels

torch = pytest.importorskip("torch")
functional: Any = pytest.importorskip("torchvision.transforms.v2.functional")

pytestmark = pytest.mark.torch
Bytes = npt.NDArray[np.uint8]


def noise(height: int, width: int, channels: int = 3) -> Bytes:
    """With white and black pixels among the others: sums of them are cut off at either end."""
    rng = np.random.default_rng(height * 10_007 + width)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return np.where(rng.random((height, width, 1)) < 0.3, np.uint8(255) * (image > 127), image).astype(np.uint8)


def torchvision_resize(image: Bytes, size: tuple[int, int]) -> Bytes:
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    resized: Bytes = functional.resize(tensor, list(size), antialias=True).numpy().transpose(1, 2, 0)
    return resized


@pytest.mark.parametrize(
    "old", [(1, 1), (1, 37), (37, 1), (2, 3), (160, 160), (160, 90), (161, 159), (37, 1333), (1900, 13), (640, 480)]
)
@pytest.mark.parametrize("new", [(160, 160), (56, 224)])
def test_resize_is_torchvisions(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = noise(*old)
    assert np.array_equal(resize(image, new), torchvision_resize(image, new))


SIDES, NEW = st.integers(1, 40), st.integers(2, 40)  # to 1 x 1 torchvision itself fails


@settings(max_examples=150)
@given(st.tuples(SIDES, SIDES), st.tuples(NEW, NEW))
def test_resize_of_small_images_is_torchvisions(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = noise(*old)
    assert np.array_equal(resize(image, new), torchvision_resize(image, new))


def test_resize_of_a_photograph_is_torchvisions() -> None:
    image = noise(3000, 4000)
    assert np.array_equal(resize(image, (1008, 1008)), torchvision_resize(image, (1008, 1008)))


@pytest.mark.parametrize("old", [(1, 1), (90, 70), (160, 160), (333, 251)])
def test_pixels_are_the_processors(old: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    image = noise(*old)
    processor = transformers.Sam3ImageProcessor(size={"height": 160, "width": 160})
    wanted = processor(images=image, input_data_format="channels_last", return_tensors="pt")["pixel_values"].numpy()
    found = to_pixels(image, (160, 160), processor.image_mean, processor.image_std)
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted)
    assert found.flags.c_contiguous
