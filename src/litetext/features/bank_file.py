"""The file of a prompt bank: one safetensors file, in which a phrase is found and read where it stands.

Its layout is told in docs/bank.md. When it is opened, all but the features is read once for its checksum; features have
a checksum for each phrase, which is compared when they are read where they stand, in a mapped file.
"""

import hashlib
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.records import parse_json
from litetext.tokenizer.clean import clean

KIND, VERSION = "bank", "2"
NUMBERS = {"fp16": "F16", "int8": "I8"}  # in words of safetensors
DTYPES = {"U64": "<u8", "I64": "<i8", "U32": "<u4", "F32": "<f4", "F16": "<f2", "I8": "|i1", "U8": "|u1"}
INDEX = ("keys", "rows", "text_offsets", "order", "checks", "text")  # all but the features
CHECKSUM = "checksum"  # of the index, in the header
ALIGNMENT = 8  # bytes; where the data begins and ends, and every number stands at a multiple of its size
_BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 20  # a bank's has about a thousand bytes; that of a checkpoint may be longer

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BankHeader:
    """What a bank says about itself.

    Attributes:
        name: of the encoder whose features they are.
        fingerprint: of that encoder.
        tokenizer: fingerprint of its tokenizer.
        context_length: tokens that it reads of a phrase, start and end token counted.
        width: D, the size of a feature vector.
        number: what features are stored in, "fp16" or "int8".

    Raises:
        OptionError: a value that makes no sense.
    """

    name: str
    fingerprint: str
    tokenizer: str
    context_length: int
    width: int
    number: str = "fp16"

    def __post_init__(self) -> None:
        """Check each value."""
        check_number(self.number)
        if self.context_length < 1 or self.width < 1:
            raise OptionError(f"a bank of width {self.width} for a context of {self.context_length}")

    def to_metadata(self) -> dict[str, str]:
        """The strings of the file's ``__metadata__``."""
        said = {key: str(value) for key, value in asdict(self).items()}
        said["encoder"] = said.pop("name")
        return {"litetext": VERSION, "kind": KIND, **said}

    @classmethod
    def of_metadata(cls, said: Mapping[str, str]) -> "BankHeader":
        """Read it back.

        Raises:
            KeyError: something is missing.
            ValueError: a number is none.
            OptionError: a value that makes no sense.
        """
        name, context_length, width = said["encoder"], int(said["context_length"]), int(said["width"])
        return cls(name, said["fingerprint"], said["tokenizer"], context_length, width, said["number"])


