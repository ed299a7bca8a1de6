"""What the readers decide for the user, and that it is told; what is no prompt; names that lead out of a folder."""

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from litetext.errors import OptionError, PromptError
from litetext.prompts.fields import is_index, looks_like_reference
from litetext.prompts.readers import ReadOptions, read_prompts

Pairs = list[tuple[str, int]]


def read(path: Path, content: Any = None, **options: Any) -> tuple[Pairs, str]:
    """The prompts of a file, and how it was read."""
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    read_as: dict[str, str] = {}
    pairs = [(prompt.text, prompt.count) for prompt in read_prompts([str(path)], ReadOptions(**options), read_as)]
    return pairs, read_as[str(path)]


def message(path: Path, content: Any = None, **options: Any) -> str:
    with pytest.raises(PromptError) as caught:
        read(path, content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


DESCRIPTIONS = {"tench": ["A greenish fish.", "a fish"], "goldfish": ["an orange fish"], "hammer": ["a tool", "a fish"]}


def test_descriptions_of_all_classes_are_read(tmp_path: Path) -> None:
    pairs, told = read(tmp_path / "a.json", DESCRIPTIONS)
    expected = [("A greenish fish.", 1), ("a fish", 2), ("an orange fish", 1), ("a tool", 1)]
    assert (pairs, told) == (expected, "json: all 3 lists: 'tench', 'goldfish', 'hammer'")
    assert read(tmp_path / "a.json", column="goldfish") == ([("an orange fish", 1)], "json")
    many = {f"class {number}": ["x"] for number in range(1000)}
    pairs, told = read(tmp_path / "b.json", many)
    assert pairs == [("x", 1000)]
    assert "1000 lists" in told
    assert len(told) < 200


def test_lists_of_one_kind_are_read_together_and_others_are_an_error(tmp_path: Path) -> None:
    parts = {"train": [{"text": "cat", "obj": "x"}], "val": [{"text": "dog", "obj": "y"}]}
    assert read(tmp_path / "a.json", parts)[0] == [("cat", 1), ("dog", 1)]
    assert read(tmp_path / "a.json", column="obj")[0] == [("x", 1), ("y", 1)]
    found = message(tmp_path / "b.json", {"train": [{"text": "cat"}], "tags": ["dog"]})
    assert "'train', 'tags'" in found
    assert "column" in found
    assert "column" in message(tmp_path / "c.json", {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]})
    assert "broken" not in message(tmp_path / "d.json", {"tench": ["a fish"], "hammer": ["a tool", 5]})


def test_a_list_taken_out_of_several_is_told(tmp_path: Path) -> None:
    pairs, told = read(tmp_path / "a.json", {"tags": ["x"], "phrases": ["cat"]})
    assert (pairs, told) == ([("cat", 1)], "json: list 'phrases', passed over: 'tags'")
    assert read(tmp_path / "b.json", {"prompts": ["cat"], "version": 3})[1] == "json"
    assert "list 'classes'" in read(tmp_path / "c.json", {"classes": ["cat"]})[1]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"cat": 0, "dog": 1, "red car": 2, "bird": 3}, ["cat", "dog", "red car", "bird"]),
        ({"dog": 1, "cat": 0}, ["dog", "cat"]),
        ({"cat": 1, "dog": 2}, ["cat", "dog"]),
        ({"person": 1, "bicycle": 2, "car": 3, "stop sign": 5}, ["person", "bicycle", "car", "stop sign"]),
        ({"0": "cat", "1": "dog"}, ["cat", "dog"]),
    ],
)
def test_class_numbers_are_no_counts(tmp_path: Path, content: dict[str, Any], names: list[str]) -> None:
    pairs, told = read(tmp_path / "a.json", content)
    assert pairs == [(name, 1) for name in names]
    assert "class" in told
    if "0" not in content:
        rows = "".join(f"{name}\t{number}\n" for name, number in content.items())
        pairs, told = read(tmp_path / "a.tsv", rows)
        assert pairs == [(name, 1) for name in names]
        assert "counts" not in told


