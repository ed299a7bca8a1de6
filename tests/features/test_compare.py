"""Two encoders token by token: known answers, the figures of NumPy, and what cannot be compared."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import EncoderError, OptionError
from litetext.features.compare import Fidelity, compare_encoders, fidelity_of
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE


def test_known_answers() -> None:
    one = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0]])
    other = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, -3.0], [0.0, 0.0]])
    found = fidelity_of([(one, other), (one[:1], -one[:1])])
    assert (found.phrases, found.tokens) == (2, 5)
    assert found.mean == pytest.approx((1 + 0 + 0 + 1 - 1) / 5)
    assert found.min == -1
    assert found.p1 == pytest.approx(np.quantile([1, 0, 0, 1, -1], 0.01))
    assert found.largest == 6
    assert fidelity_of([(one, one)]) == Fidelity(1, 4, 1.0, 1.0, 1.0, 0.0)
    assert fidelity_of([(one[:1], one[3:])]).min == 0  # nothing is not alike to something


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32]))
def test_it_does_not_depend_on_how_tokens_are_shared_out(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    one, other = (rng.normal(size=(12, 5)).astype(dtype) for _ in range(2))
    whole = fidelity_of([(one, other)])
    parts = fidelity_of([(one[:4], other[:4]), (one[4:], other[4:])])
    assert whole.to_json() | {"phrases": 2} == parts.to_json()
    a, b = one.astype(float), other.astype(float)
    cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    assert whole.mean == pytest.approx(cosines.mean())
    assert whole.min == pytest.approx(cosines.min())
    assert whole.largest == np.abs(a - b).max()


def test_the_line_says_every_figure() -> None:
    line = Fidelity(1000, 5123, 0.99943, 0.999, 0.99517, 0.0123).line()
    assert line == (
        "cosine on 5,123 valid tokens of 1,000 phrases: mean 0.99943, 1st percentile 0.99900, least 0.99517; "
        "largest difference 0.012"
    )


def test_what_cannot_be_compared() -> None:
    one = np.ones((2, 3))
    with pytest.raises(OptionError, match="no phrases to compare"):
        fidelity_of([])
    with pytest.raises(EncoderError, match=r"phrase 1 are \[2, 3\] and \[1, 3\], not twice \[T, D\], there"):
        fidelity_of([(one, one), (one, one[:1])], where="there")
    with pytest.raises(EncoderError, match="not twice"):
        fidelity_of([(one[:0], one[:0])])
    with pytest.raises(EncoderError, match="phrase 0 are not finite"):
        fidelity_of([(one, one * np.nan)])


def test_padding_is_never_compared() -> None:
    pytest.importorskip("torch")
    from litetext.encoders.student import StudentEncoder
    from tests.encoders.students import tiny_student

    texts = ["dog", "a white dog on a red chair", "two cars", "a small house"]
    one, other = (StudentEncoder(tiny_student("masked", seed, vocabulary=VOCABULARY_SIZE), "x") for seed in (0, 1))
    assert compare_encoders(one, one, texts, batch_size=2) == Fidelity(4, 3 + 9 + 4 + 5, 1.0, 1.0, 1.0, 0.0)
    shares: list[float] = []
    small = compare_encoders(one, other, texts, shares.append, batch_size=1)
    assert small.mean == pytest.approx(compare_encoders(one, other, texts).mean, abs=1e-6)
    assert small.min < 1
    assert shares == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(OptionError, match="a batch of 0 texts"):
        compare_encoders(one, other, texts, batch_size=0)
    with pytest.raises(OptionError, match="no phrases"):
        compare_encoders(one, other, [])


def test_it_needs_no_torch() -> None:
    code = "import sys, litetext.features.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
