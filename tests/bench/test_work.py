"""The folder that a run works in."""

from dataclasses import replace
from pathlib import Path

import pytest

from litetext.bench.rows import find_row
from litetext.bench.work import Inputs, Work
from litetext.errors import EncoderError, OptionError

TEXTS = ["red car", "white dog"]
PROMPTS = ("a file", TEXTS)


def test_what_was_begun_is_read_back(tmp_path: Path) -> None:
    work, inputs = Work(tmp_path / "work"), Inputs.of(prompts=PROMPTS)
    assert not work.used
    work.begin(inputs, TEXTS)
    assert work.used
    assert work.inputs() == inputs
    assert work.texts() == TEXTS
    work.begin(inputs, TEXTS)


def test_another_run_is_refused(tmp_path: Path) -> None:
    work, inputs = Work(tmp_path), Inputs.of(prompts=PROMPTS)
    work.begin(inputs, TEXTS)
    for changes in ({"preset": "s1"}, {"prompts": ("a file", TEXTS[:1])}, {"context_length": 8}):
        other = Inputs.of(**{"prompts": PROMPTS} | changes)
        with pytest.raises(OptionError, match="files of another run"):
            work.begin(other, TEXTS)


def test_files_of_another_version_are_refused(tmp_path: Path) -> None:
    inputs = Inputs.of(prompts=PROMPTS)
    Work(tmp_path).begin(replace(inputs, version="0"), TEXTS)
    with pytest.raises(OptionError, match="version '0', not"):
        Work(tmp_path).begin(inputs, TEXTS)


def test_a_student_that_was_written_anew_is_another(tmp_path: Path) -> None:
    student = tmp_path / "student.safetensors"
    student.write_bytes(b"one")
    before = Inputs.of(prompts=PROMPTS, student=str(student))
    student.write_bytes(b"other")
    assert Inputs.of(prompts=PROMPTS, student=str(student)) != before
    assert before.student_name == "student"
    assert Inputs.of(prompts=PROMPTS).student_name == "S0"


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OptionError, match="a folder with other files in it"):
        Work(tmp_path).begin(Inputs.of(prompts=PROMPTS), TEXTS)
    with pytest.raises(EncoderError, match="no such file"):
        Inputs.of(prompts=PROMPTS, student=str(tmp_path / "nowhere.pt"))
    with pytest.raises(OptionError, match="no student is called 'huge'"):
        Inputs.of(prompts=PROMPTS, preset="huge")
    with pytest.raises(OptionError, match="a preset beside a student"):
        Inputs.of(prompts=PROMPTS, student=str(tmp_path / "mine.txt"), preset="s1")
    with pytest.raises(OptionError, match="positions without a student"):
        Inputs.of(prompts=PROMPTS, positions="slice")
    (tmp_path / "inputs.json").write_text("{}")
    with pytest.raises(OptionError, match="not the inputs of a run"):
        Work(tmp_path).inputs()


def test_rows_that_share_steps_share_files() -> None:
    work = Work(Path("work"))
    names = {name: work.file(find_row(name)).name for name in ("folded", "onnx-fp32", "masked-onnx-fp32", "torch")}
    assert names == {
        "folded": "attended+fold.safetensors",
        "onnx-fp32": "attended+fold+onnx",
        "masked-onnx-fp32": "masked+fold+onnx",
        "torch": "attended.safetensors",
    }
