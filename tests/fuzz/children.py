"""Run something in a child process with limits of time and memory, and judge how it ended.

The child is a fork of this process, so that imports are paid for once. Hence nothing here may start threads before:
what does (polars, ONNX Runtime, PyTorch's kernels) runs in children only.
"""

import faulthandler
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CPU_SECONDS = 20  # of a child, after which it is said to hang
WALL_SECONDS = 120  # other work on the machine slows a child down; a hang that sleeps is rare
MEMORY = 10**9  # bytes of resident memory beyond what the child began with
ADDRESSES = 16 * 10**9  # bytes of address space beyond that: the machine survives what asks for more
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        status: exit status; minus the signal that ended it.
        output: standard output.
        errors: standard error.
        memory: the most resident bytes beyond those at the start.
        seconds: wall time.
    """

    status: int
    output: str
    errors: str
    memory: int
    seconds: float

    def fault(self) -> str:
        """What is wrong with the way it ended; nothing where it did the work or named a mistake in one line."""
        if self.memory > MEMORY:
            return f"memory: {self.memory / 1e9:.1f} GB"
        if self.status < 0:
            return "hang" if self.status == -signal.SIGXCPU else f"signal {-self.status}"
        if "Traceback (most recent call last)" in self.errors:
            return f"traceback: {self.errors.strip().splitlines()[-1][:200]}"
        if self.status not in (0, 1, 2):
            return f"exit status {self.status}"
        lines = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        if self.status and len(lines) != 1:
            return f"{len(lines)} error lines"
        unsafe = re.search("[\0-\x08\x0b-\x1f\x7f-\x9f]", self.output + self.errors)
        return f"control code {unsafe[0]!r} on the terminal" if unsafe else ""


def in_child(work: Callable[[], int | None], folder: Path, seconds: int = CPU_SECONDS) -> Ending:
    """Run ``work`` in a child process; its exit status is what it returns.

    Args:
        work: what to do; an exception that it raises is printed as Python does.
        folder: for two files with what it prints.
        seconds: of the processor, after which it is ended by SIGXCPU.
    """
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _work(work, folder, seconds)
    before, most = _resident(child), 0
    while True:
        done, status, _ = os.wait4(child, os.WNOHANG)
        if done:
            break
        most = max(most, _resident(child) - before)
        late = time.monotonic() - started > WALL_SECONDS
        if late or most > MEMORY:
            os.kill(child, signal.SIGKILL if most > MEMORY else signal.SIGXCPU)
        time.sleep(0.002 if time.monotonic() - started < 0.5 else 0.02)
    texts = [
        (folder / name).read_text("utf-8", "backslashreplace") if (folder / name).exists() else ""
        for name in ("stdout", "stderr")
    ]
    return Ending(os.waitstatus_to_exitcode(status), texts[0], texts[1], most, time.monotonic() - started)


def _work(work: Callable[[], int | None], folder: Path, seconds: int) -> None:
    status = 70
    try:
        for name, handle in (("stdout", 1), ("stderr", 2)):
            opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, handle)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (
            os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", closefd=False) for handle in (1, 2)
        )
        faulthandler.enable(sys.stderr)
        used = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, used + ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = int(work() or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent is to see it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
