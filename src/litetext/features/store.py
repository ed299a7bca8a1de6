"""Features of phrases on disk, found by phrase: mapped files, read with NumPy alone.

A store is a folder of shards, which `litetext embed` writes and training reads, or a single shard, which is what a
prompt bank is. A shard is a safetensors file; docs/how-to/bank.md has its layout. All but the features is read once for
its checksum when a store is opened; features have a checksum for each phrase, compared whenever they are read.
"""

import hashlib
import json
import mmap
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from litetext.errors import CacheError, EncoderError, LiteTextError, OptionError, shortened
from litetext.features.protocol import Arrays, TextFeatures
from litetext.features.ragged import pad
from litetext.records import parse_json, read_json, record, sealed, unsealed
from litetext.storage import atomic_file, to_json, write_text
from litetext.tokenizer.clean import as_texts, clean, settled

MANIFEST, FORMAT = "manifest.json", "litetext-features-3"  # of a folder
KIND, VERSION = "features", "3"  # of a shard
SHARD_NAME = re.compile(r"shard-\d{5,}\.safetensors")
DTYPES = {"fp16": "F16", "bf16": "BF16", "int8": "I8"}  # in words of safetensors
NUMPY = {"U64": "<u8", "I64": "<i8", "U32": "<u4", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "|i1", "U8": "|u1"}
CHECKSUM = "checksum"  # of the index, in the header of a shard
ALIGNMENT = 8  # bytes: the header and the text end at a multiple, so that every array begins at one of its item size
MOST_MAPPED = 128  # shards at once: a mapped file keeps a descriptor open, and macOS allows 256
AGAIN = "delete it and make it again: litetext embed, or litetext bank"
_BLOCK = 1 << 20
_NONE = np.empty(0, np.uint64)
_LONGEST_HEADER = 1 << 20  # that of a shard has about a thousand bytes; that of a checkpoint may be longer

Array = npt.NDArray[Any]
Shard = Mapping[str, Array]
"""N phrases, T tokens. ``keys`` uint64 [N], ascending; ``order`` uint32 [N], the number of the phrase with that key;
``rows`` int64 [N, 2], begin and end of each phrase in ``values``; ``text_offsets`` int64 [N + 1], where each phrase
begins in ``text``, and the next ends; ``checks`` uint32 [N], CRC-32 of the stored features; ``text`` uint8, the phrases
in UTF-8; ``values`` float16, uint16 (the bits of bfloat16) or int8 [T, D]; ``scales`` float32 [T], with int8."""


@dataclass(frozen=True)
class Teacher:
    """The encoder whose features they are."""

    name: str  # what reports call it; two of another name may be the same
    fingerprint: str  # of its weights and settings, which decides
    tokenizer: str  # fingerprint of its tokenizer
    context_length: int  # tokens that it reads of a phrase, start and end token counted
    width: int  # D, the size of a feature vector

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.context_length < 1 or self.width < 1:
            raise OptionError(f"features of width {self.width} for a context of {self.context_length}")


