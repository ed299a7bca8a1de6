"""Tracking into a folder: killed or interrupted anywhere, the same run gives the same bytes; nothing is replaced."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocotools")
from PIL import Image

from litetext.errors import ImageError, OptionError, OutputError
from litetext.video import track_files
from litetext.video.track_files import TrackRun
from tests.video.fakes import FakeClip, FakeTracker

pytestmark = pytest.mark.torch

PHRASES = ["red car", "dog"]
FILES = {"masklets.json", "tracks.csv", "counts.csv"}


@pytest.fixture
def clip(tmp_path: Path) -> str:
    path = tmp_path / "clip.bin"
    path.write_bytes(b"frames")
    return str(path)


def make_run(clip: str | None, folder: Path | None, **others: Any) -> TrackRun:
    options = {"prompts": PHRASES, "made_by": {"model": "fake"}, "overlays": (), "snapshot_seconds": 0.0}
    return TrackRun(clip, folder=folder, **{**options, **others})


def track(clip: str | None, folder: Path | None, frames: FakeClip | None = None, **others: Any) -> dict[str, Any]:
    made = make_run(clip, folder, **others)
    with made.locked():
        return made.track(frames or FakeClip(is_stream=clip is None), lambda: FakeTracker(made.phrases))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path, clip: str) -> dict[str, bytes]:
    """The files of a run that nothing stopped."""
    track(clip, tmp_path / "whole")
    return content(tmp_path / "whole")


def stop_at(index: int, error: Callable[[], None]) -> FakeClip:
    frames = FakeClip()
    frames.on_frame = lambda number: error() if number == index else None
    return frames


def raise_error() -> None:
    raise ImageError("damaged")


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_files_and_summary(tmp_path: Path, clip: str, whole: dict[str, bytes]) -> None:
    assert set(whole) == FILES
    summary = track(clip, None)
    assert (summary["frames"], summary["broken"], summary["size"]) == (11, [5], [16, 24])
    assert [row["tracks"] for row in summary["phrases"]] == [2, 2]
    info = json.loads(whole["masklets.json"])["info"]
    assert info["summary"] == summary


def test_a_finished_run_does_nothing(tmp_path: Path, clip: str, whole: dict[str, bytes]) -> None:
    made = make_run(clip, tmp_path / "whole")
    with made.locked():
        assert made.finished == json.loads(whole["masklets.json"])["info"]["summary"]
    assert content(tmp_path / "whole") == whole


@pytest.mark.parametrize("error", [raise_error, interrupt])
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_stopped_at_any_frame_it_goes_on(
    tmp_path: Path, clip: str, whole: dict[str, bytes], error: Callable[[], None], seconds: float
) -> None:
    for index in range(12):
        folder = tmp_path / str(index)
        with pytest.raises((ImageError, KeyboardInterrupt)):
            track(clip, folder, stop_at(index, error), snapshot_seconds=seconds)
        assert not set(content(folder)) & FILES
        made = make_run(clip, folder)
        with made.locked():
            # two frames are held back, and frame 5 is broken; an error without a snapshot begins again
            settled = max(0, index - 2 - (index > 5))
            assert made.resumed == (settled if seconds == 0 or error is interrupt else 0)
            made.track(FakeClip(), lambda: FakeTracker(PHRASES))
        assert content(folder) == whole


def test_interrupted_in_a_step_the_tracker_finishes_it(tmp_path: Path, clip: str, whole: dict[str, bytes]) -> None:
    class Interrupted(FakeTracker):
        def step(self, frame: Any) -> Any:
            if frame.index == 7:
                interrupt()
            return super().step(frame)

    made = make_run(clip, tmp_path / "out", snapshot_seconds=1e9)
    with made.locked(), pytest.raises(KeyboardInterrupt):
        made.track(FakeClip(), lambda: Interrupted(PHRASES))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert made.totals.frames == 5  # of 7 that were taken, frame 7 among them
    track(clip, tmp_path / "out")
    assert content(tmp_path / "out") == whole


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.video import test_track_files as t

clip, root, step, *overlays = sys.argv[1:]
countdown = [0]

def deadly(step):
    def do(*arguments, **options):
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        countdown[0] -= 1
        return step(*arguments, **options)
    return do

steps, status = 0, signal.SIGKILL
while os.WIFSIGNALED(status):
    child = os.fork()
    folder = Path(root) / str(steps)
    if child == 0:
        countdown[0] = steps
        os.fsync, Path.replace, Path.unlink = deadly(os.fsync), deadly(Path.replace), deadly(Path.unlink)
        t.track(clip, folder, overlays=overlays)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    t.track(clip, folder, overlays=overlays)
    steps += int(step)
print(steps)
"""


