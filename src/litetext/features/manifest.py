"""What a cache of features says about itself: whose features they are, in which number type, in which shards."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from litetext.errors import CacheError, LiteTextError
from litetext.features.protocol import TextEncoder
from litetext.records import read_json, record, sealed, unsealed
from litetext.storage import to_json, write_text

MANIFEST = "manifest.json"
FORMAT = "litetext-features-2"
DTYPES = ("float16", "bfloat16")
SHARD_NAME = re.compile(r"shard-\d{5,}\.safetensors")


@dataclass(frozen=True)
class Teacher:
    """Whose features they are.

    Attributes:
        name: what reports call it; two of another name may be the same.
        fingerprint: of `fingerprint_encoder`, which decides.
        tokenizer: of `fingerprint_tokenizer`.
        context_length: tokens that it reads of a phrase, start and end token counted.
        width: D, the size of a feature vector.
    """

    name: str
    fingerprint: str
    tokenizer: str
    context_length: int
    width: int

    @classmethod
    def of(cls, encoder: TextEncoder) -> "Teacher":
        """The teacher that an encoder is; its weights are read once.

        Raises:
            EncoderError: it has no weights that can be told.
        """
        from litetext.features.fingerprint import fingerprint_encoder, fingerprint_tokenizer

        marks = fingerprint_encoder(encoder), fingerprint_tokenizer(encoder)
        return cls(encoder.name, *marks, encoder.context_length, encoder.width)


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest knows it.

    Attributes:
        file: its name in the folder.
        phrases: how many it holds.
        tokens: rows of features, one for each valid token.
        bytes: size of the file.
        sha256: of the file.
        keys_sha256: of its phrases' hashes, which are read when the cache is opened and the rest is not.
    """

    file: str
    phrases: int
    tokens: int
    bytes: int
    sha256: str
    keys_sha256: str


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`.

    Attributes:
        teacher: whose features they are.
        dtype: "float16" or "bfloat16".
        shards: in the order of their names.
    """

    teacher: Teacher
    dtype: str
    shards: tuple[ShardEntry, ...] = ()

    @property
    def phrases(self) -> int:
        """Phrases in all shards."""
        return sum(entry.phrases for entry in self.shards)

    @property
    def tokens(self) -> int:
        """Rows of features in all shards."""
        return sum(entry.tokens for entry in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(entry.bytes for entry in self.shards)

    def with_shard(self, entry: ShardEntry) -> "Manifest":
        """The manifest with one more shard, in its place."""
        return replace(self, shards=tuple(sorted((*self.shards, entry), key=lambda shard: shard.file)))

    def next_name(self) -> str:
        """The first name that no shard has."""
        taken = {entry.file for entry in self.shards}
        return next(name for name in map("shard-{:05d}.safetensors".format, range(len(taken) + 1)) if name not in taken)

    def check_teacher(self, teacher: Teacher, where: Path) -> None:
        """Refuse to take these features for another teacher's.

        Raises:
            CacheError: they are of another, or of the same with another context or in another number type.
        """
        own = self.teacher
        if replace(own, name=teacher.name) != teacher:
            raise CacheError(
                f"features of another teacher ({_describe(own)})",
                where=str(where),
                hint=f"give {_describe(teacher)} a folder of its own",
            )

    def write(self, folder: Path) -> None:
        """Write it in one step.

        Raises:
            CacheError: it cannot be written.
        """
        counts = {"phrases": self.phrases, "tokens": self.tokens, "bytes": self.bytes}
        text = to_json(sealed({"format": FORMAT, **asdict(self), "counts": counts}))
        try:
            write_text(folder / MANIFEST, text + "\n")
        except OSError as error:
            raise unwritable(folder / MANIFEST, error) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a cache.

    Raises:
        CacheError: there is none, or it cannot be understood.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CacheError(f"no cache of features (no {MANIFEST})", where=str(folder), hint="make it: litetext embed")
    try:
        return _parse(read_json(path))
    except (OSError, ValueError, LiteTextError) as error:
        raise CacheError(
            f"a damaged or unknown manifest ({error})", where=str(path), hint="embed into a new folder"
        ) from error


def unwritable(path: Path, error: OSError) -> CacheError:
    """What to say when a file of the cache cannot be written."""
    what = (error.strerror or str(error)).lower()
    return CacheError(what, where=str(path), hint="fix that and run it again: finished shards are kept")


def _parse(found: Any) -> Manifest:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"not of the format '{FORMAT}'")
    fields = unsealed(found)
    manifest = record(Manifest, {name: one for name, one in fields.items() if name not in {"format", "counts"}})
    if manifest.dtype not in DTYPES:
        raise ValueError(f"dtype {manifest.dtype!r}")
    names = [entry.file for entry in manifest.shards]
    # Names, not paths: nothing outside the folder is read.
    if not all(map(SHARD_NAME.fullmatch, names)) or names != sorted(set(names)):
        raise ValueError("names of shards")
    return manifest


def _describe(teacher: Teacher) -> str:
    return f"'{teacher.name}', context {teacher.context_length}, fingerprint {teacher.fingerprint[:12]}"
