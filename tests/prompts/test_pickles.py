"""Pickles: RefCOCO's shapes, Python 2, and attacks that must not run."""

import copyreg
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.errors import PromptError
from litetext.prompts.pickles import unpickled
from litetext.prompts.readers import ReadOptions, read_prompts

REFS = [
    {"ref_id": 1, "sentences": [{"sent": "red cup", "raw": "Red cup!", "tokens": ["red", "cup"]}, {"sent": "cup"}]},
    {"ref_id": 2, "sentences": [{"raw": "the cat", "sent_id": 5}], "split": "train"},
]


def texts(path: Path) -> list[str]:
    """The phrases, read in this process."""
    return [text for text, _ in unpickled(path, str(path))]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["refs(unc).p", "refs.pkl", "refs.pickle"])
def test_refs(tmp_path: Path, protocol: int, name: str) -> None:
    assert texts(write(tmp_path / name, pickle.dumps(REFS, protocol))) == ["red cup", "cup", "the cat"]


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_a_pickle_is_told_by_its_content(tmp_path: Path, protocol: int) -> None:
    path = write(tmp_path / "refs.dat", pickle.dumps(REFS, protocol))
    assert [prompt.text for prompt in read_prompts([str(path)])] == ["red cup", "cup", "the cat"]


@given(phrases=st.lists(st.text(), min_size=1), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_lists_of_strings(tmp_path_factory: pytest.TempPathFactory, phrases: list[str], protocol: int) -> None:
    path = write(tmp_path_factory.mktemp("pickle") / "a.p", pickle.dumps(phrases, protocol))
    assert [text for text, _ in unpickled(path, "a.p")] == phrases


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"(lp0\n(dp1\nS'sentences'\np2\n(lp3\n(dp4\nS'sent'\np5\nS'red cup'\np6\nsasa.", "red cup"),
        (b"(lp0\nS'caf\\xe9'\np1\na.", "café"),  # Latin-1
        (b"(lp0\nS'caf\\xc3\\xa9'\np1\na.", "café"),  # UTF-8
        (b"(lp0\nVcaf\\u00e9\np1\na.", "café"),  # unicode
        (b"]q\x00U\x04caf\xe9q\x01a.", "café"),  # protocol 1
        (b"\x80\x02]q\x00U\x05caf\xc3\xa9q\x01a.", "café"),  # protocol 2
    ],
)
def test_python_2(tmp_path: Path, data: bytes, text: str) -> None:
    assert texts(write(tmp_path / "refs.p", data)) == [text]


class Attack:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__])
def test_attacks_do_not_run(tmp_path: Path, protocol: int, function: Any) -> None:
    flag = tmp_path / "flag"
    call = f"touch {flag}" if function is os.system else f"open({str(flag)!r}, 'w')"
    path = write(tmp_path / "refs.p", pickle.dumps([Attack(function, call)], protocol))
    with pytest.raises(
        PromptError, match=rf"^the pickle wants the global '.*{function.__name__}', which .*refs.p; [^\n]*$"
    ):
        texts(path)
    assert not flag.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch FLAG'\ntR.",
        b"(S'touch FLAG'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch FLAG'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0atouch FLAG\x85R.",  # STACK_GLOBAL
        b"\x80\x02cos\nsystem\nU\x0atouch FLAG\x85\x81.",  # NEWOBJ
    ],
)
def test_attacks_by_hand_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PromptError, match=r"^the pickle wants the global 'os.system', which is not plain data"):
        texts(write(tmp_path / "refs.p", data))
    assert not (tmp_path / "FLAG").exists()


@pytest.mark.parametrize("cached", [False, True])
def test_extension_codes_do_not_run(tmp_path: Path, cached: bool) -> None:
    flag = tmp_path / "flag"
    name = (os.system.__module__, "system")
    copyreg.add_extension(*name, 0x7A)  # type: ignore[arg-type]
    try:
        data = pickle.dumps([Attack(os.system, f"touch {flag}")], 2)
        assert b"\x82\x7a" in data  # the function itself is named by its code
        if cached:
            assert pickle.loads(b"\x80\x02\x82\x7a.") is os.system
        path = write(tmp_path / "refs.p", data)
        with pytest.raises(PromptError, match="the pickle wants the global"):
            texts(path)
        with pytest.raises(PromptError, match=r"refs\.p"):
            list(read_prompts([str(path)]))  # in a process that does not know the extension
    finally:
        copyreg.remove_extension(*name, 0x7A)  # type: ignore[arg-type]
        copyreg.clear_extension_cache()
    assert not flag.exists()


def test_persistent_ids_are_refused(tmp_path: Path) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return "s3://bucket" if obj == "cat" else None

    for protocol in (0, 2, 5):
        buffer = io.BytesIO()
        Pickler(buffer, protocol).dump(["cat"])
        with pytest.raises(PromptError, match=r"^the pickle wants the persistent object 's3://bucket'"):
            texts(write(tmp_path / "refs.p", buffer.getvalue()))


@pytest.mark.parametrize("value", [np.zeros(3), OrderedDict(a=1), {1, 2}, Path("a")])
def test_other_objects_are_refused_by_name(tmp_path: Path, value: Any) -> None:
    with pytest.raises(PromptError, match=r"^the pickle wants the global '[\w.]+', which|^a set instead of a phrase"):
        texts(write(tmp_path / "refs.p", pickle.dumps([value], 5 if isinstance(value, set) else 2)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": 1}, "the pickle holds a dict, not a list"),
        ("cat", "the pickle holds a str, not a list"),
        (["cat", 3], "a int instead of a phrase, {path} item 2"),
        ([{"sentences": "cat"}], "no list of sentences, {path} item 1"),
        ([{"boxes": []}], "no list of sentences, {path} item 1"),
        ([{"sentences": [{"tokens": []}]}], "a NoneType instead of a phrase, {path} item 1"),
    ],
)
def test_other_shapes(tmp_path: Path, data: Any, message: str) -> None:
    path = write(tmp_path / "refs.p", pickle.dumps(data))
    with pytest.raises(PromptError) as caught:
        texts(path)
    assert str(caught.value).startswith(message.format(path=path))
    assert "\n" not in str(caught.value)


def test_truncated_and_broken_pickles(tmp_path: Path) -> None:
    data = pickle.dumps(REFS, 4)
    broken = [data[:size] for size in range(3, len(data), 7)]
    broken += [
        b"\x80\x04\x8e" + b"\xff" * 8,
        b"\x80\x04r\xff\xff\xff\xff.",
        b"garbage",
        b"0.",
        b"\x80\x04K\x01b.",
        b"}}b.",
    ]
    for content in broken:
        with pytest.raises(
            PromptError, match=r"^(broken pickle \([^\n]*\)|the pickle holds a int[^\n]*), [^\n]*refs.p; [^\n]*$"
        ):
            list(unpickled(write(tmp_path / "refs.p", content), "refs.p"))


@given(data=st.binary(min_size=1, max_size=60))
def test_any_bytes_give_phrases_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.mktemp("pickle") / "a.p", data)
    problem = ""
    try:
        list(unpickled(path, "a.p"))
    except PromptError as error:
        problem = str(error)
    assert "\n" not in problem


def test_a_pickle_has_no_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "refs.p", pickle.dumps(REFS))
    with pytest.raises(PromptError, match="no column 'sent' in a format without columns"):
        list(read_prompts([str(path)], ReadOptions(column="sent")))
