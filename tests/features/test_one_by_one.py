"""Texts read alone: the encoder's own features, whatever stands beside them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.errors import EncoderError  # noqa: E402
from litetext.features.one_by_one import OneByOne  # noqa: E402
from litetext.sam3.adapters import valid_rows  # noqa: E402
from tests.auditing.fakes import FakeEncoder, vector_of  # noqa: E402

pytestmark = pytest.mark.torch


def test_each_text_is_read_alone() -> None:
    fake = FakeEncoder(whole=False, width=8)
    alone = OneByOne(fake)
    features = alone.encode(["white dog", "cat"])
    assert fake.batches == [["white dog"], ["cat"]]
    assert (alone.name, alone.context_length, alone.width) == ("fake", 16, 8)
    assert features.mask.tolist() == [[True, True], [True, False]]
    np.testing.assert_array_equal(features.values[0, 1], vector_of("dog", 8))
    np.testing.assert_array_equal(features.values[1, 0], vector_of("cat", 8))


def test_the_segmenter_reads_the_same_rows() -> None:
    texts = ["white dog", "cat", "a small red car"]
    fake = FakeEncoder(whole=False, width=8)
    for one, other in zip(valid_rows(OneByOne(fake), texts), valid_rows(fake, texts), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_features_that_are_not_finite_are_named() -> None:
    class Broken(FakeEncoder):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            features = super().encode(texts)
            features.values[:] = torch.inf
            return features

    with pytest.raises(EncoderError, match="the features of 'dog' are not finite"):
        OneByOne(Broken(whole=True, width=4)).encode(["dog"])
