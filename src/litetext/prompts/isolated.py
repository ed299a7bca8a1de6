"""Binary formats are read in a process of their own: it may run out of memory, or abort, and only the source fails.

A Parquet file of a kilobyte can unpack to gigabytes, and polars ends the process where an allocation fails. So each
such file is read by a child (which takes 0.2 s to start) under a limit of memory; it sends back phrases.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from litetext.errors import MissingExtraError, PromptError
from litetext.prompts.opening import Opened, ReadOptions, on_disk

MEMORY = 2**30  # bytes that reading any file may take
MEMORY_PER_BYTE = 32  # and more for each of its bytes: a RefCOCO pickle takes 6, Parquet of captions about 10

_BATCH = 10_000  # phrases in a message
_THREADS = "4"  # of polars: each reserves address space, which is what the limit counts
_ROOT = str(Path(__file__).parents[2])
_START = f"import sys; sys.path.append({_ROOT!r}); from litetext.prompts.isolated import answer; answer(sys.argv[1])"


def read_isolated(kind: str, opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The phrases of a file with their counts, all of them in memory; what was guessed goes to the source's notes.

    The kind is ``parquet``, ``arrow`` (IPC file or stream) or ``pickle``.

    Raises:
        MissingExtraError: Parquet or Arrow, and polars, which reads them in 180 MB, is not installed.
    """
    if kind != "pickle" and find_spec("polars") is None:
        raise MissingExtraError("reading Parquet and Arrow", "formats")
    with on_disk(opened) as path:
        allowed = MEMORY + MEMORY_PER_BYTE * path.stat().st_size
        request = [kind, str(path.absolute()), opened.where, allowed, [None, options.column, options.count_column]]
        done = subprocess.run(  # noqa: S603 - this program itself
            # -P: nothing is imported from the user's folder
            [sys.executable, "-P", "-c", _START, json.dumps(request)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "POLARS_MAX_THREADS": _THREADS, "RUST_BACKTRACE": "0"},
            check=False,
        )
    if done.returncode == 1:
        raise RuntimeError(done.stderr.decode("utf-8", "replace"))
    if done.returncode != 0:
        raise _too_large(opened.where, allowed)
    for line in done.stdout.splitlines():
        name, *values = json.loads(line)
        if name == "error":
            raise PromptError(values[0], where=values[1], hint=values[2])
        if name == "notes":
            opened.notes.extend(values)
        else:
            yield from zip(*values, strict=True)


def _too_large(where: str, allowed: int) -> PromptError:
    what = f"to unpack it takes more than {allowed // 2**20} MiB of memory, or its bytes are damaged"
    return PromptError(what, where=where, hint="write the phrases to a text file, one a line")


def answer(request: str) -> None:
    """What the child does: write phrases, notes or an error to standard output, a line of JSON each."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it too, in silence
    kind, path, where, allowed, options = json.loads(request)
    notes: list[str] = []
    try:
        if kind == "pickle":
            from litetext.prompts.pickles import unpickled

            _limit(allowed)
            rows = unpickled(Path(path), where)
        else:
            from litetext.prompts.columnar import read_frame, start_threads

            start_threads()
            _limit(allowed)
            rows = read_frame(kind, Path(path), ReadOptions(*options), where, notes)
        while batch := list(islice(rows, _BATCH)):
            _write("phrases", *zip(*batch, strict=True))
        _write("notes", *notes)
    except PromptError as error:
        _write("error", error.what, error.where, error.hint)
    except MemoryError:
        problem = _too_large(where, allowed)
        _write("error", problem.what, problem.where, problem.hint)


def _limit(allowed: int) -> None:
    """Let this process map no more than so many bytes beyond what it has; not where the system has no such limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = pages * resource.getpagesize() + allowed
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _write(*values: Any) -> None:
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()
