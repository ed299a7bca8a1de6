"""An image is what a viewer shows: upright, RGB, 8 bits, whatever it is stored as."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from litetext.errors import ImageError
from litetext.sam3.images import find_images, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_pixels() -> Image.Image:
    """Red left of blue."""
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    return image


def pixels(image: Image.Image) -> list[Any]:
    return np.asarray(image).tolist()


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, [[RED, BLUE]]),
        (2, [[BLUE, RED]]),
        (3, [[BLUE, RED]]),
        (4, [[RED, BLUE]]),
        (5, [[RED], [BLUE]]),
        (6, [[RED], [BLUE]]),
        (7, [[BLUE], [RED]]),
        (8, [[BLUE], [RED]]),
    ],
)
def test_the_exif_orientation_is_applied(orientation: int, shown: list[Any], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.png"
    two_pixels().save(path, exif=exif)
    expected = [[list(pixel) for pixel in row] for row in shown]
    assert pixels(read_image(path)) == expected
    assert pixels(read_image(str(path))) == expected
    with Image.open(path) as opened:
        assert pixels(read_image(opened)) == expected
        assert pixels(read_image(read_image(opened))) == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    source = two_pixels()
    if mode == "PA":
        source = source.convert("P")
    elif mode == "LAB":
        source = Image.new("LAB", (2, 1))
    image = read_image(source.convert(mode))
    assert (image.mode, image.size) == ("RGB", (2, 1))


def test_transparency_is_white() -> None:
    clear = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    half = Image.new("LA", (1, 1), (0, 128))
    assert pixels(read_image(clear)) == [[[255, 255, 255]]]
    assert pixels(read_image(half)) == [[[127, 127, 127]]]
    palette = Image.new("P", (1, 1), 0)
    palette.info["transparency"] = 0
    assert pixels(read_image(palette)) == [[[255, 255, 255]]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    expected = [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]
    Image.fromarray(values).save(tmp_path / "x.png")
    Image.fromarray(values).save(tmp_path / "x.tif")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "y.tif")
    for source in (values, tmp_path / "x.png", tmp_path / "x.tif", tmp_path / "y.tif", Image.fromarray(values)):
        assert pixels(read_image(source)) == expected
    colour = np.stack([values] * 3, axis=-1)
    assert pixels(read_image(colour)) == expected


@pytest.mark.parametrize(
    "array",
    [
        np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8),
        np.array([[[1, 0, 0], [0, 0, 1]]], dtype=np.float32),
        np.array([[[1, 0, 0], [0, 0, 1]]], dtype=np.float64),
        np.array([[[1, 0, 0], [0, 0, 1]]], dtype=np.bool_),
        np.array([[[255, 0, 0, 255], [0, 0, 255, 255]]], dtype=np.uint8),
        np.array([[[65535, 0, 0], [0, 0, 65535]]], dtype=np.uint16),
        np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)[::-1],
    ],
)
def test_arrays(array: Any) -> None:
    assert pixels(read_image(array)) == [[list(RED), list(BLUE)]]


def test_grey_arrays() -> None:
    grey = np.array([[0, 255]], dtype=np.uint8)
    assert pixels(read_image(grey)) == pixels(read_image(grey[..., None])) == [[[0] * 3, [255] * 3]]
    assert pixels(read_image(np.array([[False, True]]))) == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((3, 8, 8), np.uint8), "not an image"),
        (np.zeros((0, 8, 3), np.uint8), "not an image"),
        (np.zeros(8, np.uint8), "not an image"),
        (np.zeros((8, 8), np.int64), "not an image"),
        (np.full((8, 8), 2.0), "numbers outside 0 to 1"),
        (np.full((8, 8), np.nan), "numbers outside 0 to 1"),
        (Image.new("F", (1, 1), 0.5), "white"),
        (Image.new("I", (1, 1), -1), "white"),
        (Image.new("RGB", (0, 3)), "an image of 0 x 3 pixels"),
        ([[1, 2]], "a list is not an image"),
    ],
)
def test_what_is_no_image_is_refused(array: Any, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        read_image(array)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    Image.effect_noise((64, 64), 50).save(good)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(good.read_bytes()[:-400])
    text = tmp_path / "text.png"
    text.write_text("hello")
    for path, complaint in [
        (broken, "cannot be read"),
        (text, "not an image"),
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "a folder"),
    ]:
        with pytest.raises(ImageError, match=complaint) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_large_images_do_not_warn_and_too_large_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_000)
    assert read_image(path).size == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000)
    with pytest.raises(ImageError, match="more pixels than Pillow reads"):
        read_image(path)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert pixels(read_image(tmp_path / "x.gif"))[0][0] == list(RED)


def test_files_folders_and_globs_are_found(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "b/._1.jpg", "b/notes.txt", "a.webp", "odd[1].png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    names = [str(tmp_path / "a.webp"), str(tmp_path / "b"), str(tmp_path / "*.webp"), str(tmp_path / "gone.png")]
    found = [str(path.relative_to(tmp_path)) for path in find_images([*names, str(tmp_path / "odd[1].png")])]
    assert found == ["a.webp", "b/1.jpg", "b/2.PNG", "gone.png", "odd[1].png"]
    assert len(find_images([str(tmp_path / "**" / "*.jpg")])) == 1


def test_nothing_found_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no images in the folder"):
        find_images([str(tmp_path)])
    with pytest.raises(ImageError, match=r"no such file, .*gone.png"):
        find_images([str(tmp_path / "gone.png"), str(tmp_path / "gone too.png")])
    with pytest.raises(ImageError, match="no file matches"):
        find_images([str(tmp_path / "*.png")])
    address = "https://example.com/a.jpg"
    for read in (read_image, lambda source: find_images([source])):
        with pytest.raises(ImageError, match=f"web address, not a file, {address}; download"):
            read(address)


def test_pictures_of_other_formats_are_named_not_passed_over(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.TGA")
    Image.new("RGB", (4, 4)).save(tmp_path / "d.dng", "TIFF")  # a raw photograph has a small preview in it
    for name in ("c.heic", "e.jxl", "f.psd", "g.svg", "notes.txt", "raw.nef", "h.cr2"):
        (tmp_path / name).write_bytes(b"something")
    found = find_images([str(tmp_path)])
    assert [file.name for file in found] == [
        "a.png", "b.TGA", "c.heic", "d.dng", "e.jxl", "f.psd", "g.svg", "h.cr2", "raw.nef",
    ]  # fmt: skip
    for file in found[1:]:
        with pytest.raises(ImageError, match=r"a format that is not read|a raw photograph"):
            read_image(file)


def test_what_would_start_another_program_is_not_read(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png", "EPS")  # Pillow runs Ghostscript for it
    with pytest.raises(ImageError, match="not an image"):
        read_image(tmp_path / "x.png")


def test_pixels_are_counted_before_they_take_memory(tmp_path: Path) -> None:
    header = b"P6 70000 70000 255\n"  # 14.7 GB
    (tmp_path / "x.ppm").write_bytes(header)
    with pytest.raises(ImageError, match="178,956,970"):
        read_image(tmp_path / "x.ppm")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.jpg", {}),
        ("x.jpg", {"progressive": True}),
        ("x.png", {}),
        ("x.tif", {}),
        ("x.tif", {"compression": "tiff_lzw"}),
        ("x.webp", {}),
        ("x.gif", {}),
        ("x.bmp", {}),
    ],
)
def test_damaged_files_are_one_line_or_an_image(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:]), exif=exif, **options)
    rng, path = random.Random(0), tmp_path / name
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        for _ in range(rng.randrange(6)):
            place = rng.randrange(min(len(data), rng.choice([64, 512, 1 << 20])) or 1)
            data[place : place + 1] = bytes([rng.choice([0, 127, 255, rng.randrange(256)])])
        path.write_bytes(data)
        try:
            mode = read_image(path).mode
        except ImageError:
            continue
        assert mode == "RGB"
