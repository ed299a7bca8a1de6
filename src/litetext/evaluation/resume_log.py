"""The journal of a long run of predictions: what is finished stays finished, whatever ends the process.

Beside the predictions ``P.json`` stands ``P.json.journal`` while they are made: JSON lines, the first of which says
what run they belong to, then one for each finished picture. In the end it becomes ``P.json``, and ``P.json.run`` says
whose those predictions are.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.errors import EvaluationError
from litetext.storage import atomic_file, fingerprint, only_writer, to_json, write_text

_MARK = b'{"litetext predictions": '
_BLOCK = 2**20


@dataclass(frozen=True)
class Journal:
    """Finished pictures of a run, on disk.

    Attributes:
        output: the predictions that are to be.
        run: what they depend on, name by name: the annotations, the model, the threshold and so on.
    """

    output: Path
    run: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The journal, while the run is under way."""
        return self.output.with_name(f"{self.output.name}.journal")

    @property
    def seal(self) -> Path:
        """What says whose the finished predictions are."""
        return self.output.with_name(f"{self.output.name}.run")

    def is_complete(self) -> bool:
        """Whether the predictions are there, made by this very run.

        Raises:
            EvaluationError: others are there; they are not overwritten.
        """
        hint = "give another --pred, move it away, or leave out --model to score it"
        sealed = self._read_seal()
        if self._is_begun() or not self.output.exists():
            if sealed is None and self.seal.exists():
                raise EvaluationError("a file that would be overwritten", where=str(self.seal), hint=hint)
            return False
        if sealed is None:
            raise EvaluationError("predictions are there already, of an unknown run", where=str(self.output), hint=hint)
        run, predictions = sealed
        self._compare(run, self.output, hint)
        if predictions != file_fingerprint(self.output):
            raise EvaluationError("predictions that were changed since", where=str(self.output), hint=hint)
        return True

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Keep other processes off these predictions while the block runs: a lock on the journal.

        Raises:
            OutputError: another process makes them, or the journal cannot be written.
        """
        with only_writer(self.path, "these predictions", folder=False):
            try:
                yield
            finally:
                if self.path.exists() and not self._is_begun():
                    self.path.unlink()

    def recover(self, names: Sequence[str]) -> int:
        """How many pictures are finished, in their order; what was not written to its end is dropped from the file.

        Args:
            names: all pictures of the run.

        Raises:
            EvaluationError: the journal is of another run, or no journal at all.
        """
        if not self._is_begun():
            return 0
        if not self._read_header():
            os.truncate(self.path, 0)  # not removed: the lock is on this very file
            return 0
        finished = 0
        with self.path.open("r+b") as file:
            kept = len(file.readline())
            for name, line in zip(names, file, strict=False):
                if _read_record(line, name) is None:
                    break
                finished, kept = finished + 1, kept + len(line)
            file.truncate(kept)
        return finished

    def append(self, name: str, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Add a finished picture; the first one begins the journal.

        Args:
            name: the picture.
            predictions: its COCO results.

        Raises:
            OSError: the journal cannot be written.
        """
        lines = b""
        if not self._is_begun():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = _MARK + json.dumps(dict(self.run)).encode() + b"}\n"
        record = {"picture": name, "predictions": list(predictions)}
        lines += json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self.path.open("ab") as file:
            file.write(lines)

    def finish(self, names: Sequence[str]) -> None:
        """Make the predictions of the journal, one a line, and remove it.

        Args:
            names: all pictures of the run.

        Raises:
            EvaluationError: the journal does not hold each picture once; a second process wrote to it.
            OSError: the predictions cannot be written.
        """
        with atomic_file(self.output) as file:
            before = b"[\n"
            for prediction in self._predictions(names):
                file.write(before + json.dumps(prediction, ensure_ascii=False).encode())
                before = b",\n"
            file.write(b"[]\n" if before == b"[\n" else b"\n]\n")
        sealed = {"run": dict(self.run), "predictions": file_fingerprint(self.output)}
        write_text(self.seal, to_json(sealed))
        self.path.unlink(missing_ok=True)

    def _predictions(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        if not names and not self._is_begun():
            return
        with self.path.open("rb") as file:
            file.readline()
            for name in names:
                record = _read_record(file.readline(), name)
                if record is None:
                    raise self._changed()
                yield from record["predictions"]
            if file.readline():
                raise self._changed()

    def _read_seal(self) -> tuple[dict[str, str], str] | None:
        """The run of the finished predictions and their fingerprint; None where it is not said."""
        try:
            sealed = json.loads(self.seal.read_bytes())
            return dict(sealed["run"]), sealed["predictions"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def _is_begun(self) -> bool:
        """Whether there is a journal; an empty one is only the lock of a process that was killed."""
        return self.path.exists() and self.path.stat().st_size > 0

    def _changed(self) -> EvaluationError:
        return EvaluationError(
            "the journal was changed meanwhile", where=str(self.path), hint="run one process at a time, then run again"
        )

    def _read_header(self) -> bool:
        """Whether the journal has its first line; compares it."""
        with self.path.open("rb") as file:
            line = file.readline()
        hint = "go on with the options of that run, give another --pred, or remove the journal"
        if not line.startswith(_MARK) and not _MARK.startswith(line):
            raise EvaluationError("not a journal of predictions", where=str(self.path), hint="give another --pred")
        if not line.endswith(b"\n"):
            return False
        try:
            run = dict(json.loads(line)["litetext predictions"])
        except (ValueError, TypeError, RecursionError) as error:
            raise EvaluationError("not a journal of predictions", where=str(self.path), hint=hint) from error
        self._compare(run, self.path, hint)
        return True

    def _compare(self, run: Mapping[str, str], where: Path, hint: str) -> None:
        """Name the first thing that differs between a run and this one."""
        for name in (*self.run, *(other for other in run if other not in self.run)):
            theirs, ours = run.get(name, "not said"), self.run.get(name, "not said")
            if theirs != ours:
                raise EvaluationError(
                    f"it belongs to another run: {name} was {theirs}, and is {ours} now", where=str(where), hint=hint
                )


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file, read in blocks.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return fingerprint(iter(lambda: file.read(_BLOCK), b""))


def _read_record(line: bytes, name: str) -> Mapping[str, Any] | None:
    """A picture's line; None where it is not whole, or of another picture."""
    if not line.endswith(b"\n"):
        return None
    try:
        record: Mapping[str, Any] = json.loads(line)
        return record if record["picture"] == name and isinstance(record["predictions"], list) else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
