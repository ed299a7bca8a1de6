"""Clips of every kind give the frames that a player shows, with their numbers and times; bad ones are named."""

import contextlib
import io
import os
import random
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("av")
import av

from litetext.errors import ImageError, LiteTextError, MissingExtraError, OptionError
from litetext.video.frames import open_clip
from litetext.video.tracking import Frame
from tests.video.clips import number_of, picture, write_clip

KINDS = [
    ("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4"),
    ("b.avi", "libx264"), ("a.webm", "libvpx-vp9"), ("b.webm", "libvpx"), ("a.mjpeg", "mjpeg"), ("a.flv", "flv"),
]  # fmt: skip
TIMES = [n / 10 for n in range(20)]
GREEN, RED = (0, 255, 0), (255, 0, 0)


def read(source: Any, **options: Any) -> list[Frame]:
    with open_clip(source, **options) as clip:
        return list(clip)


def numbers(frames: list[Frame]) -> list[int]:
    return [number_of(frame.pixels) for frame in frames]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, codec = request.param
    gray = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"auto-alt-ref": "1", "lag-in-frames": "16"} if codec.startswith("libvpx") else {}
    return write_clip(tmp_path_factory.mktemp("clips") / name, codec, options=options, pixel_format=gray)


def test_every_container_gives_all_frames_with_numbers_and_times(video: Path) -> None:
    with open_clip(video) as clip:
        for _ in range(2):
            frames = list(clip)
            assert numbers(frames) == [frame.index for frame in frames] == list(range(20))
            if video.suffix != ".mjpeg":  # which has no times
                assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
                assert clip.fps == pytest.approx(10)
            assert (clip.broken, clip.warnings) == ([], [])
        assert clip.count in (None, 20)
        assert (clip.name, clip.replayable) == (video.stem, True)
    assert frames[0].pixels.dtype == np.uint8
    assert np.abs(frames[0].pixels[4, 4].astype(int) - RED).max() < 40


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_rates_keep_their_times(name: str, tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.9, 1.0, 1.03, 5]
    frames = read(write_clip(tmp_path / name, times=times))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    assert numbers(read(tmp_path / name, start="0.15s", stop="0:01.03")) == [2, 3, 4]


def test_times_begin_with_the_first_frame(tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "a.mkv", times=[7 + time for time in TIMES]), start="1s")
    assert [frame.index for frame in frames] == list(range(10, 20))
    assert frames[0].time == pytest.approx(1)


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
    ],
)
def test_what_the_file_wants_turned_is_turned(matrix: tuple[int, ...], turned: Any, tmp_path: Path) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    frames = read(write_clip(tmp_path / "a.mp4", times=[0, 0.1], matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30]))
    expected = turned(picture(0)).astype(int)
    assert frames[0].pixels.shape == expected.shape
    assert np.abs(frames[0].pixels - expected).mean() < 8
    assert frames[0].pixels.flags.c_contiguous


@pytest.mark.parametrize("size", [(63, 95), (1, 1), (2, 301)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "a.webm", "libvpx-vp9", [0, 0.1], size=size))
    assert [frame.pixels.shape for frame in frames] == [(*size, 3)] * 2


def damage(path: Path, packets: list[int]) -> Path:
    """Overwrite most bytes of some packets with noise."""
    with av.open(str(path)) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for packet in packets:
        position, size = places[packet]
        first = min(8, size // 4)
        data[position + first : position + size] = random.Random(packet).randbytes(size - first)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("name", "codec"), [kind for kind in KINDS[:8] if kind[0] != "a.ts"])
