"""Memory of this very process."""

import ctypes
import gc
import os
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Resident memory after a collection of garbage; None where the system does not say it (Linux does).

    Pages of a mapped file count from the moment when they are first touched.
    """
    if not _STATM.exists():
        return None
    gc.collect()
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Give freed memory back to the system where its C library can: nothing that is loaded next then hides in it."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    trim = getattr(library, "malloc_trim", None)  # of glibc
    if trim is not None:
        gc.collect()
        trim(0)


def file_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
