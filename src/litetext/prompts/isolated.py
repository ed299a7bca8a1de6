"""Binary formats are read in a process of their own: it may run out of memory, or abort, and only the source fails.

A Parquet file of a kilobyte can unpack to gigabytes, and polars ends the process where an allocation fails. So one
child, started for the first such file and kept for the next, reads under a limit of memory and sends back phrases.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from litetext.errors import PromptError
from litetext.prompts.opening import Opened, ReadOptions, on_disk

MEMORY = 2**30  # bytes that reading any file may take
MEMORY_PER_BYTE = 32  # and more for each of its bytes: a RefCOCO pickle takes 6, Parquet of captions about 10

_BATCH = 10_000  # phrases in a message
_THREADS = "4"  # of polars: each reserves address space, which is what the limit counts
_ROOT = str(Path(__file__).parents[2])
_START = f"import sys; sys.path.append({_ROOT!r}); from litetext.prompts.isolated import serve; serve()"


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    replies: IO[bytes]
    errors: IO[bytes]  # a file, since nobody would empty a pipe


_children: list[_Child] = []  # at most one
_lock = threading.Lock()


def read_isolated(kind: str, opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The phrases of a file with their counts, all of them in memory; what was guessed goes to the source's notes.

    Args:
        kind: ``parquet``, ``arrow`` (IPC file or stream) or ``pickle``.
        opened: the source.
        options: the columns, where they are not to be guessed.

    Raises:
        PromptError: the reader's own, or it needs more memory than it may have.
    """
    with on_disk(opened) as path, _lock:
        allowed = MEMORY + MEMORY_PER_BYTE * path.stat().st_size
        child = _running()
        try:
            request = [kind, str(path.absolute()), opened.where, allowed, [None, options.column, options.count_column]]
            found = _ask(child, request, opened.notes)
        except PromptError:
            raise  # the answer was complete
        except BaseException:
            _end()
            raise
        if found is None:
            raise _ended(child, opened.where, allowed)
    for texts, counts in found:
        yield from zip(texts, counts, strict=True)


def _ask(child: _Child, request: list[Any], notes: list[str]) -> list[tuple[list[str], list[int]]] | None:
    """The phrases of the answer; None: the child ended before it was complete."""
    with suppress(BrokenPipeError):
        child.requests.write(json.dumps(request).encode() + b"\n")
        child.requests.flush()
    found: list[tuple[list[str], list[int]]] = []
    for line in child.replies:
        name, *values = json.loads(line)
        if name == "error":
            raise PromptError(values[0], where=values[1], hint=values[2])
        if name == "end":
            notes.extend(values[0])
            return found
        found.append((values[0], values[1]))
    return None


def _ended(child: _Child, where: str, allowed: int) -> Exception:
    """The error for a child that ended; a mistake of its own code is passed on."""
    status = child.process.wait()
    child.errors.seek(0)
    message = child.errors.read()
    _end()
    return RuntimeError(message.decode("utf-8", "replace")) if status == 1 else _too_large(where, allowed)


def _too_large(where: str, allowed: int) -> PromptError:
    what = f"to unpack it takes more than {allowed // 2**20} MiB of memory, or its bytes are damaged"
    return PromptError(what, where=where, hint="write the phrases to a text file, one a line")


def _running() -> _Child:
    if _children and _children[0].process.poll() is not None:
        _end()
    if not _children:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child runs
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-P", "-c", _START],  # -P: nothing is imported from the user's folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "POLARS_MAX_THREADS": _THREADS, "RUST_BACKTRACE": "0"},
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101 - pipes, as asked for
        _children.append(_Child(process, process.stdin, process.stdout, errors))
    return _children[0]


def _end() -> None:
    """End the child, if there is one."""
    while _children:
        child = _children.pop()
        child.process.kill()
        with suppress(BrokenPipeError):
            child.process.communicate()
        child.errors.close()


def _forget() -> None:
    """In a copy of this process: the child belongs to the original."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    while _children:
        _children.pop().process.returncode = 0


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def serve() -> NoReturn:
    """What the child does: answer one request after another, until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it too, in silence
    with suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            _answer(*json.loads(line))
    sys.exit(0)


def _answer(kind: str, path: str, where: str, allowed: int, options: list[str | None]) -> None:
    from litetext.prompts.binary import read_frame, start_threads, unpickled

    notes: list[str] = []
    if kind != "pickle":
        start_threads()
    _limit(allowed)
    try:
        if kind == "pickle":
            rows = unpickled(Path(path), where)
        else:
            rows = read_frame(kind, Path(path), ReadOptions(*options), where, notes)
        while batch := list(islice(rows, _BATCH)):
            _reply("phrases", *zip(*batch, strict=True))
        _reply("end", notes)
    except PromptError as error:
        _reply("error", error.what, error.where, error.hint)
    except MemoryError:
        problem = _too_large(where, allowed)
        _reply("error", problem.what, problem.where, problem.hint)


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


def _reply(*values: Any) -> None:
    sys.stdout.buffer.write(json.dumps(values).encode() + b"\n")
    sys.stdout.buffer.flush()
