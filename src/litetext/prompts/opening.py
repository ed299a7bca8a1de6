"""From a source to a stream of plain bytes: open it, decompress it, bring its text to UTF-8."""

import codecs
import io
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from litetext.errors import MissingExtraError, OptionError, PromptError

FORMATS = ("txt", "csv", "tsv", "json", "jsonl", "parquet", "arrow", "pickle")
MAX_LINE = 16 * 2**20  # bytes; a longer "line" is not text, and its JSON may take 20 times as much memory
MAX_TEXT = 131_072  # characters of a prompt, as in a cell of CSV: a longer one is not a prompt
MAX_UNPACKED = 256 * 2**20  # bytes that any packed file may unpack to,
MAX_RATIO = 200  # and more only as so many times its size: text packs to a fifth, a bomb to a thousandth

_BUFFER = 2**16
_PIECE = 2**12  # compressed bytes at a time: zstd may turn each into thousands
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Ways to compress: name, ending, the bytes that a file starts with, and what decompresses one frame (member).
_PACKINGS: tuple[tuple[str, str, re.Pattern[bytes], Callable[[], Any]], ...] = (
    ("gzip", ".gz", re.compile(rb"\x1f\x8b\x08"), partial(zlib.decompressobj, wbits=31)),
    (
        "zstd",
        ".zst",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # a frame, or one to be skipped
        lambda: _zstandard().ZstdDecompressor().decompressobj(),
    ),
)
PACKING_ENDINGS = tuple(ending for _, ending, _, _ in _PACKINGS)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user knows about the files."""

    format: str | None = None  # one of `FORMATS`; None: by the file's name, else by its content
    column: str | None = None  # the column or field of the text; None: guessed from its name
    # the column or field of the count; None: guessed from its name, else every row counts once
    count_column: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise OptionError(f"no format '{self.format}'", hint=f"one of {', '.join(FORMATS)}")


_OPTIONS = {"column": "column", "count": "count_column", "format": "format"}  # behind a source, and their fields
_KEY = f"(?:{'|'.join(_OPTIONS)})="
_WITH_OPTIONS = re.compile(rf"(.+?):({_KEY}.*)", re.DOTALL)


def split_source(argument: str) -> tuple[str, ReadOptions]:
    """A source and the options behind it, as in ``FILE:column=NAME,count=NAME,format=NAME``.

    Text that names a file as it stands has no options.

    Raises:
        OptionError: an option twice, or a format that there is not.
    """
    found = None if os.path.lexists(argument) else _WITH_OPTIONS.fullmatch(argument)
    if found is None:
        return argument, ReadOptions()
    pairs = [part.split("=", 1) for part in re.split(f",(?={_KEY})", found[2])]
    if len(dict(pairs)) < len(pairs):
        raise OptionError("an option of the source twice", where=argument, hint="give each once")
    return found[1], ReadOptions(**{_OPTIONS[key]: value for key, value in pairs})


class NoColumnsError(PromptError):
    """A column is asked of what has none: lines, a pickle, or a JSON document with a layout of its own."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is being read."""

    path: Path | None  # the file; None: standard input
    file: io.BufferedReader  # its bytes, decompressed; text with a byte order mark has become UTF-8 without one
    untouched: bool  # whether a regular file holds just these bytes
    notes: list[str] = field(default_factory=list)  # what its reader decided for the user; a reader adds to it

    @property
    def where(self) -> str:
        """The name for messages."""
        return "stdin" if self.path is None else str(self.path)

    def is_blank(self) -> bool:
        """Whether nothing but white space is to be read."""
        head = self.file.peek()
        return len(head) < _BUFFER // 2 and not head.strip()


@contextmanager
def open_source(path: Path | None) -> Iterator[Opened]:
    """Open a file, or standard input (None), decompress it and bring its text to UTF-8.

    Raises:
        PromptError: it cannot be read; also later, while reading, when compressed data turn out to be broken.
    """
    if path is None and sys.stdin is None:
        raise PromptError("standard input is closed", hint="give a file, or a pipe")
    where = "stdin" if path is None else str(path)
    try:
        raw = nullcontext(sys.stdin.buffer) if path is None else path.open("rb")
    except OSError as error:
        if path is not None and path.is_symlink() and not path.exists():
            raise PromptError("a link to a file that is gone", where=where, hint="check the path") from error
        raise unreadable(where, error) from error
    with raw as stored:
        file = _buffered(_stored(stored, where))
        untouched = path is not None and path.is_file()
        for name, ending, start, frame in _PACKINGS:
            if start.match(file.peek()) or where.lower().endswith(ending):
                file, untouched = _buffered(_unpacked(file, name, frame, where)), False
                break
        codec = next((codec for mark, codec in _BOMS.items() if file.peek().startswith(mark)), None)
        if codec == "utf-8-sig":
            file.read(len(codecs.BOM_UTF8))
        elif codec:
            file = _buffered(_transcoded(file, codec, where))
        yield Opened(path, file, untouched)


