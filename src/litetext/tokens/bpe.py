"""CLIP's byte-pair encoding, id for id as SAM3's tokeniser gives it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import cast

import numpy as np
import numpy.typing as npt
import regex
from tokenizers import Tokenizer, models, pre_tokenizers

from litetext.errors import OptionError
from litetext.prompts.cleaning import clean
from litetext.tokens.vocabulary import (
    END_ID,
    END_OF_WORD,
    END_TEXT,
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
_CHUNK = 8192
_MOST_CACHED_WORDS = 1 << 20


@dataclass(frozen=True)
class TokenSequences:
    """Token ids of N texts, one after another, start and end tokens included, neither padded nor truncated.

    Attributes:
        ids: int32 [T], all ids.
        lengths: int64 [N], tokens of each text, so that T is their sum.
    """

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[npt.NDArray[np.int32]]:
        """The ids of one text after another."""
        return iter(np.split(self.ids, np.cumsum(self.lengths)[:-1]) if len(self) else [])


class ClipTokenizer:
    """Text to token ids as SAM3 does it: cleaning, word split, byte-pair encoding (vocabulary of 49,408).

    The split into words is SAM3's own pattern in the same library (`regex`), so that it agrees on any Unicode version;
    words are encoded by the `tokenizers` library, each once. Use [`clip_tokenizer`][litetext.tokens.bpe.clip_tokenizer]
    rather than a new object: the vocabulary takes a tenth of a second to build.
    """

    def __init__(self) -> None:
        vocabulary = clip_vocabulary()
        ids = {token: index for index, token in enumerate(vocabulary.tokens)}
        self._bpe = Tokenizer(
            models.BPE(vocab=ids, merges=list(vocabulary.merges), end_of_word_suffix=END_OF_WORD, cache_capacity=0)
        )
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._words: dict[str, Sequence[int]] = {}

    def encode(self, texts: Iterable[str]) -> TokenSequences:
        """Token ids of texts, start and end included.

        Raises:
            OptionError: a text is not a string, or ``texts`` is one string.
        """
        if isinstance(texts, str):
            raise OptionError("one string where a list of strings is needed", where="encode", mend="put it into a list")
        source, parts = iter(texts), []
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
        word = "".join(tokens[index] for index in ids if index not in (START_ID, END_ID))
        return _to_text(word.replace(END_OF_WORD, " "))

    def _encode_chunk(self, texts: list[str]) -> TokenSequences:
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise OptionError(
                    f"{type(text).__name__} is not a string", where=f"text {position}", mend="give strings"
                )
        words = f" {_BORDER} ".join(map(clean, texts)).split(" ")
        words.append(_BORDER)
        table = self._encode_words(words)
        sizes = np.fromiter(map(len, table.values()), np.int64, len(table))
        flat = np.fromiter(chain.from_iterable(table.values()), np.int32, int(sizes.sum()))
        rank = {word: index for index, word in enumerate(table)}
        chosen = np.fromiter(map(rank.__getitem__, words), np.int64, len(words))
        ids = flat[_ranges((np.cumsum(sizes) - sizes)[chosen], sizes[chosen])]
        # A border is "end, start": the last one's start, moved to the front, opens the first text.
        ends = np.cumsum(sizes[chosen])[chosen == rank[_BORDER]]
        return TokenSequences(np.roll(ids, 1), np.diff(ends, prepend=0))

    def _encode_words(self, words: Iterable[str]) -> dict[str, Sequence[int]]:
        """Ids of the distinct words, in order of first appearance; words not met before are encoded together."""
        distinct = dict.fromkeys(words)
        known = self._words
        if len(known) > _MOST_CACHED_WORDS:
            known = self._words = {}
        pieces = {word: _PIECES.findall(word) for word in distinct if word not in known}
        ids = self._encode_pieces(dict.fromkeys(chain.from_iterable(pieces.values())))
        known.update((word, tuple(chain.from_iterable(map(ids.__getitem__, parts)))) for word, parts in pieces.items())
        known[_BORDER] = (END_ID, START_ID)
        return {word: known[word] for word in distinct}

    def _encode_pieces(self, pieces: Iterable[str]) -> dict[str, Sequence[int]]:
        listed = list(pieces)
        encodings = self._bpe.encode_batch_fast(listed, add_special_tokens=False)
        ids: dict[str, Sequence[int]] = {piece: found.ids for piece, found in zip(listed, encodings, strict=True)}
        # A literal special token that stands apart becomes that token: so in SAM3.
        return ids | {START_TEXT: (START_ID,), END_TEXT: (END_ID,)}


@lru_cache(maxsize=1)
def clip_tokenizer() -> ClipTokenizer:
    """The one shared tokeniser."""
    return ClipTokenizer()


def _ranges(starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Concatenation of ``range(start, start + size)`` over all pairs."""
    ends = np.cumsum(sizes)
    ranges = np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)
    return cast("npt.NDArray[np.int64]", ranges)


def _to_text(word: str) -> str:
    codes = {char: byte for byte, char in byte_alphabet().items()}
    return bytes(codes.get(char, ord(" ")) for char in word).decode("utf-8", errors="replace").strip()
