"""A shard of a cache: a safetensors file with features of valid tokens only, and the phrases that they are of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from litetext.errors import CacheError
from litetext.features.manifest import ShardEntry, unwritable
from litetext.storage import atomic_file
from litetext.tokenizer.clean import clean

Keys = npt.NDArray[np.int64]
STORED = {"float16": "F16", "bfloat16": "BF16"}  # in words of safetensors
ANEW = "delete it and embed again to compute it anew"


def phrase_key(text: str) -> int:
    """64 bits of the phrase as SAM3's tokenizer sees it, that is after `clean`; signed."""
    digest = hashlib.blake2b(_seen(text), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard on disk, opened when it is first read.

    Attributes:
        path: the file.
        entry: what the manifest says of it.
        dtype: "float16" or "bfloat16".
        width: D of the features.
        teacher: fingerprint of the teacher.
    """

    path: Path
    entry: ShardEntry
    dtype: str
    width: int
    teacher: str

    def read_keys(self) -> Keys:
        """The hashes of its phrases, int64 [N]; besides, file size and header are checked, and the rest is not read.

        Raises:
            CacheError: the file is missing, damaged, or not the manifest's.
        """
        self._check_size()
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                values = file.get_slice("values")
                found = (values.get_dtype(), values.get_shape())
                stored = file.get_tensor("keys").clone()
        except (OSError, SafetensorError) as error:
            raise self._damaged(str(error)) from error
        if metadata.get("teacher") != self.teacher:
            raise CacheError("a shard of another teacher", where=str(self.path), hint="delete it and embed again")
        expected = (STORED[self.dtype], [self.entry.tokens, self.width])
        if found != expected or stored.dtype is not torch.int64 or stored.shape != (self.entry.phrases,):
            raise self._damaged("other sizes than in the manifest")
        keys: Keys = stored.numpy()
        if hashlib.sha256(keys.data).hexdigest() != self.entry.keys_sha256:
            raise self._damaged("other phrases than in the manifest")
        return keys

    def phrase(self, row: int) -> str:
        """The phrase of a row, as it was embedded."""
        return _decode(self._phrase_bytes(row))

    def is_of(self, row: int, text: str) -> bool:
        """Whether the row's phrase is the same to SAM3's tokenizer as this text."""
        stored = self._phrase_bytes(row)
        return stored == _seen(text) or _seen(_decode(stored)) == _seen(text)

    def features(self, row: int) -> Tensor:
        """Features [L, D] of a row's phrase in the stored number type: a view of the mapped file, not to be changed."""
        ends = self._ends
        return self._tensors["values"][int(ends[row - 1]) if row else 0 : int(ends[row])]

    def verify(self) -> None:
        """Read the whole file, unless it was: compare its checksum, and check that one can learn from what it holds.

        Raises:
            CacheError: the file is missing or damaged, or features are not finite.
        """
        self._tensors  # noqa: B018 - what is found is kept, so that no reader compares it again

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        """All tensors, mapped: pages are read when they are used, and the system may take them back.

        The file is what the manifest says by then, and holds what one can learn from.
        """
        self._check_size()
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self._damaged(str(error)) from error
        if found != self.entry.sha256:
            raise self._damaged("its checksum is not the manifest's")
        tensors = self._map()
        self._check_contents(tensors)
        return tensors

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        ends: npt.NDArray[np.int64] = self._tensors["ends"].numpy()
        return ends

    @cached_property
    def _text(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return self._tensors["text"].numpy(), self._tensors["text_ends"].numpy()

    def _phrase_bytes(self, row: int) -> bytes:
        text, ends = self._text
        return text[ends[row - 1] if row else 0 : ends[row]].tobytes()

    def _map(self) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in ("values", "ends", "text", "text_ends")}
        except (OSError, SafetensorError) as error:
            raise self._damaged(str(error)) from error

    def _check_contents(self, tensors: dict[str, Tensor]) -> None:
        """Whoever wrote the file has also written its checksum: this is what a right checksum does not say."""
        values, text = tensors["values"], tensors["text"]
        if text.dtype is not torch.uint8 or text.ndim != 1:
            raise self._damaged("its phrases are no text")
        for name, whole, least in (("ends", len(values), 1), ("text_ends", len(text), 0)):
            ends = tensors[name]
            if ends.dtype is not torch.int64 or ends.shape != (self.entry.phrases,):
                raise self._damaged(f"'{name}' is {ends.dtype} {list(ends.shape)}")
            if not len(ends) or int(ends[-1]) != whole or int(ends.diff(prepend=ends.new_zeros(1)).min()) < least:
                raise self._damaged(f"'{name}' does not part what is there")
        low, high = values.aminmax()  # unlike isfinite, without a copy
        if not (low.isfinite() and high.isfinite()):
            bad = values.isfinite().all(dim=1).int().argmin()
            row = int(torch.searchsorted(tensors["ends"], bad, right=True))
            stops = tensors["text_ends"].tolist()
            phrase = _decode(text[stops[row - 1] if row else 0 : stops[row]].numpy().tobytes())
            raise CacheError(f"features of '{phrase}' that are not finite", where=str(self.path), hint=ANEW)

    def _check_size(self) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError as error:
            raise CacheError(
                "a shard is missing", where=str(self.path), hint="put it back, or embed again to compute it anew"
            ) from error
        if size != self.entry.bytes:
            raise self._damaged(f"{size} bytes instead of {self.entry.bytes}")

    def _damaged(self, what: str) -> CacheError:
        return CacheError(f"a damaged shard ({what})", where=str(self.path), hint=ANEW)


def write_shard(path: Path, phrases: Sequence[str], rows: Sequence[Tensor], teacher: str) -> ShardEntry:
    """Write a shard in one step.

    Args:
        path: the file.
        phrases: N of them, distinct.
        rows: features [L_i, D] of each phrase's valid tokens, in the number type to store, on the CPU.
        teacher: fingerprint of the teacher.

    Raises:
        CacheError: it cannot be written.
    """
    texts = [_encode(phrase) for phrase in phrases]
    keys = np.array([phrase_key(phrase) for phrase in phrases], dtype=np.int64)
    ends = torch.tensor([len(row) for row in rows], dtype=torch.int64).cumsum(0)
    tensors = {
        "values": torch.cat(list(rows)),
        "ends": ends,
        "keys": torch.from_numpy(keys),
        "text": torch.from_numpy(np.frombuffer(bytearray(b"".join(texts)), np.uint8)),
        "text_ends": torch.tensor([len(text) for text in texts], dtype=torch.int64).cumsum(0),
    }
    data = save(tensors, {"teacher": teacher})
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        raise unwritable(path, error) from error
    sums = (hashlib.sha256(data).hexdigest(), hashlib.sha256(keys.data).hexdigest())
    return ShardEntry(path.name, len(texts), int(ends[-1]), len(data), *sums)


def _seen(text: str) -> bytes:
    return _encode(clean(text))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")
