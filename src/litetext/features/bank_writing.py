"""Writing a prompt bank: phrases are encoded batch by batch, and their features go straight to the file."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.features.bank_file import (
    ALIGNMENT,
    CHECKSUM,
    DTYPES,
    Array,
    BankHeader,
    features_checksum,
    index_checksum,
    layout,
    narrow,
    phrase_key,
    seen,
)
from litetext.storage import atomic_file
from litetext.tokenizer.bpe import clip_tokenizer

Encode = Callable[[list[str]], tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]
Progress = Callable[[float], None]

BATCH_TOKENS = 2048  # padding counted
_LENGTH = 8  # bytes that say how long the header is
_CHUNK = 8192


def write_bank(
    path: Path, phrases: Sequence[str], encode: Encode, header: BankHeader, progress: Progress | None = None
) -> int:
    """Write a bank in one step; what is held at a time is one batch of features and the index.

    Phrases of one length are encoded together. Phrases that SAM3's tokenizer cannot tell apart are stored once.

    Args:
        path: the file, replaced when it is whole.
        phrases: at least one; their order is kept.
        encode: gives features float32 [B, L, D] and mask bool [B, L], as `PromptBank.encode` does; only features of
            valid tokens are stored.
        header: whose features they are, and the number type to store.
        progress: called with the share done, 0..1.

    Returns:
        How many phrases were stored.

    Raises:
        OptionError: no phrases, or something that is not a string.
        EncoderError: the encoder fails, or gives what does not fit or is not finite in the number type.
        OSError: the file cannot be written.
    """
    distinct = _distinct(phrases)
    lengths = _lengths(list(distinct.values()), header.context_length)
    texts, cleaned = list(distinct.values()), list(distinct)
    with atomic_file(path) as file:
        writer = _Writer(file, header, cleaned)
        done = 0
        for numbers in _batches(lengths):
            batch = [texts[number] for number in numbers.tolist()]
            values, counts = _checked(*encode(batch), batch, header)
            writer.append(numbers, values, counts, batch)
            done += len(batch)
            if progress is not None:
                progress(done / len(texts))
        writer.finish()
    return len(texts)


@dataclass
class _Writer:
    """A bank under way: the index has its place at the beginning, and is written when all features are.

    Attributes:
        file: a new file.
        header: what it says about itself.
        phrases: cleaned, all of them.
        tokens: rows of features that are written.
        scales: of these rows, for int8.
        rows: int64 [N, 2], where the features of each phrase are.
        checks: uint32 [N], checksums of these features.
        start: where the data begins in the file.
    """

    file: BinaryIO
    header: BankHeader
    phrases: list[bytes]
    tokens: int = 0
    scales: list[npt.NDArray[np.float32]] = field(default_factory=list)
    rows: npt.NDArray[np.int64] = field(init=False)
    checks: npt.NDArray[np.uint32] = field(init=False)
    start: int = field(init=False)

    def __post_init__(self) -> None:
        """Leave place for what comes before the features."""
        self.rows = np.zeros((len(self.phrases), 2), np.int64)
        self.checks = np.zeros(len(self.phrases), np.uint32)
        # As long as for the most tokens that there can be, and one digit more of the text's length.
        most = len(self._head(self.header.context_length * len(self.phrases))) + 1
        self.start = _LENGTH + most + -most % ALIGNMENT
        self.file.seek(self.start + self._places(0)["values"][0])

    def append(self, numbers: Array, values: npt.NDArray[np.float32], counts: Array, batch: list[str]) -> None:
        """Write features [T, D] of phrases, of which each has so many rows."""
        stored, scales = narrow(values, self.header.number)
        if scales is None and not np.isfinite(stored).all():
            raise EncoderError(
                f"the features of '{_first_of(~np.isfinite(stored), counts, batch)}' are too large for fp16",
                where=self.header.name,
                hint="store them as int8",
            )
        if scales is not None:
            self.scales.append(scales)
        stops = self.tokens + np.cumsum(counts)
        self.rows[numbers] = np.stack([stops - counts, stops], axis=1)
        for number, first, stop in zip(numbers, stops - self.tokens - counts, stops - self.tokens, strict=True):
            own = None if scales is None else scales[first:stop]
            self.checks[number] = features_checksum(stored[first:stop], own)
        self.tokens = int(stops[-1])
        self.file.write(stored.tobytes())

    def finish(self) -> None:
        """Write the phrases behind the features, and the index before them."""
        begin, end = self._places(self.tokens)["text"]
        text = b"".join(self.phrases).ljust(end - begin, b"\0")
        self.file.write(text)
        for scales in self.scales:
            self.file.write(scales.tobytes())
        keys = np.array([phrase_key(phrase) for phrase in self.phrases], np.uint64)
        order = np.argsort(keys, kind="stable")
        ends = np.cumsum([0, *map(len, self.phrases)])
        kinds = ((keys[order], "<u8"), (self.rows, "<i8"), (ends, "<i8"), (order, "<u4"), (self.checks, "<u4"))
        index = [array.astype(kind).tobytes() for array, kind in kinds]
        head = self._head(self.tokens, index_checksum(self.header.to_metadata(), [*index, text]))
        self.file.seek(0)
        self.file.write((self.start - _LENGTH).to_bytes(_LENGTH, "little"))
        self.file.write(head.ljust(self.start - _LENGTH))  # safetensors allows spaces at its end
        self.file.write(b"".join(index))

    def _layout(self, tokens: int) -> dict[str, tuple[str, list[int]]]:
        """Number type and shape of each array; zero bytes behind the text align what comes next."""
        size = sum(map(len, self.phrases))
        bare = layout(self.header, len(self.phrases), tokens, size)
        before = sum(_bytes_of(*bare[name]) for name in bare if name not in {"text", "scales"})
        return layout(self.header, len(self.phrases), tokens, size + -(before + size) % ALIGNMENT)

    def _places(self, tokens: int) -> dict[str, tuple[int, int]]:
        """Begin and end of each array."""
        arrays = self._layout(tokens)
        ends = list(accumulate(_bytes_of(*array) for array in arrays.values()))
        return dict(zip(arrays, pairwise([0, *ends]), strict=True))

    def _head(self, tokens: int, found: str = "0" * 32) -> bytes:
        """The header of safetensors, with the checksum of the index."""
        places = self._places(tokens)
        arrays = {
            name: {"dtype": kind, "shape": shape, "data_offsets": places[name]}
            for name, (kind, shape) in self._layout(tokens).items()
        }
        return json.dumps(
            {"__metadata__": self.header.to_metadata() | {CHECKSUM: found}, **arrays}, separators=(",", ":")
        ).encode()


def _bytes_of(kind: str, shape: list[int]) -> int:
    return prod(shape) * np.dtype(DTYPES[kind]).itemsize


def _distinct(phrases: Sequence[str]) -> dict[bytes, str]:
    """What SAM3's tokenizer sees of each phrase, and the first that it sees so, in their order."""
    found: dict[bytes, str] = {}
    for position, phrase in enumerate(phrases):
        if not isinstance(phrase, str):
            raise OptionError(
                f"{type(phrase).__name__} is not a string", where=f"phrase {position}", hint="give strings"
            )
        found.setdefault(seen(phrase), phrase)
    if not found:
        raise OptionError("a bank of no phrases", hint="give at least one")
    return found