class FeatureStore:
    """Features by phrase, read where they stand in mapped files; any number of threads and processes may read.

    A phrase is what SAM3's tokenizer sees of it (`clean`): "White  Dog" finds "white dog"; "a white dog" is another. Of
    a folder of shards 16 bytes a phrase are held, the key and the place; of a single file nothing. A key that two
    phrases share does no harm, since the phrase itself is compared. Use `FeatureStore.open`.

    Attributes:
        path: the folder or file.
        teacher: whose features they are.
        dtype: what they are stored in: "fp16", "bf16" or "int8".
        shards: checksum of each shard's index, by the name of its file.
        tokens: rows of features, one for each valid token.
        bytes: of all shards.
        report: what was done to make it, where that was just now.
    """

    def __init__(self, path: Path, teacher: Teacher, dtype: str, shards: Mapping[str, str]) -> None:
        self.path, self.teacher, self.dtype, self.shards = path, teacher, dtype, shards
        self.report: dict[str, Any] = {}
        self._files = files = [path / name for name in shards] if path.is_dir() else [path]
        checksums = list(shards.values())
        # Closes over no `self`, which would keep the files mapped until the garbage is collected.
        self._shard: Callable[[int], Shard] = lru_cache(maxsize=MOST_MAPPED)(
            lambda number: _map_shard(files[number], teacher, dtype, checksums[number])
        )
        self.bytes = self.tokens = 0
        keys, places, firsts = [], [], [0]
        for number, file in enumerate(files):
            shard = self._shard(number)
            self.tokens += len(shard["values"])
            self.bytes += file.stat().st_size
            keys.append(shard["keys"] if len(files) == 1 else shard["keys"].copy())
            places.append(shard["order"] if len(files) == 1 else shard["order"] + np.uint64(firsts[-1]))
            firsts.append(firsts[-1] + len(shard["keys"]))
        self._firsts = firsts
        if len(files) == 1:  # mapped
            self._keys, self._places = keys[0], places[0]
        else:
            self._keys, self._places = np.concatenate([_NONE, *keys]), np.concatenate([_NONE, *places]).astype(np.int64)
            order = np.argsort(self._keys, kind="stable")
            self._keys, self._places = self._keys[order], self._places[order]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Map a folder of `litetext embed` or a file of `litetext bank`; all but features is checked.

        Raises:
            CacheError: no store, or a file is missing or damaged.
        """
        path = Path(path)
        if not path.is_file():
            return cls(path, *read_manifest(path))
        metadata, *_ = _read_header(path)
        _check_kind(metadata, path)
        try:
            check_dtype(metadata["dtype"])
            sizes = int(metadata["context_length"]), int(metadata["width"])
            teacher = Teacher(metadata["encoder"], metadata["fingerprint"], metadata["tokenizer"], *sizes)
            shards = {path.name: metadata[CHECKSUM]}
        except (KeyError, ValueError, OptionError) as error:
            raise damaged(path, str(error)) from error
        return cls(path, teacher, metadata["dtype"], shards)

    def __repr__(self) -> str:
        """One line."""
        size = f"{len(self):,} phrases, {self.tokens:,} tokens, {self.bytes / 1e6:,.1f} MB"
        return f"{type(self).__name__}('{self.path}': {size}; {self.dtype} features of '{self.teacher.name}')"

    @property
    def name(self) -> str:
        """What reports call it: its path."""
        return str(self.path)

    @property
    def context_length(self) -> int:
        """Tokens that the teacher read of a phrase."""
        return self.teacher.context_length

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.teacher.width

    @property
    def phrases(self) -> Iterator[str]:
        """The phrases, cleaned unless cleaning them again would change them, shard after shard."""
        for data, offsets in self.texts:
            for begin, end in pairwise(offsets.tolist()):
                yield data[begin:end].decode("utf-8", "surrogatepass")

    @property
    def texts(self) -> Iterator[tuple[bytes, npt.NDArray[np.int64]]]:
        """Of each shard all phrases in UTF-8, one after another, and int64 [N + 1], where each begins."""
        for number in range(len(self.shards)):
            text, offsets = self._shard(number)["text"], self._shard(number)["text_offsets"]
            if offsets[0] != 0 or offsets[-1] > len(text) or np.diff(offsets).min() < 0:
                raise damaged(self._files[number], "its texts do not follow each other")
            yield text.tobytes(), offsets

    def __len__(self) -> int:
        """The number of phrases."""
        return len(self._keys)

    def __contains__(self, text: object) -> bool:
        """Whether there are features of the phrase."""
        return isinstance(text, str) and self.find(phrase_bytes(text)) >= 0

    def missing(self, texts: Iterable[str]) -> list[str]:
        """Those of the texts that there are no features of, in their order."""
        return [text for text in texts if self.find(phrase_bytes(text)) < 0]

    def find(self, phrase: bytes) -> int:
        """The place of a phrase, given as `phrase_bytes` has it; -1 where there is none."""
        key = phrase_key(phrase)
        # One at a time: NumPy searches several keys from where the last one was, which reads pages that no other needs.
        index = int(self._keys.searchsorted(np.uint64(key)))
        while index < len(self._keys) and int(self._keys[index]) == key:
            place = int(self._places[index])
            stored = self._text(place)
            if stored == phrase or phrase_bytes(stored.decode("utf-8", "surrogatepass")) == phrase:
                return place
            index += 1
        return -1

    def row(self, place: int) -> Array:
        """Features [L, D] of the phrase at a place: float16, a view of the file, or float32."""
        shard, number, row = self._locate(place)
        values, (first, stop) = shard["values"], shard["rows"][row].tolist()
        if not (0 <= first < stop <= len(values) and stop - first <= self.teacher.context_length):
            raise damaged(self._files[number], f"phrase {row} has the rows {first} to {stop} of {len(values)}")
        stored, scales = values[first:stop], shard["scales"][first:stop] if "scales" in shard else None
        if features_checksum(stored, scales) != shard["checks"][row]:
            raise damaged(self._files[number], f"the features of phrase {row} have another checksum")
        return widen(stored, scales)

    def encode(self, texts: str | Iterable[str]) -> Arrays:
        """Features float32 [B, L, D] of at least one phrase, zeros at padding, and mask bool [B, L], True at tokens.

        Raises:
            CacheError: there are none of a phrase, or a file is damaged.
            OptionError: no texts, or something that is not a string.
        """
        texts = as_texts(texts)
        places = [self.find(phrase_bytes(text)) for text in texts]
        if min(places) < 0:
            text = texts[places.index(-1)]
            raise CacheError(f"no features of '{text}'", where=self.name, hint="embed a corpus that has this phrase")
        return self._padded([self.row(place) for place in places], places)

    def features(self, texts: Iterable[str]) -> TextFeatures:
        """As `encode`, as tensors on the CPU."""
        return TextFeatures.of_arrays(*self.encode(texts))

    def verify(self) -> None:
        """Raise a `CacheError` unless all checksums are right, all features finite, and no phrase is there twice."""
        for start in range(0, len(self), 256):
            places = range(start, min(start + 256, len(self)))
            self._padded([self.row(place) for place in places], places)
        if not np.array_equal(np.sort(self._places), np.arange(len(self))):
            raise damaged(self._files[0], "its order leaves out a phrase")
        for place in self._places[1:][self._keys[1:] == self._keys[:-1]].tolist():
            text = self._text(place).decode("utf-8", "surrogatepass")
            if self.find(phrase_bytes(text)) != place:
                raise CacheError(f"'{text}' is there twice", where=self.name, hint="embed into a new folder")

    def to_json(self) -> dict[str, Any]:
        """Plain values for reports."""
        return {
            "path": self.name,
            "phrases": len(self),
            "tokens": self.tokens,
            "bytes": self.bytes,
            "shards": len(self.shards),
            "dtype": self.dtype,
            "teacher": asdict(self.teacher),
            **self.report,
        }

    def describe(self) -> str:
        """For people, in one line."""
        return (
            f"{self.name}: {len(self):,} phrases, {self.tokens:,} tokens in {self.dtype}, {self.bytes / 1e6:,.2f} MB "
            f"in {len(self.shards):,} file{'s'[: len(self.shards) != 1]}, of {shortened(self.teacher.name, 100)}"
        )

    def _padded(self, rows: list[Array], places: Sequence[int]) -> Arrays:
        """Features as a batch, once they are finite: whoever wrote the file has also written its checksums."""
        arrays: Arrays = pad(rows)
        finite = np.isfinite(arrays[0])
        if not finite.all():
            place = places[int(finite.all(axis=(1, 2)).argmin())]
            text, file = self._text(place).decode("utf-8", "surrogatepass"), self._files[self._locate(place)[1]]
            raise CacheError(f"features of '{text}' that are not finite", where=str(file), hint=AGAIN)
        return arrays

    def _locate(self, place: int) -> tuple[Shard, int, int]:
        """The shard that a place is in, its number, and the row in it."""
        number = bisect_right(self._firsts, place) - 1
        if not 0 <= number < len(self.shards):
            raise damaged(self._files[0], f"phrase {place} of {len(self)}")
        return self._shard(number), number, place - self._firsts[number]

    def _text(self, place: int) -> bytes:
        shard, number, row = self._locate(place)
        begin, end = shard["text_offsets"][row : row + 2].tolist()
        if not 0 <= begin <= end <= len(shard["text"]):
            raise damaged(self._files[number], f"phrase {row} has no text")
        return shard["text"][begin:end].tobytes()


def phrase_bytes(text: str) -> bytes:
    """A phrase as SAM3's tokenizer sees it, that is after `clean`, in UTF-8."""
    return clean(text).encode("utf-8", "surrogatepass")


