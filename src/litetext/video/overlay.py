"""Tracked frames as a viewer sees them: masks with ids, phrases and scores over the frame, written as a video."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from litetext.errors import ImageError, MissingExtraError, OutputError
from litetext.sam3.drawing import draw_labeled
from litetext.storage import atomic_file, check_output
from litetext.video.tracking import TrackedFrame

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = npt.NDArray[np.uint8]


class _Format(NamedTuple):
    container: str
    codecs: dict[str, dict[str, str]]  # encoders with their options; the first that this FFmpeg has is used
    pixels: str
    ticks: int  # a second: frame times are multiples of 1 / ticks
    for_pages: bool = False  # small, few frames a second, repeated for ever


# Without its look-ahead: with it the bytes differ from run to run on processors with AVX-512.
_X264 = {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0:rc-lookahead=0"}
_VP9 = {"crf": "30", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "0"}
_FORMATS = {
    ".mp4": _Format(
        "mp4",
        {"libx264": _X264, "libopenh264": {"b": "4M"}, "mpeg4": {"qscale": "3"}},
        "yuv420p",
        60_000,  # MPEG-4 Part 2 has at most 65,535
    ),
    ".webm": _Format("webm", {"libvpx-vp9": _VP9, "libvpx": {"crf": "10", "b": "2M"}}, "yuv420p", 1000),
    ".gif": _Format("gif", {"gif": {}}, "pal8", 100, True),
    ".webp": _Format("webp", {"libwebp": {"quality": "75"}}, "yuv420p", 1000, True),
}
FORMATS = tuple(_FORMATS)  # what `VideoWriter` writes, by suffix
_PAGE_FPS = 10
_PAGE_SIDE = 480  # pixels of the longer side
_RATE = 25  # frames a second of a clip that has no rate
_BT709, _LIMITED = 1, 1  # FFmpeg's numbers: colors as players take those of a video that has none


def draw_tracked(pixels: Pixels, tracked: TrackedFrame) -> Image.Image:
    """A frame uint8 [H, W, 3] with its masks; each has the color of its id, and a label of id, phrase and score.

    A small frame is drawn two or more times as large, up to 480 pixels: else labels would hide what they stand at.
    """
    if pixels.shape[:2] != tracked.masks.shape[1:]:
        message = f"masks {list(tracked.masks.shape[1:])} on a frame {list(pixels.shape)}"
        raise ImageError(message, hint="give the frame that they were found in")
    scale = max(1, _PAGE_SIDE // max(pixels.shape))
    large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    masks = [mask.repeat(scale, axis=0).repeat(scale, axis=1) for mask in tracked.masks]
    rows = zip(tracked.ids.tolist(), tracked.prompts, tracked.scores.tolist(), strict=True)
    labels = [f"{number} {prompt} {score:.2f}" for number, prompt, score in rows]
    return draw_labeled(Image.fromarray(large), masks, labels, (tracked.ids - 1).tolist())


def require_pyav() -> ModuleType:
    """PyAV, which writes videos; a `MissingExtraError` if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("writing videos", "video") from error
    return av


