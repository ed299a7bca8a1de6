"""Streams: compression, byte order marks, undecodable bytes, blank files."""

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import OptionError, PromptError
from litetext.prompts.opening import FORMATS, ReadOptions, on_disk, open_source, text_lines

ZSTD = zstandard.ZstdCompressor(write_checksum=True)  # as the command `zstd` does
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": ZSTD.compress}


def read(path: Path) -> bytes:
    with open_source(path) as opened:
        return opened.file.read()


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("name", ["a.txt", "a.dat"])
def test_compression_is_told_by_ending_and_by_magic_bytes(tmp_path: Path, ending: str, name: str) -> None:
    for path in (tmp_path / name, tmp_path / (name + ending)):
        path.write_bytes(PACK[ending](b"cat\ndog\n"))
        assert read(path) == b"cat\ndog\n"


@pytest.mark.parametrize("ending", PACK)
@given(parts=st.lists(st.binary(max_size=30_000), max_size=4))
def test_members_and_frames_are_joined(
    tmp_path_factory: pytest.TempPathFactory, ending: str, parts: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("packed") / f"a{ending}"
    inner = [b"x" + part for part in parts]  # no byte order mark at the start
    path.write_bytes(b"".join(map(PACK[ending], inner)))
    assert read(path) == b"".join(inner)


def test_frames_to_be_skipped_and_padding_are_passed_over(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    (tmp_path / "a.bin").write_bytes(skippable + zstandard.compress(b"cat\n"))
    assert read(tmp_path / "a.bin") == b"cat\n"
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"cat\n") + b"\0" * 512)
    assert read(tmp_path / "a.gz") == b"cat\n"


@pytest.mark.parametrize("ending", PACK)
def test_truncated_data_are_named(tmp_path: Path, ending: str) -> None:
    data = PACK[ending](bytes(range(256)) * 2000)
    for size in (5, len(data) // 2, len(data) - 1):
        (tmp_path / f"a{ending}").write_bytes(data[:size])
        with pytest.raises(PromptError, match=rf"^(gzip|zstd) data end in the middle, .*a\{ending}; [^\n]*$"):
            read(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", PACK)
def test_corrupt_data_are_named(tmp_path: Path, ending: str) -> None:
    data = bytearray(PACK[ending](b"".join(b"%d " % number for number in range(50_000))))
    for index in range(len(data) // 3, len(data) // 2):
        data[index] ^= 0x55
    for content in (bytes(data), b"this is plain text\n"):
        (tmp_path / f"a{ending}").write_bytes(content)
        with pytest.raises(PromptError, match=rf"^broken (gzip|zstd) data \([^\n]*\), .*a\{ending}; [^\n]*$"):
            read(tmp_path / f"a{ending}")


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_text_with_a_byte_order_mark_becomes_utf8(tmp_path: Path, codec: str, ending: str) -> None:
    text = "Käse 🧀\r\nstraße\n" * 5000
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(PACK.get(ending, bytes)(text.encode(codec)))
    assert read(path).decode() == text


@pytest.mark.parametrize("data", [b"\xff\xfea\0b", b"\xff\xfe\x00\xdcb\0"])
def test_broken_utf16(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(PromptError, match=r"^broken UTF-16 text \([^\n]*\), .*a.txt; save the file as UTF-8$"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("bad", [b"\xff", b"\x92", b"\xc3", b"\xed\xa0\x80"])
def test_undecodable_bytes_are_named_with_their_line_and_never_guessed(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "x.txt").write_bytes(b"cat\ndog\nit" + bad + b"s\n")
    with open_source(tmp_path / "x.txt") as opened, pytest.raises(PromptError) as caught:
        list(text_lines(opened))
    hint = "save the file as UTF-8 (for example: iconv -f latin1 -t utf-8)"
    assert str(caught.value) == f"byte 0x{bad[0]:02x} is not UTF-8, {tmp_path}/x.txt line 3; {hint}"


def test_only_line_feeds_part_lines(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("a\u2028b\x0cc\x85d\re\r\nf\n\ng".encode())
    with open_source(tmp_path / "x.txt") as opened:
        assert list(text_lines(opened)) == ["a\u2028b\x0cc\x85d\re\r\n", "f\n", "\n", "g"]


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litetext.prompts.opening.MAX_LINE", 2**20)
    (tmp_path / "x.txt").write_bytes(b"ok\n" + b"x" * 2**21)
    with (
        open_source(tmp_path / "x.txt") as opened,
        pytest.raises(PromptError, match=r"x.txt line 2; "),
    ):
        list(text_lines(opened))


def test_blank(tmp_path: Path) -> None:
    for content, blank in ((b"", True), (b" \r\n\t\n", True), (b"\xef\xbb\xbf", True), (b"\n" * 2**17 + b"a", False)):
        (tmp_path / "a.txt").write_bytes(content)
        with open_source(tmp_path / "a.txt") as opened:
            assert opened.is_blank() is blank


def test_a_plain_file_is_not_copied_and_a_copy_goes_afterwards(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.parquet", tmp_path / "a.parquet.zst"
    plain.write_bytes(b"12345")
    packed.write_bytes(zstandard.compress(b"12345"))
    with open_source(plain) as opened, on_disk(opened) as path:
        assert path == plain
    with open_source(packed) as opened, on_disk(opened) as path:
        assert path.read_bytes() == b"12345"
    assert plain.exists()
    assert not path.exists()


def test_standard_input_is_read_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"cat\n"))))
    with open_source(None) as opened:
        assert opened.file.read() == b"cat\n"
    assert not sys.stdin.closed


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # what Python makes of `<&-`
    with pytest.raises(PromptError, match=r"^standard input is closed; "), open_source(None):
        pass
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    sys.stdin.close()
    with pytest.raises(PromptError, match=r"^cannot be read "), open_source(None):
        pass


def test_options_are_checked_at_birth() -> None:
    assert [ReadOptions(format=name).format for name in FORMATS] == list(FORMATS)
    with pytest.raises(OptionError, match=r"^no format 'xml'; one of txt, csv"):
        ReadOptions(format="xml")
