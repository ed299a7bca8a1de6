"""The one loop over texts: each once, the longest first, little padding; what an encoder gives is checked by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import EncoderError, OptionError
from litetext.features.encode import (
    AsTextEncoder,
    array_rows,
    encode,
    plan_batches,
    pooled_features,
    token_lengths,
    valid_rows,
)
from litetext.features.ragged import pad, split
from litetext.tokenizer.bpe import clip_tokenizer
from tests.auditing.fakes import FakeEncoder, vector_of
from tests.features.banks import CONTEXT, PHRASES, WIDTH, WordArrays, rows_of

descending = st.lists(st.integers(2, 32), max_size=60).map(lambda values: sorted(values, reverse=True))


@given(descending, st.integers(1, 100))
def test_a_plan_takes_each_text_once_within_its_budget(lengths: list[int], batch: int) -> None:
    slices = list(plan_batches(np.array(lengths, np.int64), batch))
    assert [row for piece in slices for row in range(piece.start, piece.stop)] == list(range(len(lengths)))
    for piece in slices:
        assert piece.stop - piece.start == 1 or lengths[piece.start] * (piece.stop - piece.start) <= batch


@given(descending.filter(len), st.data())
def test_what_is_left_is_planned_as_if_nothing_had_been_done(lengths: list[int], data: st.DataObject) -> None:
    tokens = np.array(lengths, np.int64)
    slices = list(plan_batches(tokens, 64))
    done = data.draw(st.integers(0, len(slices)))
    first = slices[done - 1].stop if done else 0
    again = [slice(piece.start + first, piece.stop + first) for piece in plan_batches(tokens[first:], 64)]
    assert again == slices[done:]
    before = plan_batches(tokens[:first], 64)  # as when a shard from the middle is computed again
    assert list(before) == slices[:done]


@pytest.mark.parametrize(
    ("lengths", "batch", "expected"),
    [
        # 6 alone and 5 alone, since the texts get shorter.
        ([6, 5, 3, 3, 3], 10, [(0, 1), (1, 2), (2, 5)]),
        # Full at 9 of 10 tokens.
        ([3, 3, 3, 3], 10, [(0, 3), (3, 4)]),
        # Two of 3 are less than the eighth of 80, so that they share a batch with those of 2.
        ([3, 3, 2, 2, 2, 2], 80, [(0, 6)]),
        # They are more than the eighth of 40.
        ([3, 3, 2, 2, 2, 2], 40, [(0, 2), (2, 6)]),
        # A text longer than a batch is a batch.
        ([9, 2, 2], 4, [(0, 1), (1, 3)]),
        ([], 4, []),
    ],
)
def test_plan_known_answers(lengths: list[int], batch: int, expected: list[tuple[int, int]]) -> None:
    assert [(piece.start, piece.stop) for piece in plan_batches(np.array(lengths, np.int64), batch)] == expected


def test_each_text_once_the_longest_first_whatever_the_order() -> None:
    texts = [" ".join(["word"] * (1 + number % 5)) + f" {number}" for number in range(50)]
    words, shares = WordArrays(), list[float]()
    rows = {
        texts[place]: row
        for places, part in encode(words, texts, 40, shares.append)
        for place, row in zip(places, part, strict=True)
    }
    assert all(np.array_equal(rows[text], rows_of(text)) for text in texts)
    batches = words.batches[1:]  # the first asks whether padding costs
    assert sorted(text for batch in batches for text in batch) == sorted(texts)
    lengths = [token_lengths(batch, CONTEXT) for batch in batches]
    assert (np.diff(np.concatenate(lengths)) <= 0).all()
    assert all(len(batch) * batch[0] <= 40 for batch in lengths)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    again = WordArrays()
    list(encode(again, texts[::-1], 40))
    assert again.batches == words.batches


def test_lengths_and_no_texts() -> None:
    texts = ["dog", "a red car", "x" * 600]
    assert (
        token_lengths(texts, 8).tolist() == np.minimum(clip_tokenizer().encode(texts).lengths, 8).tolist() == [3, 5, 8]
    )
    words = WordArrays()
    assert list(encode(words, [])) == []
    assert pooled_features(words, []).shape == (0, WIDTH)
    assert not words.batches
    with pytest.raises(OptionError, match="0 tokens"):
        list(encode(words, ["a"], 0))


@dataclass
class Padded:
    """Reads each text at the full context, as an encoder does that attends to padding."""

    name: str = "padded"
    context_length: int = 8
    width: int = 2
    batches: list[int] = field(default_factory=list)

    def encode(self, texts: Any) -> Any:
        self.batches.append(len(texts))
        mask = np.arange(8) < token_lengths(texts, 8)[:, None]
        return np.ones((*mask.shape, 2), np.float32), mask


def test_an_encoder_that_reads_its_padding_pays_for_the_whole_context() -> None:
    padded = Padded()
    list(encode(padded, [f"dog {number}" for number in range(30)], 5 * 8))
    assert padded.batches[1:] == [5] * 6


def test_pooled_features_keep_the_order() -> None:
    pytest.importorskip("torch")
    texts = ["aa", "a b c", "aaaaa", "aaaa e", "aaa", "a"]
    encoder = FakeEncoder(whole=True)
    features = pooled_features(encoder, texts)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, [vector_of(text, 256) for text in texts])
    np.testing.assert_array_equal(pooled_features(encoder, texts, 1), features)
    assert {len(batch) for batch in encoder.batches[3:]} == {1}
    words = FakeEncoder(whole=False, width=8)
    np.testing.assert_allclose(pooled_features(words, ["red dog"])[0], (vector_of("red", 8) + vector_of("dog", 8)) / 2)


class Changed(WordArrays):
    """Gives what a function makes of the right features."""

    def __init__(self, change: Callable[[Any, Any], Any], torch: Any = None) -> None:
        super().__init__()
        self.change, self.torch = change, torch

    def encode(self, texts: Any) -> Any:
        values, mask = self.change(*super().encode(texts))
        if self.torch is None:
            return values, mask
        from litetext.features.protocol import TextFeatures

        return TextFeatures.of_arrays(np.ascontiguousarray(values), np.ascontiguousarray(mask))


def with_value(value: float) -> Callable[[Any, Any], Any]:
    def change(values: Any, mask: Any) -> Any:
        values[-1, 1, 3] = value
        return values, mask

    return change


WRONG = [
    (lambda values, mask: (values[:1], mask[:1]), "5 texts"),
    (lambda values, mask: (values[..., :5], mask), "width 12"),
    (with_value(np.nan), "features of 'tree' are not finite"),
    (with_value(-np.inf), "features of 'tree' are not finite"),
]


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize(("change", "fact"), WRONG)
def test_what_an_encoder_gives_is_checked(change: Any, fact: str, tensors: bool) -> None:
    encoder = Changed(change, pytest.importorskip("torch") if tensors else None)
    for read in (valid_rows, array_rows):
        with pytest.raises(EncoderError, match=fact) as caught:
            read(encoder, PHRASES)
        assert "words" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda values, mask: (values, mask[:, :3]), r"mask \[5, 3\]"),
        (lambda values, mask: (values, mask & False), "0 tokens of 'white dog'"),
    ],
)
def test_a_mask_that_does_not_fit(change: Any, fact: str) -> None:
    with pytest.raises(EncoderError, match=fact):
        array_rows(Changed(change), PHRASES)


def test_large_numbers_whose_sum_overflows_are_fine() -> None:
    rows = array_rows(Changed(lambda values, mask: (np.full_like(values, 3e38), mask)), PHRASES)
    assert rows[0].max() == np.float32(3e38)


def test_no_memory_is_one_line() -> None:
    torch = pytest.importorskip("torch")

    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("a screenful of advice")

    with pytest.raises(EncoderError, match="batch of 5 texts"):
        array_rows(Changed(fail), PHRASES)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 9), st.booleans())
def test_padding_and_back(lengths: list[int], least: int, tensors: bool) -> None:
    rng = np.random.default_rng(0)
    rows: list[Any] = [rng.normal(size=(length, 3)).astype(np.float32) for length in lengths]
    if tensors:
        torch = pytest.importorskip("torch")
        rows = [torch.from_numpy(row).half() for row in rows]
        values, mask = pad(rows, least=least, like=torch.empty(0, dtype=torch.float64))
        assert values.dtype is torch.float64
    else:
        values, mask = pad(rows, least=least)
    assert tuple(values.shape) == (len(rows), max(least, *lengths), 3)
    assert not bool(values[~mask].any())
    assert all(bool((row == back).all()) for row, back in zip(rows, split(values[mask], mask), strict=True))


def test_read_one_by_one() -> None:
    pytest.importorskip("torch")
    fake = FakeEncoder(whole=False, width=8)
    alone = AsTextEncoder(fake, one_by_one=True)
    texts = ["white dog", "cat", "a small red car"]
    features = alone.encode(texts)
    assert fake.batches == [["white dog"], ["cat"], ["a small red car"]]
    assert (alone.name, alone.context_length, alone.width) == ("fake", 16, 8)
    assert features.mask.sum(dim=1).tolist() == [2, 1, 4]
    np.testing.assert_array_equal(features.values[0, 1], vector_of("dog", 8))
    for one, other in zip(valid_rows(alone, texts), valid_rows(fake, texts), strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_as_a_text_encoder() -> None:
    torch = pytest.importorskip("torch")
    encoder = AsTextEncoder(WordArrays(), bytes=7)
    found = encoder.encode(["white dog", "tree"])
    assert found.values.dtype == torch.float32
    assert found.mask.tolist() == [[True] * 4, [True] * 3 + [False]]
    assert np.array_equal(valid_rows(encoder, ["tree"])[0], rows_of("tree"))
    with pytest.raises(EncoderError, match="not finite"):
        AsTextEncoder(Changed(with_value(np.nan)), one_by_one=True).encode(["tree"])
