"""The log of a run, cut at every byte: what is whole is kept, what is half is done again, nothing is doubled."""

from pathlib import Path
from typing import Any

import pytest

from litetext.errors import OutputError
from litetext.resume_log import ResumeLog

RUN = {"model": "\u00e9", "threshold": "0.5"}
ITEMS = [{"name": "a", "found": [0.9, "n\u00e9\n"]}, {"name": "b", "found": []}, {"name": "c", "found": [0.75]}]


def make_log(path: Path, run: Any = RUN) -> ResumeLog:
    return ResumeLog(path, "a tool", run, "give another file")


@pytest.fixture
def log(tmp_path: Path) -> ResumeLog:
    return make_log(tmp_path / "deep" / "log")


def recover(log: ResumeLog) -> int:
    """The items that are there, in their order."""
    expected = iter(ITEMS)
    return log.recover(lambda item: item == next(expected, None))


def whole(log: ResumeLog) -> bytes:
    for item in ITEMS:
        log.append(item)
    return log.path.read_bytes()


def test_cut_at_every_byte_it_resumes(log: ResumeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _file: None)
    assert recover(log) == 0
    content = whole(log)
    assert list(log.items()) == ITEMS
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        log.path.write_bytes(content[:length])
        finished = recover(log)
        assert finished == max(sum(end <= length for end in ends) - 1, 0)
        for item in ITEMS[finished:]:
            log.append(item)
        assert log.path.read_bytes() == content


def test_cut_twice(log: ResumeLog) -> None:
    content = whole(log)
    lines = content.splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:2]) + lines[2][:5])
    assert recover(log) == 1
    log.append(ITEMS[1])
    log.path.write_bytes(log.path.read_bytes() + lines[3][:-1])  # all but the end of its line
    assert recover(log) == 2
    assert log.path.read_bytes() == b"".join(lines[:3])


@pytest.mark.parametrize(
    "line",
    [b"\0" * 20 + b"\n", b"[]\n", b"3\n", b"\xff\n", b"[" * 9999 + b"\n", b'{"name": NaN}\n', b'{"name": "a"}\n'],
)
def test_from_a_damaged_line_on_all_is_done_again(log: ResumeLog, line: bytes) -> None:
    lines = whole(log).splitlines(keepends=True)
    log.path.write_bytes(b"".join([*lines[:2], line, lines[3]]))
    assert recover(log) == 1
    assert log.path.read_bytes() == b"".join(lines[:2])


def test_an_item_that_cannot_be_read_ends_the_recovery(log: ResumeLog) -> None:
    whole(log)
    assert log.recover(lambda item: bool(item["found"][0])) == 1


@pytest.mark.parametrize(
    ("run", "fact"),
    [
        ({**RUN, "threshold": "0.1"}, "threshold was 0.5, and is 0.1 now"),
        ({**RUN, "text": "s0"}, "text was not given, and is s0 now"),
        ({"model": "\u00e9"}, "threshold was 0.5, and is not given now"),
    ],
)
def test_the_log_of_another_run_is_left_alone(log: ResumeLog, run: dict[str, str], fact: str) -> None:
    content = whole(log)
    with pytest.raises(OutputError, match=f"{fact}, .*log; give another file"):
        recover(make_log(log.path, run))
    assert log.path.read_bytes() == content


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a tool": 3}\n', b'{"a tool": \n'])
def test_what_is_no_log_is_left_alone(log: ResumeLog, content: bytes) -> None:
    log.path.parent.mkdir()
    log.path.write_bytes(content)
    with pytest.raises(OutputError, match=r"not a log of `a tool`, .*log; give another file"):
        recover(log)
    assert log.path.read_bytes() == content


def test_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", {"model": "caf\udce9"})
    whole(log)
    assert recover(log) == 3
