"""Small files that unpack to gigabytes are refused in bounded memory, whatever their format; the reader goes on."""

import gzip
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import zstandard

from litetext.errors import MissingExtraError, PromptError
from litetext.prompts import isolated
from litetext.prompts.readers import ReadOptions, read_prompts

LIMIT = 2**30  # bytes that no process may take: `make fuzz` asks for it too


def texts(path: Path) -> list[str]:
    return [prompt.text for prompt in read_prompts([str(path)])]


def message(path: Path) -> str:
    with pytest.raises(PromptError) as caught:
        texts(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux's /proc")


def most_memory(path: Path, expected: str = "") -> int:
    """The most bytes that reading a file takes, in this process or its child, in a fresh one."""
    code = f"""
import re, resource
from pathlib import Path
from litetext.errors import MissingExtraError, PromptError
from litetext.prompts.readers import read_prompts
try:
    print(len(list(read_prompts([{str(path)!r}]))))
except PromptError as error:
    print("refused" if {expected!r} in str(error) else error)
own = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    refused, memory = done.stdout.split()
    assert refused == "refused"
    return int(memory)


@needs_proc
@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02Nr" + struct.pack("<I", 0x1FFFFFFF) + b".",  # LONG_BINPUT: a memo of 8 GB
        b"\x80\x02Nr" + struct.pack("<I", 0xFFFFFFFE) + b".",
        b"(lp0\nNp536870911\n.",  # PUT
        b"\x80\x04\x8e" + struct.pack("<Q", 2**35) + b"x.",  # BINBYTES8
        b"\x80\x04\x8d" + struct.pack("<Q", 2**35) + b"x.",  # BINUNICODE8
        b"\x80\x05\x96" + struct.pack("<Q", 2**35) + b"x.",  # BYTEARRAY8
    ],
)
def test_pickles_that_ask_for_gigabytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(data)
    assert most_memory(path) < LIMIT


def test_pickles_that_say_a_thing_a_million_times(tmp_path: Path) -> None:
    sentences = ["a cat"] * 100_000
    (tmp_path / "a.p").write_bytes(pickle.dumps([{"sentences": sentences}] * 100_000, 2))  # 10^10 phrases
    assert "200 times" in message(tmp_path / "a.p")
    (tmp_path / "b.p").write_bytes(pickle.dumps(["a cat on a mat"] * 100_000, 2))
    assert len(texts(tmp_path / "b.p")) == 100_000


def repeated(length: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame({"text": ["x" * length]})[[0] * rows]


@needs_proc
def test_parquet_of_one_kilobyte(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    repeated(200_000, 6000).write_parquet(path)  # more than 1 GiB
    assert path.stat().st_size < 48_000
    assert most_memory(path, "131072") < LIMIT
    repeated(100_000, 300).write_parquet(path)  # each of a length that is allowed
    assert [(len(prompt.text), prompt.count) for prompt in read_prompts([str(path)])] == [(100_000, 300)]


@needs_proc
@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
def test_tables_whose_pages_unpack_to_gigabytes(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    frame = pl.DataFrame({"text": ["x" * 200_000_000]})
    frame.write_parquet(path) if name == "a.parquet" else frame.write_ipc(path, compression="zstd")
    assert path.stat().st_size < 48_000
    monkeypatch.setattr(isolated, "MEMORY", 150 * 2**20)
    message(path)  # an allocation fails: polars gives an error, or ends the child
    good = tmp_path / "b.parquet"
    pl.DataFrame({"text": ["cat"]}).write_parquet(good)
    monkeypatch.undo()
    assert texts(good) == ["cat"]


def test_rows_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pl.select(pl.lit("cat").repeat_by(12_000_000).explode().alias("text")).write_parquet(path)
    assert [prompt.count for prompt in read_prompts([str(path)])] == [12_000_000]
    from litetext.prompts.columnar import read_frame

    monkeypatch.setattr("litetext.prompts.columnar._ROWS_PER_BYTE", 1)
    with pytest.raises(PromptError, match="12000000 rows"):
        list(read_frame("parquet", path, ReadOptions(), "a.parquet", []))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.parquet"])
def test_packed_files_that_unpack_a_thousandfold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, name: str
) -> None:
    monkeypatch.setattr("litetext.prompts.opening.MAX_UNPACKED", 2**21)
    pack = gzip.compress if ending == ".gz" else zstandard.ZstdCompressor(level=19).compress
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(pack(b"[" * (name == "a.json") + b'"cat",\n' * 2**17) * 20)  # in members or frames
    assert path.stat().st_size < 80_000
    assert "200 times" in message(path)


@pytest.mark.parametrize(
    ("name", "parts", "expected"),
    [
        ("a.csv", (b"", b","), "10000"),
        ("a.tsv", (b"", b"a\t"), "10000"),
        ("a.json", (b'["', b"x"), "value of more than 1 MiB"),
        ("a.jsonl", (b'["', b"x"), "2 MiB"),
        ("a.txt", (b"", b"cat "), "2 MiB"),
        ("b.txt", (b"", b"x" * 131_073 + b"\n"), "131072"),
    ],
)
def test_lines_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, parts: tuple[bytes, bytes], expected: str
) -> None:
    monkeypatch.setattr("litetext.prompts.documents._MAX_VALUE", 2**20)
    monkeypatch.setattr("litetext.prompts.opening.MAX_LINE", 2**21)
    head, unit = parts
    size = 2**20 if expected == "10000" else 2**22
    (tmp_path / f"{name}.zst").write_bytes(zstandard.compress(head + unit * (size // len(unit))))
    assert expected in message(tmp_path / f"{name}.zst")


def test_an_object_with_a_million_phrases(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"captions": ["a"] * 100_001}]))
    assert "100000 phrases" in message(tmp_path / "a.json")


class TestChild:
    def table(self, tmp_path: Path) -> Path:
        pl.DataFrame({"text": ["cat"]}).write_parquet(tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    def test_a_signal_in_the_middle_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(isolated, "_START", "import os; os.kill(os.getpid(), 6)")
        assert "1024 MiB" in message(self.table(tmp_path))

    def test_a_mistake_of_its_code_is_not_hidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(isolated, "_START", "1 / 0")
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            texts(self.table(tmp_path))

    def test_it_imports_nothing_from_the_users_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "polars.py").write_text("import os; os.abort()")
        monkeypatch.chdir(tmp_path)
        assert texts(self.table(tmp_path)) == ["cat"]


@pytest.mark.parametrize(
    ("name", "package"), [("a.parquet", "polars"), ("a.arrow", "polars"), ("a.txt.zst", "zstandard")]
)
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    pl.DataFrame({"text": ["cat"]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"text": ["cat"]}).write_ipc(tmp_path / "a.arrow")
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(b"cat\n"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=r"^reading .* needs the extra 'formats'; pip install 'litetext\[formats\]'$"
    ):
        texts(tmp_path / name)
