"""Overlays: a thing keeps its color, videos keep their times, and nothing is left of a video that was not finished."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")
import av
from PIL import Image

from litetext.errors import ImageError, MissingExtraError, OutputError
from litetext.sam3.drawing import palette
from litetext.video.frames import open_clip
from litetext.video.overlay import FORMATS, VideoWriter, draw_tracked
from litetext.video.tracking import Frame, TrackedFrame
from tests.video.clips import number_of, picture

TIMES = [n / 10 for n in range(12)]


def tracked(ids: list[int], shape: tuple[int, int] = (120, 160)) -> TrackedFrame:
    """Squares from left to right."""
    masks = np.zeros((len(ids), *shape), np.bool_)
    for place, mask in enumerate(masks):
        mask[60:90, 40 * place + 5 : 40 * place + 35] = True
    prompts = tuple(f"thing {number}" for number in ids)
    return TrackedFrame(0, 0.0, np.array(ids), prompts, np.full(len(ids), 0.75, np.float32), masks)


def write(path: Path, times: list[float] = TIMES, size: tuple[int, int] = (64, 96), fps: float | None = 10) -> Path:
    with VideoWriter(path, fps, size) as writer:
        for number, time in enumerate(times):
            writer.add(picture(number, *size), time)
    return path


def read(path: Path) -> list[Frame]:
    with open_clip(path) as clip:
        frames = list(clip)
        assert clip.warnings == []
    return frames


def test_an_id_keeps_its_color_whatever_is_beside_it() -> None:
    gray = np.full((480, 640, 3), 90, np.uint8)
    both = np.asarray(draw_tracked(gray, tracked([7, 2], gray.shape[:2])))
    alone = np.asarray(draw_tracked(gray, tracked([2], gray.shape[:2])))
    assert both[89, 60].tolist() == alone[89, 20].tolist() == list(palette()[1])  # on the outline
    assert both[89, 20].tolist() == list(palette()[6])
    assert both[75, 20].tolist() != both[75, 60].tolist() != [90, 90, 90]
    assert (both[100:] == 90).all()
    assert (gray == 90).all()
    nothing = np.asarray(draw_tracked(gray, tracked([], gray.shape[:2])))
    assert nothing.tolist() == gray.tolist()


def test_small_frames_are_drawn_larger() -> None:
    gray = np.full((120, 160, 3), 90, np.uint8)
    drawn = np.asarray(draw_tracked(gray, tracked([21, 10**12])))
    assert drawn.shape == (360, 480, 3)
    assert (
        (drawn[262:] == 90).all(axis=2) == ~tracked([21, 3]).masks.any(axis=0).repeat(3, 0).repeat(3, 1)[262:]
    ).all()


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ImageError):
        draw_tracked(np.zeros((9, 9, 3), np.uint8), tracked([1]))


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read(suffix: str, tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{name}{suffix}") for name in "ab")
    frames = read(first)
    assert [number_of(frame.pixels) for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
    assert {frame.pixels.shape for frame in frames} == {(64, 96, 3)}
    assert np.abs(frames[0].pixels.astype(int) - picture(0)).mean() < 6
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


def test_mp4_is_h264_and_names_its_colors(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "a.mp4"))) as file:
        stream: Any = file.streams.video[0]
        if "libx264" in av.codecs_available:
            assert stream.codec_context.name == "h264"
        assert (stream.pix_fmt, stream.colorspace, stream.color_range) == ("yuv420p", 1, 1)
        assert float(stream.duration * stream.time_base) == pytest.approx(1.2)  # the last frame is shown, too


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_are_small_and_slow_and_go_on_for_ever(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", [n / 30 for n in range(30)], (360, 640), fps=30)
    frames = read(path)
    assert {frame.pixels.shape for frame in frames} == {(270, 480, 3)}
    assert [frame.time for frame in frames] == pytest.approx([n / 10 for n in range(10)])
    assert [number_of(frame.pixels) for frame in frames] == list(range(0, 30, 3))
    with Image.open(path) as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_times_of_variable_rates_are_kept_from_the_first_on(suffix: str, tmp_path: Path) -> None:
    times = [7, 7.1, 7.101, 8, 8.03, 12]
    frames = read(write(tmp_path / f"a{suffix}", times, fps=None))
    assert [frame.time for frame in frames] == pytest.approx([time - 7 for time in times], abs=1.1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_times_that_stand_still_or_go_back_lose_no_frame(suffix: str, tmp_path: Path) -> None:
    frames = read(write(tmp_path / f"a{suffix}", [0, 0, 0.5, 0.2, 0.6]))
    assert [number_of(frame.pixels) for frame in frames] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (63, 95), (33, 16), (2, 700)])
def test_odd_sizes_lose_no_pixel(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    frame, *_ = read(write(tmp_path / f"a{suffix}", [0, 0.1], size))
    height, width = frame.pixels.shape[:2]
    if suffix in {".mp4", ".webm"}:
        assert (height, width) == tuple(side + side % 2 for side in size)
    else:
        assert max(height, width) == min(max(size), 480)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_error_leaves_the_old_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), VideoWriter(path, 25, (64, 96)) as writer:  # noqa: PT012
        writer.add(picture(0), 0)
        raise ZeroDivisionError
    with pytest.raises(ImageError), VideoWriter(path, 25, (64, 96)) as writer:
        writer.add(picture(0)[:9], 0)
    with pytest.raises(OutputError, match="without frames"), VideoWriter(path, 25, (64, 96)):
        pass
    assert [path.read_bytes(), len(list(tmp_path.iterdir()))] == [b"old", 1]


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.avi", "a", "a.mp4"):
        (tmp_path / "a.mp4").mkdir(exist_ok=True)
        with pytest.raises(OutputError):
            VideoWriter(tmp_path / name, 25, (64, 96))
    monkeypatch.setattr(av, "codecs_available", {"gif"})
    with pytest.raises(OutputError, match="encode"):
        VideoWriter(tmp_path / "b.mp4", 25, (64, 96))
    monkeypatch.setattr(av, "codecs_available", {"mpeg4", "libvpx"})
    for name in ("b.mp4", "b.webm"):
        assert [number_of(frame.pixels) for frame in read(write(tmp_path / name))] == list(range(12))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError):
        VideoWriter(tmp_path / "b.mp4", 25, (64, 96))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_memory_does_not_grow_with_the_frames(suffix: str, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    with VideoWriter(tmp_path / f"a{suffix}", 10, (120, 160)) as writer:
        for number in range(3000):
            writer.add(picture(number % 256, 120, 160), number / 10)
            if number == 300:
                early = psutil.Process().memory_info().rss
        assert psutil.Process().memory_info().rss < early * 1.03