def test_an_index() -> None:
    for numbers in ([0, 1], [1, 2, 3], [2, 0, 1], [1, 2, 3, 5], [4, 2, 1, 3, 6, 5]):
        assert is_index(numbers), numbers
    for numbers in ([], [1], [0], [3, 1, 2], [1, 1], [3, 9], [0, 0, 1], [5, 10, 15], [9, 8, 7]):
        assert not is_index(numbers), numbers


def test_counts_with_a_point(tmp_path: Path) -> None:
    pairs, told = read(tmp_path / "a.csv", "prompt,count\ndog,3.0\ncat,2\n")
    assert (pairs, told) == ([("dog", 3), ("cat", 2)], "csv: text in column 'prompt', counts in column 'count'")
    assert read(tmp_path / "b.json", {"cat": 3.0, "dog": 5})[0] == [("cat", 3), ("dog", 5)]
    assert read(tmp_path / "c.json", [{"text": "cat", "n": 3.0}])[0] == [("cat", 3)]
    pl.DataFrame({"text": ["cat", "dog"], "n": [3.0, 2.0]}).write_parquet(tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == (
        [("cat", 3), ("dog", 2)],
        "parquet: text in column 'text', counts in column 'n'",
    )


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.parquet", "a.feather"])
def test_a_column_of_counts_that_is_not_counted_is_told(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"text": ["cat", "dog"], "frequency": ["c", "r"], "n": [1.5, 2.0]})
    if name == "a.json":
        (tmp_path / name).write_text(json.dumps(frame.to_dicts()))
    else:
        {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".feather": frame.write_ipc}[Path(name).suffix](
            tmp_path / name
        )
    pairs, told = read(tmp_path / name)
    assert pairs == [("cat", 1), ("dog", 1)]
    assert "'frequency' is not counted" in told
    assert "'n' is not counted" in told


@pytest.mark.parametrize(
    ("content", "pairs", "told"),
    [
        ("\ufeffsep=;\r\nprompt;n\r\ndog;3\r\n", [("dog", 3)], "text in column 'prompt', counts in column 'n'"),
        ("sep=|\nred, big|2\n", [("red, big", 2)], "no header, text in column '1', counts in column '2'"),
        ("LabelName,DisplayName\n/m/011k07,Tortoise\n", [("Tortoise", 1)], "text in column 'DisplayName'"),
        ("/m/011k07,Tortoise\n/m/011q46kg,Container\n", [("Tortoise", 1), ("Container", 1)], "no header, text in"),
        ("file,thing\nimages/1.jpg,red car\n2.png,dog\n", [("red car", 1), ("dog", 1)], "text in column 'thing'"),
        ("url,thing\nhttps://x.org/a,cat\nhttp://x.org/b,dog\n", [("cat", 1), ("dog", 1)], "text in column 'thing'"),
        ("wnid;words\nn01440764;tench\nn01443537;goldfish\n", [("tench", 1), ("goldfish", 1)], "';' between cells, "),
        ("name,title\nCOCO_val2014_000042.jpg,cat\n000000000139,dog\n", [("cat", 1), ("dog", 1)], "text in column"),
        ("label\nn01440764\n", [("n01440764", 1)], "text in column 'label'"),  # nothing else is there
    ],
)
def test_columns_of_references_come_last(tmp_path: Path, content: str, pairs: Pairs, told: str) -> None:
    found = read(tmp_path / "a.csv", content)
    assert found[0] == pairs
    assert found[1].startswith(f"csv: {told}")
    assert "references" not in found[1]


def test_columns_of_references_come_last_in_tables_too(tmp_path: Path) -> None:
    frame = pl.DataFrame({"key": ["a/1.jpg", "a/2.jpg"], "what": ["red car", "dog"]})
    frame.write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ([("red car", 1), ("dog", 1)], "parquet: text in column 'what'")


