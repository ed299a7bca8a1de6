"""What the user names: files, folders, patterns, standard input; how a format is told; what cannot be read."""

import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import LiteTextError, PromptError
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.prompts.readers import FORMATS, READERS, ReadOptions, read_prompts

PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
BINARY = [
    *(b"\x89PNG\r\n\x1a\n", b"PK\x03\x04abc", b"\x7fELF", b"\xff\xd8\xff\xe0", b"%PDF-1.7\n", b"cat\n\0dog\n"),
    "cat\n".encode("utf-16-le"),  # without a byte order mark
]
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n")).map(str.strip).filter(bool), min_size=1
)


def texts(*sources: Path | str, options: ReadOptions | None = None) -> list[str]:
    return [prompt.text for prompt in read_prompts(list(map(str, sources)), options or ReadOptions())]


def message(*sources: Path | str, options: ReadOptions | None = None) -> str:
    with pytest.raises(PromptError) as caught:
        texts(*sources, options=options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class Drip(io.RawIOBase):
    """A pipe: it gives a few bytes at a time and cannot rewind."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.data.readinto(memoryview(buffer)[:100])


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Drip(data))))


def test_every_format_has_a_reader() -> None:
    assert tuple(READERS) == FORMATS


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@given(phrases=LINES)
def test_txt_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ending: str, line_end: str, phrases: list[str]
) -> None:
    # A name with an ending: without one, phrases such as '["' would be JSON.
    path = tmp_path_factory.mktemp("txt") / f"a.txt{ending}"
    content = "\ufeff" + "".join(f" {phrase}\t{line_end}{line_end}" for phrase in phrases)
    assert texts(write(path, PACK[ending](content.encode()))) == phrases


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.arrow", "a.p", "a"])
def test_compressed_files_of_every_format(tmp_path: Path, ending: str, name: str) -> None:
    tables = {"a.parquet": "write_parquet", "a.arrow": "write_ipc_stream"}
    if name in tables:
        buffer = io.BytesIO()
        getattr(pl.DataFrame({"text": ["cat", "dog"]}), tables[name])(buffer)
        data = buffer.getvalue()
    else:
        contents = {"a.json": '["cat", "dog"]', "a.jsonl": '"cat"\n"dog"\n', "a.p": "(lp0\nS'cat'\naS'dog'\na."}
        data = contents.get(name, "cat\ndog\n").encode()
    assert texts(write(tmp_path / f"{name}{ending}", PACK[ending](data))) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("cat\ndog, big\n", ["cat", "dog, big"]),
        (' [ "cat",\n "dog"]', ["cat", "dog"]),
        ('[{"text": "cat"}]', ["cat"]),
        ("[cat] in brackets\n", ["[cat] in brackets"]),
        ('{"text": "cat"}\n{"text": "dog"}\n', ["cat", "dog"]),
        ('{"text": "cat"}\n\n  {"text": "dog"}', ["cat", "dog"]),
        ('{"prompts": ["cat"]}\n', ["cat"]),
        ('{\n"prompts": ["cat"]}\n', ["cat"]),
        ("{curly}\n", ["{curly}"]),
        ("(lp0\nVcat\np1\na.", ["cat"]),
        ("text,count\ncat,3\n", ["text,count", "cat,3"]),
    ],
)
def test_without_an_ending_the_content_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: list[str]
) -> None:
    assert texts(write(tmp_path / "a.dat", content)) == expected
    for pack in PACK.values():
        feed(monkeypatch, pack(content.encode()))
        assert list(read_prompts(["-"])) == [Prompt(text, 1, "stdin") for text in expected]


def test_json_lines_named_json(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.json", '{"text": "cat"}\n{"text": "dog"}\n')) == ["cat", "dog"]


def test_parquet_is_told_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    pl.DataFrame({"text": ["cat"]}).write_parquet(path)
    assert texts(path) == ["cat"]
    feed(monkeypatch, path.read_bytes())
    assert texts("-") == ["cat"]


def test_the_format_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dat", "text,count\ncat,3\n")
    assert list(read_prompts([str(path)], ReadOptions(format="csv"))) == [Prompt("cat", 3, str(path))]
    path = write(tmp_path / "a.json", '["cat"]\n')
    assert texts(path, options=ReadOptions(format="txt")) == ['["cat"]']


def test_sources_keep_the_order_and_the_name_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "b.txt", "cat\n")
    write(tmp_path / "a.tsv", "dog\t2\n")
    feed(monkeypatch, b"bird\n")
    assert list(read_prompts(["./b.txt", "-", "a.tsv", "b.txt"])) == [
        Prompt("cat", 1, "./b.txt"),
        Prompt("bird", 1, "stdin"),
        Prompt("dog", 2, "a.tsv"),
        Prompt("cat", 1, "b.txt"),
    ]


def test_a_folder_gives_its_readable_files_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/deep/x.csv.gz", "c.jsonl"):
        write(tmp_path / name, gzip.compress(b"text\ncat\n") if name.endswith(".gz") else b'"cat"\n')
    for name in (".hidden.txt", ".git/x.txt", "a/photo.png", "README.md", "dataset_infos.json", "weights.bin"):
        write(tmp_path / name, b"\0\1\2")
    sources = [prompt.source for prompt in read_prompts([str(tmp_path)])]
    assert sources == ["a/deep/x.csv.gz", "a/z.txt", "b.txt", "c.jsonl"]


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.txt", "x.csv"):
        write(tmp_path / name, f"{name}\n")
    assert texts(tmp_path / "*.txt") == ["a.txt", "b.txt"]
    assert texts(tmp_path / "**" / "*.txt") == ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"]
    assert texts(tmp_path / "[bx].*") == ["b.txt", "x.csv"]
    assert message(tmp_path / "d*").startswith("no file matches the pattern, ")  # a folder is named by its name
    monkeypatch.chdir(tmp_path)
    assert [prompt.source for prompt in read_prompts(["deep/**"])] == ["deep/c.txt", "deep/er/d.txt"]
    write(tmp_path / "[ab].txt", "literal\n")
    assert texts("[ab].txt") == ["literal"]


def save_dataset(folder: Path, *shards: pl.DataFrame) -> None:
    """The layout of Hugging Face's ``Dataset.save_to_disk``."""
    names = [f"data-{index:05d}-of-{len(shards):05d}.arrow" for index in range(len(shards))]
    write(folder / "dataset_info.json", json.dumps({"features": {"text": {"dtype": "string", "_type": "Value"}}}))
    write(folder / "state.json", json.dumps({"_data_files": [{"filename": name} for name in names], "_split": None}))
    for name, shard in zip(names, shards, strict=True):
        shard.write_ipc_stream(folder / name)


class TestSavedDatasets:
    def test_shards(self, tmp_path: Path) -> None:
        save_dataset(tmp_path / "set", pl.DataFrame({"caption": ["a", "b", "a"]}), pl.DataFrame({"caption": ["a"]}))
        write(tmp_path / "set" / "cache-123.arrow", b"\0")
        name = str(tmp_path / "set")
        assert list(read_prompts([name])) == [Prompt("a", 2, name), Prompt("b", 1, name), Prompt("a", 1, name)]

    def test_splits(self, tmp_path: Path) -> None:
        write(tmp_path / "set" / "dataset_dict.json", json.dumps({"splits": ["train", "test"]}))
        save_dataset(tmp_path / "set" / "train", pl.DataFrame({"x": ["a"], "n": [4]}))
        save_dataset(tmp_path / "set" / "test", pl.DataFrame({"x": ["b"], "n": [1]}))
        name = str(tmp_path / "set")
        assert list(read_prompts([name])) == [Prompt("a", 4, name), Prompt("b", 1, name)]
        assert message(name, options=ReadOptions(column="y")) == (
            f"no column 'y', {name}/train/data-00000-of-00001.arrow; it has: x, n"
        )

    def test_below_a_folder_and_by_a_pattern(self, tmp_path: Path) -> None:
        save_dataset(tmp_path / "sets" / "one", pl.DataFrame({"x": ["a"]}))
        write(tmp_path / "sets" / "b.txt", "b\n")
        assert [(p.text, p.source) for p in read_prompts([str(tmp_path / "sets")])] == [("b", "b.txt"), ("a", "one")]
        assert texts(tmp_path / "sets" / "*") == ["b", "a"]

    def test_mistakes(self, tmp_path: Path) -> None:
        save_dataset(tmp_path / "set", pl.DataFrame({"x": ["a"]}))
        write(tmp_path / "set" / "state.json", '{"_data_files": 5}')
        assert "'_data_files'" in message(tmp_path / "set")
        write(tmp_path / "set" / "state.json", '{"_data_files": [{"filename": "gone.arrow"}]}')
        assert message(tmp_path / "set").startswith("cannot be read (no such file or directory), ")
        write(tmp_path / "set" / "dataset_dict.json", '{"splits": ["gone"]}')
        assert message(tmp_path / "set").startswith("cannot be read (no such file or directory), ")
        write(tmp_path / "set" / "state.json", '{"_data_files": []}')
        (tmp_path / "set" / "dataset_dict.json").unlink()
        assert message(tmp_path / "set").startswith("no prompts in the file, ")

    def test_a_hub_folder_is_a_folder(self, tmp_path: Path) -> None:
        write(tmp_path / "README.md", "# data\n")
        (tmp_path / "data").mkdir()
        pl.DataFrame({"text": ["cat"]}).write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
        assert [p.source for p in read_prompts([str(tmp_path)])] == ["data/train-00000-of-00001.parquet"]


def test_missing_sources(tmp_path: Path) -> None:
    path = tmp_path / "no.txt"
    assert message(path) == f"no such file, {path}; check the path"
    assert message(tmp_path / "a.txt" / "b.txt").startswith("no such file, ")
    assert message("") == "no such file, ''; check the path"
    assert message("x" * 300).startswith("no such file, xxx")
    assert message("a\0b").startswith("no such file, a")
    assert message(tmp_path / "*.txt") == f"no file matches the pattern, {tmp_path}/*.txt; check it, or give the folder"
    write(path, "cat\n")
    with pytest.raises(PromptError, match="no such file"):  # before anything is read
        next(read_prompts([str(path), str(tmp_path / "other.txt")]))


def test_folders_without_prompts(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    expected = f"no file of prompts in the folder, {tmp_path}/x.txt; these are read: .txt .text .csv"
    assert message(tmp_path / "x.txt").startswith(expected)
    write(tmp_path / "x.txt" / "photo.png", b"\x89PNG")
    assert message(tmp_path / "x.txt").startswith(expected)


def test_broken_links_and_refused_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    assert message(tmp_path / "a.txt") == f"a link to a file that is gone, {tmp_path}/a.txt; check the path"
    path = write(tmp_path / "b.txt", "cat\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root
    assert message(path) == f"cannot be read (permission denied), {path}; check the path and its permissions"
    monkeypatch.setattr(os, "scandir", refuse)
    assert message(tmp_path) == f"cannot be read (permission denied), {tmp_path}; check the path and its permissions"


@pytest.mark.skipif(os.geteuid() == 0, reason="chmod does not stop root")
def test_real_permissions(tmp_path: Path) -> None:
    path = write(tmp_path / "b.txt", "cat\n")
    path.chmod(0)
    assert message(path).startswith("cannot be read (permission denied), ")


@pytest.mark.parametrize("name", ["x.png", "x.txt", "x.csv", "x.json", "x.jsonl", "x"])
@pytest.mark.parametrize("data", BINARY)
def test_binary_files(tmp_path: Path, name: str, data: bytes) -> None:
    path = write(tmp_path / name, data)
    assert message(path) == f"binary file, {path}; give text, CSV, JSON, JSON lines, Parquet or a RefCOCO pickle"
    packed = write(tmp_path / f"{name}.gz", gzip.compress(gzip.compress(b"cat\n")))
    assert message(packed).startswith("binary file, ")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.arrow", "a.p", "a"])
@pytest.mark.parametrize("content", ["", "\n \r\n\t\n", "\ufeff"])
def test_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str) -> None:
    hint = "give a file with at least one phrase"
    path = write(tmp_path / name, content)
    assert message(path) == f"no prompts in the file, {path}; {hint}"
    assert message(write(tmp_path / f"{name}.gz", gzip.compress(content.encode()))).startswith(
        "no prompts in the file, "
    )
    feed(monkeypatch, content.encode())
    assert message("-") == f"no prompts in the file, stdin; {hint}"


def test_one_empty_file_among_many_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "cat\n")
    write(tmp_path / "b.txt", "\n")
    assert message(tmp_path) == f"no prompts in the file, {tmp_path}/b.txt; give a file with at least one phrase"


def test_lines_of_text_have_no_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "cat\n")
    expected = f"no column 'x' in a format without columns, {path}; leave out the column, or give the format"
    assert message(path, options=ReadOptions(column="x")).startswith(expected)