@contextmanager
def on_disk(opened: Opened) -> Iterator[Path]:
    """The bytes as a file, for readers that seek: the file itself, or a temporary copy that goes afterwards."""
    if opened.untouched and opened.path is not None:
        yield opened.path
        return
    with tempfile.TemporaryDirectory(prefix="litetext-") as folder:
        copy = Path(folder) / "copy"
        with copy.open("wb") as file:
            shutil.copyfileobj(opened.file, file)
        yield copy


def text_lines(opened: Opened) -> Iterator[str]:
    r"""The lines of UTF-8 text with their ends; only ``\n`` ends a line."""
    for number, line in enumerate(iter(partial(opened.file.readline, MAX_LINE), b""), 1):
        if len(line) == MAX_LINE:
            what = f"a line of {MAX_LINE // 2**20} MiB"
            raise PromptError(what, where=f"{opened.where} line {number}", hint="split it")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(f"byte 0x{line[error.start]:02x} is", f"{opened.where} line {number}") from error
        yield text


def checked_text(text: str, where: str) -> str:
    """The text, unless it is longer than any prompt or has half a character (a lone surrogate): then an error."""
    if len(text) > MAX_TEXT:
        what = f"a prompt of {len(text)} characters, more than {MAX_TEXT}"
        raise PromptError(what, where=where, hint="split it, or name another column or format")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise half_character(f"'{text[max(0, error.start - 20) : error.end + 20]}'", where) from error
    return text


def half_character(subject: str, where: str) -> PromptError:
    """The error for a lone surrogate."""
    return PromptError(f"half a character (a lone surrogate) in {subject}", where=where, hint="fix that text")


def unreadable(where: str, error: OSError) -> PromptError:
    """The error for what the operating system refuses."""
    reason = (error.strerror or str(error)).lower()
    return PromptError(f"cannot be read ({reason})", where=where, hint="check the path and its permissions")


def not_utf8(subject: str, where: str) -> PromptError:
    """The error for bytes that are not UTF-8; other encodings are never guessed."""
    hint = "save the file as UTF-8 (for example: iconv -f latin1 -t utf-8)"
    return PromptError(f"{subject} not UTF-8", where=where, hint=hint)


class _Pieces(io.RawIOBase):
    """Byte strings of any length as one raw stream.

    A read fills the whole buffer, so that ``peek`` of a buffered reader shows the head of a file, and of a pipe.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view, filled = memoryview(buffer), 0
        while filled < len(view):
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            size = min(len(view) - filled, len(self._rest))
            view[filled : filled + size] = self._rest[:size]
            self._rest = self._rest[size:]
            filled += size
        return filled


def _buffered(pieces: Iterator[bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Pieces(pieces), _BUFFER)


def _stored(file: BinaryIO, where: str) -> Iterator[bytes]:
    try:
        yield from iter(partial(file.read, _BUFFER), b"")
    except (OSError, ValueError) as error:  # ValueError: standard input is closed
        raise PromptError(f"cannot be read ({error})", where=where, hint="check the path") from error


def _unpacked(file: io.BufferedReader, name: str, new_frame: Callable[[], Any], where: str) -> Iterator[bytes]:
    data = file.read(_PIECE)
    packed, left = len(data), MAX_UNPACKED
    while data:
        frame = new_frame()
        try:
            while True:
                piece = frame.decompress(data)
                left -= len(piece)
                if left + MAX_RATIO * packed < 0:
                    what = f"{name} data unpack to more than {MAX_RATIO} times their size"
                    raise PromptError(what, where=where, hint="unpack the file first, if you trust it")
                yield piece
                if frame.eof:
                    break
                data = file.read(_PIECE)
                packed += len(data)
                if not data:
                    raise PromptError(f"{name} data end in the middle", where=where, hint="fetch the file again")
        except _packing_errors() as error:
            raise PromptError(f"broken {name} data ({error})", where=where, hint="fetch the file again") from error
        rest = frame.unused_data
        data = (rest or file.read(_PIECE)).lstrip(b"\0")  # tapes pad with zeros
        packed += 0 if rest else len(data)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("reading .zst", "formats") from error
    return zstandard


def _packing_errors() -> tuple[type[Exception], ...]:
    """What decompressing may raise; Zstandard's error is known once it is loaded."""
    return (zlib.error, sys.modules["zstandard"].ZstdError) if "zstandard" in sys.modules else (zlib.error,)


def _transcoded(file: io.BufferedReader, codec: str, where: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        for data in iter(partial(file.read, _BUFFER), b""):
            yield decoder.decode(data).encode("utf-8")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        what = f"broken {codec.upper()} text ({error})"
        raise PromptError(what, where=where, hint="save the file as UTF-8") from error
