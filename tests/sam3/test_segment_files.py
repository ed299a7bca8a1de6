"""Many images become one COCO data set; a bad one is named and does not stop the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from litetext.cli.segment_command import print_found
from litetext.errors import ImageError, OptionError
from litetext.sam3.masks import Masks
from litetext.sam3.segment_files import SegmentRun, check_failures, overlay_names


class FakeSegmenter:
    """Finds the left half of the image as "dog", the whole as anything else but "nothing"."""

    def embed(self, image: Image.Image) -> Image.Image:
        return image

    def segment_embedding(self, image: Image.Image, prompts: list[str]) -> list[Masks]:
        found = []
        for prompt in prompts:
            mask = np.ones((1, image.height, image.width), np.bool_)
            if prompt == "dog":
                mask[:, :, image.width // 2 :] = False
            boxes = np.array([[0, 0, mask[0].any(axis=0).sum(), image.height]], np.float32)
            count = 0 if prompt == "nothing" else 1
            found.append(Masks(mask[:count], boxes[:count], np.full(count, 0.75, np.float32), prompt))
        return found


def segment(files: list[Path], prompts: list[str], output: Path | None = None, **options: Any) -> dict[str, Any]:
    job = SegmentRun(files, prompts, {}, output)
    with job.locked():
        return job.segment(FakeSegmenter(), **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("pycocotools")
    for name, size in (("a.png", (40, 20)), ("b/a.jpg", (30, 60))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size, (90, 90, 90)).save(tmp_path / name)
    (tmp_path / "bad.png").write_text("hello")
    return tmp_path


def run(folder: Path, **options: Any) -> dict[str, Any]:
    files = [folder / "a.png", folder / "bad.png", folder / "b" / "a.jpg"]
    return segment(files, ["dog", "nothing", "all", "dog"], **options)


def test_the_report_is_coco(folder: Path) -> None:
    steps: list[tuple[str, float]] = []
    report = run(folder, output=folder / "out", progress=lambda stage, share: steps.append((stage, share)))
    data = json.loads((folder / "out" / "annotations.json").read_text())
    assert data == report
    assert [
        (image["id"], Path(image["file_name"]).name, image["width"], image["height"]) for image in data["images"]
    ] == [
        (1, "a.png", 40, 20),
        (2, "a.jpg", 30, 60),
    ]
    assert data["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "nothing"}, {"id": 3, "name": "all"}]
    assert [(one["id"], one["image_id"], one["category_id"], one["area"]) for one in data["annotations"]] == [
        (1, 1, 1, 400),
        (2, 1, 3, 800),
        (3, 2, 1, 900),
        (4, 2, 3, 1800),
    ]
    assert steps == [("segmenting", share) for share in (0.0, 1 / 3, 2 / 3, 1.0)]


def test_pycocotools_reads_it(folder: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    run(folder, output=folder / "out")
    data = coco.COCO(folder / "out" / "annotations.json")
    assert sorted(data.getCatIds(catNms=["dog"])) == [1]
    assert len(data.loadAnns(data.getAnnIds(imgIds=[2]))) == 2


def test_each_image_has_its_overlay(folder: Path) -> None:
    run(folder, output=folder / "out")
    assert sorted(path.name for path in (folder / "out").glob("*.*")) == [
        *("a-2.png", "a.png", "annotations.json", "index.html")
    ]
    with Image.open(folder / "out" / "a-2.png") as overlay:
        assert overlay.size == (30, 60)
        assert len(np.unique(np.asarray(overlay).reshape(-1, 3), axis=0)) > 2


def test_bad_images_are_named_at_the_end(folder: Path) -> None:
    report = run(folder)
    with pytest.raises(ImageError, match=r"1 of 3 images were not segmented: not an image, .*bad.png"):
        check_failures(report)
    assert [failure["file"] for failure in report["failures"]] == [str(folder / "bad.png")]
    check_failures({"images": [], "failures": []})


def test_the_table_has_a_line_for_each_image_and_phrase(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_found(run(folder))
    lines = capsys.readouterr().out.splitlines()
    assert sum("0.75" in line for line in lines) == 4
    assert sum(" - " in line for line in lines) == 2
    print_found({"images": [], "annotations": []})
    assert not capsys.readouterr().out


def test_of_many_phrases_those_that_were_found_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = segment([folder / "a.png"], ["dog", "nothing", *(f"thing {n}" for n in range(50))])
    print_found(report)
    *table, missing = capsys.readouterr().out.splitlines()
    assert sum("0.75" in line for line in table) == 51
    assert "nothing" not in "".join(table)
    assert missing.endswith("(1): nothing")


def test_names_do_not_collide() -> None:
    names = overlay_names([Path("a/x.jpg"), Path("b/X.png"), Path("x-2.png"), Path("c/x.gif")])
    assert list(names.values()) == ["x.png", "X-2.png", "x-2-2.png", "x-3.png"]


def test_phrases_are_checked_before_anything_is_read() -> None:
    with pytest.raises(OptionError, match="an empty phrase"):
        segment([Path("gone.png")], [""])