class VideoWriter:
    """Writes a video in constant memory; it is put in place when the `with` block ends without an error.

    The same frames and times give the same bytes, with the same version of FFmpeg. An mp4 has H.264 where FFmpeg can
    encode it. GIF and WebP are for pages: at most 480 pixels wide or high, and at most 10 frames a second.

    Args:
        path: the file; its suffix, one of `FORMATS`, says what is written.
        fps: frames a second: how long the last frame is shown, and what players are told. None: 25.
        size: height and width of the frames. An odd one is padded by a row or column in mp4 and webm.

    Raises:
        OutputError: another suffix, not writable, or no frame was added.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: str | Path, fps: float | None, size: tuple[int, int]) -> None:
        av = require_pyav()
        self.path = Path(path)
        if self.path.suffix.lower() not in _FORMATS:
            raise OutputError("a video of an unknown kind", where=str(path), hint=f"call it {', '.join(FORMATS)}")
        check_output(self.path)
        self._format = _FORMATS[self.path.suffix.lower()]
        self._codec = next((name for name in self._format.codecs if name in av.codecs_available), "")
        if not self._codec:
            raise OutputError(
                f"this PyAV cannot encode {self.path.suffix}", where=str(path), hint="give another suffix"
            )
        self._fps, self._size = fps or _RATE, size
        self._times: tuple[float, int] | None = None  # of the first frame in seconds, of the last in ticks from there
        self._run = ExitStack()

    def __enter__(self) -> Self:
        self._run.enter_context(self._writing())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)

    def add(self, pixels: Pixels | Image.Image, time: float) -> None:
        """Write a frame, uint8 [H, W, 3] or an RGB image, that is shown from a time on, in seconds.

        Times may begin anywhere; one that is not later than that of the frame before is moved behind it.
        """
        array = np.asarray(pixels)
        if array.shape != (*self._size, 3):
            message = f"a frame {list(array.shape)} in a video of {list(self._size)} pixels"
            raise ImageError(message, where=str(self.path), hint="give frames of one size")
        ticks, first = self._format.ticks, time
        moment = 0
        if self._times is not None:
            first, last = self._times
            moment = round((time - first) * ticks)
            if self._format.for_pages and moment - last < ticks // _PAGE_FPS:
                return
            moment = max(moment, last + 1)
        self._times = (first, moment)
        frame = self._frame(array)
        frame.pts, frame.time_base = moment, Fraction(1, ticks)
        frame.duration = round(ticks / self._fps)
        self._container.mux(self._stream.encode(frame))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The open file: flushed and put in place at the end, deleted after an error."""
        import av

        form = self._format
        options = {"fflags": "+bitexact", **({"loop": "0"} if form.for_pages else {})}
        try:
            with atomic_file(self.path) as file, av.open(file, "w", form.container, options) as self._container:
                rate = Fraction(self._fps).limit_denominator(1001)
                stream = self._container.add_stream(self._codec, rate, form.codecs[self._codec])
                self._stream = cast("VideoStream", stream)
                height, width = self._shape()
                context = self._stream.codec_context
                context.width, context.height, context.pix_fmt = width, height, form.pixels
                context.time_base = Fraction(1, form.ticks)
                context.thread_count = 1  # the bytes depend on it
                if form.pixels == "yuv420p" and not form.for_pages:
                    context.colorspace = context.color_primaries = context.color_trc = _BT709
                    context.color_range = _LIMITED
                yield
                if self._times is None:
                    raise OutputError("a video without frames is not written", where=str(self.path))
                self._container.mux(self._stream.encode(None))
        except av.FFmpegError as error:
            message = f"the video cannot be written ({error.strerror})"
            raise OutputError(message, where=str(self.path), hint="give another suffix") from error

    def _shape(self) -> tuple[int, int]:
        """Height and width of what is written."""
        height, width = self._size
        if self._format.for_pages:
            scale = min(1, _PAGE_SIDE / max(height, width))
            return max(1, round(height * scale)), max(1, round(width * scale))
        return height + height % 2, width + width % 2

    def _frame(self, array: Pixels) -> "VideoFrame":
        from av import VideoFrame

        height, width = self._shape()
        if self._format.for_pages:
            image = Image.fromarray(array).resize((width, height), Image.Resampling.LANCZOS)
            if self._format.pixels == "pal8":
                return _with_palette(image)
            return VideoFrame.from_ndarray(np.asarray(image)).reformat(format=self._format.pixels)
        padded = np.pad(array, ((0, height - array.shape[0]), (0, width - array.shape[1]), (0, 0)), mode="edge")
        return VideoFrame.from_ndarray(padded).reformat(
            format=self._format.pixels, dst_colorspace=_BT709, dst_color_range=_LIMITED
        )


def _with_palette(image: Image.Image) -> "VideoFrame":
    """A frame of at most 256 colors, chosen for it."""
    from av import VideoFrame

    few = image.quantize(256, dither=Image.Dither.NONE)
    colors = np.zeros((256, 4), dtype=np.uint8)
    colors[:, 0] = 255  # opaque; red, green and blue follow
    found = np.array(few.getpalette(), dtype=np.uint8).reshape(-1, 3)
    colors[: len(found), 1:] = found
    return VideoFrame.from_ndarray((np.asarray(few), colors), format="pal8")  # type: ignore[arg-type]
