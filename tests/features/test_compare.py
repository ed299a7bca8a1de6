"""Two encoders token by token: known answers, the figures of NumPy, and what cannot be compared."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import EncoderError, OptionError
from litetext.features.compare import Fidelity, compare, compare_rows, row_cosines
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE
from tests.features.banks import WordArrays


def test_known_answers() -> None:
    one = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    other = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, -3.0], [0.0, 0.0]])
    found = compare_rows([(one, other), (one[:1], -one[:1])])
    assert (found.phrases, found.tokens) == (2, 5)
    assert found.mean == pytest.approx((1 + 0 + 0 + 1 - 1) / 5)
    assert found.min == -1
    assert found.p1 == pytest.approx(np.quantile([1, 0, 0, 1, -1], 0.01))
    assert found.largest == 6
    assert compare_rows([(one, one)]) == Fidelity(1, 4, 1.0, 1.0, 1.0, 0.0)
    assert compare_rows([(one[:1], one[3:])]).min == 0  # nothing is not alike to something


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32]))
def test_it_does_not_depend_on_how_tokens_are_shared_out(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.normal(size=(12, 5)).astype(dtype) for _ in range(2))
    whole = compare_rows([(one, other)])
    parts = compare_rows([(one[:4], other[:4]), (one[4:], other[4:])])
    assert whole.to_json() | {"phrases": 2} == parts.to_json()
    a, b = one.astype(float), other.astype(float)
    cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    assert whole.mean == pytest.approx(cosines.mean())
    assert whole.min == pytest.approx(cosines.min())
    assert whole.largest == np.abs(a - b).max()


def test_the_line_says_every_figure() -> None:
    line = Fidelity(1000, 5123, 0.99943, 0.999, 0.99517, 0.0123).line()
    assert line == (
        "cosine on 5,123 valid tokens of 1,000 phrases: mean 0.99943, 1st percentile 0.99900, min 0.99517; "
        "largest difference 0.012"
    )


def test_one_convention_for_zeros_and_what_is_not_finite() -> None:
    nan = np.nan
    one = np.array([[1.0, 0], [0, 0], [0, 0], [1, nan], [2, 2], [1e30, 0]], np.float32)
    two = np.array([[1.0, 1], [0, 0], [0, 3], [1, nan], [-1, -1], [1e30, 0]], np.float32)
    assert row_cosines(one, two).tolist() == [pytest.approx(0.5**0.5), 1, 0, -1, pytest.approx(-1), 1]


def test_what_cannot_be_compared() -> None:
    one = np.ones((2, 3))
    with pytest.raises(OptionError):
        compare_rows([])
    with pytest.raises(EncoderError, match=r"phrase 1 are \[2, 3\] and \[2, 2\].*there"):
        compare_rows([(one, one), (one, one[:, :2])], where="there")
    with pytest.raises(EncoderError, match="phrase 0"):
        compare_rows([(one[:0], one[:0])])
    with pytest.raises(EncoderError, match="phrase 0 are not finite"):
        compare_rows([(one, one * np.nan)])
    with pytest.raises(EncoderError, match="none of 1 phrases"):
        compare_rows([(one, one[:1])])
    some = compare_rows([(one, one[:1]), (one, one)])
    assert (some.phrases, some.skipped) == (1, 1)
    assert "1 phrases" in some.line()


def test_padding_is_never_compared() -> None:
    pytest.importorskip("torch")
    from litetext.encoders.student import StudentEncoder
    from tests.encoders.students import tiny_student

    texts = ["dog", "a white dog on a red chair", "two cars", "a small house"]
    one, other = (StudentEncoder(tiny_student("masked", seed, vocabulary=VOCABULARY_SIZE), "x") for seed in (0, 1))
    assert compare(one, one, texts) == Fidelity(4, 3 + 9 + 4 + 5, 1.0, 1.0, 1.0, 0.0)
    shares: list[float] = []
    assert compare(one, other, texts, shares.append).min < 1
    assert shares[-1] == 1.0
    with pytest.raises(OptionError):
        compare(one, other, [])


def test_arrays_are_compared_as_tensors_are_and_the_bundled_corpus_is_what_there_is() -> None:
    words, other = WordArrays(), WordArrays("other ")
    assert compare(words, WordArrays()).phrases == 1000
    assert compare(words, other, ["white dog"]).tokens == 4
