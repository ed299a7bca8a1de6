"""Jobs for processes of their own: what is to be done, and how the answer comes back."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from litetext.errors import LiteTextError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "true"}
WORKER = "litetext.bench.worker"
SLOWEST = 3600  # seconds after which a process is given up
MISTAKE = "error: "  # begins the last line of what a job that cannot be done writes
Kind = Literal["prepare", "reference", "measure", "peak"]


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        kind: "prepare": make the files; "reference": keep the features for others to be compared with; "measure": time,
            memory and, if asked, exactness; "peak": how fast the machine multiplies matrices.
        folder: the work folder.
        row: the name of the row; "" for "peak".
        threads: to compute with.
        batches: phrases of a call, size by size.
        seconds: to spend on each size.
        seed: of the order of the phrases.
        phrases: to compare, or to keep.
    """

    kind: Kind
    folder: str
    row: str = ""
    threads: int = 1
    batches: tuple[int, ...] = ()
    seconds: float = 1.0
    seed: int = 0
    phrases: int = 0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"batches": tuple(values["batches"])})

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


class JobError(LiteTextError):
    """Why a job could not be done: a reason for the table, not an end of the run."""


def run_job(job: Job) -> dict[str, Any]:
    """Do a job in a fresh process with as many threads as it says, and give its answer.

    Raises:
        JobError: it could not be done.
    """
    command = [sys.executable, "-m", WORKER, job.to_json()]
    environment = os.environ | dict.fromkeys(THREADS, str(job.threads)) | QUIET
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, check=False, env=environment, timeout=SLOWEST
        )
    except subprocess.TimeoutExpired as error:
        raise JobError(f"not done after {SLOWEST} seconds") from error
    if done.returncode:
        raise JobError(_reason(done.returncode, done.stderr))
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _reason(status: int, told: str) -> str:
    """Why a process ended with a status: its last line, or the signal that ended it."""
    if status < 0:
        hint = ", as the system does when memory runs out" if -status == signal.SIGKILL else ""
        return f"ended by {signal.Signals(-status).name}{hint}"
    lines = told.strip().splitlines() or [f"exit status {status}"]
    return lines[-1].removeprefix(MISTAKE)