@dataclass(frozen=True, eq=False)
class BankFile:
    """A bank on disk, mapped: N phrases, T tokens.

    Attributes:
        path: the file.
        header: what it says about itself.
        size: of the file in bytes.
        keys: uint64 [N], ascending hashes of the phrases.
        order: uint32 [N], the number of the phrase that has this key.
        rows: int64 [N, 2], of each phrase the first of its rows of ``values``, and the one behind its last.
        text_offsets: int64 [N + 1], where each phrase begins in ``text``, and the next ends.
        checks: uint32 [N], CRC-32 of the features of each phrase as they are stored, and of their scales after them.
        text: uint8, the cleaned phrases in UTF-8, one after another; up to 7 zero bytes stand behind the last.
        values: float16 or int8 [T, D], features of valid tokens.
        scales: float32 [T], what the int8 values of a row are times; None for float16.
    """

    path: Path
    header: BankHeader
    size: int
    keys: npt.NDArray[np.uint64]
    order: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.int64]
    text_offsets: npt.NDArray[np.int64]
    checks: npt.NDArray[np.uint32]
    text: npt.NDArray[np.uint8]
    values: Array
    scales: npt.NDArray[np.float32] | None

    @classmethod
    def open(cls, path: Path) -> "BankFile":
        """Map a file; its size and the checksum of all but the features are compared.

        Raises:
            EncoderError: not there, not a bank, or not whole.
        """
        said, entries, start = _read_head(path)
        if not _is_bank(said):
            raise EncoderError("not a prompt bank", where=str(path), hint="make one: litetext bank PHRASES -o FILE")
        if said["litetext"] != VERSION:
            raise EncoderError(
                f"a bank of version {said['litetext']}", where=str(path), hint="update litetext, or make it again"
            )
        try:
            header = BankHeader.of_metadata(said)
            found = _places(entries, header)
            size, wanted = path.stat().st_size, start + max(end for *_, end in found.values())
            if size != wanted:
                raise ValueError(f"{size:,} bytes instead of {wanted:,}")  # noqa: TRY301
            with path.open("rb") as file:
                # Read, not mapped: what is mapped counts as memory in use.
                parts = (part for name in INDEX for part in _blocks(file, start, *found[name][2:]))
                if index_checksum(said, parts) != said[CHECKSUM]:
                    raise ValueError("its checksum is another")  # noqa: TRY301
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if hasattr(mapped, "madvise"):  # not on Windows
                # Phrases that are asked for stand anywhere: nothing is read ahead, but for the texts.
                mapped.madvise(mmap.MADV_RANDOM, 0, start + found["text"][2])
            arrays = {
                name: np.frombuffer(mapped, dtype, prod(shape), start + begin).reshape(shape)
                for name, (dtype, shape, begin, _) in found.items()
            }
        except (KeyError, IndexError, ValueError, TypeError, OverflowError, OptionError) as error:
            raise damaged(path, str(error)) from error
        scales = arrays.pop("scales", None)
        return cls(path, header, size, **arrays, scales=scales)

    def __len__(self) -> int:
        """The number of phrases."""
        return len(self.keys)

    def phrase(self, number: int) -> bytes:
        """A cleaned phrase in UTF-8.

        Raises:
            EncoderError: the file is damaged.
        """
        if number >= len(self):
            raise damaged(self.path, f"phrase {number} of {len(self)}")
        begin, end = int(self.text_offsets[number]), int(self.text_offsets[number + 1])
        if not 0 <= begin <= end <= len(self.text):
            raise damaged(self.path, f"phrase {number} has no text")
        return self.text[begin:end].tobytes()

    def features(self, number: int) -> Array:
        """Features [L, D] of a phrase's tokens: float16, a view of the file; or float32, of int8.

        Raises:
            EncoderError: the file is damaged.
        """
        first, stop = self.rows[number].tolist()
        if not (0 <= first < stop <= len(self.values) and stop - first <= self.header.context_length):
            raise damaged(self.path, f"phrase {number} has the rows {first} to {stop} of {len(self.values)}")
        stored, scales = self.values[first:stop], None if self.scales is None else self.scales[first:stop]
        if features_checksum(stored, scales) != self.checks[number]:
            raise damaged(self.path, f"the features of phrase {number} have another checksum")
        return widen(stored, scales)

    def verify(self) -> None:
        """Compare the checksums of all features.

        Raises:
            EncoderError: the file is damaged.
        """
        for number in range(len(self)):
            self.features(number)

    def find(self, phrase: bytes) -> int:
        """The number of a phrase, given as `seen` has it; -1 where it is not in the bank.

        The text itself is compared: a key that two phrases share does no harm.

        Raises:
            EncoderError: the file is damaged.
        """
        key = phrase_key(phrase)
        # One at a time: NumPy searches several keys from where the last one was, which reads pages that no other needs.
        place = int(self.keys.searchsorted(np.uint64(key)))
        while place < len(self.keys) and int(self.keys[place]) == key:
            number = int(self.order[place])
            if self.phrase(number) == phrase:
                return number
            place += 1
        return -1


def check_number(number: str) -> None:
    """Raise an `OptionError` unless a bank can be stored in such numbers."""
    if number not in NUMBERS:
        raise OptionError(f"a bank in '{number}'", hint=f"give {' or '.join(NUMBERS)}")


def seen(text: str) -> bytes:
    """A phrase as SAM3's tokenizer sees it, that is after `clean`, in UTF-8."""
    return clean(text).encode("utf-8", "surrogatepass")


def told(phrase: bytes) -> str:
    """The text of such a phrase."""
    return phrase.decode("utf-8", "surrogatepass")


def phrase_key(phrase: bytes) -> int:
    """64 bits of a phrase: BLAKE2b with a digest of 8 bytes, read as a little-endian number."""
    return int.from_bytes(hashlib.blake2b(phrase, digest_size=8).digest(), "little")


def narrow(values: npt.NDArray[np.float32], number: str) -> tuple[Array, npt.NDArray[np.float32] | None]:
    """Features [T, D] as they are stored: float16; or int8 with a scale [T], the largest of a row over 127."""
    if number == "fp16":
        with np.errstate(over="ignore"):  # the caller looks for infinity
            return values.astype("<f2"), None
    scales = np.abs(values).max(axis=1) / np.float32(127)
    whole = np.divide(values, scales[:, None], out=np.zeros_like(values), where=scales[:, None] > 0)
    return np.rint(whole).clip(-127, 127).astype(np.int8), scales.astype("<f4")


