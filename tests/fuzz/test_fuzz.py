"""A short slice of `make fuzz`, the same each time; and that the harness sees each kind of fault."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
from tests.fuzz.children import in_child
from tests.fuzz.fuzzing import Fuzzer
from tests.fuzz.subjects import SUBJECTS

SLICE = 6


@pytest.mark.parametrize("kind", SUBJECTS)
def test_damaged_files_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    fuzzer = Fuzzer(kind, tmp_path / "work", tmp_path / "kept")
    faults = {seed: result.fault for seed in range(SLICE) if (result := fuzzer.try_one(seed)).fault}
    assert faults == {}


def say(text: str, status: int = 1) -> Callable[[], int]:
    def work() -> int:
        sys.stderr.write(text)
        return status

    return work


def hang() -> int:
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (say("", 0), ""),
        (say("warning: x\nerror: one line\n"), ""),
        (say(""), "0 error lines"),
        (say("error: a\nerror: b\n"), "2 error lines"),
        (say("error: \x1b[2J\n"), "control code"),
        (say("", 3), "exit status 3"),
        (lambda: 1 // 0, "traceback: ZeroDivisionError"),
        (lambda: os.kill(os.getpid(), 9), "signal 9"),
        (hang, "hang"),
        (lambda: len(bytearray(os.urandom(1)) * 1_200_000_000) * 0, "memory"),
    ],
)
def test_the_harness_sees_faults(work: Callable[[], int], fault: str, tmp_path: Path) -> None:
    found = in_child(work, tmp_path, seconds=2 if work is hang else 20).fault()  # a busy machine allocates slowly
    assert found.startswith(fault)
    assert bool(found) == bool(fault)
