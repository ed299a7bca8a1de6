"""A lock on a folder, so that no two processes write it at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litetext.errors import CacheError


@contextmanager
def only_writer(path: Path, what: str) -> Iterator[None]:
    """Make the folder and lock it against a second writer; the system takes the lock back when the process dies.

    Args:
        path: the folder.
        what: what it is, for the error ("this cache").

    Raises:
        CacheError: another process writes there, or it cannot be a folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise CacheError(f"no folder can be made ({said})", where=str(path), mend="give another") from error
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise CacheError(f"another process writes {what}", where=str(path), mend="wait for it") from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)
