"""Runs `litetext embed` in processes of their own and kills them; prints one JSON object.

    python -m tests.distillation.killing FOLDER ARGUMENT ...

Each run is a fork of this process, which has imported everything once. Run number n is killed with SIGKILL just before
its n-th step that makes a file durable: the temporary file is there by then, half or whole. Or it is killed from
outside, when a file appears. Then the command runs again, to the end.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litetext.cli import run

Step = Callable[..., Any]


def deadly(step: Step, countdown: list[int], half: bool) -> Step:
    """The step, or death in its place when the countdown is over."""

    def do(*arguments: Any) -> Any:
        if countdown[0] == 0:
            if half:
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        countdown[0] -= 1
        return step(*arguments)

    return do


def run_and_die(arguments: list[str], steps: int | None) -> int:
    """Fork, run the command, die at a step; the status as `os.waitpid` gives it."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if steps is not None:
            countdown = [steps]
            os.fsync = deadly(os.fsync, countdown, half=True)
            Path.replace = deadly(Path.replace, countdown, half=False)
            Path.unlink = deadly(Path.unlink, countdown, half=False)
        os._exit(run(arguments))
    return os.waitpid(child, 0)[1]


def run_and_kill(arguments: list[str], file: Path) -> int:
    """Fork, run the command, kill it from outside as soon as a file appears."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(run(arguments))
    while not file.exists():
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def listed(folder: Path) -> list[str]:
    path = folder / "manifest.json"
    return list(json.loads(path.read_text())["shards"]) if path.exists() else []


def nodes_of(folder: Path, names: list[str]) -> list[int]:
    return [(folder / name).stat().st_ino for name in names]


def go_on(folder: Path, status: int, arguments: list[str], whole: dict[str, bytes]) -> dict[str, Any]:
    """What the killed run left, and what comes of it when the command runs again."""
    kept, left = listed(folder), sorted(files(folder))
    nodes = nodes_of(folder, kept)
    after = run_and_die(arguments, None)
    return {
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
        "left": left,
        "kept": len(kept),
        "not_written_again": nodes_of(folder, kept) == nodes,
        "status": after,
        "same": files(folder) == whole,
    }


def main() -> None:
    root, arguments = Path(sys.argv[1]), sys.argv[2:]
    command = [*arguments, "-o", str(root / "whole")]
    with contextlib.redirect_stdout(sys.stderr):
        assert run(command) == 0  # here, so that no fork has to import or read the vocabulary again
    whole = files(root / "whole")
    outside = []
    for name in sorted(whole):
        folder = root / f"outside {name}"
        command = [*arguments, "-o", str(folder)]
        status = run_and_kill(command, folder / name)
        run_and_die(command, 3)  # and the run that goes on is killed as well
        outside.append(go_on(folder, status, command, whole))
    inside: list[dict[str, Any]] = []
    while not inside or inside[-1]["killed"]:
        folder = root / f"inside {len(inside)}"
        command = [*arguments, "-o", str(folder)]
        inside.append(go_on(folder, run_and_die(command, len(inside)), command, whole))
    sys.stdout.write(json.dumps({"whole": sorted(whole), "inside": inside, "outside": outside}))


if __name__ == "__main__":
    main()
