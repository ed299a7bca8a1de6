"""NumPy encoders as text encoders, and the other way round."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.features.encode import AsTextEncoder, is_served, open_served  # noqa: E402
from litetext.features.protocol import ArraysOf, TextEncoder, pooled_features  # noqa: E402
from tests.features.banks import CONTEXT, PHRASES, WIDTH, WordArrays, make, rows_of, stored  # noqa: E402

pytestmark = pytest.mark.torch


def test_arrays_become_features_and_again_arrays() -> None:
    words = WordArrays()
    encoder: TextEncoder = AsTextEncoder(words)
    assert (encoder.name, encoder.context_length, encoder.width) == ("words", CONTEXT, WIDTH)
    found = encoder.encode(["white dog", "tree"])
    assert found.values.dtype == torch.float32
    assert found.mask.tolist() == [[True] * 4, [True] * 3 + [False]]
    back = ArraysOf(encoder)
    assert (back.name, back.context_length, back.width) == ("words", CONTEXT, WIDTH)
    values, mask = back.encode(["white dog", "tree"])
    assert np.array_equal(values[1][mask[1]], rows_of("tree"))


def test_a_bank_is_opened_as_an_encoder(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    make(path)
    assert is_served(str(path))
    assert not is_served("micro")
    assert not is_served("facebook/sam3")
    assert not is_served(str(tmp_path))
    bank = open_served(str(path))
    assert bank.bytes == path.stat().st_size
    pooled = pooled_features(bank, PHRASES)
    assert np.allclose(pooled[4], stored("tree").mean(axis=0), atol=1e-6)
    with pytest.raises(EncoderError, match="'lake' is not in the bank"):
        bank.encode(["lake"])
    with pytest.raises(OptionError, match="no texts"):
        bank.encode([])


def test_the_rest_is_left_to_an_encoder_that_is_loaded(tmp_path: Path) -> None:
    make(tmp_path / "bank.safetensors")
    bank = open_served(str(tmp_path / "bank.safetensors"), lambda: AsTextEncoder(WordArrays("other ")))
    found = bank.encode(["lake", "tree"])
    assert np.array_equal(found.values[0].numpy(), rows_of("lake", "other "))
    assert np.array_equal(found.values[1].numpy(), stored("tree"))