@pytest.mark.parametrize(
    ("overlays", "step"),
    [
        ((), "5"),
        pytest.param((), "1", marks=pytest.mark.slow),
        pytest.param(("webp", "mp4"), "3", marks=pytest.mark.slow),
    ],
)
def test_killed_before_any_step_that_reaches_the_disk_it_goes_on(
    tmp_path: Path, clip: str, overlays: tuple[str, ...], step: str
) -> None:
    track(clip, tmp_path / "whole", overlays=overlays)
    whole, root = content(tmp_path / "whole"), tmp_path / "kill"
    assert set(whole) == FILES | {f"overlay.{name}" for name in overlays}
    root.mkdir()
    arguments = [sys.executable, "-c", CHILD, clip, str(root), step, *overlays]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(done.stdout) > 35  # a record and a snapshot for each frame, then the files
    for folder in root.iterdir():
        assert content(folder) == whole


def test_a_damaged_journal_or_snapshot_begins_again(tmp_path: Path, clip: str, whole: dict[str, bytes]) -> None:
    for number, (name, damage) in enumerate(
        [
            ("tracks.snapshot", lambda data: b"not a snapshot"),
            ("tracks.snapshot", lambda data: data[: len(data) // 2]),
            ("tracks.snapshot", lambda data: b""),
            ("tracks.journal", lambda data: data[:-30]),
            ("tracks.journal", lambda data: data.replace(b'"frame": 3', b'"frame": 8')),
            ("tracks.journal", lambda data: data + b'{"half": '),
        ]
    ):
        folder = tmp_path / str(number)
        with pytest.raises(ImageError):
            track(clip, folder, stop_at(8, raise_error))
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))
        track(clip, folder)
        assert content(folder) == whole


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({"prompts": ["red car"]}, "phrases"),
        ({"made_by": {"model": "another"}}, "model"),
        ({"made_by": {"model": "fake", "every": "2"}}, "every"),
        ({"overlays": ("gif",)}, "overlays"),
    ],
)
def test_another_run_is_refused(
    tmp_path: Path, clip: str, is_finished: bool, others: dict[str, Any], named: str
) -> None:
    folder = tmp_path / "out"
    if is_finished:
        track(clip, folder)
    else:
        with pytest.raises(ImageError):
            track(clip, folder, stop_at(8, raise_error))
    before = content(folder)
    with pytest.raises(OutputError, match=named):
        track(clip, folder, **others)
    Path(clip).write_bytes(b"framed")
    with pytest.raises(OutputError, match="clip"):
        track(clip, folder)
    assert content(folder) == before


@pytest.mark.parametrize("name", [*sorted(FILES), "tracks.journal", "tracks.snapshot", "overlay.gif"])
def test_files_of_the_user_are_not_replaced(tmp_path: Path, clip: str, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match=name):
        track(clip, tmp_path / "out", overlays=("gif",))
    assert content(tmp_path / "out") == {name: b"mine"}


