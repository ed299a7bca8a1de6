"""An encoder without PyTorch whose answers are known, and banks made of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from litetext.features.bank import PromptBank
from litetext.features.bank_file import CHECKSUM, INDEX, BankHeader, index_checksum, narrow, seen, widen
from litetext.features.bank_writing import write_bank
from tests.auditing.fakes import vector_of

WIDTH, CONTEXT = 12, 9
PHRASES = ["white dog", "red car", "a small blue boat on the left", "café au lait", "tree"]

Floats = npt.NDArray[np.float32]


def rows_of(text: str, salt: str = "") -> Floats:
    """Features [L, D] of a text as SAM3's tokenizer sees it: one row for each of its words, and two more."""
    words = ["<start>", *seen(text).decode("utf-8", "surrogatepass").split()[: CONTEXT - 2], "<end>"]
    return np.stack([vector_of(ascii(f"{salt}{place} {word}"), WIDTH) for place, word in enumerate(words)])


@dataclass
class WordArrays:
    """An `ArrayEncoder`; what stands at padding is NaN."""

    salt: str = ""
    name: str = "words"
    context_length: int = CONTEXT
    width: int = WIDTH
    batches: list[list[str]] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> tuple[Floats, npt.NDArray[np.bool_]]:
        self.batches.append(list(texts))
        rows = [rows_of(text, self.salt) for text in texts]
        lengths = np.array([len(row) for row in rows])
        values = np.full((len(rows), lengths.max(), WIDTH), np.nan, np.float32)
        for padded, row in zip(values, rows, strict=True):
            padded[: len(row)] = row
        return values, np.arange(values.shape[1]) < lengths[:, None]


def header(number: str = "fp16") -> BankHeader:
    return BankHeader("words", "f" * 64, "7" * 64, CONTEXT, WIDTH, number)


def make(path: Path, phrases: Sequence[str] = PHRASES, number: str = "fp16") -> PromptBank:
    write_bank(path, phrases, WordArrays().encode, header(number))
    return PromptBank.open(path)


def stored(text: str, number: str = "fp16", salt: str = "") -> Floats:
    """What a bank answers for a text."""
    return widen(*narrow(rows_of(text, salt), number)).astype(np.float32)


def reseal(path: Path) -> None:
    """Give a changed bank the right checksum of its index, as somebody may who means harm."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:start])
    said = head["__metadata__"]
    parts = [data[start + begin : start + end] for begin, end in (head[name]["data_offsets"] for name in INDEX)]
    found = index_checksum(said, parts)
    path.write_bytes(data[:start].replace(said[CHECKSUM].encode(), found.encode()) + data[start:])
