"""A prompt bank: the features of a closed list of phrases, a text encoder without parameters and without PyTorch."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from litetext.errors import CacheError, EncoderError, OptionError, printable, shortened
from litetext.features.compare import compare_rows
from litetext.features.encode import Encoder, Rows, array_rows, encode
from litetext.features.protocol import Arrays, Progress, TextEncoder
from litetext.features.store import FeatureStore, distinct_phrases, narrow, phrase_bytes, widen, write_shard
from litetext.tokenizer.clean import as_texts, each_text

NEAREST = 5  # known phrases that a refusal names
MOST_CHECKED = 4096  # phrases whose features are kept to be compared: some 32 MB at SAM3's width
_LONGEST_SHOWN = 60
_LONGEST_COMPARED = 200  # characters of a phrase whose spelling is compared
_CHUNK = 1 << 14  # phrases that are decoded at once


class PromptBank(FeatureStore):
    """A store as an encoder: phrases that it does not have are refused by name, or left to another encoder.

    Attributes:
        fallback: encodes the phrases that are not in it; None refuses them.
    """

    fallback: Encoder | None = None

    @classmethod
    def open(cls, path: str | Path, fallback: Encoder | None = None) -> Self:
        """Map a bank, as `FeatureStore.open` does.

        Args:
            path: a file of `litetext bank`, or a folder of `litetext embed`.
            fallback: encodes the phrases that are not in it, for example a `TextRuntime`. Features of two encoders
                may stand side by side then: give the one that the bank was made with, or a student of it.

        Raises:
            CacheError: no bank, or a damaged one.
            EncoderError: ``fallback`` gives features of another width.
        """
        bank = super().open(path)
        if fallback is not None and fallback.width != bank.width:
            raise EncoderError(
                f"features of width {fallback.width} beside a bank of width {bank.width}",
                where=fallback.name,
                hint="give an encoder of the bank's width",
            )
        bank.fallback = fallback
        return bank

    @property
    def context_length(self) -> int:
        """The most tokens that are read of a phrase, start and end token counted."""
        return max(self.teacher.context_length, 0 if self.fallback is None else self.fallback.context_length)

    def encode(self, texts: str | Iterable[str]) -> Arrays:
        """Features float32 [B, L, D] of a phrase or several, zeros at padding, and mask bool [B, L], True at tokens.

        Raises:
            OptionError: no texts, or something that is not a string.
            EncoderError: a phrase is not known and there is no fallback to encode it.
            CacheError: the file is damaged.
        """
        texts = as_texts(texts)
        phrases = [phrase_bytes(text) for text in texts]
        places = [self.find(phrase) for phrase in phrases]
        rows: dict[bytes, Any] = {}
        if min(places) < 0:
            unknown = distinct_phrases(text for text, place in zip(texts, places, strict=True) if place < 0)
            if self.fallback is None:
                raise self._refusal(list(unknown.values()))
            rows = dict(zip(unknown, array_rows(self.fallback, list(unknown.values())), strict=True))
        features = [
            rows[phrase] if place < 0 else self.row(place) for phrase, place in zip(phrases, places, strict=True)
        ]
        return self._padded(features, places)

    def check(self, texts: Sequence[str]) -> None:
        """Raise the `EncoderError` that `encode` would raise of unknown phrases; no features are read."""
        unknown = [] if self.fallback is not None else list(distinct_phrases(self.missing(texts)).values())
        if unknown:
            raise self._refusal(unknown)

    def nearest(self, text: str, count: int = NEAREST) -> list[str]:
        """The known phrases that are spelt most alike (Indel similarity), the most alike first, of equals the first.

        None of them is half as alike as the first. A million phrases take about a second.
        """
        from rapidfuzz import fuzz, process

        query = phrase_bytes(text).decode("utf-8", "surrogatepass")[:_LONGEST_COMPARED]
        best: list[tuple[float, str]] = []
        for data, offsets in self.texts:
            for start in range(0, len(offsets) - 1, _CHUNK):
                spans = pairwise(offsets[start : start + _CHUNK + 1].tolist())
                phrases = [data[begin:end].decode("utf-8", "surrogatepass") for begin, end in spans]
                least = best[-1][0] if len(best) == count else 0
                scores = process.extract(query, phrases, scorer=fuzz.ratio, limit=count, score_cutoff=least)
                found = [(score, phrase) for phrase, score, _ in scores]
                best = heapq.nlargest(count, [*best, *found], key=lambda pair: pair[0])
        return [phrase for score, phrase in best if score >= best[0][0] / 2]

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
    if isinstance(source, FeatureStore):
        teacher, phrases = source.teacher, source.phrases if phrases is None else phrases
    else:
        from litetext.features.fingerprint import identify  # brings PyTorch

        teacher, phrases = identify(source), () if phrases is None else phrases
    distinct = distinct_phrases(each_text(phrases))
    if not distinct:
        raise OptionError("a bank of no phrases", hint="give at least one")
    texts = list(distinct.values())
    if isinstance(source, FeatureStore) and (missing := source.missing(texts)):
        raise CacheError(f"no features of '{missing[0]}'", where=source.name, hint="embed these phrases first")
    chosen = set(np.linspace(0, len(texts) - 1, min(len(texts), MOST_CHECKED)).astype(int).tolist())
    kept: dict[str, Any] = {}

    def batches() -> Iterator[tuple[list[int], Rows]]:
        for places, rows in encode(source, texts, progress=progress):
            kept.update((texts[place], row) for place, row in zip(places, rows, strict=True) if place in chosen)
            yield places, rows

    write_shard(Path(path), teacher, dtype, distinct, batches())
    bank = PromptBank.open(path)
    bank.report = check_bank(bank, kept)
    return bank


def check_bank(bank: PromptBank, features: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a bank with the features float32 [L, D] of phrases as they were computed, as its dtype has them."""
    pairs = []
    for text, rows in features.items():
        stored = bank.encode([text])[0][0]
        if not np.array_equal(stored, widen(*narrow(rows, bank.dtype)).astype(np.float32)):
            raise EncoderError(f"other features of '{text}' than were written", where=bank.name, hint="make it again")
        pairs.append((rows, stored))
    fidelity = compare_rows(pairs, where=bank.name)
    return {"checked": fidelity.phrases, "cosine": {"mean": fidelity.mean, "min": fidelity.min}}


def _shown(text: str) -> str:
    """A phrase in quotation marks; a long one is cut."""
    return f"'{printable(shortened(text, _LONGEST_SHOWN))}'"
