import json
import stat
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext import storage
from litetext.errors import LiteTextError, OutputError, printable
from litetext.storage import (
    atomic_file,
    atomic_folder,
    check_output,
    checksum,
    fingerprint,
    inside,
    only_writer,
    to_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_second_writer_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        with pytest.raises(OutputError, match=str(path)):
            write_text(path, "second")
        file.write(b"first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    run = only_writer(tmp_path / "run", "this run")
    with only_writer(tmp_path / "run", "this run"), pytest.raises(OutputError, match="this run"), run:
        pass
    journal = only_writer(tmp_path / "deep" / "journal", "it", folder=False)
    with only_writer(tmp_path / "deep" / "journal", "it", folder=False), pytest.raises(OutputError, match="writes it"):
        journal.__enter__()


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.partial").write_text("a longer half than what comes now")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    (tmp_path / ".b.partial" / "deep").mkdir(parents=True)
    with new_folder(tmp_path / "b") as work:
        assert list(work.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b"]


def new_folder(target: Path) -> AbstractContextManager[Path]:
    return atomic_folder(target, is_ours=lambda path: (path / "mark").is_file())


def stop(target: Path) -> None:
    with new_folder(target) as work:
        (work / "half").write_text("x")
        raise LiteTextError("stop")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(storage, "_exchange", lambda _first, _second: False)
    target = tmp_path / "deep" / "target"
    with pytest.raises(LiteTextError):
        stop(target)
    assert list((tmp_path / "deep").iterdir()) == []
    for text in ("old", "new"):
        with new_folder(target) as work:
            (work / "mark").write_text(text)
        with pytest.raises(LiteTextError):
            stop(target)
        assert (target / "mark").read_text() == text
        assert list((tmp_path / "deep").iterdir()) == [target]


def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    """So that a kill can never come between two renames."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not storage._exchange(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot let two folders change places")
    assert (tmp_path / "one" / "two").exists()
    assert (tmp_path / "two" / "one").exists()


def test_a_folder_between_two_renames_is_put_back(tmp_path: Path) -> None:
    """What a kill leaves where the system cannot exchange folders."""
    for name in (".t.old", ".t.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mark").write_text(name)
    with pytest.raises(LiteTextError):
        stop(tmp_path / "t")
    assert (tmp_path / "t" / "mark").read_text() == ".t.old"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_an_old_folder_that_was_left_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves after the second of two renames."""
    monkeypatch.setattr(storage, "_exchange", lambda _first, _second: False)
    for name in (".t.old", "t"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mark").write_text(name)
    with new_folder(tmp_path / "t") as work:
        (work / "mark").write_text("new")
    assert (tmp_path / "t" / "mark").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_what_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("precious")
    with pytest.raises(OutputError, match="something else is there"), new_folder(tmp_path):
        pass
    assert (tmp_path / "photo.jpg").read_text() == "precious"


def test_outputs_are_refused_before_the_work(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    (tmp_path / "link").symlink_to(file)
    check_output(file)
    check_output(folder, folder=True, inputs=[file])
    check_output(tmp_path / "not" / "yet", folder=True)
    for path, options in (
        (folder, {}),
        (file, {"folder": True}),
        (tmp_path / "link", {"inputs": [file]}),
        (folder / ".." / "file", {"inputs": [file]}),
        (file / "below", {}),
    ):
        with pytest.raises(OutputError, match=path.name if path.name != "below" else "file"):
            check_output(path, **options)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b", "..", "a\\..\\b", "a\0b"])
def test_names_that_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="not one within"):
        inside(Path("folder"), name)


def test_names_within_the_folder() -> None:
    assert inside(Path("folder"), "a/b..c.png") == Path("folder/a/b..c.png")


def test_a_checksum_sees_bytes_names_and_borders(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"3")
    found = {checksum(tmp_path, names) for names in (["a", "b"], ["b", "a"], ["a"])}
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"23")
    found |= {checksum(tmp_path, ["a", "b"])}
    (tmp_path / "a").write_bytes(b"0")
    found |= {checksum(tmp_path, ["a", "b"])}
    assert len(found) == 5


def test_printable_text() -> None:
    assert printable("a\x1b[31mb\x9b2J\udcff\u202e\n\té") == "a\\x1b[31mb\\x9b2J\\udcff\\u202e\n\té"
    assert "\x1b" not in str(LiteTextError("x", where="a\x1b]0;title\x07"))
    assert len(str(LiteTextError("x", where="y" * 10_000))) < 1000
    value = {"a\x1b\x9b": "\udcff"}
    assert printable(to_json(value)) == to_json(value)
    assert json.loads(to_json(value)) == value
    to_json(value).encode()


def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "b.txt").stat().st_mode)


def test_json_refuses_nan() -> None:
    assert to_json({"a": "é"}) == '{\n  "a": "é"\n}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprints_differ_where_parts_differ(first: list[str], second: list[str]) -> None:
    assert (fingerprint(first) == fingerprint(second)) == (first == second)


def test_fingerprint_known_answer() -> None:
    assert fingerprint([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert fingerprint(["ab"]) != fingerprint(["a", "b"])