def test_references_and_phrases() -> None:
    for text in ("/m/011k07", "https://x.org/a b"[:15], "./a/b", "img 1.jpg", "n01440764", "000123", "C:\\x", "a-12-3"):
        assert looks_like_reference(text), text
    for text in ("cat", "red car", "and/or", "size 12 3 4", "t-shirt", "a.b", "mp3 player", "7up"):
        assert not looks_like_reference(text), text


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
def test_lists_of_strings_in_tables(tmp_path: Path, name: str) -> None:
    lists = [["cat", "a cat"], None, [], ["cat", None, " "]]
    frame = pl.DataFrame({"captions": lists, "n": [2, 1, 1, 3]})
    {".parquet": frame.write_parquet, ".arrow": frame.write_ipc_stream, ".feather": frame.write_ipc}[Path(name).suffix](
        tmp_path / name
    )
    pairs, told = read(tmp_path / name)
    assert sorted(pairs) == [("a cat", 2), ("cat", 5)]
    assert "'captions'" in told


def test_half_characters_are_named(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('["\\ud83d\\udc31 cat", "a \\\\ud83d b"]')  # a pair; an escaped backslash
    assert read(tmp_path / "good.json")[0] == [("🐱 cat", 1), ("a \\ud83d b", 1)]
    for content in ('["cat",\n"\\ud83d dog"]', '["cat",\n"\\udc31"]', '["cat",\n"\\ud83d\\ud83d\\udc31"]'):
        assert "line 2" in message(tmp_path / "bad.json", content)
    for content in ('{"text": "\\ud83d dog"}\n', '"\\udc31"\n'):
        assert "surrogate" in message(tmp_path / "bad.jsonl", content)
    (tmp_path / "bytes.json").write_bytes(b'["\xed\xa0\x80"]')
    with pytest.raises(PromptError, match="UTF-8"):
        list(read_prompts([str(tmp_path / "bytes.json")]))
    assert "surrogate" in message(tmp_path / "bad.json", '{"a": ["x"], "\\ud83d": 1}')
    long = "x" * 65_525
    for shift in range(16):  # an escape across the border of two pieces
        content = f'["{long}{"y" * shift}\\ud83d\\udc31"]'
        assert read(tmp_path / "long.json", content)[0][0][0].endswith("🐱")
        assert "surrogate" in message(tmp_path / "long.json", content.replace("\\udc31", ""))


@pytest.mark.parametrize("unit", ['{"text": [', "[", '{"a":', '[{"sentences": [', '{"prompts": [{"captions": ['])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_nested_deeply(tmp_path: Path, name: str, unit: str) -> None:
    ends = "".join({"[": "]", "{": "}"}[sign] for sign in reversed(unit) if sign in "[{")
    for content in (unit * 50_000 + "1" + ends * 50_000, unit * 50_000):
        assert len(message(tmp_path / name, content)) < 700


def test_two_categories_with_one_id(tmp_path: Path) -> None:
    twice = [{"id": 1, "name": "dog"}, {"id": 1, "name": "cat"}]
    found = message(tmp_path / "a.json", {"annotations": [{"category_id": 1}], "categories": twice})
    assert "'dog' and 'cat'" in found
    same = {"annotations": [{"category_id": 1}], "categories": [{"id": 1, "name": "dog"}] * 2}
    assert read(tmp_path / "b.json", same)[0] == [("dog", 1)]


def test_a_key_that_stands_twice(tmp_path: Path) -> None:
    assert "cat" in message(tmp_path / "a.json", '{"cat": 7, "dog": 2, "cat": 9}')


class TestOtherFiles:
    """A data set's files beside its prompts."""

    def folder(self, folder: Path) -> Path:
        files = {
            "classes.txt": "dog\ncat\n",
            "data.yaml": "names: [dog, cat]\n",
            "labels/1.txt": "0 0.5 0.5 0.1 0.1\n1 0.25 0.5 0.1 0.1\n",
            "train.txt": "images/train/1.jpg\nimages/train/2.jpg\n",
            "README.txt": "Read me.\n",
            "LICENSE.txt": "MIT\n",
            "requirements-dev.txt": "torch\n",
            "config.json": '{"prompts": ["x"]}',
            "images/1.jpg": "\0",
            "license plate.txt": "license plate\n",
        }
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(content)
        return folder

    def test_are_passed_over_in_a_folder_and_told(self, tmp_path: Path) -> None:
        folder, read_as = self.folder(tmp_path / "set"), {}
        found = [(prompt.text, prompt.source) for prompt in read_prompts([str(folder)], ReadOptions(), read_as)]
        names = [("dog", "classes.txt"), ("cat", "classes.txt"), ("license plate", "license plate.txt")]
        assert found == names
        assert read_as["classes.txt"] == "txt"
        assert read_as[str(folder)].startswith("8 files passed over: ")
        assert "2 of labels" in read_as[str(folder)]

    def test_a_folder_of_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        assert "1 of labels" in message(tmp_path)

    def test_are_refused_where_they_are_named(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path / "set")
        for name in ("data.yaml", "labels/1.txt", "train.txt"):
            assert "format" in message(folder / name)
        assert read(folder / "labels" / "1.txt", format="txt")[0][0] == ("0 0.5 0.5 0.1 0.1", 1)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
    def test_a_pipe_in_a_folder_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.txt")
        (tmp_path / "b.txt").write_text("cat\n")
        assert [prompt.text for prompt in read_prompts([str(tmp_path)])] == ["cat"]


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "a/../../secret.arrow", ""])
def test_a_saved_data_set_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    pl.DataFrame({"text": ["secret"]}).write_ipc_stream(tmp_path / "secret.arrow")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    assert "state.json" in message(folder)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    assert "dataset_dict.json" in message(folder)