def phrase_key(phrase: bytes) -> int:
    """64 bits of a phrase: BLAKE2b with a digest of 8 bytes, read as a little-endian number."""
    return int.from_bytes(hashlib.blake2b(phrase, digest_size=8).digest(), "little")


def distinct_phrases(texts: Iterable[str]) -> dict[bytes, str]:
    """What SAM3's tokenizer sees of each text, and the first text that it sees so, in their order."""
    phrases: dict[bytes, str] = {}
    for text in texts:
        phrases.setdefault(phrase_bytes(text), text)
    return phrases


def check_dtype(dtype: str) -> None:
    """Raise an `OptionError` unless features can be stored in it."""
    if dtype not in DTYPES:
        raise OptionError(f"features in '{dtype}'", hint="give fp16, bf16 or int8")


def check_teacher(owner: Teacher, teacher: Teacher, where: Path) -> None:
    """Raise a `CacheError` unless features of one are features of the other; the name does not count."""
    if replace(owner, name=teacher.name) != teacher:
        one, other = (
            f"'{t.name}', context {t.context_length}, fingerprint {t.fingerprint[:12]}" for t in (owner, teacher)
        )
        raise CacheError(f"features of another teacher ({one})", where=str(where), hint=f"give {other} its own folder")


def narrow(values: npt.NDArray[np.float32], dtype: str) -> tuple[Array, npt.NDArray[np.float32] | None]:
    """Features [T, D] as they are stored; with int8 a scale [T], the largest of a row over 127."""
    if dtype == "fp16":
        with np.errstate(over="ignore"):  # the caller looks for infinity
            return values.astype("<f2"), None
    if dtype == "bf16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2"), None  # to the nearest, of two the even one
    scales = np.abs(values).max(axis=1) / np.float32(127)
    whole = np.divide(values, scales[:, None], out=np.zeros_like(values), where=scales[:, None] > 0)
    return np.rint(whole).clip(-127, 127).astype(np.int8), scales.astype("<f4")


