"""Features of a teacher on disk, found by phrase: what `litetext embed` writes and training reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from litetext.errors import CacheError
from litetext.features.manifest import Manifest, Teacher, read_manifest
from litetext.features.protocol import TextFeatures
from litetext.features.shards import Keys, Shard, phrase_key
from litetext.tokenizer.texts import as_texts


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """A folder of features, read by phrase.

    A phrase is what SAM3's tokenizer sees of it (`clean`): case and spacing do not count. Features are mapped from
    disk and never held; what is held of a phrase is 16 bytes, its hash and its place. A hash that two phrases share
    does no harm, since the phrase itself is compared.

    Attributes:
        path: the folder.
        manifest: what it says about itself.
        shards: in the order of the manifest.
        keys: int64 [N], ascending hashes of all phrases.
        places: int64 [N], where the phrase of each hash stands when all shards are one after another.
    """

    path: Path
    manifest: Manifest
    shards: tuple[Shard, ...]
    keys: Keys
    places: npt.NDArray[np.int64]

    @classmethod
    def open(cls, path: str | Path, teacher: Teacher | None = None) -> "FeatureCache":
        """Open a cache: manifest, and size, header and hashes of each shard are checked; features are not read yet.

        The checksum of a shard is compared when it is first read, or by `verify`.

        Args:
            path: the folder.
            teacher: whose features they must be; None takes any.

        Raises:
            CacheError: no cache, of another teacher, or a shard is missing, damaged or of another teacher.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if teacher is not None:
            manifest.check_teacher(teacher, folder)
        return cls.of_manifest(folder, manifest)

    @classmethod
    def of_manifest(cls, path: Path, manifest: Manifest) -> "FeatureCache":
        """Open the shards of a manifest, as `open` does."""
        own = manifest.teacher
        shards = tuple(
            Shard(path / entry.file, entry, manifest.dtype, own.width, own.fingerprint) for entry in manifest.shards
        )
        keys = np.concatenate([np.empty(0, np.int64), *(shard.read_keys() for shard in shards)])
        places = np.argsort(keys, kind="stable")
        return cls(path, manifest, shards, keys[places], places)

    @property
    def teacher(self) -> Teacher:
        """Whose features they are: name, fingerprint, tokenizer, context, width."""
        return self.manifest.teacher

    @property
    def context_length(self) -> int:
        """Tokens that the teacher read of a phrase."""
        return self.teacher.context_length

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.teacher.width

    @property
    def dtype(self) -> torch.dtype:
        """The stored number type, float16 or bfloat16."""
        number: torch.dtype = getattr(torch, self.manifest.dtype)
        return number

    @property
    def phrases(self) -> Iterator[str]:
        """The phrases as they were embedded, in the order in which they stand; one shard is read after another."""
        return (shard.phrase(row) for shard in self.shards for row in range(shard.entry.phrases))

    def __len__(self) -> int:
        """The number of phrases."""
        return len(self.keys)

    def __contains__(self, text: object) -> bool:
        """Whether there are features of the phrase."""
        return isinstance(text, str) and self._find(text) is not None

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that there are no features of, in their order.

        Raises:
            CacheError: a shard that has to be read is damaged.
        """
        return [text for text in texts if self._find(text) is None]

    def rows(self, text: str) -> Tensor:
        """Features of a phrase's valid tokens, [L_i, D] in the stored number type, on the CPU; a copy.

        Raises:
            CacheError: there are none, or their shard is damaged.
        """
        return self._mapped(text).clone()

    def features(self, texts: Iterable[str]) -> TextFeatures:
        """Features of at least one phrase, float32 [B, L, D] on the CPU, L the longest of them, zeros as padding.

        Raises:
            CacheError: there are none of a phrase, or their shard is damaged.
            OptionError: no texts, or something that is not a string.
        """
        texts = as_texts(texts)
        rows = [self._mapped(text) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        values = torch.zeros((len(rows), int(lengths.max()), self.width))
        for padded, row in zip(values, rows, strict=True):
            padded[: len(row)] = row
        return TextFeatures(values, torch.arange(values.shape[1]) < lengths[:, None])

    def verify(self) -> None:
        """Read all of it: each shard's checksum, and that no phrase stands there twice.

        Raises:
            CacheError: a shard is missing or damaged, or a phrase is doubled.
        """
        for shard in self.shards:
            shard.verify()
        for first in np.flatnonzero(self.keys[1:] == self.keys[:-1]):
            shard, row = self._place(int(first))
            if self._find(shard.phrase(row), after=int(first)) is not None:
                raise CacheError(
                    f"'{shard.phrase(row)}' is there twice", where=str(self.path), hint="embed into a new folder"
                )

    def _mapped(self, text: str) -> Tensor:
        found = self._find(text)
        if found is None:
            raise CacheError(
                f"no features of '{text}'", where=str(self.path), hint="embed a corpus that has this phrase"
            )
        shard, row = found
        return shard.features(row)

    def _find(self, text: str, after: int = -1) -> tuple[Shard, int] | None:
        """The shard and the row in it of a phrase, at an index of ``keys`` beyond ``after``."""
        key = phrase_key(text)
        index = max(int(np.searchsorted(self.keys, key)), after + 1)
        while index < len(self.keys) and self.keys[index] == key:
            shard, row = self._place(index)
            if shard.is_of(row, text):
                return shard, row
            index += 1
        return None

    @cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        """Where each shard begins when all are one after another."""
        counts = np.array([shard.entry.phrases for shard in self.shards], dtype=np.int64)
        return np.cumsum(counts) - counts

    def _place(self, index: int) -> tuple[Shard, int]:
        place = int(self.places[index])
        number = int(np.searchsorted(self._firsts, place, side="right")) - 1
        return self.shards[number], place - int(self._firsts[number])
