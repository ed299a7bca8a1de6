"""Prompt banks as text encoders, with and without another encoder for other phrases."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.runtime import is_served, open_served  # noqa: E402
from litetext.features.encode import AsTextEncoder, pooled_features  # noqa: E402
from tests.features.banks import PHRASES, WordArrays, make, rows_of, stored  # noqa: E402

pytestmark = pytest.mark.torch


def test_a_bank_is_opened_as_an_encoder(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    make(path)
    assert is_served(str(path))
    bank = open_served(str(path))
    assert bank.bytes == path.stat().st_size
    assert np.allclose(pooled_features(bank, PHRASES)[4], stored("tree").mean(axis=0), atol=1e-6)
    with pytest.raises(EncoderError, match="lake"):
        bank.encode(["lake"])
    with pytest.raises(OptionError):
        bank.encode([])
    with pytest.raises(EncoderError, match="lake"):
        open_served(str(path), asked=["tree", "lake"])


def test_the_rest_is_left_to_an_encoder_that_is_loaded(tmp_path: Path) -> None:
    make(tmp_path / "bank.safetensors")
    bank = open_served(str(tmp_path / "bank.safetensors"), lambda: AsTextEncoder(WordArrays("other ")))
    features = bank.encode(["lake", "tree"])
    for row, expected in enumerate((rows_of("lake", "other "), stored("tree"))):
        assert np.array_equal(features.values[row][features.mask[row]].numpy(), expected)
