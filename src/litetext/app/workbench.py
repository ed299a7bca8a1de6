"""What the page works with: a model with its text encoders, limits of what people send, and mistakes as messages."""

import base64
import hashlib
import io
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path

from jinja2 import Template
from PIL import Image

from litetext.errors import ImageError, LiteTextError, OptionError
from litetext.pages import page_environment
from litetext.sam3.images import opened, read_image
from litetext.sam3.segmenter import Segmenter, check_prompts

MAX_BYTES = 32 * 2**20  # of an upload
MAX_PIXELS = 50_000_000  # of a picture, by its header: more are refused before they are decoded
SIDE = 2048  # pixels of the longer side that are worked on; SAM3 itself looks at 1008
MAX_PHRASES = 32
MAX_CHARACTERS = 2**20  # of prompts that are pasted
_VIEW = 1280  # pixels of the longer side that the browser gets


@dataclass(frozen=True, eq=False)
class Reader:
    """A text encoder inside the model, and what it takes.

    Attributes:
        name: as the user named it.
        segmenter: the model with this encoder.
        parameters: of the encoder.
        bytes: of its tensors or files.
        spec: what it was loaded from; None: the model's own.
        resident: memory that the process took for it, in bytes; None where that is not known.
    """

    name: str
    segmenter: Segmenter
    parameters: int
    bytes: int
    spec: str | None = None
    resident: int | None = None

    def sizes(self) -> list[str]:
        """The row of a table: name, parameters, size, resident memory."""
        resident = "–" if self.resident is None else f"{self.resident / 1e6:,.1f} MB"
        return [self.name, f"{self.parameters / 1e6:,.2f} M", f"{self.bytes / 1e6:,.2f} MB", resident]


SIZE_COLUMNS = ("text encoder", "parameters", "size", "resident memory")


@dataclass(frozen=True, eq=False)
class Workbench:
    """A model, one or two text encoders in it, and a folder for files that are given out.

    Raises:
        OptionError: no text encoder, or more than two.
    """

    model: str
    readers: Sequence[Reader]
    folder: Path

    def __post_init__(self) -> None:
        """Check the number of encoders."""
        if not 1 <= len(self.readers) <= 2:
            raise OptionError(f"{len(self.readers)} text encoders", hint="the page compares two, or shows one")

    def reader(self, name: str) -> Reader:
        """The encoder of that name; an `OptionError` for another name, whatever it is."""
        for reader in self.readers:
            if reader.name == name:
                return reader
        known = ", ".join(reader.name for reader in self.readers)
        raise OptionError("no such text encoder on this page", hint=f"there are {known}")

    def new_folder(self) -> Path:
        """A new folder with a random name, for files to download; the server removes them after a while."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder


@contextmanager
def messages() -> Iterator[None]:
    """Mistakes as a message on the page, with the name of a file but not where the server keeps it."""
    import gradio

    try:
        yield
    except LiteTextError as error:
        where = Path(error.where).name if Path(error.where).is_absolute() else error.where
        text = escape(str(type(error)(error.what, where=where, hint=error.hint)))
        raise gradio.Error(text.replace("{", "&#123;"), print_exception=False) from None
    except (gradio.Error, GeneratorExit):
        raise
    except Exception as error:
        what = "not enough memory" if isinstance(error, MemoryError) else "a fault of the server; its log says which"
        raise gradio.Error(what) from error


def safe_html(html: str) -> str:
    """HTML for a component whose content is a template to Gradio: phrases may have its marks in them."""
    return html.replace("{{", "&#123;&#123;").replace("${", "&#36;{")


def template(name: str) -> Template:
    """A template of the page; what it is given is escaped."""
    return page_environment("litetext.app", dated=False).get_template(name)


def one_a_line(text: str) -> list[str]:
    """Phrases of a text field, each once; an `OptionError` for none, too many, or a control character's worth."""
    phrases = list(dict.fromkeys(line.strip() for line in (text or "").splitlines() if line.strip()))
    if not phrases:
        raise OptionError("no phrase", hint="write what to look for, one phrase a line")
    if len(phrases) > MAX_PHRASES:
        raise OptionError(f"{len(phrases)} phrases at once", hint=f"give at most {MAX_PHRASES}")
    if len(text) > MAX_CHARACTERS:
        raise OptionError(f"{len(text):,} characters of phrases", hint=f"give at most {MAX_CHARACTERS:,}")
    return check_prompts(phrases)


def check_upload(path: str | None, what: str) -> Path:
    """The file of an upload; an `ImageError` if there is none, or it is too large."""
    if not path:
        raise ImageError(f"no {what}", hint="upload one, or draw an example")
    file = Path(path)
    if not file.is_file():
        raise ImageError(f"this {what} is not kept any more", hint="upload it again")
    if file.stat().st_size > MAX_BYTES:
        message = f"a {what} of {file.stat().st_size / 2**20:.0f} MB"
        raise ImageError(message, where=file.name, hint=f"give at most {MAX_BYTES // 2**20} MB")
    return file


def open_picture(path: str | None) -> tuple[Image.Image, str, str]:
    """The RGB picture of an upload, a digest of its file, and what was done to it, in words ("" for nothing).

    Its pixels are counted in the header, before any is decoded.
    """
    file = check_upload(path, "picture")
    with opened(file) as image:
        width, height = image.size
    if width * height > MAX_PIXELS:
        message = f"a picture of {width:,} x {height:,} pixels"
        raise ImageError(message, where=file.name, hint=f"give at most {MAX_PIXELS / 1e6:.0f} megapixels")
    picture = read_image(file)
    note = ""
    if max(picture.size) > SIDE:
        whole = f"{picture.width} x {picture.height}"
        picture.thumbnail((SIDE, SIDE))
        note = f"Scaled from {whole} to {picture.width} x {picture.height} pixels; litetext segment takes it whole."
    return picture, hashlib.blake2b(file.read_bytes()).hexdigest(), note


def data_uri(picture: Image.Image) -> str:
    """A picture for the page: it stands in the HTML, so that no file of it lies on the server."""
    small = picture.copy()
    small.thumbnail((_VIEW, _VIEW))
    kind, options = ("PNG", {}) if max(small.size) <= 512 else ("JPEG", {"quality": 88})
    small.save(file := io.BytesIO(), kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def plain_name(name: str) -> str:
    """A text encoder's name as a part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in Path(name).name) or "encoder"
