"""A disk that is really full: a small file system of its own, and a file that takes what is left of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BALLAST = "ballast"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes mounted on a new folder; a skip where this user may not mount."""
    mount = shutil.which("mount")
    if not sys.platform.startswith("linux") or mount is None:
        pytest.skip("mounts a tmpfs, which only Linux has")
    folder.mkdir()
    command = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # lazily: a failed test may hold a file


def fill(disk: Path, left: int) -> None:
    """Leave only so many bytes on the disk, rounded down to its blocks."""
    found = os.statvfs(disk)
    (disk / BALLAST).write_bytes(bytes((found.f_bavail - left // found.f_frsize) * found.f_frsize))


def clear(disk: Path) -> None:
    """Take that back."""
    (disk / BALLAST).unlink()