def test_broken_frames_are_left_out_and_the_others_keep_their_numbers(name: str, codec: str, tmp_path: Path) -> None:
    path = damage(write_clip(tmp_path / name, codec, [n / 10 for n in range(40)]), [13, 20])
    with open_clip(path) as clip:
        frames = list(clip)
    found = [frame.index for frame in frames]
    assert sorted([*found, *clip.broken]) == list(range(40))
    # What refers to a broken frame may come out spoiled, but frames before it and after the next key frame do not.
    sure = [frame for frame in frames if not 12 <= frame.index < 30]
    assert len(sure) == 22
    assert numbers(sure) == [frame.index for frame in sure]
    assert [frame.time for frame in frames][:12] == pytest.approx([n / 10 for n in range(12)], abs=1e-3)
    assert 1 <= len(clip.broken) < 14
    assert str(clip.broken[0]) in clip.warnings[0]
    with open_clip(path) as again:
        assert [frame.index for frame in again] == found


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mp4", "libx264")]
)
def test_files_cut_short_give_what_is_there_and_say_so(name: str, codec: str, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    path = write_clip(tmp_path / name, codec, [n / 10 for n in range(200)], container=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with open_clip(path) as clip:
        frames = list(clip)
        assert 20 < len(frames) < 199
        assert numbers(frames[:-3]) == [n % 256 for n in range(len(frames) - 3)]
        assert clip.warnings


def test_an_unfinished_mp4_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ImageError, match=r"a\.mp4"):
        open_clip(path)


def test_a_size_that_changes_in_a_video_is_scaled_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    with path.open("wb") as file:
        for number in range(6):
            size = (64, 96) if number < 3 else (128, 192)
            Image.fromarray(picture(number, *size)).save(file, "JPEG", quality=95)
    with open_clip(path) as clip:
        frames = list(clip)
    assert numbers(frames) == list(range(6))
    assert {frame.pixels.shape for frame in frames} == {(64, 96, 3)}
    assert len(clip.warnings) == 1
    assert "frame 3" in clip.warnings[0]


@pytest.fixture
def stdin(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A function that puts bytes on standard input through a pipe."""
    saved = os.dup(0)

    def feed(data: bytes) -> None:
        out, into = os.pipe()
        os.dup2(out, 0)
        os.close(out)

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(into, "wb") as pipe:
                pipe.write(data)

        Thread(target=write, daemon=True).start()

    yield feed
    os.dup2(saved, 0)
    os.close(saved)


def joined(kind: str) -> bytes:
    file = io.BytesIO()
    for number in range(20):
        Image.fromarray(picture(number)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["a.webm", "a.mkv", "a.ts", "fragmented.mp4", "PNG", "JPEG"])
def test_streams_on_standard_input(kind: str, stdin: Any, tmp_path: Path) -> None:
    if "." in kind:
        codec = "libvpx-vp9" if kind == "a.webm" else "libx264"
        data = write_clip(tmp_path / kind, codec, container={"movflags": "frag_keyframe+empty_moov"}).read_bytes()
    else:
        data = joined(kind)
    stdin(data)
    with open_clip("-") as clip:
        assert (clip.name, clip.replayable) == ("stdin", False)
        assert numbers(list(clip)) == list(range(20))
        with pytest.raises(ImageError, match="only once"):
            next(iter(clip))


@pytest.mark.parametrize("data", [b"", b"no video at all\n" * 999, bytes(5000)])
def test_standard_input_without_a_video(data: bytes, stdin: Any) -> None:
    stdin(data)
    with pytest.raises(ImageError, match="standard input"):
        open_clip("-")


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_have_the_times_of_their_durations(name: str, tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture(number)) for number in range(5)]
    durations = [100, 200, 50, 50, 100]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=durations, lossless=True)
    with open_clip(tmp_path / name) as clip:
        assert (clip.count, clip.size, clip.fps) == (5, (64, 96), 10)
        frames = list(clip)
        assert [frame.pixels.tobytes() for frame in clip] == [frame.pixels.tobytes() for frame in frames]
    assert numbers(frames) == list(range(5))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.35, 0.4])
    assert numbers(read(tmp_path / name, every=2, start=1)) == [1, 3]


def test_a_gif_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    pictures = [Image.fromarray(picture(number)) for number in range(9)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_clip(path) as clip:
        frames = list(clip)
        assert numbers(frames) == list(range(len(frames)))
        assert 2 < len(frames) < 9
        assert clip.warnings


def test_one_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(3)).save(tmp_path / "a.png", exif=exif)
    with open_clip(tmp_path / "a.png") as clip:
        (frame,) = clip
        assert (clip.count, frame.index, frame.time) == (1, 0, 0)
    assert frame.pixels.tolist() == np.rot90(picture(3), -1).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """frame1.png to frame12.png."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(picture(number)).save(folder / f"frame{number + 1}.png")
    return folder


def test_folders_globs_and_lists_of_frames(folder: Path) -> None:
    with open_clip(folder) as clip:
        assert (clip.name, clip.count, clip.replayable) == ("frames", 12, True)
        frames = list(clip)
    assert numbers(frames) == list(range(12))
    assert [frame.time for frame in frames[:3]] == pytest.approx([0, 0.04, 0.08])
    assert numbers(read(str(folder / "frame1*.png"))) == [0, 9, 10, 11]
    assert numbers(read([folder / "frame3.png", folder / "frame2.png"])) == [2, 1]
    assert numbers(read([folder])) == list(range(12))
    (folder / "frame3.png").write_bytes(b"broken")
    with open_clip(folder) as clip:
        assert [frame.index for frame in clip] == [0, 1, *range(3, 12)]
        assert clip.broken == [2]
        assert "frame3.png" in clip.warnings[0]
    Image.fromarray(picture(5, 32, 48)).save(folder / "frame5.png")
    with pytest.raises(ImageError, match="frame 4 has 48 x 32 pixels"):
        read(folder)


def test_arrays_and_pictures_are_asked_for_one_by_one() -> None:
    asked = []

    def make() -> Iterator[Any]:
        for number in range(5):
            asked.append(number)
            yield picture(number) if number % 2 else Image.fromarray(picture(number))

    with open_clip(make()) as clip:
        assert (clip.count, clip.replayable) == (None, False)
        frames = iter(clip)
        assert asked == []
        next(frames)
        assert asked == [0]
        assert numbers(list(frames)) == [1, 2, 3, 4]
    pile = np.stack([picture(number) for number in range(4)])
    with open_clip(pile) as clip:
        assert (clip.count, clip.replayable) == (4, True)
        assert numbers(list(clip)) == [0, 1, 2, 3] == numbers(list(clip))


@given(
    total=st.integers(1, 9),
    every=st.integers(1, 4),
    start=st.one_of(st.none(), st.integers(0, 10)),
    stop=st.one_of(st.none(), st.integers(1, 10)),
)
def test_spans_are_slices(total: int, every: int, start: int | None, stop: int | None) -> None:
    pile = np.stack([picture(number, 8, 8) for number in range(total)])
    expected = list(range(total))[start:stop:every]
    if stop is not None and stop <= (start or 0):
        with pytest.raises(OptionError):
            open_clip(pile, every=every, start=start, stop=stop)
        return
    for first, last in (
        (start, stop),
        (None if start is None else f"{start / 25}s", None if stop is None else f"0:{stop / 25}"),
    ):
        with open_clip(pile, every=every, start=first, stop=last) as clip:
            assert clip.count == len(expected)
            if expected:
                assert [frame.index for frame in clip] == expected
            else:
                with pytest.raises(ImageError, match="no frames"):
                    list(clip)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "1:2:3:4", "s", "٣", "1e3s", -1, "nans", "1" * 5000])