def test_what_the_user_names_in_python(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("cat\n")
    for sources in (str(path), path, [path], (name for name in [str(path)])):
        assert [prompt.text for prompt in read_prompts(sources)] == ["cat"]  # type: ignore[arg-type]
    for wrong in (None, [None], [3], b"a.txt", 3):
        with pytest.raises(OptionError):
            list(read_prompts(wrong))  # type: ignore[arg-type]


SHEET = [
    {
        "ID": n,
        "Image": f"img/{n}.jpg",
        "Category": ("food", "tool")[n % 2],
        "Prompt text": f"thing {n}",
        "Annotator": "Ann",
    }
    for n in range(1, 41)
]


def write_sheet(path: Path, rows: list[dict[str, Any]] = SHEET) -> Path:
    """A table as a spreadsheet program, or pandas, writes it."""
    frame = pl.DataFrame(rows)
    if path.suffix == ".csv":
        path.write_text("\ufeff" + frame.write_csv(separator=";"), encoding="utf-8")
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl", "a.parquet"])
class TestSheets:
    """A column whose name holds a known one in a table with others, in each format."""

    def doubts(self, path: Path, **options: Any) -> str:
        warnings: dict[str, str] = {}
        list(read_prompts([path], ReadOptions(**options), warnings=warnings))
        return warnings.get(str(path), "")

    def test_the_prompts_are_found_and_told(self, tmp_path: Path, name: str) -> None:
        path = write_sheet(tmp_path / name)
        pairs, told = read(path)
        assert pairs == [(row["Prompt text"], 1) for row in SHEET]
        assert "'Prompt text'" in told
        assert self.doubts(path) == ""
        for asked in ("prompt", "PROMPT TEXT", "prompt_text"):
            assert read(path, column=asked) == (pairs, told)
        assert "Category" in message(path, column="Promt")

    def test_few_texts_over_and_over_are_a_warning(self, tmp_path: Path, name: str) -> None:
        rows = [{("words" if key == "Prompt text" else key): value for key, value in row.items()} for row in SHEET]
        path = write_sheet(tmp_path / name, rows)
        assert {text for text, _ in read(path)[0]} == {"tool", "food"}
        found = self.doubts(path)
        assert "2 distinct texts in 40 rows" in found
        assert "'words'" in found
        assert "'ID'" not in found
        assert self.doubts(path, column="words") == ""
        assert self.doubts(path, column="category", count_column="id") == ""  # each class once, with its count

    def test_paths_are_a_warning(self, tmp_path: Path, name: str) -> None:
        assert "'Prompt text'" in self.doubts(write_sheet(tmp_path / name), column="image")

    def test_a_name_that_fits_twice_is_an_error(self, tmp_path: Path, name: str) -> None:
        path = write_sheet(tmp_path / name, [{"Alt text": "a cat", "Prompt text": "cat"}])
        assert "'Alt text' or 'Prompt text'" in message(path, column="text")
        pairs, told = read(path)  # "prompt" comes before "text" in the list of names
        assert pairs == [("cat", 1)]
        assert "(not 'Alt text')" in told


def test_strong_names_before_parts_before_classes(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "Prompt text,caption\nx,y\n")[0] == [("y", 1)]
    assert read(tmp_path / "a.csv", "label,userQuery\nx,y\n")[0] == [("y", 1)]
    assert (
        read(tmp_path / "a.csv", "prompt type,label\n" + "np,cat\n" * 30)[0] == [("cat", 1)] * 30
    )  # classes, not prompts
    assert read(tmp_path / "a.csv", "white text\nred car\n")[0] == [("white text", 1), ("red car", 1)]  # no header


def test_options_behind_a_source(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "b.csv:column=y"):
        (tmp_path / name).write_text("x,y,hits,text\nred,car,2,no\n" if name != "b.csv:column=y" else "z\n")
    found = [
        (prompt.text, prompt.count, Path(prompt.source).name)
        for prompt in read_prompts(
            [f"{tmp_path}/{name}" for name in ("a.csv:column=y,count=hits", "b.csv", "b.csv:column=y")]
        )
    ]
    assert found == [("car", 2, "a.csv"), ("no", 1, "b.csv"), ("z", 1, "b.csv:column=y")]
    assert [one.text for one in read_prompts([f"{tmp_path}/?.csv:format=txt"])][:2] == ["x,y,hits,text", "red,car,2,no"]
    assert "column=" in message(tmp_path / "a.csv:colum=y")
    for wrong in ("a.csv:column=x,column=y", "a.csv:format=docx"):
        with pytest.raises(OptionError):
            list(read_prompts([f"{tmp_path}/{wrong}"]))


def test_a_column_is_not_asked_of_sources_without_any(tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path / "a.csv")
    coco = {"categories": [{"id": 1, "name": "fire_hydrant"}], "annotations": [{"category_id": 1}] * 3, "images": []}
    others = {"coco.json": coco, "refs.json": [{"sentences": [{"sent": "left man"}]}], "lines.txt": "dog\n"}
    for name, content in others.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    paths, read_as = [sheet, *(tmp_path / name for name in others)], dict[str, str]()
    found = [(prompt.text, prompt.count) for prompt in read_prompts(paths, ReadOptions(column="prompt text"), read_as)]
    assert found[40:] == [("fire hydrant", 3), ("left man", 1), ("dog", 1)]
    assert "without columns" in read_as[str(tmp_path / "coco.json")]
    (tmp_path / "table.csv").write_text("x,text\na,b\n")
    for wrong in (
        [sheet, tmp_path / "table.csv"],
        paths[1:],
        [f"{sheet}:column=id", paths[1]],
        [f"{paths[1]}:column=x"],
    ):
        with pytest.raises(PromptError, match="no column"):
            list(read_prompts(wrong, ReadOptions(column="prompt text")))
