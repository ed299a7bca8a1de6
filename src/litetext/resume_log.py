"""Resume a long run: JSON lines on disk, of which a killed process leaves at most the last one unfinished.

The first line names the run that the others belong to: what its results depend on, such as model and threshold. Each
of the others is a finished item. Whoever writes a log keeps other processes off it (`storage.only_writer`).
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.errors import OutputError
from litetext.records import parse_json

_DAMAGED = (ValueError, LookupError, TypeError, AttributeError)  # what reading an unexpected JSON value raises


@dataclass(frozen=True, eq=False)
class ResumeLog:
    """Finished items of a run."""

    path: Path
    tool: str  # what writes the log; it stands in the first line
    run: Mapping[str, Any]  # what the results depend on, name by name
    hint: str  # what to do when the file belongs to something else

    def is_begun(self) -> bool:
        """Whether there is a first line, or a part of it: an empty file is only the lock of a killed process."""
        return self.path.exists() and self.path.stat().st_size > 0

    def append(self, item: Mapping[str, Any]) -> None:
        """Add a finished item; it is on disk when this returns."""
        line = json.dumps(item, allow_nan=False).encode() + b"\n"
        if not self.is_begun():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            line = self._mark + json.dumps(dict(self.run)).encode() + b"}\n" + line
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def recover(self, accept: Callable[[Any], bool]) -> int:
        """Read what is finished and cut off the rest: an unfinished line, and all from the first bad one on.

        ``accept`` is called with each item in order; False, or an error of reading it, ends the recovery. Gives the
        number of items that were accepted. A log of another run, and a file that is no log of this tool, is left alone:
        an `OutputError`.
        """
        if not self.is_begun():
            return 0
        with self.path.open("r+b") as file:
            count, end = 0, self._check_header(file.readline())
            for line in file if end else ():
                try:
                    if not line.endswith(b"\n") or not accept(parse_json(line)):
                        break
                except _DAMAGED:  # such as a line that a full disk cut short, before the next run wrote its own
                    break
                count, end = count + 1, end + len(line)
            file.truncate(end)  # not removed: the lock may be on this very file
        return count

    def items(self) -> Iterator[Any]:
        """The items, without any check; a damaged line is None."""
        if not self.is_begun():
            return
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                try:
                    yield parse_json(line)
                except ValueError:
                    yield None

    def compare(self, run: Mapping[str, Any], where: Path) -> None:
        """Refuse the run of a file that differs from this one, and name the first thing in which it does."""
        for name in (*self.run, *(name for name in run if name not in self.run)):
            before, now = run.get(name, "not given"), self.run.get(name, "not given")
            if before != now:
                message = f"results of another run are there: {name} was {before}, and is {now} now"
                raise OutputError(message, where=str(where), hint=self.hint)

    def _check_header(self, header: bytes) -> int:
        """The length of the first line; 0 if it was not finished."""
        if header.startswith(self._mark) or self._mark.startswith(header):
            if not header.endswith(b"\n"):
                return 0
            try:
                run = dict(parse_json(header)[self.tool])
            except _DAMAGED:
                pass
            else:
                self.compare(run, self.path)
                return len(header)
        raise OutputError(f"not a log of `{self.tool}`", where=str(self.path), hint=self.hint)

    @property
    def _mark(self) -> bytes:
        return f'{{"{self.tool}": '.encode()
