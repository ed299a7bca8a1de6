"""What `litetext bank` does: features of an encoder or of a cache into a bank, and the bank read back and compared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError
from litetext.features.bank import PromptBank
from litetext.features.bank_file import BankHeader, narrow, widen
from litetext.features.bank_writing import Encode, Progress, write_bank
from litetext.features.manifest import Teacher
from litetext.features.protocol import ArraysOf, TextEncoder
from litetext.features.store import FeatureCache

MOST_CHECKED = 4096  # phrases whose features are kept to be compared: some 32 MB at SAM3's width


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Where the features of a bank come from.

    Attributes:
        owner: whose they are.
        encode: gives features and mask of phrases.
        phrases: those that features are there of; none of an encoder, which reads any.
    """

    owner: Teacher
    encode: Encode
    phrases: Sequence[str] = ()

    @classmethod
    def of_encoder(cls, encoder: TextEncoder) -> "FeatureSource":
        """An encoder, which is asked.

        Raises:
            EncoderError: it has no weights that can be told.
        """
        return cls(Teacher.of(encoder), ArraysOf(encoder).encode)

    @classmethod
    def of_cache(cls, path: Path) -> "FeatureSource":
        """A folder of `litetext embed`.

        Raises:
            CacheError: no cache, or a damaged one.
        """
        cache = FeatureCache.open(path)

        def encode(texts: list[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
            found = cache.features(texts)
            return found.values.numpy(), found.mask.numpy()

        return cls(cache.teacher, encode, tuple(cache.phrases))


@dataclass(frozen=True, eq=False)
class BankReport:
    """What was made.

    Attributes:
        bank: as it was read back.
        checked: phrases that were looked up in it and compared with the features as computed.
        cosine: of their tokens' features: mean and least.
    """

    bank: PromptBank
    checked: int
    cosine: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**self.bank.to_json(), "checked": self.checked, "cosine": self.cosine}


def make_bank(
    path: Path,
    phrases: Sequence[str] | None,
    source: FeatureSource,
    number: str = "fp16",
    progress: Progress | None = None,
) -> BankReport:
    """Write a bank, read it back, and compare it with the features as they were computed.

    Of more than `MOST_CHECKED` phrases so many are compared, evenly spread.

    Args:
        path: the file, replaced in one step.
        phrases: at least one; None for all that a cache has.
        source: of the features.
        number: what they are stored in, "fp16" or "int8".
        progress: called with the share done, 0..1.

    Raises:
        OptionError: no phrases, or no such number type.
        EncoderError: the encoder fails, its features do not fit the number type, or what is read back is not that.
        CacheError: the cache lacks a phrase.
        OSError: the file cannot be written.
    """
    phrases = source.phrases if phrases is None else phrases
    header = BankHeader(**asdict(source.owner), number=number)
    chosen = np.linspace(0, len(phrases) - 1, min(len(phrases), MOST_CHECKED)).astype(int)
    wanted = {phrases[row] for row in chosen.tolist()}
    kept: dict[str, npt.NDArray[np.float32]] = {}

    def encode(texts: list[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        features, mask = source.encode(texts)
        kept.update(
            (text, row[valid]) for text, row, valid in zip(texts, features, mask, strict=True) if text in wanted
        )
        return features, mask

    write_bank(path, phrases, encode, header, progress)
    bank = PromptBank.open(path)
    return BankReport(bank, len(kept), compare(bank, kept))


def compare(bank: PromptBank, features: dict[str, npt.NDArray[np.float32]]) -> dict[str, float]:
    """Cosine of the features [L, D] of phrases with the bank's, over all their tokens: mean and least.

    Raises:
        EncoderError: the bank has other features than storing these in its number type gives.
    """
    found = []
    for text, rows in features.items():
        values, _ = bank.encode([text])
        if not np.array_equal(values[0], widen(*narrow(rows, bank.header.number)).astype(np.float32)):
            raise EncoderError(f"other features of '{text}' than were written", where=bank.name, hint="make it again")
        one, other = rows.astype(np.float64), values[0].astype(np.float64)
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        found.append((one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))
    cosine = np.concatenate(found)
    return {"mean": float(cosine.mean()), "min": float(cosine.min())}