def _lengths(texts: list[str], context_length: int) -> npt.NDArray[np.int64]:
    """Tokens of each text as CLIP counts them, at most the context: near enough for any tokenizer to batch by."""
    parts = [clip_tokenizer().encode(texts[at : at + _CHUNK]).lengths for at in range(0, len(texts), _CHUNK)]
    return np.minimum(np.concatenate(parts), context_length)


def _batches(lengths: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.intp]]:
    """Numbers of phrases to encode together: the longest first, so that what does not fit into memory fails at once."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, BATCH_TOKENS // int(lengths[order[start]]))
        yield order[start:stop]
        start = stop


def _checked(
    features: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], batch: list[str], header: BankHeader
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features [T, D] of valid tokens, and how many each phrase of a batch has."""
    if mask.shape != features.shape[:2] or len(features) != len(batch) or features.shape[2] != header.width:
        raise EncoderError(
            f"features {list(features.shape)} with a mask {list(mask.shape)} for {len(batch)} phrases of width "
            f"{header.width}",
            where=header.name,
        )
    counts = mask.sum(axis=1, dtype=np.int64)
    if counts.min() < 1 or counts.max() > header.context_length:
        raise EncoderError(f"{counts.min()} to {counts.max()} tokens of a phrase", where=header.name)
    values = np.asarray(features[mask], np.float32)
    if not np.isfinite(values).all():
        raise EncoderError(
            f"the features of '{_first_of(~np.isfinite(values), counts, batch)}' are not finite",
            where=header.name,
            hint="compute in float32",
        )
    return values, counts


def _first_of(bad: Array, counts: Array, batch: list[str]) -> str:
    """The phrase that the first bad row belongs to."""
    row = int(bad.any(axis=1).argmax())
    return batch[int(np.searchsorted(np.cumsum(counts), row, side="right"))]
