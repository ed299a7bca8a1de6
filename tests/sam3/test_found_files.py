"""Contact sheet, mask PNGs and YOLO's labels say what the annotations say."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from litetext.sam3.found_files import mask_names, outline
from litetext.sam3.masks import decode_masks
from tests.sam3.segmenting import KINDS, run, write_pictures


def shapes() -> dict[str, npt.NDArray[np.bool_]]:
    rows, columns = np.mgrid[:90, :120]
    far = np.hypot(rows - 45, columns - 60)
    noise = Image.fromarray(np.random.default_rng(0).random((9, 12), dtype=np.float32)).resize((120, 90))
    return {
        "disk": far < 40,
        "ring": (far < 40) & (far > 20),
        "parts": (far < 30) | (columns < 20) & (rows < 20),
        "all": far < 999,
        "blobs": np.asarray(noise) > 0.5,
        "corners": (rows // 15 + columns // 15) % 2 == 0,
    }


@pytest.mark.parametrize("name", shapes())
def test_a_filled_outline_is_the_mask(name: str) -> None:
    mask, zoom = shapes()[name], 4
    canvas = Image.new("1", (120 * zoom, 90 * zoom))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline(mask) * zoom - 0.5], fill=1)
    filled = np.asarray(canvas).reshape(90, zoom, 120, zoom).mean((1, 3)) > 0.5
    assert (filled & mask).sum() / (filled | mask).sum() > 0.97


def test_outlines_have_few_points() -> None:
    assert len(outline(shapes()["all"])) < 12
    assert len(outline(shapes()["disk"])) < 60
    assert not len(outline(np.zeros((3, 4), np.bool_)))


def test_mask_files_and_labels(tmp_path: Path) -> None:
    files, out = write_pictures(tmp_path / "in"), tmp_path / "out"
    _, data = run(files, out, phrases=["Dog/cat", "dog, cat"], kinds=KINDS)
    assert data == json.loads((out / "annotations.json").read_bytes())
    assert len(data["annotations"]) == 8
    for one in data["annotations"]:
        (mask,) = decode_masks([one["segmentation"]], (12, 16))
        with Image.open(out / f"masks/{one['image_id'] - 1}/dog-cat-{one['category_id']}.png") as picture:
            assert np.array_equal(np.asarray(picture), mask * 255)
    assert (out / "yolo/data.yaml").read_text().endswith('names:\n  0: "Dog/cat"\n  1: "dog, cat"\n')
    for file in files:
        assert (out / "yolo/images" / file.name).read_bytes() == file.read_bytes()
        rows = [line.split() for line in (out / "yolo/labels" / f"{file.stem}.txt").read_text().splitlines()]
        assert [row[0] for row in rows] == ["0", "1"]
        assert all(len(row) % 2 == 1 and all(0 <= float(value) <= 1 for value in row[1:]) for row in rows)


def test_a_phrase_without_letters_has_a_name() -> None:
    record = {"overlay": "a.b.png", "annotations": [{"category_id": 1}, {"category_id": 1}, {"category_id": 2}]}
    assert mask_names(record, ["?!", "Öl fass"]) == [
        *("masks/a.b/phrase-1.png", "masks/a.b/phrase-2.png", "masks/a.b/öl-fass-1.png")
    ]


def test_the_sheet_says_what_is_seen(tmp_path: Path) -> None:
    files, out = write_pictures(tmp_path / "in", 2), tmp_path / "out"
    (tmp_path / "in" / "bad <b>.png").write_text("broken")
    _, data = run([*files, tmp_path / "in" / "bad <b>.png"], out, phrases=["dog", "<cat>"])
    page = (out / "index.html").read_text("utf-8")
    scores = [f"{one['score']:.2f}" for one in data["annotations"]]
    texts = [unescape(text) for text in re.findall(r'alt="([^"]*)"', page)]
    assert texts == [f"{n}.png: 1 × dog ({scores[2 * n]}), 1 × <cat> ({scores[2 * n + 1]})" for n in range(2)]
    found = [json.loads(unescape(text)) for text in re.findall(r'data-found="([^"]*)"', page)]
    assert [list(one) for one in found] == [["1", "2"], ["1", "2"]]
    assert page.count('loading="lazy"') == 2
    assert "1 image not segmented" in page
    assert "<cat>" not in page
    assert "bad <b>" not in page
    assert "https:" not in page
    for place in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert (out / place).is_file()
