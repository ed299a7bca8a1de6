"""Track a clip into a folder: overlay videos, masklets, boxes and counts; a kill loses some seconds.

While a clip is tracked, ``tracks.journal`` stands in the folder, a `ResumeLog` with a record for each finished frame,
and ``tracks.snapshot``: the state of the tracker every half minute, with the number of records that belong to it. The
same command cuts the journal back to that number and goes on there. In the end they become the other files, of which
``masklets.json`` is the last and names the run in its ``info``; no file of the user's is replaced. What cannot be read
again, a stream or a camera, ends at Ctrl-C or an error, and its finished frames are written.
"""

import glob
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from litetext.errors import ImageError, OptionError, OutputError
from litetext.features.store import distinct_phrases
from litetext.records import CHECKSUM
from litetext.resume_log import ResumeLog
from litetext.sam3.images import find_images
from litetext.sam3.segmenter import check_prompts
from litetext.storage import check_output, checksum, fingerprint, only_writer
from litetext.video import masklets
from litetext.video.masklets import Record, Totals
from litetext.video.overlay import FORMATS, VideoWriter, draw_tracked, require_pyav
from litetext.video.snapshots import read_snapshot, write_snapshot
from litetext.video.tracking import Frame, TrackedFrame, Tracker

if TYPE_CHECKING:
    from litetext.video.frames import Clip

MASKLETS, TRACKS, COUNTS = "masklets.json", "tracks.csv", "counts.csv"
LOG, SNAPSHOT = "tracks.journal", "tracks.snapshot"
TOOL = "litetext track"
SNAPSHOT_SECONDS = 30.0  # what a kill loses at most, beside a frame; a snapshot takes milliseconds
_HINT = "give another folder, or move these files away"

Progress = Callable[[str, float | None, str], None]  # stage, share that is done (None: unknown), and a note


