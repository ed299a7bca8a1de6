"""What `litetext export` writes: a folder with a program for an engine, its tokenizer and a manifest.

Nothing here needs PyTorch, nor an engine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from litetext.arrays import read_npy
from litetext.encoders.config import EncoderConfig, check_sizes
from litetext.errors import EncoderError, LiteTextError, OptionError, shortened
from litetext.export.targets import TARGETS, TargetOptions
from litetext.features.compare import Fidelity
from litetext.records import read_json, record, sealed, unsealed
from litetext.storage import atomic_file, checksum, inside, to_json, write_text
from litetext.tokenizer.bpe import ClipTokenizer
from litetext.tokenizer.pruned import SmallMerges, kept_merges, portable_tokenizer

MANIFEST, NOTICE = "litetext.json", "NOTICE.txt"
TOKENIZER = "tokenizer.json"  # for programs in other languages
MERGES = "merges.npy"  # the same for us
TOKENIZERS = (MERGES, TOKENIZER)
VERSION = 3
AGAIN = "export the student again"


@dataclass(frozen=True)
class Origin:
    """The student that a smaller one was made of, as `litetext compress` writes it into the smaller one's file."""

    name: str
    fingerprint: str
    fidelity: Fidelity  # of the smaller one's features to its own

    def line(self) -> str:
        """For people."""
        return f"compressed from '{shortened(self.name, 100)}' ({self.fingerprint[:12]}): {self.fidelity.line()}"


@dataclass(frozen=True)
class Bundle:
    """The manifest of an exported text encoder."""

    target: str  # what it was written for
    model: str  # name of the program in the folder
    files: Mapping[str, int]  # of the program, with their sizes in bytes
    program: str  # checksum of all of these
    tokenizer: str  # checksum of the tokenizer's two files
    options: TargetOptions
    config: EncoderConfig  # of the student, without the kept tokens: the tokenizer has no others
    pruned: bool
    name: str
    parameters: int  # of the student; what quantization adds is not counted
    fingerprint: str  # of the student, by `fingerprint_encoder`
    checked: Fidelity | None  # how the program compares with PyTorch; None for Core ML
    origin: Origin | None = None  # what the student was compressed from, where its file says so

    def __post_init__(self) -> None:
        """Check what a reader relies on."""
        if self.target not in TARGETS:
            raise OptionError(f"no target is called '{self.target}'")
        check_names((self.model, *self.files))
        if self.model not in {Path(name).parts[0] for name in self.files}:
            raise OptionError(f"a program that is none of its files ({self.model})")
        check_sizes(0, parameters=self.parameters, **{f"the size of '{name}'": self.files[name] for name in self.files})

    def to_json(self) -> dict[str, Any]:
        """Plain values, with a checksum of them."""
        return sealed({"litetext": VERSION} | asdict(self))

    @property
    def context_length(self) -> int:
        """Tokens that the encoder reads."""
        return self.config.context_length

    @property
    def width(self) -> int:
        """D of its features."""
        return self.config.output

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """What `to_json` gave; an `OptionError` or `ValueError` if it is not that."""
        if not isinstance(value, dict) or value.get("litetext") != VERSION:
            raise ValueError(f"not a manifest of version {VERSION}")
        return record(cls, {name: one for name, one in unsealed(value).items() if name != "litetext"})

    def lines(self) -> list[str]:
        """What it is, for people."""
        config, options = self.config, self.options
        fixed = [f"{name} of {size}" for name, size in (("length", options.length), ("batch", options.batch)) if size]
        return [
            f"{shortened(self.name, 100)}, exported for {self.target}: {self.model} ({options.precision}), "
            f"{sum(self.files.values()) / 1e6:.2f} MB, {self.parameters / 1e6:.2f} M parameters",
            f"context {config.context_length}, padding {config.padding}, {config.output} numbers a token, "
            f"{config.vocabulary:,} tokens{' (pruned)' if self.pruned else ''}, "
            f"{' and '.join(fixed) or 'any length and batch'}",
            self.comparison(),
        ]

    def comparison(self) -> str:
        """How it compares with the student in PyTorch, and that one with its original, for people."""
        checked = self.checked
        line = "not compared: its programs run on Apple's systems only" if checked is None else checked.line()
        return f"program and PyTorch: {line}" + ("" if self.origin is None else f"\n{self.origin.line()}")


