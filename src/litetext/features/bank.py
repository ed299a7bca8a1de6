"""A prompt bank: the features of a closed list of phrases, a text encoder without parameters.

Neither PyTorch nor the encoder is needed to read one.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from litetext.errors import CacheError, EncoderError, OptionError, printable, shortened
from litetext.features.encode import Encoder, Rows, array_rows, encode
from litetext.features.protocol import Arrays, Progress, TextEncoder
from litetext.features.ragged import pad
from litetext.features.store import (
    FeatureStore,
    Teacher,
    distinct_phrases,
    narrow,
    phrase_bytes,
    widen,
    write_shard,
)
from litetext.tokenizer.texts import as_texts, each_text

NEAREST = 5  # known phrases that a refusal names
MOST_CHECKED = 4096  # phrases whose features are kept to be compared: some 32 MB at SAM3's width
_LONGEST_SHOWN = 60
_LONGEST_COMPARED = 200  # characters of a phrase whose spelling is compared
_CHUNK = 1 << 14  # phrases that are decoded at once


class PromptBank:
    """Features by phrase from a store; other phrases are refused, or left to another encoder. Threads may share it.

    A phrase is what SAM3's tokenizer sees of it (`clean`): "White  Dog" finds "white dog". Nothing else is alike: "a
    white dog" is another phrase.

    Attributes:
        store: of one shard, or any other.
        fallback: encodes the phrases that are not in it; None refuses them.
        report: of `make_bank`, where the bank was made just now.
    """

    def __init__(self, store: FeatureStore, fallback: Encoder | None = None) -> None:
        if fallback is not None and fallback.width != store.width:
            raise EncoderError(
                f"features of width {fallback.width} beside a bank of width {store.width}",
                where=fallback.name,
                hint="give an encoder of the bank's width",
            )
        self.store, self.fallback = store, fallback
        self.report: dict[str, Any] = {}

    @classmethod
    def open(cls, path: str | Path, fallback: Encoder | None = None) -> "PromptBank":
        """Map a bank; all but its features is read once, for its checksum.

        Args:
            path: a file of `litetext bank`, or a folder of `litetext embed`.
            fallback: encodes the phrases that are not in it, for example a `TextRuntime`. Features of two encoders
                may stand side by side then: give the one that the bank was made with, or a student of it.

        Raises:
            CacheError: no bank, or a damaged one.
            EncoderError: ``fallback`` gives features of another width.
        """
        return cls(FeatureStore.open(path), fallback)

    @property
    def name(self) -> str:
        """What reports call it: its path."""
        return self.store.name

    @property
    def teacher(self) -> Teacher:
        """Whose features they are."""
        return self.store.teacher

    @property
    def context_length(self) -> int:
        """The most tokens that were read of a phrase, start and end token counted."""
        return max(self.store.context_length, 0 if self.fallback is None else self.fallback.context_length)

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.store.width

    @property
    def phrases(self) -> Iterator[str]:
        """The phrases as SAM3's tokenizer sees them, in the order in which they were given."""
        return self.store.phrases

    def __len__(self) -> int:
        """The number of phrases."""
        return len(self.store)

    def __contains__(self, text: object) -> bool:
        """Whether the bank itself has the features of a phrase."""
        return text in self.store

    def encode(self, texts: Iterable[str]) -> Arrays:
        """Features float32 [B, L, D], zeros at padding, and mask bool [B, L], True at valid tokens.

        Args:
            texts: B of them, at least one; L is the longest of them in tokens.

        Raises:
            OptionError: no texts, one string instead of a list, or something that is not a string.
            EncoderError: a phrase is not known and there is no fallback to encode it.
            CacheError: the file is damaged.
        """
        texts = as_texts(texts)
        phrases = [phrase_bytes(text) for text in texts]
        places = [self.store.find(phrase) for phrase in phrases]
        if min(places) >= 0:
            return self.store.at(places)
        unknown = distinct_phrases(text for text, place in zip(texts, places, strict=True) if place < 0)
        if self.fallback is None:
            raise self._refusal(list(unknown.values()))
        others = dict(zip(unknown, array_rows(self.fallback, list(unknown.values())), strict=True))
        arrays: Arrays = pad(
            [
                others[phrase] if place < 0 else self.store.row(place)
                for phrase, place in zip(phrases, places, strict=True)
            ]
        )
        return arrays

    def check(self, texts: Sequence[str]) -> None:
        """Raise the `EncoderError` that `encode` would raise of phrases that nobody knows; no features are read."""
        unknown = [] if self.fallback is not None else list(distinct_phrases(self.store.missing(texts)).values())
        if unknown:
            raise self._refusal(unknown)

    def nearest(self, text: str, count: int = NEAREST) -> list[str]:
        """The known phrases that are spelt most alike (Indel similarity), the most alike first, of equals the first.

        None of them is half as alike as the first. A million phrases take about a second.

        Raises:
            CacheError: a file is damaged.
        """
        from rapidfuzz import fuzz, process

        query = phrase_bytes(text).decode("utf-8", "surrogatepass")[:_LONGEST_COMPARED]
        best: list[tuple[float, str]] = []
        for data, offsets in self.store.texts:
            for start in range(0, len(offsets) - 1, _CHUNK):
                spans = pairwise(offsets[start : start + _CHUNK + 1].tolist())
                phrases = [data[begin:end].decode("utf-8", "surrogatepass") for begin, end in spans]
                least = best[-1][0] if len(best) == count else 0
                scores = process.extract(query, phrases, scorer=fuzz.ratio, limit=count, score_cutoff=least)
                found = [(score, phrase) for phrase, score, _ in scores]
                best = heapq.nlargest(count, [*best, *found], key=lambda pair: pair[0])
        return [phrase for score, phrase in best if score >= best[0][0] / 2]

    def to_json(self) -> dict[str, Any]:
        """Plain values for reports."""
        fields = self.store.to_json()
        return {
            "bank": self.name,
            "phrases": len(self),
            "tokens": fields["tokens"],
            "dtype": fields["dtype"],
            "bytes": fields["bytes"],
            "bytes_per_phrase": fields["bytes"] / len(self),
            "encoder": fields["teacher"],
            **self.report,
        }

    def describe(self) -> str:
        """The same as a line for people."""
        size = self.store.bytes
        return (
            f"{self.name}: {len(self):,} phrases, {self.store.tokens:,} tokens in {self.store.dtype}, "
            f"{size / 1e6:,.2f} MB, {size / len(self):,.0f} bytes a phrase, of {shortened(self.teacher.name, 100)}"
        )

    def _refusal(self, unknown: list[str]) -> EncoderError:
        """What to say of phrases that are not there; the nearest to the first of them are named."""
        more = f", nor are {len(unknown) - 1} others" if len(unknown) > 1 else ""
        nearest = ", ".join(_shown(phrase) for phrase in self.nearest(unknown[0]))
        return EncoderError(
            f"{_shown(unknown[0])} is not in the bank{more} (the nearest that are: {nearest})",
            where=self.name,
            hint="make a bank with it, or give an encoder for such phrases (--fallback)",
        )


