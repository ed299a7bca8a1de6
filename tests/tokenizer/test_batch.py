import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import OptionError
from litetext.tokenizer.batch import TokenBatch
from litetext.tokenizer.vocabulary import END_ID, START_ID
from tests.tokenizer.reference import sam3_tokenizer


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(2, 20))
def test_pads_and_truncates_as_sam3_does(texts: list[str], context_length: int) -> None:
    batch = TokenBatch.of_texts(texts, context_length)
    assert batch.ids.shape == (len(texts), context_length)
    np.testing.assert_array_equal(
        batch.ids, sam3_tokenizer()(texts, context_length).numpy().reshape(-1, context_length)
    )
    np.testing.assert_array_equal(
        batch.mask.sum(axis=1), [min(context_length, len(sam3_tokenizer().encode(text)) + 2) for text in texts]
    )


def test_known_answer() -> None:
    batch = TokenBatch.of_texts(["white dog", "a photo of a cat"], 5)
    assert batch.ids.tolist() == [[START_ID, 1579, 1929, END_ID, 0], [START_ID, 320, 1125, 539, END_ID]]
    assert batch.mask.tolist() == [[True] * 4 + [False], [True] * 5]
    assert batch.context_length == 5
    assert len(batch) == 2


def test_a_context_without_room() -> None:
    with pytest.raises(OptionError, match="context length 1 is below 2"):
        TokenBatch.of_texts(["dog"], 1)


def test_shapes_and_types_are_checked_at_birth() -> None:
    ids = np.zeros((2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match=r"must both be \[B, L\]"):
        TokenBatch(ids, np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="not int64 and bool"):
        TokenBatch(ids, np.ones((2, 3), dtype=np.int64))  # type: ignore[arg-type]
