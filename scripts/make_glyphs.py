"""Make the glyphs, their index and the background crops of the micro world.

    python scripts/make_glyphs.py

Glyphs are Noto Color Emoji (OFL-1.1) of Debian's package `fonts-noto-color-emoji`, which must be installed; short
names and keywords are English CLDR annotations of Debian's `unicode-cldr-core`; backgrounds are crops of public-domain
and CC0 photographs in the wheel of scikit-image, of places where no concept of the world is to be seen. What each glyph
may be called is curated in src/litetext/micro/data/concepts.txt; names that are not CLDR's are printed. Needs
`apt-get`, `dpkg-deb` and pip.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SIZE = 109  # the only size of the bitmaps in the font
LICENCE = Path("/usr/share/doc/fonts-noto-color-emoji/copyright")
SKIMAGE = "scikit-image==0.26.0"
TARGET = Path(__file__).parents[1] / "src/litetext/micro/data"
SIDE, COLUMNS = 80, 16
CROP_SIDE, CROP_COLUMNS = 192, 4
# file, left, top, side in pixels of the photograph
CROPS = (
    ("brick.png", 0, 0, 256),
    ("brick.png", 200, 180, 300),
    ("brick.png", 60, 300, 150),
    ("gravel.png", 0, 0, 200),
    ("gravel.png", 150, 150, 340),
    ("gravel.png", 330, 10, 130),
    ("rocket.jpg", 90, 0, 110),
    ("rocket.jpg", 480, 100, 150),
    ("coffee.png", 500, 300, 100),
    ("coffee.png", 0, 310, 90),
    ("camera.png", 424, 420, 84),
    ("camera.png", 10, 10, 84),
)


@dataclass(frozen=True)
class Row:
    """A glyph of the curated table; of each word, a trailing ``=`` says that it is invariable."""

    code: str
    tintable: bool
    family: str
    names: list[str]
    groups: list[str]
    vague: list[str]


def main() -> None:
    """Write glyphs.webp, glyphs.json, backgrounds.jpg and the licence of the font."""
    font = load_font(FONT)
    rows = read_rows((TARGET / "concepts.txt").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        words = cldr_words(Path(folder))
        wheel = zipfile.ZipFile(download_wheel(Path(folder)))
        sheet([crop(wheel, *spec) for spec in CROPS], CROP_COLUMNS).convert("RGB").save(
            TARGET / "backgrounds.jpg", quality=80, optimize=True
        )
    sheet([draw_glyph(font, chr(int(row.code, 16))) for row in rows], COLUMNS).save(
        TARGET / "glyphs.webp", quality=88, alpha_quality=100, method=6
    )
    index = {"side": SIDE, "columns": COLUMNS, "concepts": entries(rows, words)}
    (TARGET / "glyphs.json").write_text(json.dumps(index, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    text = LICENCE.read_text(encoding="utf-8")
    (TARGET / "OFL.txt").write_text("Copyright 2013-2017 Google Inc.\n\n" + licence_text(text), encoding="utf-8")
    print(len(rows), "concepts,", sum(path.stat().st_size for path in TARGET.iterdir()), "bytes")


def load_font(path: Path) -> ImageFont.FreeTypeFont:
    """The font of coloured bitmaps, or a message that says where it comes from."""
    if not path.is_file():
        raise SystemExit(f"error: no font, {path}; apt-get install fonts-noto-color-emoji")
    return ImageFont.truetype(str(path), FONT_SIZE)


def read_rows(text: str) -> list[Row]:
    """The curated table; a family's words hold for each of its lines."""
    rows: list[Row] = []
    family, groups, vague = "", list[str](), list[str]()
    for line in text.splitlines():
        if line.startswith("["):
            family, _, rest = line[1:].partition("]")
            groups, vague = family_words(rest)
        elif line and not line.startswith("#"):
            code, *cells = (cell.strip() for cell in line.split("|"))
            names, own, unsure = (split(cell) for cell in [*cells, "", ""][:3])
            own = [*own, *(word for word in groups if word.rstrip("=") not in {name.rstrip("=") for name in own})]
            rows.append(Row(code.rstrip("!"), code.endswith("!"), family, names, own, [*unsure, *vague]))
    return rows


def family_words(text: str) -> tuple[list[str], list[str]]:
    """Groups and, behind an empty field, vague words of a family: ``animal; bird`` or ``food=; ; fruit``."""
    sure, _, unsure = text.partition("; ;")
    if text.strip().startswith("; ;"):
        sure, unsure = "", text.strip()[3:]
    return split(sure), split(unsure)


