"""CSV, TSV, Parquet and Arrow: layouts that are guessed, columns that are named, and what is wrong with a file."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import PromptError
from litetext.prompts.columnar import read_frame
from litetext.prompts.readers import ReadOptions, read_prompts

Pairs = list[tuple[str, int]]

# What csv and Parquet call a value: not blank. A table cannot hold NUL or lone surrogates.
PHRASES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)
ROWS = st.lists(st.tuples(PHRASES, st.integers(1, 10**9)), min_size=1, max_size=20)
EASY = "plain 'single' \"double\" a,b;c|d\u2028\u0085\x0c\x1c käse 🧀"


def read(path: Path, content: str = "", **options: Any) -> Pairs:
    if content:
        path.write_bytes(content.encode())
    return [(prompt.text, prompt.count) for prompt in read_prompts([str(path)], ReadOptions(**options))]


def message(path: Path, content: str = "", **options: Any) -> str:
    with pytest.raises(PromptError) as caught:
        read(path, content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@given(rows=ROWS)
def test_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, delimiter: str, rows: Pairs) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "count"), *rows])
    assert read(path) == rows


@given(rows=ROWS)
def test_tsv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: Pairs) -> None:
    rows = [(" ".join(text.replace('"', "'").split()), count) for text, count in rows]
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"
    assert read(path, "".join(f"{text}\t{count}\n" for text, count in [("text", "count"), *rows])) == rows


@pytest.mark.parametrize("form", ["parquet", "arrow", "feather"])
@given(rows=ROWS)
def test_parquet_and_arrow_round_trip(tmp_path_factory: pytest.TempPathFactory, form: str, rows: Pairs) -> None:
    path = tmp_path_factory.mktemp("table") / f"a.{form}"
    write_table(pl.DataFrame(rows, schema={"text": pl.String, "count": pl.Int64}, orient="row"), path)
    kind = "parquet" if form == "parquet" else "arrow"
    grouped: dict[str, int] = {}
    for text, count in rows:
        grouped[text] = grouped.get(text, 0) + count
    assert list(read_frame(kind, path, ReadOptions(), "a", [])) == list(grouped.items())


def write_table(frame: pl.DataFrame, path: Path) -> None:
    writers = {".parquet": frame.write_parquet, ".arrow": frame.write_ipc_stream, ".feather": frame.write_ipc}
    writers[path.suffix](path)


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        ("text,count\ncat,3\ndog,1\n", [("cat", 3), ("dog", 1)]),
        ("Count,Noun Phrase\n3,cat\n", [("cat", 3)]),
        ("id,Caption,split\n1,a cat,train\n2,a dog,val\n", [("a cat", 1), ("a dog", 1)]),
        ("id,thing,score\n1,cat,0.5\n2,dog,0.75\n", [("cat", 1), ("dog", 1)]),  # numbers below words: a header
        ("label,caption\n3,a cat\n4,a dog\n", [("a cat", 1), ("a dog", 1)]),
        ("name,frequency\ncat,c\ndog,r\n", [("cat", 1), ("dog", 1)]),  # frequency holds no counts
        ("image_count,instance_count,name\n5,9,cat\n", [("cat", 9)]),
        (",text\n0,cat\n1,dog\n", [("cat", 1), ("dog", 1)]),  # an index without a name
        ("cat,3\ndog,1\n", [("cat", 3), ("dog", 1)]),
        ("label,3\nname,1\n", [("label", 3), ("name", 1)]),  # no header: a number stands in it
        ("3,cat\n1,dog\n", [("cat", 3), ("dog", 1)]),
        ("1,cat\n2,dog\n", [("cat", 1), ("dog", 1)]),  # numbers that only rise are an index
        ("10,5\n7,2\n", [("10", 5), ("7", 2)]),
        ("cat,animal,3\ndog,animal,1\n", [("cat", 1), ("dog", 1)]),
        ("cat\ndog\n", [("cat", 1), ("dog", 1)]),
        ("10\n20\n", [("10", 1), ("20", 1)]),
        ("text\n", []),
        ("text,count\ncat,0\ndog,2\n\n,7\n  ,7\n", [("dog", 2)]),
        ('text,count\n"a ""cat"", red",3\n"two\nlines",1\n', [('a "cat", red', 3), ("two\nlines", 1)]),
        ("text;count\nred, big cat;3\na dog;1\n", [("red, big cat", 3), ("a dog", 1)]),
        ("text|count\r\ncat|3\r\n", [("cat", 3)]),
        ("cat\t3\ndog\t1\n", [("cat", 3), ("dog", 1)]),
        ("text\na, b\nc\n", [("a", 1), ("c", 1)]),  # unquoted commas part cells
        ("text,count,note\ncat,3\ndog,1,x\n", [("cat", 3), ("dog", 1)]),
        ("note,text\nonly\nx,cat\n", [("cat", 1)]),
    ],
)
def test_csv_layouts(tmp_path: Path, content: str, pairs: Pairs) -> None:
    if pairs:
        assert read(tmp_path / "a.csv", content) == pairs
    else:
        assert message(tmp_path / "a.csv", content).startswith("no prompts in the file, a.csv; ")


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        ('cat\t3\n5" pipe\t1\n"quoted" word\t2\n', [("cat", 3), ('5" pipe', 1), ('"quoted" word', 2)]),
        ('"cat\t3\ndog\t1\n', [('"cat', 3), ("dog", 1)]),
        (f"{EASY}\t3\r\ndog\t1", [(EASY, 3), ("dog", 1)]),
        ("text\tnote\ncat\tred, and big\n", [("cat", 1)]),
        ("cat\ndog\n", [("cat", 1), ("dog", 1)]),
    ],
)
def test_tsv_layouts(tmp_path: Path, content: str, pairs: Pairs) -> None:
    assert read(tmp_path / "a.tsv", content) == pairs


def test_named_columns(tmp_path: Path) -> None:
    content = "text,obj,n_obj\nx,cat,2\ny,dog,1\n"
    assert read(tmp_path / "a.csv", content, column="obj", count_column="n_obj") == [("cat", 2), ("dog", 1)]
    assert read(tmp_path / "a.csv", content, column="obj") == [("cat", 1), ("dog", 1)]
    assert read(tmp_path / "a.csv", "x,cat\ny,dog\n", column="2") == [("cat", 1), ("dog", 1)]
    assert read(tmp_path / "a.csv", "count,n\n3,1\n", column="count") == [("3", 1)]


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("id,text\n1,cat\n", {"column": "phrase"}, "no column 'phrase', a.csv; it has: id, text"),
        ("id,text\n1,cat\n", {"count_column": "hits"}, "no column 'hits', a.csv; it has: id, text"),
        ("x,cat\ny,dog\n", {"column": "phrase"}, "no column 'phrase', a.csv (no header); it has: 1, 2"),
        ("a,b\n1,2\n3,4\n", {}, "no column of text was recognized, a.csv; it has: a, b; name one with column"),
        ("text,count\ncat,3\n\ndog,many\n", {}, "count 'many' is not a positive integer, a.csv line 4"),
        ("text,n\ncat,3\ndog,-1\n", {"count_column": "n"}, "count '-1' is not a positive integer, a.csv line 3"),
        ("text,n\ncat,2.5\n", {"count_column": "n"}, "count '2.5' is not a positive integer, a.csv line 2"),
        ("text,n\ncat,\n", {"count_column": "n"}, "count '' is not a positive integer, a.csv line 2"),
        ('text,n\n"a\nb",3\n"c\nd",x\n', {"count_column": "n"}, "count 'x' is not a positive integer, a.csv line 4"),
        ('text,n\ncat,1\n"dog,1\nbird,1\n', {}, "broken CSV (unexpected end of data), a.csv line 3"),
        ('text,n\ncat,1\n"a" dog,1\n', {}, "broken CSV (',' expected after '\"'), a.csv line 3"),
        (f"text,mask\ncat,{'1' * 300_000}\n", {}, "broken CSV (field larger than field limit (131072)), a.csv line 2"),
    ],
)  # fmt: skip
def test_csv_mistakes(tmp_path: Path, content: str, options: dict[str, str], expected: str) -> None:
    if "many" in content:  # not to be taken for a column of words
        content = content.replace("dog,many", "x,1\n" * 300 + "dog,many")
        expected = expected.replace("line 4", "line 304")
    assert message(tmp_path / "a.csv", content, **options).startswith(expected)


def test_undecodable_bytes_in_a_table(tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv"):
        (tmp_path / name).write_bytes(b"text\tn\n" + b"cat\t1\n" * 500 + b"caf\xe9\t2\n")
        assert message(tmp_path / name).startswith(f"byte 0xe9 is not UTF-8, {name} line 502; save the file as UTF-8")


def test_the_limit_of_a_cell_is_left_alone(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    read(tmp_path / "a.csv", "text\ncat\n")
    assert csv.field_size_limit() == before


def read_here(path: Path, **options: Any) -> Pairs:
    """As `read` of a binary table, in this process."""
    kind = "parquet" if path.suffix == ".parquet" else "arrow"
    return list(read_frame(kind, path, ReadOptions(**options), path.name, []))


def message_here(path: Path, **options: Any) -> str:
    with pytest.raises(PromptError) as caught:
        read_here(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
class TestFrames:
    def write(self, path: Path, **columns: Any) -> Path:
        frame = pl.DataFrame(columns)
        write_table(frame, path)
        return path

    def test_columns_are_guessed_by_name_then_by_type(self, tmp_path: Path, name: str) -> None:
        path = self.write(tmp_path / name, url=["u", "v", "u"], caption=["b", "a", "b"], n=[2, 3, 5])
        assert read_here(path) == [("b", 7), ("a", 3)]
        assert read_here(path, column="url") == [("u", 7), ("v", 3)]
        assert read_here(self.write(tmp_path / name, label=[1, 2], thing=["cat", "dog"])) == [("cat", 1), ("dog", 1)]
        path = self.write(tmp_path / name, text=["a", "b"], hits=[4, 0])
        assert read_here(path, count_column="hits") == [("a", 4)]

    def test_missing_and_blank_cells_do_not_count(self, tmp_path: Path, name: str) -> None:
        assert read_here(self.write(tmp_path / name, text=["b", None, "", " ", "a", "b"])) == [("b", 2), ("a", 1)]

    def test_categories(self, tmp_path: Path, name: str) -> None:
        texts = pl.Series(["b", "a", "b"], dtype=pl.Categorical)
        assert read_here(self.write(tmp_path / name, thing=texts)) == [("b", 2), ("a", 1)]

    def test_mistakes(self, tmp_path: Path, name: str) -> None:
        path = self.write(tmp_path / name, text=["a", "b", "c"], n=[1, -2, None], score=[0.5, 1.0, 2.0])
        assert message_here(path, column="no") == f"no column 'no', {name}; it has: text, n, score"
        assert message_here(path, column="score") == f"column 'score' holds Float64, not text, {name}; name another"
        expected = f"column 'score' holds Float64, not whole numbers, {name}; name another"
        assert message_here(path, count_column="score") == expected
        assert message_here(path).endswith(f"{name} row 2; fix it")
        path = self.write(tmp_path / name, a=[1], b=[2.0])
        assert message_here(path) == f"no column of text was recognized, {name}; it has: a, b; name one with column"
        assert read_here(self.write(tmp_path / name, text=pl.Series([], dtype=pl.String))) == []

    def test_truncated(self, tmp_path: Path, name: str) -> None:
        path = self.write(tmp_path / name, text=[f"phrase {number}" for number in range(1000)])
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        assert message_here(path).startswith("not a readable table (")


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_not_a_table(tmp_path: Path, ending: str) -> None:
    assert message(tmp_path / f"a{ending}", "cat\ndog\n").startswith("not a readable table (")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux's /proc")
def test_parquet_holds_only_distinct_texts_in_memory(tmp_path: Path) -> None:
    """A million rows, 1000 distinct texts: 25 MB of text plus 40 MB of another column."""
    frame = pl.DataFrame({"row": pl.int_range(1_000_000, eager=True)}).select(
        text=pl.format("a phrase of some words {}", pl.col("row") % 1000),
        other=pl.format("something else in the table {}", pl.col("row")),
    )
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=100_000)
    code = f"""
import re
def most():  # getrusage would begin with the peak of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
from pathlib import Path
from litetext.prompts.columnar import read_frame
from litetext.prompts.opening import ReadOptions
before = most()
prompts = list(read_frame("parquet", Path({str(tmp_path / "a.parquet")!r}), ReadOptions(), "a.parquet", []))
assert len(prompts) == 1000 and sum(count for _, count in prompts) == 1_000_000
print((most() - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 75  # MiB; all texts at once take 100