def make_bank(
    path: str | Path,
    phrases: Iterable[str] | None,
    source: TextEncoder | FeatureStore,
    dtype: str = "fp16",
    progress: Progress | None = None,
) -> PromptBank:
    """Write a bank, read it back, and compare it with the features as they were computed.

    Phrases that SAM3's tokenizer cannot tell apart are stored once. Of more than `MOST_CHECKED` so many are compared,
    evenly spread.

    Args:
        path: the file, replaced in one step.
        phrases: at least one; None for all that a store has.
        source: of the features: an encoder, or a store.
        dtype: what they are stored in: "fp16", "bf16" or "int8".
        progress: called with the share done, 0..1.

    Returns:
        The bank; its ``report`` has "checked", the number of phrases compared, and "cosine", mean and min over their
        tokens.

    Raises:
        OptionError: no phrases, or no such dtype.
        EncoderError: the encoder fails, its features do not fit the dtype, or what is read back is not that.
        CacheError: the store lacks a phrase.
        OSError: the file cannot be written.
    """
    store = source if isinstance(source, FeatureStore) else None
    if phrases is None:
        phrases = () if store is None else store.phrases
    distinct = distinct_phrases(each_text(phrases))
    if not distinct:
        raise OptionError("a bank of no phrases", hint="give at least one")
    texts = list(distinct.values())
    if store is not None and (missing := store.missing(texts)):
        raise CacheError(f"no features of '{missing[0]}'", where=store.name, hint="embed these phrases first")
    chosen = set(np.linspace(0, len(texts) - 1, min(len(texts), MOST_CHECKED)).astype(int).tolist())
    kept: dict[str, Any] = {}

    def batches() -> Iterator[tuple[list[int], Rows]]:
        for places, rows in encode(source, texts, progress=progress):
            kept.update((texts[place], row) for place, row in zip(places, rows, strict=True) if place in chosen)
            yield places, rows

    write_shard(Path(path), teacher_of(source), dtype, distinct, batches())
    bank = PromptBank.open(path)
    bank.report = check_bank(bank, kept)
    return bank


def teacher_of(source: TextEncoder | FeatureStore) -> Teacher:
    """Whose features a source gives.

    Raises:
        EncoderError: an encoder that has no weights that can be told.
    """
    if isinstance(source, FeatureStore):
        return source.teacher
    from litetext.features.fingerprint import identify

    return identify(source)


def check_bank(bank: PromptBank, features: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a bank with the features float32 [L, D] of phrases as they were computed.

    Raises:
        EncoderError: the bank has other features than storing these in its dtype gives.
    """
    from litetext.features.compare import compare_rows

    pairs = []
    for text, rows in features.items():
        stored = bank.encode([text])[0][0]
        if not np.array_equal(stored, widen(*narrow(rows, bank.store.dtype)).astype(np.float32)):
            raise EncoderError(f"other features of '{text}' than were written", where=bank.name, hint="make it again")
        pairs.append((rows, stored))
    fidelity = compare_rows(pairs, where=bank.name)
    return {"checked": fidelity.phrases, "cosine": {"mean": fidelity.mean, "min": fidelity.min}}


def _shown(text: str) -> str:
    """A phrase in quotation marks; a long one is cut."""
    return f"'{printable(shortened(text, _LONGEST_SHOWN))}'"