def split(cell: str) -> list[str]:
    """The words of a cell."""
    return [word.strip() for word in cell.split(";") if word.strip()]


def entries(rows: list[Row], words: dict[str, list[str]]) -> list[dict[str, object]]:
    """The index: one object a glyph, in the order of the sheet; every second last synonym is held out of training."""
    spoken = [word.rstrip("=") for row in rows for word in [*row.names, *row.groups, *row.vague]]
    found: list[dict[str, object]] = []
    candidates = 0
    for row in rows:
        cldr = words.get(chr(int(row.code, 16)), [""])
        own = [name.rstrip("=") for name in row.names if name.rstrip("=") not in cldr]
        if own:
            print(f"{row.code} {cldr[0]}: not words of CLDR: {', '.join(own)}")
        held = row.names[-1].rstrip("=") if len(row.names) > 1 and spoken.count(row.names[-1].rstrip("=")) == 1 else ""
        candidates += bool(held)
        found.append(
            {
                "code": row.code,
                "cldr": cldr[0],
                "family": row.family,
                "tintable": row.tintable,
                "names": [word.rstrip("=") for word in row.names],
                "groups": [word.rstrip("=") for word in row.groups],
                "vague": [word.rstrip("=") for word in row.vague],
                "invariable": [word.rstrip("=") for word in [*row.names, *row.groups] if word.endswith("=")],
                "held_out": [held] if held and candidates % 2 else [],
            }
        )
    return found


def cldr_words(folder: Path) -> dict[str, list[str]]:
    """Short name, then keywords, of each annotated character."""
    subprocess.run(["apt-get", "download", "unicode-cldr-core"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    package = next(folder.glob("unicode-cldr-core*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "cldr")], check=True)
    path = folder / "cldr/usr/share/unicode/cldr/common/annotations/en.xml"
    words: dict[str, list[str]] = {}
    for node in ElementTree.parse(path).iter("annotation"):
        texts = [text.strip() for text in (node.text or "").replace("’", "'").split("|")]
        known = words.setdefault(node.attrib["cp"], [])
        words[node.attrib["cp"]] = texts + known if node.get("type") == "tts" else known + texts
    return words


def download_wheel(folder: Path) -> Path:
    """scikit-image's wheel, which is read and not installed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), SKIMAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("scikit_image-*.whl"))


def draw_glyph(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """One glyph, cut to what is not transparent, centred in SIDE x SIDE with a margin of two pixels."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((12, 12), character, font=font, embedded_color=True)
    box = canvas.getchannel("A").point(lambda value: 255 * (value > 8)).getbbox()
    if box is None:
        raise SystemExit(f"error: no glyph in the font, U+{ord(character):X}")
    glyph = canvas.crop(box)
    scale = (SIDE - 4) / max(glyph.size)
    width, height = (max(1, round(length * scale)) for length in glyph.size)
    glyph = glyph.resize((width, height), Image.Resampling.LANCZOS)
    cell = Image.new("RGBA", (SIDE, SIDE))
    cell.paste(glyph, ((SIDE - width) // 2, (SIDE - height) // 2))
    return cell


def crop(wheel: zipfile.ZipFile, name: str, left: int, top: int, side: int) -> Image.Image:
    """A square of a photograph at CROP_SIDE."""
    photo = Image.open(io.BytesIO(wheel.read(f"skimage/data/{name}"))).convert("RGBA")
    part = photo.crop((left, top, left + side, top + side))
    return part.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.LANCZOS)


def sheet(cells: list[Image.Image], columns: int) -> Image.Image:
    """Equal squares, row by row."""
    blank = np.zeros_like(np.asarray(cells[0]))
    arrays = [np.asarray(cell) for cell in cells] + [blank] * (-len(cells) % columns)
    rows = [np.concatenate(arrays[start : start + columns], axis=1) for start in range(0, len(arrays), columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))


def licence_text(copyright_file: str) -> str:
    """The text of OFL-1.1 out of Debian's copyright file, without its indent."""
    _, _, text = copyright_file.partition(" SIL OPEN FONT LICENSE Version 1.1")
    lines = ("SIL OPEN FONT LICENSE Version 1.1" + text).splitlines()
    return "\n".join("" if line.strip() == "." else line.strip() for line in lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