def test_undecodable_text(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", b"cat\ndog\n\xff\n")
    hint = "save the file as UTF-8 (for example: iconv -f latin1 -t utf-8)"
    assert message(path) == f"byte 0xff is not UTF-8, {path} line 3; {hint}"
    assert message(write(tmp_path / "y.txt", b"caf\xe9 \x93quoted\x94\n")).startswith("byte 0xe9 is not UTF-8, ")


def test_a_reader_that_is_left_early_closes_its_file(tmp_path: Path) -> None:
    for name in ("a.txt", "a.csv", "a.jsonl"):
        prompts = read_prompts([str(write(tmp_path / name, '"cat"\n' * 100_000))])
        next(prompts)
        prompts.close()  # pytest fails on a ResourceWarning


@given(
    data=st.binary(min_size=1, max_size=200),
    ending=st.sampled_from([".txt", ".csv", ".tsv", ".json", ".jsonl", ".gz", ""]),
)
def test_any_bytes_give_prompts_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, ending: str) -> None:
    path = write(tmp_path_factory.mktemp("any") / f"a{ending}", data)
    problem, prompts = "", []
    try:
        prompts = list(read_prompts([str(path)]))
    except LiteTextError as error:
        problem = str(error)
    assert bool(prompts) != bool(problem)
    assert "\n" not in problem
    assert all(prompt.count >= 1 for prompt in prompts)