class TrackRun:
    """A clip, the phrases to follow in it, and what is finished.

    Args:
        clip: what the user named, as `litetext.video.frames.open_clip` takes it; None: a stream or a camera, which
            cannot be read again.
        prompts: phrases; those that the tokenizer cannot tell apart become one.
        made_by: what else the results depend on, name by name: model, method, threshold, which frames.
        folder: where to write; None: nowhere.
        overlays: formats of the overlay videos, such as "mp4".
        snapshot_seconds: how often the tracker's state is kept.

    Attributes:
        finished: the summary of a run that was finished before; None: there is something to do.
        resumed: how many frames an earlier run had finished.
        speed: frames a second of what this run tracked.
    """

    def __init__(
        self,
        clip: str | None,
        prompts: str | Iterable[str],
        made_by: Mapping[str, Any],
        folder: Path | None = None,
        *,
        overlays: Sequence[str] = ("mp4",),
        snapshot_seconds: float = SNAPSHOT_SECONDS,
    ) -> None:
        self.phrases = list(distinct_phrases(check_prompts(prompts)).values())
        if not self.phrases:
            raise OptionError("no phrase", hint="say what to look for")
        if unknown := [name for name in overlays if f".{name}" not in FORMATS]:
            known = ", ".join(name.removeprefix(".") for name in FORMATS)
            raise OptionError(f"an overlay in the format '{unknown[0]}'", hint=f"it writes {known}")
        self.folder = folder
        self.overlays = {} if folder is None else {name: folder / f"overlay.{name}" for name in dict.fromkeys(overlays)}
        if self.overlays:
            require_pyav()  # now, not when the first frame is drawn
        self.is_stream = clip is None
        identity = "a stream" if clip is None else _identify(clip, folder)
        self.settings = {"clip": identity, "phrases": self.phrases, "overlays": list(self.overlays), **made_by}
        self.snapshot_seconds = snapshot_seconds
        self.finished: dict[str, Any] | None = None
        self.totals = Totals(self.phrases)
        self.resumed = 0
        self.speed = 0.0
        self._snapshot: dict[str, Any] = {}
        self._last = ""  # checksum of the last record
        self._log = ResumeLog((folder or Path()) / LOG, TOOL, self.settings, _HINT)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Read what an earlier run finished; while the block runs no other process writes to the folder.

        What is there and not of this run, and would be replaced, is an `OutputError`; so are frames of a stream.
        """
        if self.folder is None:
            yield
            return
        with only_writer(self.folder, "to this folder"):
            self._recover(self.folder)
            yield

    def track(
        self, clip: "Clip", make_tracker: Callable[[], Tracker], progress: Progress = lambda *_: None
    ) -> dict[str, Any]:
        """Track the frames that are not finished, and write the files.

        Returned is the summary: ``clip``, ``size`` (height and width), ``frames`` (how many), ``phrases`` (see
        `Totals.table`) and ``broken``, the numbers of frames that could not be decoded. Ctrl-C ends a stream, of which
        all files are written; with any other clip it is a `KeyboardInterrupt`, after which the same command goes on.
        """
        if self.finished is not None:
            return self.finished
        done = self._snapshot.get("summary")
        if done is None or not all(path.exists() for path in self.overlays.values()):
            try:
                done = self._track(clip, make_tracker, progress)
            except BaseException:
                if self.is_stream and self.totals.frames:
                    self._write(self._summary(clip.name, clip.broken))
                raise
        self._write(done)
        return done

    def _track(self, clip: "Clip", make_tracker: Callable[[], Tracker], progress: Progress) -> dict[str, Any]:
        """Track and draw to the end; put the overlays in place when the last record and the summary are kept."""
        tracker = make_tracker()
        taken, is_done = self._snapshot.get("taken", 0), "summary" in self._snapshot
        if taken and not is_done:
            tracker.restore(self._snapshot["state"])
        earlier = iter(self._records() if self.folder is not None and taken else ())
        began = kept = time.monotonic()
        with ExitStack() as videos, _Interrupts() as interrupts:
            overlays, frames, number = _Overlays(self.overlays, clip, videos), iter(clip), 0
            while (frame := interrupts.wait_for(frames)) is not None:
                number += 1
                overlays.hold(frame)
                if number <= taken:
                    overlays.draw(masklets.to_tracked(record, self.phrases) for record in islice(earlier, 1))
                    began = kept = time.monotonic()
                    continue
                overlays.draw(self._keep(tracker.step(frame)))
                now = time.monotonic()
                self.speed = (number - taken) / max(now - began, 1e-9)
                progress("tracking", number / clip.count if clip.count else None, f"{self.speed:.1f} frames/s")
                if now - kept >= self.snapshot_seconds and not self.is_stream:
                    self._save({"taken": number, "state": tracker.state()})
                    kept = now
            if interrupts.asked and not self.is_stream:
                if number > taken:
                    self._save({"taken": number, "state": tracker.state()})
                raise KeyboardInterrupt
            if not is_done:
                overlays.draw(self._keep(tracker.finish()))
            if not self.totals.frames:
                raise ImageError("no frames", where=clip.name, hint="check the clip, and what is asked for of it")
            done = self._summary(clip.name, clip.broken)
            self._save({"taken": number, "summary": done})
        return done

    def _keep(self, settled: Sequence[TrackedFrame]) -> Sequence[TrackedFrame]:
        """Log finished frames."""
        places = {phrase: place for place, phrase in enumerate(self.phrases)}
        for tracked in settled:
            record = masklets.to_record(tracked, places)
            if self.folder is not None:
                self._log.append(record)
            self._count(record)
        return settled

    def _count(self, record: Record) -> None:
        self.totals.add(record)
        self._last = record[CHECKSUM]

    def _save(self, snapshot: Mapping[str, Any]) -> None:
        """Keep where the run is, for the next one; without a record there is nothing to go on from."""
        if self.folder is None or not self.totals.frames:
            return
        write_snapshot(self.folder / SNAPSHOT, {**snapshot, "settled": self.totals.frames, "last": self._last})

    def _summary(self, clip: str, broken: Sequence[int]) -> dict[str, Any]:
        totals = self.totals
        figures = {"size": totals.size, "frames": totals.frames, "phrases": totals.table()}
        return {"clip": clip, **figures, "broken": list(broken)}

    def _records(self) -> Iterator[Record]:
        """The finished frames that the journal holds now."""
        items = self._log.items()
        return (next(items) for _ in range(self.totals.frames))

    def _write(self, summary: Mapping[str, Any]) -> None:
        """Make the files of the journal and remove it; ``masklets.json`` is the last: it says that all are there."""
        if self.folder is None:
            return
        masklets.write_tracks(self.folder / TRACKS, self._records)
        masklets.write_counts(self.folder / COUNTS, self._records, self.phrases)
        info = {"description": "masklets of phrases in a clip", TOOL: self.settings, "summary": summary}
        masklets.write_masklets(self.folder / MASKLETS, info, summary["clip"], self._records, self.totals)
        self._remove_leftovers(self.folder)

    def _recover(self, folder: Path) -> None:
        outputs = [folder / name for name in (TRACKS, COUNTS)] + list(self.overlays.values())
        snapshot = folder / SNAPSHOT
        for path in (*outputs, folder / MASKLETS, snapshot, self._log.path):
            check_output(path)
        if (folder / MASKLETS).exists():
            self.finished = self._read_finished(folder / MASKLETS)
            self._remove_leftovers(folder)
            return
        is_begun = self._log.is_begun()
        if snapshot.exists() and is_begun:
            self._snapshot = _load(snapshot)
        settled = float("inf") if self.is_stream else self._snapshot.get("settled", 0)

        def accept(item: Any) -> bool:
            if self.totals.frames < settled:
                self._count(masklets.check_record(item))
                return True
            return False

        self._log.recover(accept)
        if not self.is_stream and (self.totals.frames, self._last) != (settled, self._snapshot.get("last", "")):
            self._snapshot, self.totals, self._last = {}, Totals(self.phrases), ""  # the journal was damaged
            self._log.recover(lambda _: False)
        self.resumed = self.totals.frames
        there = next(filter(Path.exists, outputs if is_begun else [*outputs, snapshot]), None)
        if there is not None and "summary" not in self._snapshot:
            raise OutputError("a file would be replaced", where=str(there), hint=_HINT)
        if self.is_stream and self.resumed:
            self._end_stream()

    def _read_finished(self, path: Path) -> dict[str, Any]:
        try:
            info = masklets.read_info(path)
            settings, summary = dict(info[TOOL]), dict(info["summary"])
        except (ValueError, LookupError, TypeError) as error:
            raise OutputError(f"not of `{TOOL}`", where=str(path), hint=_HINT) from error
        if self.is_stream:
            raise OutputError("a stream was tracked there before", where=str(path.parent), hint=_HINT)
        self._log.compare(settings, path)
        return summary

    def _end_stream(self) -> None:
        """Write what a killed run finished of a stream, and refuse to mix it with what comes now."""
        self._write(self._snapshot.get("summary") or self._summary("a stream", []))
        message = f"{self.resumed} frames of an earlier stream were there; they are written now"
        raise OutputError(message, where=str(self.folder), hint="give another folder for this one")

    def _remove_leftovers(self, folder: Path) -> None:
        """Remove the journal and the snapshot of a run whose files are all there."""
        if self._log.is_begun():
            (folder / SNAPSHOT).unlink(missing_ok=True)
            self._log.path.unlink()


class _Overlays:
    """The frames that wait for their tracks, and the videos that they are drawn into then."""

    def __init__(self, paths: Mapping[str, Path], clip: "Clip", stack: ExitStack) -> None:
        self._paths, self._clip, self._stack = paths, clip, stack  # which puts the videos in place at its end
        self._held: deque[Frame] = deque()
        self._writers: list[VideoWriter] = []

    def hold(self, frame: Frame) -> None:
        """Take a frame that is drawn later."""
        if self._paths:
            self._held.append(frame)

    def draw(self, settled: Iterable[TrackedFrame]) -> None:
        """Draw the tracks of the frames that come next."""
        for tracked in settled if self._paths else ():
            frame = self._held.popleft()
            drawn = draw_tracked(frame.pixels, tracked)
            if not self._writers:
                size = (drawn.height, drawn.width)  # a small frame is drawn larger
                writers = (VideoWriter(path, self._clip.fps, size) for path in self._paths.values())
                self._writers = [self._stack.enter_context(writer) for writer in writers]
            for writer in self._writers:
                writer.add(drawn, frame.time)


class _Interrupts:
    """The first Ctrl-C is noted, and cuts short only the wait for a frame; the second is a `KeyboardInterrupt`.

    So a tracker is never left in the middle of a step, and a camera that gives no frame can be stopped.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_waiting = False
        self._before: Any = None

    def __enter__(self) -> "_Interrupts":
        before = signal.getsignal(signal.SIGINT)
        if current_thread() is main_thread() and before not in (None, signal.SIG_IGN):  # ignored under nohup
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def wait_for(self, frames: Iterator[Frame]) -> Frame | None:
        """The next frame; None after the last one, or when it is to end."""
        if self.asked:
            return None
        self._is_waiting = True
        try:
            return next(frames, None)
        except KeyboardInterrupt:
            self.asked = True
            return None
        finally:
            self._is_waiting = False

    def _note(self, *_: object) -> None:
        if self.asked or self._is_waiting:
            raise KeyboardInterrupt
        self.asked = True


def _identify(clip: str, folder: Path | None) -> str:
    """A name of a clip with a short checksum of its file or, of a folder or glob, of the frames in it."""
    path = Path(clip).expanduser()
    files = [path]
    if path.is_dir() or (not path.exists() and glob.has_magic(clip)):
        files = find_images([clip])
        if folder is not None and any(file.absolute().parent == folder.absolute() for file in files):
            raise OutputError("the folder of the frames", where=str(folder), hint="give another folder")
    if not files[0].is_file():
        raise ImageError("no such file", where=clip, hint="check the path")
    sums = fingerprint(checksum(file.parent, [file.name]) for file in files)
    return f"{path.name} ({sums[:12]})"


def _load(snapshot: Path) -> dict[str, Any]:
    """A snapshot; empty if it is damaged."""
    found = read_snapshot(snapshot)
    return found if found.keys() >= {"taken", "settled", "last"} else {}