def widen(stored: Array, scales: npt.NDArray[np.float32] | None) -> Array:
    """What was stored, to compute with: float16 as it is, int8 times its scale as float32."""
    return stored if scales is None else stored * scales[:, None]


def features_checksum(stored: Array, scales: npt.NDArray[np.float32] | None) -> int:
    """CRC-32 of the features of a phrase as they are stored, and of their scales after them."""
    found = zlib.crc32(np.ascontiguousarray(stored).data)
    return found if scales is None else zlib.crc32(np.ascontiguousarray(scales).data, found)


def index_checksum(said: Mapping[str, str], parts: Iterable[bytes]) -> str:
    """BLAKE2b (128 bits, hexadecimal) of the strings of a header but the checksum, and of the arrays of the index."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(said.keys() - {CHECKSUM}):
        digest.update(f"{name}={said[name]}\0".encode("utf-8", "surrogatepass"))
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def layout(header: BankHeader, phrases: int, tokens: int, letters: int) -> dict[str, tuple[str, list[int]]]:
    """Number type in words of safetensors, and shape, of each array of a bank, in the order in which they stand."""
    arrays = {
        "keys": ("U64", [phrases]),
        "rows": ("I64", [phrases, 2]),
        "text_offsets": ("I64", [phrases + 1]),
        "order": ("U32", [phrases]),
        "checks": ("U32", [phrases]),
        "values": (NUMBERS[header.number], [tokens, header.width]),
        "text": ("U8", [letters]),
    }
    return arrays | ({"scales": ("F32", [tokens])} if header.number == "int8" else {})


def is_bank(path: str | Path) -> bool:
    """Whether it is a file that says of itself that it is a prompt bank, whole or not; only its header is read."""
    try:
        said, _, _ = _read_head(Path(path))
    except EncoderError:
        return False
    return _is_bank(said)


def damaged(path: Path, what: str) -> EncoderError:
    """What to say of a bank that does not hold what it must."""
    return EncoderError(f"a damaged bank ({what})", where=str(path), hint="get the file again, or make it again")


def _is_bank(said: Mapping[str, str]) -> bool:
    return said.get("kind") == KIND and "litetext" in said


def _read_head(path: Path) -> tuple[dict[str, str], dict[str, Any], int]:
    """Metadata and tensors of a safetensors file, and where its data begins."""
    if not path.is_file():
        raise EncoderError("no such file", where=str(path), hint="check the path")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")  # noqa: TRY301
            entries = parse_json(file.read(length))
        said = dict(entries.pop("__metadata__", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise EncoderError("not a prompt bank", where=str(path), hint=f"give a safetensors file ({error})") from error
    return said, entries, 8 + length


def _blocks(file: IO[bytes], start: int, begin: int, end: int) -> Iterator[bytes]:
    file.seek(start + begin)
    for at in range(begin, end, _BLOCK):
        yield file.read(min(_BLOCK, end - at))


def _places(
    entries: Mapping[str, Any], header: BankHeader
) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]]:
    """Number type, shape, begin and end of each array, once they are those of a bank and fit each other.

    Raises:
        KeyError, IndexError, TypeError, ValueError: they are not.
    """
    phrases, tokens = entries["keys"]["shape"][0], entries["values"]["shape"][0]
    wanted = layout(header, phrases, tokens, entries["text"]["shape"][0])
    if set(entries) != set(wanted) or min(phrases, tokens) < 1:
        raise ValueError(f"it has {phrases} phrases, {tokens} tokens and {', '.join(sorted(entries))}")
    found = {}
    for name, (kind, shape) in wanted.items():
        entry, dtype = entries[name], np.dtype(DTYPES[kind])
        begin, end = entry["data_offsets"]
        fits = min(begin, *shape) >= 0 and end - begin == prod(shape) * dtype.itemsize and begin % dtype.itemsize == 0
        if (entry["dtype"], entry["shape"]) != (kind, shape) or not fits:
            raise ValueError(f"'{name}' is {entry['dtype']} {entry['shape']}, bytes {begin} to {end}")
        found[name] = (dtype, tuple(shape), begin, end)
    return found