def widen(stored: Array, scales: npt.NDArray[np.float32] | None) -> Array:
    """What was stored, to compute with: float16 as it is, else float32."""
    if scales is not None:
        return stored * scales[:, None]
    return stored if stored.dtype.kind != "u" else (stored.astype(np.uint32) << 16).view(np.float32)


def features_checksum(stored: Array, scales: npt.NDArray[np.float32] | None) -> int:
    """CRC-32 of the features of a phrase as they are stored, and of their scales after them."""
    check = zlib.crc32(np.ascontiguousarray(stored).data)
    return check if scales is None else zlib.crc32(np.ascontiguousarray(scales).data, check)


def write_shard(
    path: Path,
    teacher: Teacher,
    dtype: str,
    phrases: Mapping[bytes, str],
    batches: Iterable[tuple[Sequence[int], list[npt.NDArray[np.float32]]]],
) -> str:
    """Write a shard in one step; what is held at a time is one batch of features and the index.

    The phrases, at least one, are as `distinct_phrases` has them, and keep their order. The batches are numbers of
    phrases and the finite features [L_i, D] of each, in the end each phrase once. Returns the checksum of the index.
    """
    check_dtype(dtype)
    if dtype == "int8" and teacher.width % 4:
        raise OptionError(f"int8 features of width {teacher.width}, no multiple of 4", hint="store them as fp16")
    kept = (settled(text, phrase.decode("utf-8", "surrogatepass")) for phrase, text in phrases.items())
    texts = [text.encode("utf-8", "surrogatepass") for text in kept]
    text = b"".join(texts)
    text += b"\0" * (-len(text) % ALIGNMENT)
    count, tokens = len(texts), 0
    rows, checks, scales = np.zeros((count, 2), "<i8"), np.zeros(count, "<u4"), []
    # As long as the header can be: for the most tokens that there may be.
    space = len(_header(teacher, dtype, "0" * 32, (count, count * teacher.context_length, len(text))))
    start = 8 + space + -space % ALIGNMENT
    with atomic_file(path) as file:
        file.seek(start + _layout(teacher, dtype, (count, 1, len(text)))["values"]["data_offsets"][0])
        for numbers, features in batches:
            stored, scale = narrow(np.concatenate(features), dtype)
            ends = np.cumsum([0, *map(len, features)])
            rows[numbers] = np.stack([ends[:-1], ends[1:]], axis=1) + tokens
            for number, (first, stop) in zip(numbers, pairwise(ends.tolist()), strict=True):
                checks[number] = features_checksum(stored[first:stop], None if scale is None else scale[first:stop])
            _check_narrowed(stored, scale, ends, [texts[number] for number in numbers], f"{teacher.name} in {dtype}")
            scales += [] if scale is None else [scale.tobytes()]
            tokens += len(stored)
            file.write(stored.tobytes())
        file.write(b"".join(scales))
        keys = np.array([phrase_key(phrase) for phrase in phrases], "<u8")
        order = np.argsort(keys, kind="stable")
        offsets = np.cumsum([0, *map(len, texts)])
        arrays = (keys[order], rows, offsets.astype("<i8"), order.astype("<u4"), checks)
        index = b"".join(array.tobytes() for array in arrays) + text
        checksum = _index_checksum(_metadata(teacher, dtype), [index])
        header = _header(teacher, dtype, checksum, (count, tokens, len(text)))
        file.seek(0)
        file.write((start - 8).to_bytes(8, "little") + header.ljust(start - 8))  # safetensors allows spaces at its end
        file.write(index)
    return checksum


