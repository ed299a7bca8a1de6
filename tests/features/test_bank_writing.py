"""Writing banks: all or nothing, in batches of one length, and what does not fit is refused by name."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litetext.errors import EncoderError, OptionError
from litetext.features import bank_writing
from litetext.features.bank import PromptBank
from litetext.features.bank_file import BankHeader
from litetext.features.bank_writing import write_bank
from litetext.tokenizer.bpe import clip_tokenizer
from tests.export.banks import CONTEXT, PHRASES, WordArrays, header, make

Arrays = tuple[Any, Any]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bank.safetensors"
    make(path)
    before = path.read_bytes()
    words = WordArrays()

    def failing(texts: list[str]) -> Arrays:
        if "tree" in texts:  # the shortest, which comes last
            raise EncoderError("no more")
        return words.encode(texts)

    monkeypatch.setattr(bank_writing, "BATCH_TOKENS", 8)
    with pytest.raises(EncoderError, match="no more"):
        write_bank(path, PHRASES, failing, header())
    assert words.batches
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_batches_are_of_like_lengths_and_the_longest_come_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bank_writing, "BATCH_TOKENS", 40)
    texts = [" ".join(["word"] * (1 + number % 5)) + f" {number}" for number in range(50)]
    words, shares = WordArrays(), list[float]()
    assert write_bank(tmp_path / "bank.safetensors", texts, words.encode, header(), shares.append) == 50
    assert sorted(text for batch in words.batches for text in batch) == sorted(texts)
    lengths = clip_tokenizer().encode(text for batch in words.batches for text in batch).lengths.clip(max=CONTEXT)
    assert (np.diff(lengths) <= 0).all()
    starts = np.cumsum([0, *map(len, words.batches[:-1])])
    assert all(lengths[start] * len(batch) <= 40 for start, batch in zip(starts, words.batches, strict=True))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert list(PromptBank.open(tmp_path / "bank.safetensors").phrases) == texts


def test_the_order_of_phrases_changes_no_features(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other", PHRASES[::-1])
    assert list(other.phrases) == PHRASES[::-1]
    assert np.array_equal(one.encode(PHRASES)[0], other.encode(PHRASES)[0])


def spoil(change: Callable[[Any, Any], Arrays]) -> Callable[[list[str]], Arrays]:
    words = WordArrays()
    return lambda texts: change(*words.encode(texts))


def with_value(value: float) -> Callable[[Any, Any], Arrays]:
    def change(values: Any, mask: Any) -> Arrays:
        values[-1, 1, 3] = value
        return values, mask

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values, mask: (values[:1], mask[:1]), r"features \[1, 9, 12\] with a mask \[1, 9\] for 5 phrases"),
        (lambda values, mask: (values[..., :5], mask), "of width 12"),
        (lambda values, mask: (values, mask[:, :3]), r"mask \[5, 3\]"),
        (lambda values, mask: (values, mask & False), "0 to 0 tokens of a phrase"),
        (with_value(np.nan), "the features of 'tree' are not finite, words"),
        (with_value(70_000.0), "the features of 'tree' are too large for fp16, words; store them as int8"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Callable[[Any, Any], Arrays], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        write_bank(tmp_path / "bank.safetensors", PHRASES, spoil(change), header())
    assert not list(tmp_path.iterdir())


def test_int8_takes_what_fp16_cannot(tmp_path: Path) -> None:
    write_bank(tmp_path / "bank.safetensors", ["tree"], spoil(with_value(70_000.0)), header("int8"))
    assert PromptBank.open(tmp_path / "bank.safetensors").encode(["tree"])[0].max() == pytest.approx(70_000)


def test_what_are_no_phrases(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="a bank of no phrases; give at least one"):
        write_bank(tmp_path / "bank.safetensors", [], WordArrays().encode, header())
    with pytest.raises(OptionError, match="int is not a string, phrase 1"):
        write_bank(tmp_path / "bank.safetensors", ["tree", 7], WordArrays().encode, header())  # type: ignore[list-item]


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_features_are_not_held(tmp_path: Path) -> None:
    """60 MB of them go to the file with a few MB of memory."""
    width, texts = 1024, [f"phrase {number}" for number in range(10_000)]
    values = np.ones((bank_writing.BATCH_TOKENS, 3, width), np.float32)

    def encode(some: list[str]) -> Arrays:
        return values[: len(some)], np.ones((len(some), 3), bool)

    write_bank(tmp_path / "warm.safetensors", texts[:2000], encode, BankHeader("x", "", "", CONTEXT, width))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_bank(tmp_path / "bank.safetensors", texts, encode, BankHeader("x", "", "", CONTEXT, width))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert (tmp_path / "bank.safetensors").stat().st_size > 60_000_000
    assert grown < 20_000_000