def test_what_is_no_moment(value: Any) -> None:
    with pytest.raises(OptionError):
        open_clip(np.zeros((1, 2, 2, 3), np.uint8), start=value)


def test_options_that_make_no_sense() -> None:
    for options in (
        {"every": 0},
        {"every": 1.5},
        {"stop": 0},
        {"start": 3, "stop": 3},
        {"start": "2s", "stop": "1s"},
        {"camera": 0},
    ):
        with pytest.raises(OptionError):
            open_clip(np.zeros((1, 2, 2, 3), np.uint8), **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        open_clip()


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(ImageError, match="camera 97"):
        open_clip(camera=97)


@pytest.mark.parametrize("source", [np.zeros((4, 4), np.uint8), Image.new("RGB", (4, 4)), 3, []])
def test_what_is_no_clip(source: Any) -> None:
    with pytest.raises(ImageError):
        read(source)


def test_files_that_are_no_clips(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "frame.png")
    playlists = {
        "a.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        "b.mp4": b"ffconcat version 1.0\nfile frame.png\n",
        "c.mp4": b"",
        "d.mp4": b"some text\n" * 100,
        "e.gif": b"GIF89a",
        "f.png": b"no picture",
    }
    for name, data in playlists.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=name):
            read(tmp_path / name)
    (tmp_path / "empty").mkdir()
    for missing in ("gone.mp4", "empty", "*.jpg"):
        with pytest.raises(ImageError):
            open_clip(tmp_path / missing)


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(ImageError, match="sound only"):
        open_clip(path)


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 96 // 2 - 1)
    with pytest.raises(ImageError, match="pixels"):
        open_clip(path)


def test_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="video"):
        open_clip(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("whole")
    paths = [write_clip(folder / name, codec, TIMES[:8]) for name, codec in KINDS if codec != "mjpeg"]
    pictures = [Image.fromarray(picture(number)) for number in range(4)]
    for name in ("a.gif", "a.webp", "a.png"):
        paths.append(folder / name)
        pictures[0].save(paths[-1], save_all=True, append_images=pictures[1:], duration=100)
    return paths


@settings(max_examples=150)
@given(data=st.data())
def test_any_damage_ends_in_frames_or_one_error(files: list[Path], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    bad = path.with_name(f"bad-{path.name}")
    bad.write_bytes(content[:end])
    try:
        with open_clip(bad) as clip:
            frames = [(frame.index, frame.pixels.shape) for frame in clip]
    except LiteTextError:
        return
    found = [index for index, _ in frames]
    assert found == sorted(set(found) - set(clip.broken))
    assert len({shape for _, shape in frames}) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    path = write_clip(tmp_path / "a.mkv", times=[n / 10 for n in range(4000)], size=(240, 320))
    with open_clip(path) as clip:
        for frame in clip:
            if frame.index == 400:
                early = psutil.Process().memory_info().rss
    assert frame.index == 3999
    assert psutil.Process().memory_info().rss < early * 1.05