def read_manifest(folder: Path) -> tuple[Teacher, str, dict[str, str]]:
    """Teacher, dtype and the checksum of each shard, by name, of a folder."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CacheError(f"no cache of features (no {MANIFEST})", where=str(folder), hint="make it: litetext embed")
    try:
        entries = read_json(path)
        _require(isinstance(entries, dict) and entries.get("format") == FORMAT, f"not of the format '{FORMAT}'")
        entries = unsealed(entries)
        teacher, dtype = record(Teacher, entries["teacher"], "teacher"), entries["dtype"]
        shards = dict(sorted(entries["shards"].items()))
        check_dtype(dtype)
        # Names, not paths: nothing outside the folder is read.
        _require(all(map(SHARD_NAME.fullmatch, shards)), "names of shards")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LiteTextError) as error:
        what = f"a damaged or unknown manifest ({error})"
        raise CacheError(what, where=str(path), hint="embed into a new folder") from error
    return teacher, dtype, shards


def write_manifest(folder: Path, teacher: Teacher, dtype: str, shards: Mapping[str, str]) -> None:
    """Write it in one step."""
    entries = {"format": FORMAT, "teacher": asdict(teacher), "dtype": dtype, "shards": dict(sorted(shards.items()))}
    write_text(folder / MANIFEST, to_json(sealed(entries)) + "\n")


def is_bank(path: str | Path) -> bool:
    """Whether it is a file that says of itself that it is one, whole or not; only its header is read."""
    try:
        metadata, *_ = _read_header(Path(path))
    except CacheError:
        return False
    return metadata.get("kind") == KIND


def damaged(path: Path, what: str) -> CacheError:
    """What to say of a file that does not hold what it must."""
    return CacheError(f"damaged features ({what})", where=str(path), hint=AGAIN)


def _map_shard(path: Path, teacher: Teacher, dtype: str, checksum: str) -> Shard:
    """The arrays of a shard, mapped, once its index has the checksum and its size is right."""
    if not path.is_file():
        raise CacheError("a shard is missing", where=str(path), hint="put it back, or embed again to compute it anew")
    metadata, entries, start = _read_header(path)
    _check_kind(metadata, path)
    if metadata.get("fingerprint") != teacher.fingerprint:
        raise CacheError("a shard of another teacher", where=str(path), hint=AGAIN)
    try:
        sizes = tuple(entries[name]["shape"][0] for name in ("keys", "values", "text"))
        layout = _layout(teacher, dtype, sizes)
        fits = entries == layout and min(sizes[:2]) > 0
        _require(fits, f"its arrays are not those of {sizes[0]} phrases with {sizes[1]} tokens in {dtype}")
        size, wanted = path.stat().st_size, start + max(entry["data_offsets"][1] for entry in layout.values())
        _require(size == wanted, f"{size:,} bytes instead of {wanted:,}")
        with path.open("rb") as file:
            file.seek(start)
            end = layout["values"]["data_offsets"][0]
            # Read, not mapped: what is mapped counts as memory in use.
            blocks = (file.read(min(_BLOCK, end - at)) for at in range(0, end, _BLOCK))
            _require(_index_checksum(metadata, blocks) == metadata[CHECKSUM] == checksum, "its checksum is another")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mapped, "madvise"):  # not on Windows
            mapped.madvise(mmap.MADV_RANDOM)  # phrases that are asked for stand anywhere: nothing is read ahead
        arrays = {}
        for name, entry in layout.items():
            shape, at = entry["shape"], start + entry["data_offsets"][0]
            arrays[name] = np.frombuffer(mapped, NUMPY[entry["dtype"]], prod(shape), at).reshape(shape)
    except (OSError, KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
        raise damaged(path, str(error)) from error
    return arrays


def _layout(teacher: Teacher, dtype: str, sizes: Sequence[int]) -> dict[str, Any]:
    """The header's entries of all arrays, in order; the sizes are phrases, tokens, and bytes of text."""
    phrases, tokens, letters = sizes
    arrays: dict[str, tuple[str, list[int]]] = {
        "keys": ("U64", [phrases]),
        "rows": ("I64", [phrases, 2]),
        "text_offsets": ("I64", [phrases + 1]),
        "order": ("U32", [phrases]),
        "checks": ("U32", [phrases]),
        "text": ("U8", [letters]),
        "values": (DTYPES[dtype], [tokens, teacher.width]),
        **({"scales": ("F32", [tokens])} if dtype == "int8" else {}),
    }
    ends = accumulate(prod(shape) * np.dtype(NUMPY[kind]).itemsize for kind, shape in arrays.values())
    return {
        name: {"dtype": kind, "shape": shape, "data_offsets": list(span)}
        for (name, (kind, shape)), span in zip(arrays.items(), pairwise([0, *ends]), strict=True)
    }


