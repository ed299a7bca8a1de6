"""A prompt bank: the features of a closed list of phrases, a text encoder without parameters.

Neither PyTorch nor the encoder is needed to read one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, printable, shortened
from litetext.features.bank_file import BankFile, BankHeader, damaged, seen, told
from litetext.features.fuzzy import nearest_phrases
from litetext.tokenizer.texts import as_texts

if TYPE_CHECKING:
    from litetext.features.protocol import ArrayEncoder

NEAREST = 5  # known phrases that a refusal names
_LONGEST_SHOWN = 60


@dataclass(frozen=True, eq=False)
class PromptBank:
    """Features by phrase, read where they stand in a mapped file; any number of threads may read.

    A phrase is what SAM3's tokenizer sees of it (`clean`): "White  Dog" finds "white dog". Nothing else is alike: "a
    white dog" is another phrase.

    Attributes:
        file: the mapped file.
        fallback: encodes the phrases that are not in it; None refuses them.
    """

    file: BankFile
    fallback: "ArrayEncoder | None" = None

    @classmethod
    def open(cls, path: str | Path, fallback: "ArrayEncoder | None" = None) -> "PromptBank":
        """Map a bank; all but its features is read once, for its checksum.

        Args:
            path: a file of `litetext bank`.
            fallback: encodes the phrases that are not in it, for example a `TextRuntime`. Features of two encoders
                may stand side by side then: give the one that the bank was made with, or one taught to answer alike.

        Raises:
            EncoderError: no bank, not whole, or ``otherwise`` gives features of another width.
        """
        file = BankFile.open(Path(path))
        if fallback is not None and fallback.width != file.header.width:
            raise EncoderError(
                f"features of width {fallback.width} beside a bank of width {file.header.width}",
                where=fallback.name,
                hint="give an encoder of the bank's width",
            )
        return cls(file, fallback)

    @property
    def header(self) -> BankHeader:
        """What the file says about itself: whose features they are, in which number type."""
        return self.file.header

    @property
    def name(self) -> str:
        """What reports call it: its path."""
        return str(self.file.path)

    @property
    def context_length(self) -> int:
        """The most tokens that were read of a phrase, start and end token counted."""
        return max(self.header.context_length, 0 if self.fallback is None else self.fallback.context_length)

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.header.width

    @property
    def phrases(self) -> Iterator[str]:
        """The phrases as SAM3's tokenizer sees them, in the order in which they were given."""
        return (told(self.file.phrase(number)) for number in range(len(self.file)))

    def to_json(self) -> dict[str, Any]:
        """What reports tell of it, as plain values."""
        said = asdict(self.header)
        return {
            "bank": self.name,
            "phrases": len(self),
            "tokens": len(self.file.values),
            "number": said.pop("number"),
            "bytes": self.file.size,
            "bytes_per_phrase": self.file.size / len(self),
            "encoder": said,
        }

    def describe(self) -> str:
        """The same as a line for people."""
        return (
            f"{self.name}: {len(self):,} phrases, {len(self.file.values):,} tokens in {self.header.number}, "
            f"{self.file.size / 1e6:,.2f} MB, {self.file.size / len(self):,.0f} bytes a phrase, "
            f"of {shortened(self.header.name, 100)}"
        )

    def __len__(self) -> int:
        """The number of phrases."""
        return len(self.file)

    def __contains__(self, text: object) -> bool:
        """Whether the bank itself has the features of a phrase."""
        return isinstance(text, str) and self.file.find(seen(text)) >= 0

    def encode(self, texts: Iterable[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Features float32 [B, L, D], zeros at padding, and mask bool [B, L], True at valid tokens.

        Args:
            texts: B of them, at least one; L is the longest of them in tokens.

        Raises:
            OptionError: no texts, one string instead of a list, or something that is not a string.
            EncoderError: a phrase is not known and there is nothing else to encode it, or the file is damaged.
        """
        texts = as_texts(texts)
        phrases = [seen(text) for text in texts]
        numbers = [self.file.find(phrase) for phrase in phrases]
        others = self._encode_others(_missing(texts, phrases, numbers)) if min(numbers) < 0 else {}
        rows = [
            others[phrase] if number < 0 else self.file.features(number)
            for phrase, number in zip(phrases, numbers, strict=True)
        ]
        lengths = np.array([len(row) for row in rows])
        features = np.zeros((len(rows), lengths.max(), self.width), np.float32)
        for padded, row in zip(features, rows, strict=True):
            padded[: len(row)] = row
        return features, np.arange(features.shape[1]) < lengths[:, None]

    def check(self, texts: Sequence[str]) -> None:
        """Raise the `EncoderError` that `encode` would raise of phrases that nobody knows; no features are read."""
        phrases = [seen(text) for text in texts]
        unknown = _missing(texts, phrases, [self.file.find(phrase) for phrase in phrases])
        if unknown and self.fallback is None:
            raise self._refusal(list(unknown.values()))

    def nearest(self, text: str, count: int = NEAREST) -> list[str]:
        """The known phrases that are spelt most alike, the most alike first; all phrases are looked at once.

        A million phrases take about half a second and a few MB.

        Raises:
            EncoderError: the file is damaged.
        """
        try:
            found = nearest_phrases(seen(text), self.file.text, self.file.text_offsets, count)
        except ValueError as error:
            raise damaged(self.file.path, "its texts do not follow each other") from error
        return [told(phrase) for phrase in found]

    def _encode_others(self, unknown: dict[bytes, str]) -> dict[bytes, Any]:
        """Features [L, D] of phrases that are not in the bank."""
        if self.fallback is None:
            raise self._refusal(list(unknown.values()))
        features, mask = self.fallback.encode(list(unknown.values()))
        return {phrase: row[valid] for phrase, row, valid in zip(unknown, features, mask, strict=True)}

    def _refusal(self, unknown: list[str]) -> EncoderError:
        """What to say of phrases that are not there; the nearest to the first of them are named."""
        more = f", nor are {len(unknown) - 1} others" if len(unknown) > 1 else ""
        nearest = ", ".join(_shown(phrase) for phrase in self.nearest(unknown[0]))
        return EncoderError(
            f"{_shown(unknown[0])} is not in the bank{more} (the nearest that are: {nearest})",
            where=self.name,
            hint="make a bank with it, or give an encoder for such phrases (--fallback)",
        )


def _missing(texts: Sequence[str], phrases: list[bytes], numbers: list[int]) -> dict[bytes, str]:
    """The phrases that have no number, each once, and the first text of each."""
    missing: dict[bytes, str] = {}
    for text, phrase, number in zip(texts, phrases, numbers, strict=True):
        if number < 0:
            missing.setdefault(phrase, text)
    return missing


def _shown(text: str) -> str:
    """A phrase in quotation marks; a long one is cut."""
    return f"'{printable(shortened(text, _LONGEST_SHOWN))}'"
