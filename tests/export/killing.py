"""Exports in forks of this process, kills them with SIGKILL before each step, and prints one JSON object.

    python -m tests.export.killing FOLDER

A step moves a file or folder or removes one; after one is before the next.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litetext import storage
from litetext.encoders.student import StudentEncoder
from litetext.errors import LiteTextError
from litetext.export import exporter as exporting
from litetext.export.bundle import open_bundle
from litetext.export.exporter import export_student
from tests.export.serving import PHRASES, pruned

STEPS = ((Path, "replace"), (Path, "rename"), (storage, "_exchange"), (shutil, "rmtree"))


def export(target: Path, name: str) -> None:
    export_student(StudentEncoder(pruned("masked"), name), target, PHRASES[:2])


def deadly(step: Callable[..., Any], countdown: list[int]) -> Callable[..., Any]:
    """The step, with death before it when the countdown is over."""

    def do(*arguments: Any, **options: Any) -> Any:
        countdown[0] -= 1
        if countdown[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **options)

    return do


def run_and_die(target: Path, name: str, steps: int, can_exchange: bool) -> bool:
    """Whether it was killed."""
    child = os.fork()
    if child == 0:
        if not can_exchange:
            storage._exchange = lambda *_: False
        countdown = [steps]
        for owner, step in STEPS:
            setattr(owner, step, deadly(getattr(owner, step), countdown))
        export(target, name)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def write_little(student: object, folder: Path, options: object) -> str:
    """A program of two files that nobody runs."""
    for name in ("model.onnx", "model.onnx.data"):
        (folder / name).write_bytes(b"program")
    return "model.onnx"


def found(target: Path) -> str:
    """Which export is there, whole; "none" or "broken" if none is."""
    try:
        return open_bundle(target).name if target.exists() else "none"
    except LiteTextError:
        return "broken"


def main() -> None:
    root, told = Path(sys.argv[1]), []
    for can_exchange in (True, False):
        steps, killed = 0, True
        while killed:
            folder = root / f"{can_exchange} {steps}"
            shutil.copytree(root / "old", folder / "target")
            killed = run_and_die(folder / "target", "new", steps, can_exchange)
            left = found(folder / "target")
            again = run_and_die(folder / "target", "newer", 10**9, can_exchange)
            after = found(folder / "target")
            names = sorted(path.name for path in folder.iterdir())
            run = {"exchange": can_exchange, "killed": killed, "left": left, "after": after, "names": names}
            told.append({**run, "again": again})
            steps += 1
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    # Once, before the forks.
    import torch

    from litetext.export.targets import onnx
    from litetext.tokenizer.pruned import kept_tokens

    torch.set_num_threads(1)
    # They take long, and move nothing.
    exporting.open_engine = exporting.compare_with_program = lambda *_: None
    onnx.write = write_little
    kept_tokens(pruned("masked").config.kept or "").tokenizer.encode(PHRASES)
    export(Path(sys.argv[1]) / "old", "old")
    main()
