"""Video files, streams and cameras by PyAV: pictures in the order in which they are shown, upright, of one size."""

import io
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from heapq import heappop, heappush
from itertools import repeat
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from litetext.errors import ImageError, MissingExtraError, first_line

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = npt.NDArray[np.uint8]
# A frame's seconds (None: it has no time of its own), and a function that gives its pixels or raises an `ImageError`.
Picture = tuple[float | None, Callable[[], Pixels]]
NOT_A_CLIP = "give a video, a GIF or WebP, a picture, or a folder or glob of frames"
# FFmpeg's readers of single files. It has others, which open further files or addresses that a file names.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,obu,flv,asf,ogg,nut,mxf,yuv4mpegpipe,"
    "mjpeg,mpjpeg,jpeg_pipe,png_pipe,bmp_pipe,webp_pipe,tiff_pipe,pam_pipe,pgm_pipe,ppm_pipe,gif,apng"
)
_MOST_WAITING = 64  # frames that a decoder may hold back to put them in order; H.264 has at most 16


def open_video(file: str | io.FileIO, where: str, device: str | None = None) -> tuple["InputContainer", "VideoStream"]:
    """A container and its video stream, ready for `decode`; ``where`` names it in errors.

    Args:
        file: an address of FFmpeg ("file:/path"), an open file that need not be able to seek, or a camera's name.
        where: what to call it in errors.
        device: FFmpeg's name of the camera system.

    Raises:
        ImageError: not a video, sound only, too many pixels.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
        from av.stream import Disposition
    except ImportError as error:
        raise MissingExtraError("reading videos", "video") from error
    options = {} if device else {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    try:
        container = av.open(file, "r", format=device, options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"not a video that can be read ({_reason(error)})", where=where, hint=NOT_A_CLIP) from error
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    most = 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)  # as many as Pillow reads
    what = ""
    if not streams:
        what = "sound only, no pictures" if container.streams.audio else "no pictures in it"
    elif streams[0].codec_context is None:  # PyAV's types leave that out
        what = "pictures in an unknown code"
    elif streams[0].width * streams[0].height > most:
        what = f"more than {most:,} pixels in a frame"
    if what:
        container.close()
        raise ImageError(what, where=where, hint=NOT_A_CLIP)
    context = streams[0].codec_context
    context.thread_count = 1  # several may find other errors in a broken file from one run to the next
    context.options = {"max_pixels": str(min(most, 2**31 - 1))}
    return container, streams[0]


def decode(container: "InputContainer", stream: "VideoStream", notes: list[str]) -> Iterator[Picture]:
    """The pictures; those that cannot be decoded raise when they are asked for. What else is wrong goes into notes."""
    seen, unseen, end, size, matrix = 0, [0], 0.0, (0, 0), (1, 0, 0, 1)
    for seconds, frame in _decoded(container, stream, notes, unseen):
        if frame is None or frame.is_corrupt:
            yield seconds, fail
        else:
            if not size[0]:
                # Once only: side data and their frame hold each other until Python collects its garbage.
                size, matrix = (frame.width, frame.height), _matrix(frame)
            if size != (frame.width, frame.height) and not any("size" in note for note in notes):
                notes.append(f"frame {seen} has another size than the first; it and what follows is scaled to that")
            yield seconds, partial(_upright, frame, size, matrix)
        seen, end = seen + 1, seconds or end
    total = 0 if container.format.name == "avi" else stream.frames  # AVI counts frames that repeat the one before
    if seen + unseen[0] < total:
        notes.append(f"the file ends after {seen} frames; it was to have {total - unseen[0]}")
    length = (container.duration or 0) / 1e6  # of its longest stream; sound may well be longer than the pictures
    if not total and not container.streams.audio and 0 < end < length - 1:
        notes.append(f"the file ends after {end:.1f} s; it was to last {length:.1f} s")


def fail(reason: str = "damaged data") -> NoReturn:
    """Say that a picture cannot be read."""
    raise ImageError(reason)


def _decoded(
    container: "InputContainer", stream: "VideoStream", notes: list[str], unseen: list[int]
) -> Iterator[tuple[float | None, "VideoFrame | None"]]:
    """Decoded frames with their times, None for those that could not be decoded."""
    order = _Order(stream.time_base or Fraction(0))
    # AVI tells only the order of the packets, which is that of the frames unless some refer to later ones.
    has_times = container.format.name != "avi" or not stream.codec_context.has_b_frames
    for packet in _packets(container, stream, notes, unseen):
        frames = _decode_packet(stream, packet)
        order.is_damaged |= frames is None or packet.is_corrupt or any(frame.is_corrupt for frame in frames)
        if has_times and packet.pts is not None:
            if not packet.is_discard and not _is_hidden(stream.codec_context.name, packet):
                heappush(order.waiting, packet.pts)
        elif frames is None:
            yield None, None
        for frame in frames or ():
            moment = frame.pts if has_times else None
            yield from zip(order.lost_before(moment), repeat(None))
            if not order.is_late(moment):
                yield None if moment is None else frame.time, frame
        yield from zip(order.lost_before(None if packet.size else np.inf), repeat(None))


class _Order:
    """Finds the frames that a decoder fails to make, of which it says nothing, by the times of their packets.

    If a frame comes out, those that were to be shown before it and have not come out are lost. Where nothing is damaged
    such packets have no picture, as those before the first key frame of a stream.

    Attributes:
        waiting: a heap of the times of packets whose frames have not come out.
        is_damaged: whether anything has been found broken.
    """

    def __init__(self, time_base: Fraction) -> None:
        self.waiting: list[int] = []
        self.is_damaged = False
        self._time_base, self._last = time_base, -np.inf

    def lost_before(self, moment: float | None) -> list[float]:
        """Seconds of the frames lost before one that comes out; where its time is None, of those that wait too long."""
        lost = []
        while self.waiting and (
            len(self.waiting) > _MOST_WAITING or (moment is not None and self.waiting[0] <= moment)
        ):
            if (earliest := heappop(self.waiting)) != moment:
                lost.append(earliest)
        # Of interlaced video, every second packet may have no picture of its own.
        self.is_damaged |= len(lost) > 1 and self._last > -np.inf
        if not self.is_damaged or not lost:
            return []
        self._last = lost[-1]
        return [float(one * self._time_base) for one in lost]

    def is_late(self, moment: float | None) -> bool:
        """Whether a frame comes after one that is shown later, and has been given up: damage can mix the order up."""
        if moment is None:
            return False
        is_late = self.is_damaged and moment <= self._last
        self._last = max(self._last, moment)
        return is_late


def _packets(
    container: "InputContainer", stream: "VideoStream", notes: list[str], unseen: list[int]
) -> Iterator["Packet[Any]"]:
    """The packets of a stream up to its end, or to where it cannot be read; an empty one last, to empty the decoder.

    ``unseen`` counts those whose frames are not to be shown.
    """
    import av

    try:
        for packet in container.demux(stream):
            if packet.size or packet.dts is None:  # an empty one with a time repeats the frame before it
                yield packet
                unseen[0] += packet.is_discard
    except (av.FFmpegError, OSError) as error:
        notes.append(f"the file cannot be read to its end ({_reason(error)})")
        yield av.Packet()


def _decode_packet(stream: "VideoStream", packet: "Packet[Any]") -> list["VideoFrame"] | None:
    import av

    try:
        return stream.decode(packet)
    except av.EOFError:
        return []
    except av.FFmpegError:
        return None


def _is_hidden(codec: str, packet: "Packet[Any]") -> bool:
    """Whether a packet has a VP8 frame that only helps to decode others: bit 4 of its first byte says "show"."""
    return codec == "vp8" and not bytes(packet)[0] & 0x10


def _matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """Where a frame's pixels are to be shown: a pixel at (x, y) goes to (a x + c y, b x + d y)."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _upright(frame: "VideoFrame", size: tuple[int, int], matrix: tuple[int, int, int, int]) -> Pixels:
    """RGB of a frame at a width and height, then turned and mirrored by quarters as its matrix asks."""
    pixels = np.asarray(frame.reformat(*size, format="rgb24").to_ndarray(), dtype=np.uint8)
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))
