"""Every command and Python block of the README and the tutorials works, in the order in which a reader meets them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from litetext.cli import distill_command, run
from tests.test_base_install import EXTRAS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]
SHELLS = ("", "sh", "bash", "shell", "console")

# What cannot be had here, or takes minutes, and what is taken instead.
REPLACED = {
    "facebook/sam3": "micro",
    "s0.pt": "micro-student",
    "gold_a.json gold_b.json gold_c.json": "world/gold.json world/gold.json world/gold.json",
    "--images metaclip": "--images world",
    "--count 20000": "--count 3100",
    "--teacher micro -o student": "--teacher micro -o student --epochs 1",
    "--student student/student.safetensors": "--student student/student.safetensors --pairs 6",
    "--pairs 300": "",
    "--pairs 60": "--pairs 12",
    "--student micro-student --model micro": "--student micro-student --model micro --pairs 4",
    "--clips 20": "--clips 1",
}
# The reader's own files, by what stands for them in a page.
GIVEN: dict[str, Callable[[], Any]] = {
    "names.txt": lambda: Path("names.txt").write_text("red car\nwhite dog\nzebra\n", encoding="utf-8"),
    "photos/": lambda: [
        run(["micro", "scene", "-o", f"photos/{seed}.png", "--seed", seed, "--split", "test"]) for seed in ("187", "7")
    ],
}
SETUP = ("make", "pip", "hf")  # set a machine up, and are not run
PROGRAMS = ("litetext", "printf", "cat")  # in a line of bash; another one is not run unseen
SKIPPED = {"litetext track --camera": "needs a camera"}
# What the extras that a page says to install bring, and from which step on it needs them ("": from the first).
SAM3, ONNX, VIDEO = ("torch", "torchvision", "transformers", "huggingface_hub", "scipy"), ("onnx",), ("av", "trackeval")
NEEDED = {
    "README.md": ("litetext bank", SAM3 + ONNX),
    "device.md": ("litetext bank", SAM3 + ONNX),
    "notebook.md": ("", ()),
    "research.md": ("litetext audit --student", SAM3),
    "video.md": ("", (*VIDEO, "scipy", "cv2")),
}
# Phrases with a mask afterwards, by the folder of `segment -o`.
FOUND = {
    "README.md": {"found": {"red car"}, "names": {"red car"}, "banked": {"red car"}},
    "device.md": {"found": {"red car"}, "found2": {"red car"}},
}


class Step(NamedTuple):
    """A shell command (continued lines are one), or a block of another language."""

    page: Path
    line: int  # from 1
    language: str  # "shell", or what stands behind the fence
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}: {self.text}"


def read_steps(page: Path) -> list[Step]:
    """The indented and fenced blocks of a page from top to bottom, those of shell command by command."""
    lines = page.read_text(encoding="utf-8").splitlines()
    numbered = zip(_languages(lines), enumerate(lines, 1), strict=True)
    steps = []
    for language, group in groupby(numbered, lambda one: one[0]):
        block = [line for _, line in group]
        if language in SHELLS:
            steps += _commands(page, block)
        elif language is not None:
            steps.append(Step(page, block[0][0], language, "\n".join(text for _, text in block)))
    return steps


def _languages(lines: list[str]) -> list[str | None]:
    """What each line is written in; None: prose."""
    found: list[str | None] = []
    fence = None
    for place, line in enumerate(lines):
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
            found.append(None)
        elif fence is None and line.startswith("    ") and (found[-1] == "" or not lines[place - 1].strip()):
            found.append("")
        else:
            found.append(fence)
    return found


def _commands(page: Path, block: list[tuple[int, str]]) -> list[Step]:
    found = []
    command, first = "", 0
    for number, text in block:
        first = first if command else number
        command = f"{command} {text.strip()}".lstrip()
        if command.endswith("\\"):
            command = command[:-1].rstrip()
            continue
        if command and not command.startswith("#"):
            found.append(Step(page, first, "shell", command))
        command = ""
    return found


def replaced(text: str) -> str:
    for old, new in REPLACED.items():
        text = text.replace(old, new)
    return text


def is_skipped(step: Step) -> bool:
    return step.text.split()[0] in SETUP or any(step.text.startswith(start) for start in SKIPPED)


def run_shell(text: str) -> int:
    """In this process where it is one command of ours, which is faster; else in bash."""
    words = shlex.split(text, comments=True)
    if words[0] == "litetext" and not re.search(r"[|;&<>$*?~]", re.sub(r"'[^']*'|\"[^\"]*\"|\s#.*", "", text)):
        return run(words[1:])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], env=os.environ | {"PATH": path}, check=False
    ).returncode


def follow(page: Path) -> None:
    """Do what a page says, in the current folder; in a process of its own, since it takes packages away."""
    steps = [step for step in read_steps(page) if not is_skipped(step)]
    for name, give in GIVEN.items():
        if any(name in step.text for step in steps):
            give()
    distill_command.KEPT_PAIRS = 6
    names: dict[str, Any] = {}
    start, packages = NEEDED[page.name]
    sys.modules.update(dict.fromkeys(EXTRAS))  # none of them can be imported
    for step in steps:
        if packages and step.text.startswith(start):
            for package in packages:
                del sys.modules[package]
            packages = ()
        if step.language == "shell":
            assert step.text.split()[0] in PROGRAMS, f"{step}: neither in PROGRAMS nor in SKIPPED"
            assert run_shell(replaced(step.text)) == 0, step
            continue
        assert step.language == "python", f"{step}: a block that this test does not run"
        exec(compile("\n" * (step.line - 1) + replaced(step.text), page, "exec"), names)
    assert packages == (), f"{page}: no step that starts with '{start}'"


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_step_of_a_page_works(page: Path, tmp_path: Path) -> None:
    for module in ("transformers", "onnx", "av"):
        pytest.importorskip(module)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.test_docs_run", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    for folder, phrases in FOUND.get(page.name, {}).items():
        report = json.loads((tmp_path / folder / "annotations.json").read_text(encoding="utf-8"))
        seen = {one["category_id"] for one in report["annotations"]}
        assert {one["name"] for one in report["categories"] if one["id"] in seen} == phrases, folder
    if page.name == "video.md":  # it shows what `litetext track` prints
        shown = [row for row in cells(page.read_text(encoding="utf-8"), "|") if row[1].isdigit()]
        assert len(shown) == 3
        assert [row for row in shown if row not in cells(done.stdout, "│")] == []


def cells(text: str, bar: str) -> list[list[str]]:
    """The rows of a table."""
    return [
        [cell.strip() for cell in line.strip()[1:-1].split(bar)] for line in text.splitlines() if line.startswith(bar)
    ]


def test_each_exception_is_used() -> None:
    texts = [step.text for page in PAGES for step in read_steps(page)]
    unused = [old for old in (*REPLACED, *GIVEN) if not any(old in text for text in texts)]
    unused += [start for start in SKIPPED if not any(text.startswith(start) for text in texts)]
    assert unused == []


def test_how_a_page_is_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "A page\n    not code\n\n    litetext a \\\n        --b 1\n    litetext c  # why\n\n"
        "```bash\n# a comment\nd | litetext e\n\nf\n```\n- item\n```python\nx = 1\n\ny = 2\n```\n```toml\nz = 3\n```\n",
        encoding="utf-8",
    )
    assert [step[1:] for step in read_steps(page)] == [
        (4, "shell", "litetext a --b 1"), (6, "shell", "litetext c  # why"), (10, "shell", "d | litetext e"),
        (12, "shell", "f"), (16, "python", "x = 1\n\ny = 2"), (21, "toml", "z = 3"),
    ]  # fmt: skip


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