def test_a_file_that_came_while_it_was_killed_is_not_replaced(tmp_path: Path, clip: str) -> None:
    with pytest.raises(ImageError):
        track(clip, tmp_path / "out", stop_at(8, raise_error))
    (tmp_path / "out" / "tracks.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"tracks\.csv"):
        track(clip, tmp_path / "out")
    assert (tmp_path / "out" / "tracks.csv").read_text() == "mine"


def test_only_one_writes(tmp_path: Path, clip: str) -> None:
    with make_run(clip, tmp_path / "out").locked(), pytest.raises(OutputError, match="another process"):
        track(clip, tmp_path / "out")


@pytest.mark.parametrize("prompts", [[], "", [" "], ["dog", ""]])
def test_phrases_are_needed(clip: str, prompts: Any) -> None:
    with pytest.raises(OptionError):
        make_run(clip, None, prompts=prompts)


def test_what_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("nowhere.mp4", "empty", "empty/*.png"):
        with pytest.raises(ImageError):
            make_run(str(tmp_path / name), None)


def test_frames_of_a_folder_are_told_apart_and_not_written_beside(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)).save(folder / f"{number}.png")
    before = make_run(str(folder), None).settings["clip"]
    assert make_run(f"{folder}/", None).settings["clip"] == before
    with pytest.raises(OutputError, match="frames"):
        make_run(str(folder), folder)
    (folder / "1.png").rename(folder / "2.png")
    assert make_run(str(folder), None).settings["clip"] != before


def test_no_frames(tmp_path: Path, clip: str) -> None:
    with pytest.raises(ImageError, match="no frames"):
        track(clip, tmp_path / "out", FakeClip(0))


def make_stream(index: int, error: Callable[[], None]) -> FakeClip:
    frames = FakeClip(is_stream=True)
    frames.on_frame = lambda number: error() if number == index else None
    return frames


def test_an_interrupted_stream_is_written(tmp_path: Path) -> None:
    summary = track(None, tmp_path / "out", make_stream(8, interrupt))
    assert summary["frames"] == 7  # those that were held back too
    assert set(content(tmp_path / "out")) == FILES
    assert len(json.loads((tmp_path / "out" / "masklets.json").read_bytes())["videos"][0]["frame_indices"]) == 7
    with pytest.raises(OutputError, match="stream"):
        track(None, tmp_path / "out")


def test_a_stream_that_breaks_is_written_too(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="damaged"):
        track(None, tmp_path / "out", make_stream(8, raise_error))
    assert set(content(tmp_path / "out")) == FILES
    assert json.loads((tmp_path / "out" / "masklets.json").read_bytes())["videos"][0]["length"] == 5


def test_a_killed_stream_is_written_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrackRun, "_write", lambda *_: None)  # as if killed before
        with pytest.raises(ImageError, match="damaged"):
            track(None, tmp_path / "out", make_stream(8, raise_error))
    assert set(content(tmp_path / "out")) == {"tracks.journal"}
    with pytest.raises(OutputError, match="5 frames of an earlier stream"):
        track(None, tmp_path / "out")
    assert set(content(tmp_path / "out")) == FILES


def test_waiting_for_a_frame_that_does_not_come_can_be_interrupted(tmp_path: Path) -> None:
    import time

    def wait() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        time.sleep(60)

    before = signal.signal(signal.SIGALRM, lambda *_: interrupt())
    try:
        assert track(None, tmp_path / "out", make_stream(8, wait))["frames"] == 7
    finally:
        signal.signal(signal.SIGALRM, before)


READER = """
from litetext.video.frames import open_clip
count = 0
try:
    with open_clip("-") as clip:
        for _ in clip:
            count += 1
            print(count, flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_standard_input_passes_an_interrupt_on() -> None:
    pytest.importorskip("av")
    import io

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(file, "PNG")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", READER], **pipes) as child:  # type: ignore[call-overload]
        child.stdin.write(file.getvalue() * 200)  # what FFmpeg looks at before the first frame is 5 MB
        child.stdin.flush()
        first = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        told = child.stdout.read(), child.stderr.read()
    assert first == b"1\n"
    assert told[0].endswith(b"interrupted\n")
    assert told[1] == b""


def test_progress_and_note(clip: str) -> None:
    told: list[tuple[Any, ...]] = []
    made = make_run(clip, None)
    made.track(FakeClip(), lambda: FakeTracker(PHRASES), lambda *values: told.append(values))
    assert [share for _, share, _ in told][-1] == pytest.approx(11 / 12)
    assert all(note.endswith("frames/s") for _, _, note in told)
    assert track_files.TOOL == "litetext track"
