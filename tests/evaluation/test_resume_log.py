"""The journal, cut at every byte: what is whole is kept, what is half is done again, nothing is doubled."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pycocotools")
from litetext.errors import EvaluationError
from litetext.evaluation import resume_log as module
from litetext.evaluation.resume_log import Journal

RUN = {"model": "é", "threshold": "0.5"}
PICTURES: dict[str, list[dict[str, Any]]] = {
    "a.png": [{"image_id": 1, "score": 0.9}, {"image_id": "né\n", "score": 0.1}],
    "b.png": [],
    "c.png": [{"image_id": 3, "score": 0.75}],
}
NAMES = list(PICTURES)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "deep" / "found.json", RUN)


def go_on(journal: Journal) -> int:
    """From where it is to the end; how many pictures were there."""
    finished = journal.recover(NAMES)
    for name in NAMES[finished:]:
        journal.append(name, PICTURES[name])
    journal.finish(NAMES)
    return finished


def whole(journal: Journal) -> bytes:
    """The journal with all pictures, not finished."""
    for name in NAMES:
        journal.append(name, PICTURES[name])
    return journal.path.read_bytes()


def test_from_beginning_to_end(journal: Journal) -> None:
    assert not journal.is_complete()
    assert go_on(journal) == 0
    assert json.loads(journal.output.read_bytes()) == [one for some in PICTURES.values() for one in some]
    assert len(journal.output.read_text(encoding="utf-8").splitlines()) == 2 + 3  # one a line
    assert journal.is_complete()
    assert sorted(path.name for path in journal.output.parent.iterdir()) == ["found.json", "found.json.run"]


def test_cut_at_every_byte_it_goes_on(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _file: None)
    content = whole(journal)
    go_on(journal)
    expected = journal.output.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        for path in (journal.output, journal.seal):
            path.unlink()
        journal.path.write_bytes(content[:length])
        assert go_on(journal) == max(sum(end <= length for end in ends) - 1, 0)
        assert journal.output.read_bytes() == expected
        assert not journal.path.exists()


def test_cut_twice(journal: Journal) -> None:
    content = whole(journal)
    lines = content.splitlines(keepends=True)
    journal.path.write_bytes(b"".join(lines[:2]) + lines[2][:5])
    assert journal.recover(NAMES) == 1
    journal.append("b.png", PICTURES["b.png"])
    journal.path.write_bytes(journal.path.read_bytes() + lines[3][:-1])  # all but the end of its line
    assert journal.recover(NAMES) == 2
    assert journal.path.read_bytes() == b"".join(lines[:3])


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 20 + b"\n",
        b"[]\n",
        b"{}\n",
        b"3\n",
        b"\xff\n",
        b'{"picture": "b.png"}\n',
        b'{"picture": "b.png", "predictions": 3}\n',
        b'{"picture": "a.png", "predictions": []}\n',
    ],
)
def test_from_a_damaged_line_on_all_is_done_again(journal: Journal, line: bytes) -> None:
    lines = whole(journal).splitlines(keepends=True)
    journal.path.write_bytes(b"".join([*lines[:2], line, lines[3]]))
    assert journal.recover(NAMES) == 1
    assert journal.path.read_bytes() == b"".join(lines[:2])


def test_the_journal_of_another_run(journal: Journal, tmp_path: Path) -> None:
    content = whole(journal)
    other = Journal(journal.output, {**RUN, "threshold": "0.1"})
    message = (
        r"another run: threshold was 0.5, and is 0.1 now, .*found.json.journal; go on with the options of that run"
    )
    with pytest.raises(EvaluationError, match=message):
        other.recover(NAMES)
    more = Journal(journal.output, {**RUN, "text": "s0"})
    with pytest.raises(EvaluationError, match="text was not said, and is s0 now"):
        more.recover(NAMES)
    with pytest.raises(EvaluationError, match=r"threshold was 0.5, and is not said now"):
        Journal(journal.output, {"model": "é"}).recover(NAMES)
    assert journal.path.read_bytes() == content  # left alone


@pytest.mark.parametrize(
    "content",
    [b"my notes", b"my notes\n", b'{"litetext predictions": 3}\n', b'{"litetext predictions": \n'],
)
def test_what_is_no_journal(journal: Journal, content: bytes) -> None:
    journal.path.parent.mkdir()
    journal.path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"not a journal of predictions, .*found.json.journal; .*another --pred"):
        journal.recover(NAMES)
    assert journal.path.read_bytes() == content


def test_finished_predictions_of_another_run_are_not_overwritten(journal: Journal) -> None:
    go_on(journal)
    with pytest.raises(EvaluationError, match=r"model was é, and is other now, .*found.json; give another --pred"):
        Journal(journal.output, {**RUN, "model": "other"}).is_complete()
    journal.output.write_text("[]", encoding="utf-8")
    with pytest.raises(EvaluationError, match="predictions that were changed since"):
        journal.is_complete()
    for seal in ("{", "[]", "{}", '{"run": 3, "predictions": ""}', '{"run": "text", "predictions": ""}'):
        journal.seal.write_text(seal, encoding="utf-8")
        with pytest.raises(EvaluationError, match="predictions are there already, of an unknown run"):
            journal.is_complete()
    journal.seal.unlink()
    with pytest.raises(
        EvaluationError, match=r"unknown run, .*found.json; give another --pred, move it away, or leave"
    ):
        journal.is_complete()


def test_a_file_where_the_seal_would_be_is_not_overwritten(journal: Journal) -> None:
    journal.output.parent.mkdir()
    journal.seal.write_text("my notes", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"would be overwritten, .*found.json.run"):
        journal.is_complete()


def test_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "found.json", {"model": "caf\udce9"})
    assert go_on(journal) == 0
    assert journal.is_complete()


@pytest.mark.parametrize("step", ["before the predictions", "before their seal", "before the journal goes"])
def test_stopped_while_it_finishes(journal: Journal, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    whole(journal)
    with monkeypatch.context() as patch:
        if step == "before the journal goes":
            patch.setattr(Path, "unlink", stop)
        else:
            patch.setattr(module, "write_text" if step == "before their seal" else "atomic_file", stop)
        with pytest.raises(KeyboardInterrupt):
            journal.finish(NAMES)
    assert not journal.is_complete()
    assert go_on(journal) == 3
    assert journal.is_complete()
    assert [one["image_id"] for one in json.loads(journal.output.read_bytes())] == [1, "né\n", 3]


@pytest.mark.parametrize("extra", ["a.png", "c.png"])
def test_a_second_process_doubles_nothing(journal: Journal, extra: str) -> None:
    journal.append("a.png", PICTURES["a.png"])
    if extra == "a.png":
        journal.append(extra, PICTURES[extra])
    for name in NAMES[1:]:
        journal.append(name, PICTURES[name])
    if extra == "c.png":
        journal.append(extra, PICTURES[extra])
    with pytest.raises(EvaluationError, match=r"the journal was changed meanwhile, .*one process at a time"):
        journal.finish(NAMES)
    assert not journal.output.exists()
    assert go_on(journal) == (1 if extra == "a.png" else 3)
    assert [one["image_id"] for one in json.loads(journal.output.read_bytes())] == [1, "né\n", 3]


def test_without_pictures(journal: Journal) -> None:
    assert journal.recover([]) == 0
    journal.finish([])
    assert json.loads(journal.output.read_bytes()) == []
    assert journal.is_complete()
