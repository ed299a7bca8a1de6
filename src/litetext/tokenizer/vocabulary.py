"""CLIP's vocabulary: 512 byte tokens, 48,894 merged tokens, start and end."""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

VOCABULARY_SIZE = 49_408
START_ID = 49_406
END_ID = 49_407
PAD_ID = 0
BYTE_TOKENS = 512  # ids 0..255: a byte inside a word; 256..511: a byte that ends a word
END_OF_WORD = "</w>"
START_TEXT, END_TEXT = "<start_of_text>", "<end_of_text>"


@dataclass(frozen=True)
class Vocabulary:
    """Token strings and merge rules, in order of rank."""

    tokens: tuple[str, ...]  # 49,408 token strings; the position is the id
    merges: tuple[tuple[str, str], ...]  # 48,894 pairs of token strings; merge r makes token 512 + r

    def closure(self, used: Iterable[int]) -> frozenset[int]:
        """The ids that a lossless pruning must keep: the used, those they are made of, every byte, start and end.

        A merge that never fires on a text can be dropped without changing how the text is split: at each step BPE
        takes the best-ranked pair, and that pair is kept. With all bytes kept, any other text still splits, into
        smaller pieces.
        """
        ids = {token: index for index, token in enumerate(self.tokens)}
        kept = set(range(BYTE_TOKENS)) | {START_ID, END_ID}
        open_ids = [index for index in used if index not in kept]
        while open_ids:
            index = open_ids.pop()
            if index in kept:
                continue
            kept.add(index)
            open_ids.extend(ids[part] for part in self.merges[index - BYTE_TOKENS])
        return frozenset(kept)


@lru_cache(maxsize=1)
def clip_vocabulary() -> Vocabulary:
    """CLIP's vocabulary, read from the package data (48,894 merges from OpenAI's file, MIT licence)."""
    data = files("litetext.tokenizer").joinpath("data", "clip_merges.txt.gz").read_bytes()
    pairs = (line.split(" ") for line in gzip.decompress(data).decode("utf-8").splitlines())
    merges = tuple((first, second) for first, second in pairs)
    alphabet = list(byte_alphabet().values())
    tokens = [*alphabet, *(char + END_OF_WORD for char in alphabet), *("".join(pair) for pair in merges)]
    return Vocabulary((*tokens, START_TEXT, END_TEXT), merges)


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte, in the order of CLIP's ids (GPT-2's `bytes_to_unicode`).

    Bytes that Latin-1 prints stand for themselves; the rest, in order, take the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + rank) for rank, byte in enumerate(others)}
