"""Clips: video files, animations, folders of frames, streams, cameras and arrays, one upright RGB frame at a time."""

import io
import re
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from litetext.errors import ImageError, OptionError, first_line
from litetext.sam3.images import BROKEN, SUFFIXES, ImageSource, find_images, opened, read_image
from litetext.video.containers import NOT_A_CLIP, Picture, Pixels, decode, fail, open_video
from litetext.video.tracking import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

ClipSource = str | Path | Sequence[str | Path] | Iterable[ImageSource]
_Span = tuple[int | float, int | float | None, int]  # start, stop (frame number or seconds) and every
_RATE = 25.0  # frames a second where nothing tells it: FFmpeg's rate for numbered pictures
_NAMED = 10  # broken frames that a warning names
_STILL = (".tif", ".tiff")  # its pages are no frames


class Clip:
    """The frames of a clip, each decoded when it is asked for: memory does not grow with the length.

    `open_clip` makes it. Iterate over it for its `Frame`s, inside a `with` block that closes files at its end.
    Broken frames are left out, but counted in `Frame.index`.

    Attributes:
        name: what to call it: the name of its file without the suffix, of its folder, "stdin", "camera0" or "frames".
        fps: average frames a second, None if unknown. Frames without times of their own are taken at 25.
        count: how many frames iterating should give; an estimate where `start` or `stop` is a time, None if unknown.
        size: height and width of the frames in pixels, None if unknown before the first.
        replayable: whether it can be iterated again.
        broken: numbers of the frames that could not be decoded, as far as it has been read.
    """

    def __init__(
        self,
        name: str,
        pictures: Callable[[list[str]], Generator[Picture, None, None]],
        *,
        fps: float | None = _RATE,
        total: int | None = None,
        size: tuple[int, int] | None = None,
        replayable: bool = True,
        span: _Span = (0, None, 1),
    ) -> None:
        self.name, self.fps, self.size, self.replayable = name, fps, size, replayable
        self.count = None if total is None else _count(total, fps or _RATE, *span)
        self.broken: list[int] = []
        self._pictures, self._span = pictures, span
        self._notes: list[str] = []
        self._reason = ""  # why the first broken frame is broken
        self._running: Generator[Picture, None, None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; iterating a clip that is replayable opens it again."""
        if self._running is not None:
            self._running.close()

    @property
    def warnings(self) -> list[str]:
        """What was wrong with the part that has been read, a line each."""
        if not self.broken:
            return list(self._notes)
        more = ", ..." if len(self.broken) > _NAMED else ""
        numbers = ", ".join(map(str, self.broken[:_NAMED]))
        frames = "1 broken frame is" if len(self.broken) == 1 else f"{len(self.broken)} broken frames are"
        return [f"{frames} left out: {numbers}{more} ({self._reason})", *self._notes]

    def __iter__(self) -> Iterator[Frame]:
        """The frames; an `ImageError` where there are none, or one is of another size than those before it."""
        if self._running is not None and not self.replayable:
            raise ImageError("a stream can be read only once", where=self.name, hint="save it as a file")
        self.close()
        self.broken, self._notes, self._reason = [], [], ""
        self._running = self._pictures(self._notes)
        return self._frames(self._running)

    def _frames(self, pictures: Iterator[Picture]) -> Iterator[Frame]:
        start, stop, every = self._span
        index, first, shape, origin = -1, None, None, None
        for index, (seconds, read) in enumerate(pictures):
            origin = seconds if origin is None else origin
            time = index / (self.fps or _RATE) if seconds is None or origin is None else seconds - origin
            if stop is not None and _has_reached(stop, index, time):
                break
            if first is None and _has_reached(start, index, time):
                first = index
            if first is None or (index - first) % every:
                continue
            try:
                pixels = read()
            except ImageError as error:
                self._reason = self._reason or str(error)
                self.broken.append(index)
                continue
            if shape is not None and pixels.shape != shape:
                here, before = (f"{width} x {height}" for height, width, _ in (pixels.shape, shape))
                message = f"frame {index} has {here} pixels, those before it {before}"
                raise ImageError(message, where=self.name, hint="give frames of one size")
            shape = pixels.shape
            yield Frame(index, time, pixels)
        if shape is None:
            self._refuse_none(index + 1)

    def _refuse_none(self, seen: int) -> None:
        if self.broken:
            raise ImageError(f"no frame can be read ({self._reason})", where=self.name, hint=NOT_A_CLIP)
        if seen:
            raise ImageError("no frames from there on", where=self.name, hint=f"the clip has {seen} frames up to there")
        raise ImageError("no frames", where=self.name, hint=NOT_A_CLIP)


def open_clip(
    source: ClipSource | None = None,
    *,
    every: int = 1,
    start: int | str | None = None,
    stop: int | str | None = None,
    camera: int | None = None,
) -> Clip:
    """Open a clip; its frames are decoded when it is iterated.

    Times are those of the file, from its first frame on; rotations that the file asks for are done. All pixels are
    taken as square. Frames that change their size within a video are scaled to the first one's.

    Args:
        source: a video (mp4, webm, mov, avi, mkv, ...), a GIF or WebP, a picture, a folder or glob of frames in natural
            order (frame2 before frame10), "-" for standard input (a video, or PNG or JPEG files one after the other),
            or an iterable of paths, PIL images and arrays as `read_image` takes them.
        every: take every so manyth frame, counted from `start`.
        start: the first frame: a number (3, "3") or a time ("12.5s", "1:02.5").
        stop: the frame before which to end, in the same way.
        camera: the number of a camera, instead of a source.

    Raises:
        ImageError: no such file or camera, not a video, sound only, a folder without images, too many pixels.
        OptionError: both or none of source and camera; `every`, `start` or `stop` makes no sense.
        MissingExtraError: a video, and PyAV is not installed.
    """
    if (source is None) == (camera is None):
        raise OptionError("give either a clip or a camera")
    if every < 1 or every % 1:
        raise OptionError(f"every {every} frames", hint="give 1 or more")
    first, last = _moment(start, "start") or 0, _moment(stop, "stop")
    if last is not None and (last <= 0 or (type(first) is type(last) and last <= first)):
        raise OptionError(f"the clip would stop at {stop}, before it starts", hint="give a later stop")
    span = (first, last, every)
    if camera is not None:
        return _open_camera(camera, span)
    if isinstance(source, list | tuple) and len(source) == 1 and isinstance(source[0], str | Path):
        source = source[0]
    if isinstance(source, str | Path):
        return _open_path(str(source), span)
    if isinstance(source, np.ndarray) and source.ndim != 4:
        raise ImageError(f"an array {list(source.shape)} is not a clip", hint="give [frames, H, W, 3]")
    if isinstance(source, Image.Image) or not isinstance(source, Iterable):
        raise ImageError(f"a {type(source).__name__} is not a clip", hint=NOT_A_CLIP)
    total = len(source) if isinstance(source, Sequence | np.ndarray) else None
    return Clip("frames", partial(_stills, source), total=total, replayable=total is not None, span=span)


def _open_path(source: str, span: _Span) -> Clip:
    if source == "-":
        if sys.stdin is not None and sys.stdin.isatty():
            raise ImageError("nothing comes in", where="standard input", hint="pipe a video into it")
        # Not sys.stdin.buffer: it waits for whole blocks, which of a live stream take their time to fill.
        stdin = _StandardInput(0, closefd=False)
        try:
            video = open_video(stdin, "standard input")
        finally:
            stdin.check()
        return _video_clip("stdin", video, "standard input", span, check=stdin.check)
    path = Path(source).expanduser()
    if not path.is_file():
        files = sorted(find_images([source]), key=_natural)
        name = (path if path.is_dir() else path.parent).resolve().name or "frames"
        return Clip(name, partial(_stills, files), total=len(files), span=span)
    if path.suffix.lower() not in SUFFIXES:
        file = f"file:{path.absolute()}"
        video = open_video(file, source)
        with video[0]:
            return _video_clip(path.stem, video, source, span, file=file)
    with opened(path) as image:
        image.load()  # a WebP has its duration only then
        size, milliseconds = (image.height, image.width), image.info.get("duration") or 100
        total = 1 if path.suffix.lower() in _STILL else _count_frames(image)
    if total == 1:
        return Clip(path.stem, partial(_stills, [path]), total=1, span=span)
    return Clip(path.stem, partial(_animation, path, total), fps=1000 / milliseconds, total=total, size=size, span=span)


class _StandardInput(io.FileIO):
    """Standard input. PyAV loses a Ctrl-C that comes while it reads: the input ends there, and `check` raises it."""

    is_interrupted = False

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
        try:
            return b"" if self.is_interrupted else super().read(size)
        except KeyboardInterrupt:
            self.is_interrupted = True
            return b""

    def check(self) -> None:
        if self.is_interrupted:
            raise KeyboardInterrupt


def _open_camera(number: int, span: _Span) -> Clip:
    where = f"camera {number}"
    if sys.platform == "darwin":
        video = open_video(str(number), where, "avfoundation")
    else:
        device = Path(f"/dev/video{number}")
        if not device.exists():
            found = ", ".join(sorted(path.name[5:] for path in Path("/dev").glob("video*"))) or "none"
            raise ImageError("no such camera", where=where, hint=f"cameras found: {found}")
        video = open_video(str(device), where, "v4l2")
    return _video_clip(f"camera{number}", video, where, span)


def _video_clip(
    name: str,
    video: tuple["InputContainer", "VideoStream"],
    where: str,
    span: _Span,
    *,
    file: str = "",
    check: Callable[[], None] = lambda: None,
) -> Clip:
    """A clip of an open container, or of a file that is opened again whenever it is read."""

    def pictures(notes: list[str]) -> Generator[Picture, None, None]:
        container, stream = open_video(file, where) if file else video
        with container:
            yield from decode(container, stream, notes)
        check()

    stream = video[1]
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else None
    return Clip(name, pictures, fps=fps, total=stream.frames or None, replayable=bool(file), span=span)


def _count_frames(image: Image.Image) -> int | None:
    """The number of an image's frames; None if it is broken, and so cannot be counted."""
    try:
        return getattr(image, "n_frames", 1)
    except BROKEN:
        return None


def _animation(path: Path, total: int | None, notes: list[str]) -> Generator[Picture, None, None]:
    """The frames of a GIF, WebP, APNG or AVIF with the times that their durations make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its size, which `opened` has looked at
        image = Image.open(path)
    with image:
        seconds, duration = 0.0, 100.0
        for number in count() if total is None else range(total):
            try:
                image.seek(number)
                image.load()
            except BROKEN as error:  # the end of a file, an EOFError, is one of them
                if total is None:
                    notes.append(f"the file ends after {number} frames ({first_line(error)})")
                    return
                yield seconds, partial(fail, first_line(error))
            else:
                duration = image.info.get("duration") or 100.0  # milliseconds; browsers take 0 for 100
                yield seconds, lambda: np.asarray(read_image(image))
            seconds += duration / 1000


def _stills(sources: Iterable[ImageSource], _notes: list[str]) -> Generator[Picture, None, None]:
    """Pictures without times; each is read when its pixels are asked for."""
    for source in sources:
        yield None, partial(_still, source)


def _still(source: ImageSource) -> Pixels:
    return np.asarray(read_image(source))


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key of a path whose numbers count as numbers: frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _moment(value: int | str | None, what: str) -> int | float | None:
    """A frame number as int, or a time in seconds as float."""
    if value is None or (isinstance(value, int) and value >= 0):
        return value
    text = str(value).strip()
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    if match := re.fullmatch(r"(?:(?:([0-9]+):)?([0-9]+):)?([0-9]+(?:\.[0-9]*)?)s?", text):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        if text.endswith("s") or ":" in text:
            return 3600 * hours + 60 * minutes + seconds
    hint = "give a frame number such as 300, or a time such as 12.5s or 1:02.5"
    raise OptionError(f"{what} {value!r} is neither a frame number nor a time", hint=hint)


def _has_reached(moment: int | float, index: int, time: float) -> bool:
    return index >= moment if isinstance(moment, int) else time >= moment - 1e-6


def _count(total: int, fps: float, start: int | float, stop: int | float | None, every: int) -> int:
    """How many of a clip's frames a span takes."""
    first, last = (
        moment if moment is None or isinstance(moment, int) else ceil(moment * fps - 1e-6) for moment in (start, stop)
    )
    return len(range(first or 0, total if last is None else min(last, total), every))
