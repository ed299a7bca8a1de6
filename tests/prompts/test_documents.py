"""JSON and JSON lines: every layout, broken documents with their line, and memory."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import PromptError
from litetext.prompts.readers import ReadOptions, read_prompts

Pairs = list[tuple[str, int]]

PHRASES = st.text(st.characters(exclude_categories=["Cs"]))
COCO = {
    "info": {"text": "not a prompt"},
    "licenses": [{"id": 1, "name": "Attribution License"}],
    "images": [{"id": 1, "file_name": "1.jpg"}],
    "annotations": [
        {"id": 1, "category_id": 5, "segmentation": [[1.5, 2.5]], "bbox": [0, 0, 1, 1]},
        {"id": 2, "category_id": 7, "segmentation": {"counts": "abc", "size": [4, 4]}},
        {"id": 3, "category_id": 5},
    ],
    "categories": [{"id": 5, "name": "alarm_clock"}, {"id": 6, "name": "unused"}, {"id": 7, "name": "cat"}],
}
GOLD = {
    "images": [
        {"id": 1, "text_input": "a red_cup", "is_instance_exhaustive": 1},
        {"id": 2, "text_input": "dog"},
        {"id": 3, "text_input": "a red_cup"},
        {"id": 4, "text_input": None},
    ],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
    "categories": [{"id": 1, "name": "object"}],
}
VEVAL = {
    "videos": [{"id": 1, "video_name": "v"}],
    "annotations": [{"category_id": 2, "noun_phrase": "cat", "segmentations": [None, {"counts": "x"}]}],
    "categories": [{"id": 1, "name": "a dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "bird"}],
    "video_np_pairs": [
        {"id": 1, "video_id": 1, "category_id": 2, "noun_phrase": "cat", "num_masklets": 2},
        {"id": 2, "video_id": 1, "category_id": 1, "noun_phrase": "a dog", "num_masklets": 0},
        {"id": 3, "video_id": 2, "category_id": 2, "noun_phrase": "cat", "num_masklets": 0},
    ],
}
REFS = [{"ref_id": 1, "sentences": [{"tokens": ["red"], "raw": "Red!", "sent": "red"}, {"raw": "cup"}]}]


def read(path: Path, content: Any = None, **options: Any) -> Pairs:
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return [(prompt.text, prompt.count) for prompt in read_prompts([str(path)], ReadOptions(**options))]


def message(path: Path, content: Any = None, **options: Any) -> str:
    with pytest.raises(PromptError) as caught:
        read(path, content, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), path.name)


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


@given(phrases=st.lists(PHRASES, min_size=1), indent=st.sampled_from([None, 1]), escape=st.booleans())
def test_list_round_trip(
    tmp_path_factory: pytest.TempPathFactory, phrases: list[str], indent: int | None, escape: bool
) -> None:
    content = json.dumps(phrases, indent=indent, ensure_ascii=escape)
    folder = tmp_path_factory.mktemp("json")
    assert read(folder / "a.json", content) == [(phrase, 1) for phrase in phrases]
    assert dict(read(folder / "b.json", f'{{"prompts": {content}}}')) == Counter(phrases)


@given(rows=st.lists(st.tuples(PHRASES, st.integers(1, 10**9)), min_size=1), escape=st.booleans())
def test_lines_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: Pairs, escape: bool) -> None:
    folder = tmp_path_factory.mktemp("jsonl")
    lines = [json.dumps({"text": text, "count": count}, ensure_ascii=escape) + "\n" for text, count in rows]
    assert read(folder / "a.jsonl", "".join(lines)) == rows
    lines = [json.dumps(text, ensure_ascii=escape) + "\n" for text, _ in rows]
    assert read(folder / "b.jsonl", "".join(lines)) == [(text, 1) for text, _ in rows]


@given(counts=st.dictionaries(PHRASES, st.integers(1, 10**9), min_size=1))
def test_mapping_to_counts_round_trip(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    assert read(tmp_path_factory.mktemp("json") / "a.json", counts) == list(counts.items())


@pytest.mark.parametrize(
    ("document", "pairs"),
    [
        (["cat", None, "", "cat"], [("cat", 1), ("", 1), ("cat", 1)]),  # an explicit empty string counts
        ([{"text": "cat", "count": 3}, {"text": "dog", "count": 0}, {"text": None}, {"other": 1}], [("cat", 3)]),
        ([{"label": 3, "caption": "a cat"}], [("a cat", 1)]),
        ([{"caption": ["a cat", "the cat"], "n": 2}], [("a cat", 2), ("the cat", 2)]),
        ([{"id": 4, "name": "alarm_clock", "instance_count": 9, "frequency": "c"}], [("alarm clock", 9)]),
        ([{"name": "alarm_clock"}], [("alarm_clock", 1)]),
        (REFS, [("red", 1), ("cup", 1)]),
        ({"refs": REFS}, [("red", 1), ("cup", 1)]),
        ({"images": [{"filename": "1.jpg", "sentences": [{"tokens": ["a"], "raw": "a cat"}]}]}, [("a cat", 1)]),
        ({"version": 1, "name": "x", "prompts": ["cat", "dog", "cat"]}, [("cat", 2), ("dog", 1)]),
        ({"boxes": [[1, 2]], "tags": ["cat"], "more": ["dog", "cat"]}, [("cat", 2), ("dog", 1)]),
        ({"images": ["1.jpg"], "captions": ["a cat"]}, [("a cat", 1)]),
        ({"data": [{"phrase": "cat", "count": 2}, {"phrase": "cat"}]}, [("cat", 3)]),
        ({"tags": ["x"], "phrases": ["cat"]}, [("cat", 1)]),
        ({"cat": 3, "dog": 0, "text": 1}, [("cat", 3), ("text", 1)]),
        ({"text": "a cat", "count": 3}, [("a cat", 3)]),
        ({"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "a cat"}]}, [("a cat", 1)]),
    ],
)
def test_layouts(tmp_path: Path, document: Any, pairs: Pairs) -> None:
    assert read(tmp_path / "a.json", document) == pairs
    assert read(tmp_path / "b.json", json.dumps(document, indent=1)) == pairs


def test_coco_counts_annotations(tmp_path: Path) -> None:
    backwards = dict(reversed(COCO.items()))
    for document in (COCO, backwards):
        assert read(tmp_path / "a.json", document) == [("alarm clock", 2), ("cat", 1)]
    once = [("alarm clock", 1), ("unused", 1), ("cat", 1)]
    assert read(tmp_path / "b.json", without(COCO, "annotations")) == once
    assert read(tmp_path / "c.json", COCO | {"annotations": []}) == once
    nameless = COCO | {"annotations": [{"category_id": 99}]}
    assert message(tmp_path / "d.json", nameless).startswith("category id 99 is used but has no name, d.json; ")


def test_lvis_counts_annotations_not_its_own_numbers(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "aerosol_can", "synonyms": ["can"], "def": "a can", "instance_count": 109}]
    assert read(tmp_path / "a.json", {"categories": categories}) == [("aerosol can", 1)]
    assert read(tmp_path / "a.json", count_column="instance_count") == [("aerosol can", 109)]
    assert read(tmp_path / "b.json", {"annotations": [{"category_id": 1}] * 2, "categories": categories}) == [
        ("aerosol can", 2)
    ]


def test_saco_gold_counts_pairs_of_image_and_phrase(tmp_path: Path) -> None:
    for document in (GOLD, dict(reversed(GOLD.items()))):
        assert read(tmp_path / "a.json", document) == [("a red_cup", 2), ("dog", 1)]


def test_veval_counts_pairs_of_video_and_phrase(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", VEVAL) == [("cat", 2), ("a dog", 1)]
    plain = without(VEVAL, "video_np_pairs", "annotations")
    assert read(tmp_path / "c.json", plain) == [("a dog", 1), ("cat", 1), ("bird", 1)]


def test_named_fields(tmp_path: Path) -> None:
    rows = [{"text": "x", "obj": "cat", "hits": 2}, {"text": "y", "obj": "dog", "hits": 5}]
    for document in (rows, {"tags": ["z"], "rows": rows}):
        assert read(tmp_path / "a.json", document, column="obj", count_column="hits") == [("cat", 2), ("dog", 5)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert read(tmp_path / "a.jsonl", lines, column="obj") == [("cat", 1), ("dog", 1)]
    assert read(tmp_path / "b.json", {"train": ["a"], "val": ["b"]}, column="val") == [("b", 1)]
    assert read(tmp_path / "c.json", COCO, column="name") == [("alarm_clock", 1), ("unused", 1), ("cat", 1)]


@pytest.mark.parametrize(
    ("document", "options", "expected"),
    [
        (["cat", 5], {}, "5 is not text, a.json line 1 item 2; write strings"),
        (["cat", ["dog"]], {}, "a list or object is not text, a.json line 1 item 2; "),
        (["cat", True], {}, "true is not text, a.json line 1 item 2; "),
        ([{"text": 5}], {}, "5 is not text, a.json line 1 item 1; "),
        ([{"caption": ["cat", 5]}], {}, "5 is not text, a.json line 1 item 1; "),
        ([{"text": "a", "n": -1}], {}, "count '-1' is not a positive integer, a.json line 1 item 1; "),
        ([{"text": "a", "n": 1.5}], {"count_column": "n"}, "count '1.5' is not a positive integer, a.json line 1 item"),
        ([{"text": "a"}], {"count_column": "n"}, "count 'None' is not a positive integer, a.json line 1 item 1; "),
        ([{"id": 1, "foo": "x"}], {}, "no column of text was recognized, a.json; it has: id, foo; name"),
        ([{"id": 1}], {"column": "foo"}, "no column 'foo', a.json; it has: id"),
        (["cat"], {"column": "foo"}, "no field 'foo' in \"cat\", a.json line 1 item 1; "),
        (COCO, {"column": "foo"}, "no column 'foo', a.json; it has: id, file_name, "),
        ({"version": "1"}, {"column": "foo"}, "no column 'foo', a.json; it has: version"),
        ({"prompts": ["cat", 5]}, {}, "5 is not text, a.json line 1 item 2; "),
        ({"boxes": [1, 2]}, {}, "1 is not text, a.json line 1 item 1; "),
        ({"cat": 3, "dog": 2.5}, {}, "count '2.5' is not a positive integer, a.json 'dog'; "),
        ({"cat": 3, "dog": -2}, {}, "count '-2' is not a positive integer, a.json 'dog'; "),
        ({"rows": [{"id": 1, "foo": "x"}]}, {}, "no column of text was recognized, a.json; it has: id, foo; "),
        ({"version": "1", "meta": {}}, {}, "no prompts in the file, a.json; "),
        ([], {}, "no prompts in the file, a.json; "),
        ({}, {}, "no prompts in the file, a.json; "),
        ({"prompts": []}, {}, "no prompts in the file, a.json; "),
        ([None], {}, "no prompts in the file, a.json; "),
        ("5", {}, "5 is no list or mapping of prompts, a.json; "),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, document: Any, options: dict[str, str], expected: str) -> None:
    assert message(tmp_path / "a.json", document, **options).startswith(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '["a",\n"b",\n\n,"c"]',
            "broken JSON (unallowed token at this point in JSON text), a.json line 4; fix that line",
        ),
        ('["a",\n"b"\n', "broken JSON (premature EOF), a.json line 2; fix that line"),
        ('{"prompts": ["a",\n"b', "broken JSON (premature EOF), a.json line 2; fix that line"),
        ('{"a": 1,\n"b"', "broken JSON (premature EOF), a.json line 2; fix that line"),
        ('["a"]\n\ngarbage\n', "broken JSON (trailing garbage), a.json line 3; fix that line"),
        ('{"prompts": ["a"]}\n]', "broken JSON (trailing garbage), a.json line 2; fix that line"),
        ('["a", "b\nc"]', "broken JSON (invalid character inside string), a.json line 1; fix that line"),
        ('["a",\n tru]', "broken JSON (invalid string in json text), a.json line 2; fix that line"),
        ('["a",\n NaN]', "broken JSON (invalid char in json text), a.json line 2; fix that line"),
        ("cat\ndog\n", "broken JSON (invalid char in json text), a.json line 1; fix that line"),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, content: str, expected: str) -> None:
    assert message(tmp_path / "a.json", content) == expected


def test_broken_json_far_into_a_long_line_and_a_long_file(tmp_path: Path) -> None:
    long = json.dumps(["x" * 100_000, "y" * 100_000, "z" * 100_000])[:-1]
    assert message(tmp_path / "a.json", f"{long},\n,]").startswith("broken JSON (unallowed token at this point")
    assert " a.json line 2; " in message(tmp_path / "a.json", f"{long},\n,]")
    lines = '{"prompts": [\n' + '"cat",\n' * 50_000 + "]}"
    assert " a.json line 50002; " in message(tmp_path / "a.json", lines)


def test_undecodable_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'["cat",\n"caf\xe9"]')
    assert message(tmp_path / "a.json").startswith("bytes that are not UTF-8, a.json line 2; save the file as UTF-8")
    (tmp_path / "a.jsonl").write_bytes(b'"cat"\n"caf\xe9"\n')
    assert message(tmp_path / "a.jsonl").startswith("byte 0xe9 is not UTF-8, a.jsonl line 2; save the file as UTF-8")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('"a"\n{"text": "b"\n', "broken JSON (Expecting ',' delimiter, column 14), a.jsonl line 2; "),
        ('"a"\n\n[}\n', "broken JSON (Expecting value, column 2), a.jsonl line 3; "),
        ("[" * 100_000 + "\n", "broken JSON (maximum recursion depth exceeded"),
        ('"a"\n5\n', "5 is not text, a.jsonl line 2; "),
        ('"a"\n["b"]\n', "a list or object is not text, a.jsonl line 2; "),
        ('{"text": {"a": 1}}\n', "a list or object is not text, a.jsonl line 1; "),
        ('{"foo": "b"}\n', "no column of text was recognized, a.jsonl; it has: foo; "),
        ("null\n", "no prompts in the file, a.jsonl; "),
    ],
)
def test_mistakes_in_lines(tmp_path: Path, content: str, expected: str) -> None:
    assert message(tmp_path / "a.jsonl", content).startswith(expected)


def test_lines_of_objects(tmp_path: Path) -> None:
    content = '{"text": "cat", "count": 2}\n\r\n{"text": "", "x": [1]}\nnull\n{"text": null}\n{"text": "do\\u2028g"}'
    assert read(tmp_path / "a.jsonl", content) == [("cat", 2), ("", 1), ("do\u2028g", 1)]
    refs = "".join(json.dumps(ref) + "\n" for ref in REFS)
    assert read(tmp_path / "b.jsonl", refs) == [("red", 1), ("cup", 1)]


@pytest.mark.data
def test_coco33(data_folder: Path) -> None:
    path = data_folder / "coco33" / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in document["categories"]}
    expected = Counter(names[annotation["category_id"]] for annotation in document["annotations"])
    assert dict(read(path)) == expected
    assert len(expected) == 44
    assert expected.total() == 246


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux's /proc")
def test_masks_take_no_memory(tmp_path: Path) -> None:
    """25 MB of COCO, nearly all of it polygons; the process grows by a few MiB."""
    polygon = json.dumps([round(1.01 * number % 640, 2) for number in range(6000)])
    path = tmp_path / "a.json"
    with path.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for number in range(600):
            end = ", " if number < 599 else "],\n"
            file.write(f'{{"id": {number}, "segmentation": [{polygon}], "category_id": {number % 3}}}{end}')
        file.write('"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "cow"}]}')
    assert path.stat().st_size > 20e6
    code = f"""
import re
from pathlib import Path
def most():  # getrusage would begin with the peak of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
from litetext.prompts.readers import read_prompts
before = most()
counts = {{prompt.text: prompt.count for prompt in read_prompts([{str(path)!r}])}}
assert counts == dict.fromkeys(("cat", "dog", "cow"), 200), counts
print((most() - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 12  # MiB