def is_bundle(path: Path) -> bool:
    """Whether a path is a folder that `litetext export` wrote."""
    return (path / MANIFEST).is_file()


def open_bundle(folder: Path) -> Bundle:
    """The manifest of a folder, once its program and its tokenizer are byte for byte those that were exported."""
    file = folder / MANIFEST
    if not file.is_file():
        what = "a file" if folder.is_file() else "no exported text encoder"
        raise EncoderError(what, where=str(folder), hint="give a folder that `litetext export` wrote")
    try:
        value = read_json(file)
        is_segmenter = isinstance(value, dict) and value.get("kind") == "segmenter"
        bundle = None if is_segmenter else Bundle.from_json(value)
    except (ValueError, LiteTextError) as error:
        raise EncoderError(f"not a manifest ({error})", where=str(file), hint=AGAIN) from error
    if bundle is None:
        raise EncoderError("a whole segmenter, not a text encoder", where=str(folder), hint="give it as --model")
    check_files("encoder", folder, bundle.files, program=bundle.program, tokenizer=bundle.tokenizer, hint=AGAIN)
    return bundle


def check_names(names: Iterable[str]) -> None:
    """Refuse names of files that lead out of their folder: an `OptionError`."""
    for name in names:
        try:
            inside(Path(), name)
        except ValueError as error:
            raise OptionError(str(error)) from error


def check_files(
    what: str, folder: Path, files: Mapping[str, int], *, program: str, tokenizer: str | None, hint: str
) -> None:
    """Refuse files of an exported encoder or segmenter that are missing or changed: an `EncoderError`.

    Args:
        what: it is, for messages.
        folder: where it is.
        files: of its programs, with their sizes in bytes.
        program: their checksum.
        tokenizer: checksum of the tokenizer's two files; None: it has none.
        hint: what to do about it.
    """
    for name, size in files.items():
        part = folder / name
        if not part.is_file():
            raise EncoderError("a part of the program is missing", where=str(part), hint=hint)
        if part.stat().st_size != size:
            raise EncoderError(f"{part.stat().st_size:,} bytes instead of {size:,}", where=str(part), hint=hint)
    if tokenizer is not None and (
        any(not (folder / name).is_file() for name in TOKENIZERS) or checksum(folder, TOKENIZERS) != tokenizer
    ):
        raise EncoderError(f"not the tokenizer of this {what}", where=str(folder / TOKENIZER), hint=hint)
    if checksum(folder, files) != program:
        raise EncoderError("not the program that was exported", where=str(folder), hint=hint)


def read_tokenizer(folder: Path) -> ClipTokenizer:
    """The tokenizer of a bundle, or an `EncoderError`."""
    try:
        return ClipTokenizer(SmallMerges(read_npy(folder / MERGES)))
    except LiteTextError as error:
        raise EncoderError(f"not a tokenizer ({error})", where=str(folder / MERGES), hint=AGAIN) from error


def write_tokenizer(folder: Path, kept: Iterable[int] | None) -> str:
    """Write both files of a tokenizer with some tokens (None: all), and return their checksum."""
    ids = None if kept is None else list(kept)
    write_text(folder / TOKENIZER, portable_tokenizer(ids))
    with atomic_file(folder / MERGES) as file:
        np.save(file, kept_merges(ids), allow_pickle=False)
    return checksum(folder, TOKENIZERS)


def write_manifest(folder: Path, bundle: Bundle) -> None:
    """Write it beside the files that it speaks of."""
    write_text(folder / MANIFEST, to_json(bundle.to_json()) + "\n")


def program_files(folder: Path) -> dict[str, int]:
    """Names and sizes of all files of a folder but ours, in the order of their names."""
    ours = {MANIFEST, NOTICE, *TOKENIZERS}
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    return {name: sizes[name] for name in sorted(sizes.keys() - ours)}
