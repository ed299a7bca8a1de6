"""Features check themselves, and pool only what is valid."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from litetext.errors import EncoderError
from litetext.features.protocol import TextFeatures

LIGHT = (
    "litetext.device",
    "litetext.features.bank",
    "litetext.features.compare",
    "litetext.features.store",
    "litetext.checkpoints.huggingface",
    "litetext.auditing.order",
    "litetext.auditing.position_rank",
)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.parametrize("module", LIGHT)
def test_importing_does_not_bring_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.torch
def test_pooling_reads_valid_tokens_only(torch: Any) -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [torch.nan, torch.inf]]])
    features = TextFeatures(values, torch.tensor([[True, True], [True, False]]))
    np.testing.assert_array_equal(features.pooled(), [[2, 4], [5, 7]])


@pytest.mark.torch
def test_pooling_of_half_precision_is_computed_in_float32(torch: Any) -> None:
    features = TextFeatures(torch.full((1, 4, 2), 60000.0, dtype=torch.float16), torch.ones(1, 4, dtype=torch.bool))
    assert features.pooled().dtype is torch.float32
    np.testing.assert_array_equal(features.pooled(), [[60000, 60000]])


@pytest.mark.torch
@pytest.mark.parametrize(
    ("shape", "mask_shape", "complaint"),
    [
        ((2, 3), (2, 3), "not [B, L, D] with a mask [B, L]: values [2, 3], mask [2, 3]"),
        ((2, 3, 4), (2, 4), "values [2, 3, 4], mask [2, 4]"),
    ],
)
def test_wrong_shapes_are_refused_at_birth(
    torch: Any, shape: tuple[int, ...], mask_shape: tuple[int, ...], complaint: str
) -> None:
    with pytest.raises(EncoderError) as caught:
        TextFeatures(torch.zeros(shape), torch.ones(mask_shape, dtype=torch.bool))
    assert complaint in str(caught.value)


@pytest.mark.torch
def test_a_mask_of_numbers_is_refused(torch: Any) -> None:
    with pytest.raises(EncoderError, match=r"torch\.int64, not bool"):
        TextFeatures(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.int64))


@pytest.mark.torch
def test_a_text_without_a_token_is_refused_by_its_row(torch: Any) -> None:
    mask = torch.tensor([[True, False], [False, False]])
    with pytest.raises(EncoderError, match="without a valid token, row 1"):
        TextFeatures(torch.zeros(2, 2, 3), mask)
