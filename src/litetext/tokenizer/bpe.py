"""CLIP's byte-pair encoding, id for id as SAM3's tokenizer gives it, and padded batches of ids."""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice

import numpy as np
import numpy.typing as npt
import regex
from tokenizers import models

from litetext.errors import OptionError
from litetext.tokenizer.clean import clean, each_text, is_plain
from litetext.tokenizer.vocabulary import (
    BYTE_TOKENS,
    END_ID,
    END_OF_WORD,
    END_TEXT,
    PAD_ID,
    START_ID,
    START_TEXT,
    byte_alphabet,
    clip_vocabulary,
)

# SAM3's own pattern. No alternative crosses a space, so that text may be parted at spaces before it is applied.
_PIECES = regex.compile(
    rf"{START_TEXT}|{END_TEXT}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)
_BORDER = "\n"  # stands between two texts as a word of its own; cleaned text has no line feed
_SPECIAL = {START_TEXT: START_ID, END_TEXT: END_ID}
_ID = np.dtype("<u2")  # ids are below 65,536
_ALPHABET = byte_alphabet()
_CHUNK = 1024
Merge = Callable[[str], list[int]]
_MAX_CACHED_WORDS = 1 << 16  # more make it no faster
_FEW_WORDS = 1000  # from where on the library, though it has to be made ready, is the faster of the two ways
_LONG_WORD = 200  # letters; the other way takes as long as their square


@dataclass(frozen=True)
class TokenSequences:
    """Token ids of N texts, one after another, start and end tokens included, neither padded nor truncated."""

    ids: npt.NDArray[np.int32]  # int32 [T], all ids
    lengths: npt.NDArray[np.int64]  # int64 [N], tokens of each text, so that T is their sum

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        """The ids of one text after another."""
        return iter(np.split(self.ids, np.cumsum(self.lengths)[:-1]) if len(self) else [])


class ClipTokenizer:
    """Text to token ids as SAM3 does it: cleaning, word split, byte-pair encoding (vocabulary of 49,408).

    The split into words is SAM3's own pattern in the same library (`regex`), so that it agrees on any Unicode version;
    words are encoded by the `tokenizers` library, each once. Use `clip_tokenizer` rather than a new object: the
    vocabulary takes a tenth of a second to build. ``merge`` gives the ids of a word that is spelled in the characters
    of the vocabulary; None stands for the library's way with all of CLIP's tokens.
    """

    def __init__(self, merge: Merge | None = None) -> None:
        self._merge = merge_by(clip_bpe()) if merge is None else merge
        self._words: dict[str, bytes] = {}

    def encode(self, texts: Iterable[str]) -> TokenSequences:
        """Token ids of texts, start and end included."""
        source, parts = each_text(texts), []
        while chunk := list(islice(source, _CHUNK)):
            parts.append(self._encode_chunk(chunk))
        if not parts:
            return TokenSequences(np.empty(0, np.int32), np.empty(0, np.int64))
        return TokenSequences(
            np.concatenate([part.ids for part in parts]), np.concatenate([part.lengths for part in parts])
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; start and end tokens are left out. For people to read: case and spacing are lost."""
        tokens = clip_vocabulary().tokens
        text = "".join(tokens[index] for index in ids if index not in (START_ID, END_ID)).replace(END_OF_WORD, " ")
        codes = {char: byte for byte, char in _ALPHABET.items()}
        return bytes(codes.get(char, ord(" ")) for char in text).decode("utf-8", errors="replace").strip()

    def _encode_chunk(self, texts: list[str]) -> TokenSequences:
        words = _split_at_spaces(texts)
        known = self._learn(words)
        parts = [known[word] for word in words]
        ids = np.frombuffer(b"".join(parts), dtype=_ID).astype(np.int32)
        ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)) // _ID.itemsize)
        ends = ends[np.fromiter(map(_BORDER.__eq__, words), np.bool_, len(words))]
        # A border is "end, start": the last one's start, moved to the front, opens the first text.
        return TokenSequences(np.roll(ids, 1), np.diff(ends, prepend=0))

    def _learn(self, words: Iterable[str]) -> dict[str, bytes]:
        """The known words with these among them; their ids are bytes, which cost the garbage collector nothing."""
        known = self._words
        if len(known) > _MAX_CACHED_WORDS:
            known = self._words = {}
        known[_BORDER] = _pack([END_ID, START_ID])
        pieces = {word: _PIECES.findall(word) for word in dict.fromkeys(words) if word not in known}
        ids = {piece: self._encode_piece(piece) for piece in dict.fromkeys(chain.from_iterable(pieces.values()))}
        known.update((word, b"".join(map(ids.__getitem__, found))) for word, found in pieces.items())
        return known

    def _encode_piece(self, piece: str) -> bytes:
        # A literal special token that stands apart becomes that token: so in SAM3.
        if piece in _SPECIAL:
            return _pack([_SPECIAL[piece]])
        return _pack(self._merge(_spell(piece)))


def merge_by(bpe: models.BPE) -> Merge:
    """A byte-pair encoding of the `tokenizers` library as a function of words."""
    return lambda word: [token.id for token in bpe.tokenize(word)]


def clip_bpe(kept: Iterable[int] | None = None) -> models.BPE:
    """CLIP's byte-pair encoding, with all tokens or with the ids ``kept``, which are closed under merges.

    A word that needs others falls into smaller pieces.
    """
    vocabulary = clip_vocabulary()
    ids = sorted(range(len(vocabulary.tokens)) if kept is None else kept)
    merged = (index - BYTE_TOKENS for index in ids if BYTE_TOKENS <= index < START_ID)
    return models.BPE(
        vocab={vocabulary.tokens[index]: index for index in ids},
        merges=[vocabulary.merges[rank] for rank in merged],
        end_of_word_suffix=END_OF_WORD,
        cache_capacity=0,
    )


@lru_cache(maxsize=1)
def clip_tokenizer() -> ClipTokenizer:
    """The one shared tokenizer."""
    return ClipTokenizer(_merge_few_or_many())


def _merge_few_or_many() -> Merge:
    """CLIP's merges by two sorted arrays, and after some words by the library, which takes 0.1 s to be ready."""
    from litetext.tokenizer.pruned import SmallMerges, clip_merges

    few, many, count = SmallMerges(clip_merges()), None, 0

    def merge(word: str) -> list[int]:
        nonlocal many, count
        count += 1
        if many is None and (count > _FEW_WORDS or len(word) > _LONG_WORD):
            many = merge_by(clip_bpe())
        return few(word) if many is None else many(word)

    return merge


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of B texts at context length L."""

    ids: npt.NDArray[np.int64]  # int64 [B, L], padded with 0 (SAM3's pad id)
    mask: npt.NDArray[np.bool_]  # bool [B, L], True at valid tokens (start and end included)

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.mask.shape:
            raise ValueError(f"ids {self.ids.shape} and mask {self.mask.shape} must both be [B, L]")
        if self.ids.dtype != np.int64 or self.mask.dtype != np.bool_:
            raise ValueError(f"ids are {self.ids.dtype} and mask is {self.mask.dtype}, not int64 and bool")

    @classmethod
    def of_texts(cls, texts: Iterable[str], context_length: int) -> "TokenBatch":
        """Tokenize, then pad and truncate."""
        return cls.of_sequences(clip_tokenizer().encode(texts), context_length)

    @classmethod
    def of_sequences(cls, sequences: TokenSequences, context_length: int) -> "TokenBatch":
        """Pad and truncate; the last token of a truncated text becomes the end token."""
        if context_length < 2:
            raise OptionError(f"context length {context_length} is below 2", hint="start and end tokens alone take 2")
        lengths = sequences.lengths
        first = np.cumsum(lengths) - lengths
        columns = np.arange(context_length)
        mask = columns < np.minimum(lengths, context_length)[:, None]
        ids = np.full(mask.shape, PAD_ID, dtype=np.int64)
        ids[mask] = sequences.ids[(first[:, None] + columns)[mask]]
        ids[lengths > context_length, -1] = END_ID
        return cls(ids, mask)

    @property
    def context_length(self) -> int:
        """The context length L."""
        return int(self.ids.shape[1])

    def __len__(self) -> int:
        return len(self.ids)


def _split_at_spaces(texts: list[str]) -> list[str]:
    """Words of the cleaned texts with a border after each text; an empty word stands where two spaces were."""
    joined = _BORDER.join(texts)
    if is_plain(joined.replace(_BORDER, "")) and joined.count(_BORDER) == len(texts) - 1:
        joined = joined.lower()  # all that cleaning would change, done at once
    else:
        joined = _BORDER.join(map(clean, texts))
    return [*joined.replace(_BORDER, f" {_BORDER} ").split(" "), _BORDER]


def _pack(ids: list[int]) -> bytes:
    return struct.pack(f"<{len(ids)}H", *ids)


def _spell(piece: str) -> str:
    """The bytes of a piece as characters of the vocabulary."""
    return piece if piece.isascii() else piece.encode("utf-8").decode("latin-1").translate(_ALPHABET)
