"""Video files, streams and cameras by PyAV: pictures in the order in which they are shown, upright, of one size."""

import io
import sys
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heappop, heappush
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
        container = av.open(file, "r", format=device, options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"not a video that can be read ({_reason(error)})", where=where, hint=NOT_A_CLIP) from error
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    most = 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)  # as many as Pillow reads
    what = "no pictures in it" if not streams else ""
    if streams and streams[0].width * streams[0].height > most:
        what = f"more than {most:,} pixels in a frame"
    if what:
        what += ", sound only" if not streams and container.streams.audio else ""
        container.close()
        raise ImageError(what, where=where, hint=NOT_A_CLIP)
    context = streams[0].codec_context
    context.thread_count = 1  # several may find other errors in a broken file from one run to the next
    context.options = {"max_pixels": str(min(most, 2**31 - 1))}
    return container, streams[0]


def decode(container: "InputContainer", stream: "VideoStream", notes: list[str]) -> Iterator[Picture]:
    """The pictures; those that cannot be decoded raise when they are asked for. What else is wrong goes into notes."""
    seen, discarded, size = 0, [0], None
    for seconds, frame in _decoded(container, stream, notes, discarded):
        if frame is None or frame.is_corrupt:
            yield seconds, fail
        else:
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height) and not any("size" in note for note in notes):
                notes.append(f"frame {seen} has another size than the first; it and what follows is scaled to that")
            yield seconds, partial(_upright, frame, size)
        seen += 1
    if seen + discarded[0] < stream.frames:
        notes.append(f"the file ends after {seen} frames; it was to have {stream.frames}")


def fail(reason: str = "damaged data") -> NoReturn:
    """Say that a picture cannot be read."""
    raise ImageError(reason)


def _decoded(
    container: "InputContainer", stream: "VideoStream", notes: list[str], discarded: list[int]
) -> Iterator[tuple[float | None, "VideoFrame | None"]]:
    """Decoded frames with their times, None for those that could not be decoded.

    A decoder says nothing of the frames that it fails to make. They are found by the times of their packets: one that
    is earlier than a frame which comes out has been lost. AVI has no such times.
    """
    waiting: list[int] = []  # a heap: times of the packets whose frames have not come out
    has_times, is_damaged = container.format.name != "avi", False
    for packet in _packets(container, stream, notes):
        frames = _decode_packet(stream, packet)
        is_damaged = is_damaged or frames is None or any(frame.is_corrupt for frame in frames)
        if packet.is_discard:
            discarded[0] += 1
        elif has_times and packet.pts is not None and not _is_hidden(stream.codec_context.name, packet):
            heappush(waiting, packet.pts)
        elif frames is None:
            yield None, None
        for frame in (*(frames or ()), None):
            moment = frame.pts if frame is not None and has_times else None
            for lost in _overdue(waiting, np.inf if frame is None and not packet.size else moment):
                if is_damaged:  # else it has no picture, as before the first key frame of a stream
                    yield float(lost * (stream.time_base or 0)), None
            if frame is not None:
                yield None if moment is None else frame.time, frame


def _packets(container: "InputContainer", stream: "VideoStream", notes: list[str]) -> Iterator["Packet[Any]"]:
    """The packets of a stream up to its end, or to where it cannot be read; an empty one last, to empty the decoder."""
    import av

    try:
        for packet in container.demux(stream):
            if packet.size or packet.dts is None:  # an empty one with a time repeats the frame before it
                yield packet
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


def _overdue(waiting: list[int], moment: float | None) -> Iterator[int]:
    """Take from a heap the times before that of a frame, and its own; more if too many wait. All but its own are given.

    A frame whose time is None tells nothing of those that wait.
    """
    while waiting and (len(waiting) > _MOST_WAITING or (moment is not None and waiting[0] <= moment)):
        if (earliest := heappop(waiting)) != moment:
            yield earliest


def _upright(frame: "VideoFrame", size: tuple[int, int]) -> Pixels:
    """RGB of a frame at a width and height, then turned and mirrored as its display matrix asks."""
    pixels = np.asarray(frame.reformat(*size, format="rgb24").to_ndarray(), dtype=np.uint8)
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))
