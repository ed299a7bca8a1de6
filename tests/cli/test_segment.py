"""`litetext segment` with a tiny random host: what a user types, what is written, what fails and how."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from PIL import Image

from litetext.cli import run
from tests.cli.helpers import failure

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def test_overlays_and_annotations(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    arguments = ["segment", str(photos), "-p", "white dog", "-p", "leash", "--model", str(host_folder), "-o", str(out)]
    assert run([*arguments, "--threshold", "0", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [category["name"] for category in found["categories"]] == ["white dog", "leash"]
    assert [Path(image["file_name"]).name for image in found["images"]] == ["0.png", "1.png"]
    assert found["annotations"]
    assert {"segmentation", "bbox", "score", "area"} <= set(found["annotations"][0])
    assert json.loads((out / "annotations.json").read_text(encoding="utf-8")) == found
    overlays = sorted(path.name for path in out.glob("*.png"))
    assert overlays == ["0.png", "1.png"]
    with Image.open(out / "0.png") as overlay:
        assert overlay.size == (80, 60)


def test_one_bad_image_does_not_stop_the_rest(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path
) -> None:
    (photos / "bad.png").write_bytes(b"not an image")
    assert run(["segment", str(photos), "-p", "dog", "--model", str(host_folder), "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert "0.png" in captured.out
    assert "1.png" in captured.out
    assert captured.err.startswith("error: 1 of 3 images were not segmented")
    assert "bad.png" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photo}", "-p", " ", "--model", "{host}"], "an empty phrase"),
        (["{photo}", "-p", "dog", "--model", "{photo}"], "no config.json"),
        (["nowhere.png", "-p", "dog", "--model", "{host}"], "no such file, nowhere.png"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--threshold", "2"], "threshold"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--context", "16"], "--text"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--text", "missing.pt"], "missing.pt"),
        (["{photo}", "-p", "dog", "--model", "no/such-model"], "no/such-model"),
        (["{photo}/*.gif", "-p", "dog", "--model", "{host}"], "*.gif"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    host_folder: Path,
    photos: Path,
    arguments: list[str],
    message: str,
) -> None:
    paths = {"{photo}": str(photos), "{host}": str(host_folder)}
    given = arguments
    for mark, path in paths.items():
        given = [argument.replace(mark, path) for argument in given]
    assert message in failure(capsys, "segment", *given, "--device", "cpu")


def test_a_phrase_is_needed(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    assert "--prompt" in failure(capsys, "segment", str(photos), status=2)
