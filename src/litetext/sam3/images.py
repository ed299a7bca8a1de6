"""Images as a model wants them: upright, RGB, 8 bits, from a path, a PIL image or an array."""

import glob
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from litetext.errors import ImageError, first_line

ImageSource = str | Path | Image.Image | npt.NDArray[Any]
SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".avif",
)  # fmt: skip
# No others: Pillow would start Ghostscript for an EPS file that is called .png.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM", "AVIF")
# Raw photographs are TIFF files to Pillow, which would read the small preview in them.
_RAW = (
    ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr", ".iiq", ".raw",
)  # fmt: skip
# Pictures that are not read: in a folder they are taken up all the same, so that reading them says so.
_OTHERS = (
    *_RAW, ".heic", ".heif", ".hif", ".jxl", ".tga", ".psd", ".psb", ".svg", ".svgz", ".exr", ".hdr", ".dds", ".pcx",
)  # fmt: skip
# What Pillow's decoders raise on broken files.
BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
_CONVERT = "convert it to JPEG, PNG, TIFF or WebP"
_SIXTEEN_BITS = 65535
_ARRAYS = "give [H, W], [H, W, 3] or [H, W, 4]: 8 or 16 bits unsigned, or 0 to 1 in floating point"


def read_image(source: ImageSource) -> Image.Image:
    """An image as a viewer shows it: upright by its EXIF orientation, in RGB, with 8 bits a channel.

    What is transparent is laid over white. 16-bit values are divided by 257, so that white stays white; nothing is
    stretched. Of an animation the first frame is read.

    Args:
        source: a path, a PIL image, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of bool, uint8, uint16, or
            floating point from 0 to 1.

    Returns:
        A new RGB image; of a PIL image with an orientation in its EXIF data the size may be that of the image on its
        side, so masks belong to what this function returns.

    Raises:
        ImageError: no such file, not an image, broken, empty, or numbers in a range that says nothing of brightness.
    """
    if isinstance(source, str | Path):
        with opened(Path(source)) as image:
            return _as_rgb(image, str(Path(source)))
    if isinstance(source, Image.Image):
        return _as_rgb(source, "the PIL image")
    if isinstance(source, np.ndarray):
        return _as_rgb(_from_array(source), "the array")
    raise ImageError(f"a {type(source).__name__} is not an image", hint="give a path, a PIL image or an array")


def find_images(sources: Sequence[str], leave_out: Collection[Path] = ()) -> list[Path]:
    """The image files that paths, folders and globs mean, each once, in the order given; folders are sorted.

    A path that is not there is kept, and so is a picture of a folder in a format that is not read (.heic, .dng): it is
    reported when it is read, and does not stop the others.

    Args:
        sources: what the user named.
        leave_out: files, and folders, that do not count in folders and globs: what an earlier run wrote there.

    Raises:
        ImageError: a folder without images, a glob that nothing matches, or no file at all.
    """
    found: dict[Path, None] = {}
    ours = {path.resolve() for path in leave_out}

    def counts(file: Path) -> bool:
        return file.is_file() and not (ours and {(path := file.resolve()), *path.parents} & ours)

    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if _is_image_name(file) and counts(file))
            if not files:
                raise ImageError("no images in the folder", where=source, hint=f"it reads {', '.join(SUFFIXES)}")
        elif path.exists() or not glob.has_magic(source):
            files = [path]
        else:
            matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 - may be absolute
            files = sorted(filter(counts, matches))
            if not files:
                raise ImageError("no file matches", where=source, hint="check the pattern")
        found.update(dict.fromkeys(files))
    if found and not any(path.is_file() for path in found):
        raise _not_a_file(next(iter(found)))
    return list(found)


def _not_a_file(path: Path) -> ImageError:
    if path.parts[:1] in (("http:",), ("https:",)):
        address = str(path).replace(":/", "://", 1)
        return ImageError("a web address, not a file", where=address, hint="download it, and give the path of the file")
    what = "a folder, not an image" if path.is_dir() else "no such file"
    return ImageError(what, where=str(path), hint="check the path")


def _is_image_name(file: Path) -> bool:
    """Whether a file of a folder is to be read; hidden ones are not (macOS puts "._photo.jpg" beside "photo.jpg")."""
    return file.suffix.lower() in (*SUFFIXES, *_OTHERS) and not file.name.startswith(".")


def _open(path: Path) -> Image.Image:
    """Pillow's `open`; the formats that it knows without loading all of its modules are tried first."""
    Image.preinit()
    with suppress(UnidentifiedImageError):
        return Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
    return Image.open(path, formats=_formats())


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this build of Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file as Pillow opens it; what is wrong with it, in the block too, becomes an `ImageError`."""
    if not path.is_file():
        raise _not_a_file(path)
    if path.suffix.lower() in _RAW:
        raise ImageError("a raw photograph", where=str(path), hint=_CONVERT)
    try:
        with warnings.catch_warnings():
            # Above 89 million pixels Pillow warns; a large photograph is no attack. Above twice that it refuses.
            warnings.simplefilter("ignore")
            with _open(path) as image:
                yield image
    except UnidentifiedImageError as error:
        suffix = path.suffix.lower()
        what = f"a format that is not read ({suffix})" if suffix in _OTHERS else "not an image"
        raise ImageError(what, where=str(path), hint=_CONVERT) from error
    except Image.DecompressionBombError as error:
        most = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        raise ImageError(f"more pixels than Pillow reads ({most})", where=str(path), hint="scale it down") from error
    except BROKEN as error:
        first = first_line(error)
        raise ImageError(f"cannot be read ({first})", where=str(path), hint="fetch the file again") from error
    except MemoryError as error:
        raise ImageError("not enough memory for its pixels", where=str(path), hint="scale it down") from error


def _as_rgb(image: Image.Image, where: str) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"an image of {image.width} x {image.height} pixels", where=where, hint="give a larger one")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)  # 16 bits are scaled, anything else has no known white
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > _SIXTEEN_BITS:
            raise ImageError("the value of white is unknown", where=where, hint="scale it to 8 or 16 bits unsigned")
        image = Image.fromarray(_to_bytes(values))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    where = f"an array {list(array.shape)} of {array.dtype}"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError("not an image", where=where, hint=_ARRAYS)
    if array.dtype == np.bool_:
        return Image.fromarray(array.astype(np.uint8) * np.uint8(255))
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if array.dtype == np.uint16:
        return Image.fromarray(_to_bytes(array))
    if array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):  # NaN fails it too
        raise ImageError("not an image: numbers outside 0 to 1", where=where, hint=_ARRAYS)
    return Image.fromarray(np.rint(array * 255).astype(np.uint8))


def _to_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """0..65535 to 0..255, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
