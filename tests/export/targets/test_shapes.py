"""Any batch through a program of a fixed shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import EncoderError, OptionError
from litetext.export.targets import Features, Ids, Mask, TargetOptions, any_shape


@given(
    rows=st.integers(1, 9), asked=st.integers(1, 6), batch=st.none() | st.integers(1, 4), spare=st.none() | st.just(2),
    whole=st.booleans(),
)  # fmt: skip
def test_each_text_has_its_own_answer(rows: int, asked: int, batch: int | None, spare: int | None, whole: bool) -> None:
    length = None if spare is None else asked + spare
    random = np.random.default_rng(rows)
    ids, mask = random.integers(0, 99, (rows, asked)), random.random((rows, asked)) < 0.7
    calls = []

    def program(some: Ids, seen: Mask) -> Features:
        calls.append(some.shape)
        assert seen.dtype == np.bool_
        return np.where(seen, some, 0)[:, :, None].astype(np.float32) + np.array([0, 1000], np.float32)

    found = any_shape(program, length, batch, fill_batch=whole)(ids, mask)
    assert np.array_equal(found[:, :, 0], np.where(mask, ids, 0))
    assert found.shape == (rows, asked, 2)
    assert {shape[1] for shape in calls} == {length or asked}
    if batch:
        assert len(calls) == -(-rows // batch)
        assert {shape[0] for shape in calls[:-1]} <= {batch}
        assert calls[-1][0] == (batch if whole else (rows - 1) % batch + 1)


def test_what_does_not_fit_is_said() -> None:
    engine = any_shape(lambda *_: np.zeros(0, np.float32), 4, None)
    with pytest.raises(EncoderError, match="5 tokens for a program of 4"):
        engine(np.zeros((1, 5), np.int64), np.ones((1, 5), np.bool_))
    for ids, mask in (((2, 3), (2, 2)), ((3,), (3,)), ((0, 3), (0, 3))):
        with pytest.raises(EncoderError):
            engine(np.zeros(ids, np.int64), np.ones(mask, np.bool_))


def test_options_that_make_no_sense() -> None:
    for wrong, words in (
        ({"length": 1}, "a length of 1"),
        ({"batch": 0}, "a batch of 0"),
        ({"precision": "int2"}, "int2"),
    ):
        with pytest.raises(OptionError, match=words):
            TargetOptions(**wrong)