def _metadata(teacher: Teacher, dtype: str) -> dict[str, str]:
    fields = {name: str(value) for name, value in asdict(teacher).items()}
    return {"litetext": VERSION, "kind": KIND, "encoder": fields.pop("name"), **fields, "dtype": dtype}


def _header(teacher: Teacher, dtype: str, checksum: str, sizes: Sequence[int]) -> bytes:
    metadata = _metadata(teacher, dtype) | {CHECKSUM: checksum}
    return json.dumps({"__metadata__": metadata, **_layout(teacher, dtype, sizes)}, separators=(",", ":")).encode()


def _index_checksum(metadata: Mapping[str, str], parts: Iterable[bytes]) -> str:
    """BLAKE2b (128 bits, hexadecimal) of the strings of a header but the checksum, and of the bytes of the index."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(metadata.keys() - {CHECKSUM}):
        digest.update(f"{name}={metadata[name]}\0".encode("utf-8", "surrogatepass"))
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Any], int]:
    """Metadata and arrays of a safetensors file, and where its data begins."""
    if not path.is_file():
        raise CacheError("no such file", where=str(path), hint="check the path")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            _require(length <= _LONGEST_HEADER, f"a header of {length} bytes")
            entries = parse_json(file.read(length))
        metadata = dict(entries.pop("__metadata__", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise damaged(path, f"no header of a safetensors file: {error}") from error
    return metadata, entries, 8 + length


def _check_kind(metadata: Mapping[str, str], path: Path) -> None:
    if metadata.get("kind") != KIND or metadata.get("litetext") != VERSION:
        hint = "make one: litetext bank PHRASES -o FILE"
        raise CacheError(f"not a file of features of version {VERSION}", where=str(path), hint=hint)


def _check_narrowed(stored: Array, scales: Array | None, ends: Array, texts: Sequence[bytes], where: str) -> None:
    """Raise an `EncoderError` where a dtype cannot hold a number, with the text of the phrase."""
    finite = np.isfinite(widen(stored, scales)).all(axis=1)
    if not finite.all():
        text = texts[int(np.searchsorted(ends, finite.argmin(), side="right")) - 1].decode("utf-8", "surrogatepass")
        raise EncoderError(f"the features of '{text}' are not finite", where=where, hint="store them as bf16 or int8")


def _require(condition: bool, what: str) -> None:
    """Raise a `ValueError`, which the caller turns into the error of the file."""
    if not condition:
        raise ValueError(what)