@given(
    data=st.text(st.sampled_from('[]{}":,\n 1atex\\'), min_size=1),
    ending=st.sampled_from([".csv", ".json", ".jsonl", ""]),
)
def test_any_text_gives_prompts_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: str, ending: str) -> None:
    test_any_bytes_give_prompts_or_one_line.hypothesis.inner_test(tmp_path_factory, data.encode(), ending)  # type: ignore[attr-defined]


@pytest.mark.data
def test_real_lists(data_folder: Path) -> None:
    for path in sorted((data_folder / "prompts").glob("*.txt")):
        expected = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        assert texts(path) == expected, path.name


@pytest.mark.data
def test_real_counts(data_folder: Path) -> None:
    paths = sorted((data_folder / "prompts").glob("*.counts.tsv"))
    assert len(paths) == 4
    for path in paths:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line]
        expected = [(text, int(count)) for count, text in lines if int(count)]
        assert [(prompt.text, prompt.count) for prompt in read_prompts([str(path)])] == expected, path.name


@pytest.mark.data
def test_the_whole_folder_becomes_a_corpus(data_folder: Path) -> None:
    corpus = PromptCorpus.build(read_prompts([str(data_folder / "prompts")]))
    assert len(corpus.sources) == len(list((data_folder / "prompts").iterdir()))
    assert corpus.total > 100_000
