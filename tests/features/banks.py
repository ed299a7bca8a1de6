"""An encoder without PyTorch whose answers are known, and stores of one file made of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.features.bank import PromptBank
from litetext.features.encode import encode
from litetext.features.store import (
    CHECKSUM,
    Teacher,
    _index_checksum,
    distinct_phrases,
    narrow,
    phrase_bytes,
    widen,
    write_shard,
)
from tests.auditing.fakes import vector_of

WIDTH, CONTEXT = 12, 9
PHRASES = ["white dog", "red car", "a small blue boat on the left", "café au lait", "tree"]
TEACHER = Teacher("words", "f" * 64, "7" * 64, CONTEXT, WIDTH)

Floats = npt.NDArray[np.float32]


def rows_of(text: str, salt: str = "") -> Floats:
    """Features [L, D] of a text as SAM3's tokenizer sees it: one row for each of its words, and two more."""
    words = ["<start>", *phrase_bytes(text).decode("utf-8", "surrogatepass").split()[: CONTEXT - 2], "<end>"]
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


def write(
    path: Path, phrases: Sequence[str] = PHRASES, dtype: str = "fp16", encoder: Any = None, teacher: Teacher = TEACHER
) -> str:
    """A file of features as `make_bank` and `embed` write it."""
    distinct = distinct_phrases(phrases)
    return write_shard(path, teacher, dtype, distinct, encode(encoder or WordArrays(), list(distinct.values())))


def make(path: Path, phrases: Sequence[str] = PHRASES, dtype: str = "fp16") -> PromptBank:
    write(path, phrases, dtype)
    return PromptBank.open(path)


def stored(text: str, dtype: str = "fp16", salt: str = "") -> Floats:
    """What a bank answers for a text."""
    return widen(*narrow(rows_of(text, salt), dtype)).astype(np.float32)


def header_of(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a file, and where its data begins."""
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), start


def reseal(path: Path) -> str:
    """Give a changed file the right checksum of its index, as somebody may who means harm."""
    data = path.read_bytes()
    header, start = header_of(data)
    metadata = header["__metadata__"]
    checksum = _index_checksum(metadata, [data[start : start + header["values"]["data_offsets"][0]]])
    path.write_bytes(data[:start].replace(metadata[CHECKSUM].encode(), checksum.encode()) + data[start:])
    return checksum
