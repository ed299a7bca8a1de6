"""`litetext segment` with a tiny random host: what a user types, what is written, what fails and how."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
from PIL import Image

from litetext.cli import run
from tests.cli.helpers import failure
from tests.sam3.segmenting import contents

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
    assert all(image.pop("milliseconds") > 0 for image in found["images"])
    assert json.loads((out / "annotations.json").read_text(encoding="utf-8")) == found
    overlays = sorted(path.name for path in out.glob("*.png"))
    assert overlays == ["0.png", "1.png"]
    with Image.open(out / "0.png") as overlay:
        assert overlay.width >= 80


def test_one_bad_image_does_not_stop_the_rest(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path
) -> None:
    (photos / "bad.png").write_bytes(b"not an image")
    assert run(["segment", str(photos), "-p", "dog", "--model", str(host_folder), "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert "0.png" in captured.out
    assert "1.png" in captured.out
    told, error = captured.err.splitlines()
    assert "nothing was saved" in told
    assert error.startswith("error: 1 of 3 images were not segmented")
    assert "bad.png" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photo}", "-p", " ", "--model", "{host}"], "an empty phrase"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--yolo"], "give -o"),
        (["{photo}", "-p", "dog", "--model", "{photo}"], "no config.json"),
        (["nowhere.png", "-p", "dog", "--model", "{host}"], "no such file, nowhere.png"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--threshold", "2"], "threshold"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--context-length", "16"], "--text-encoder"),
        (["{photo}", "-p", "dog", "--model", "{host}", "--text-encoder", "missing.pt"], "missing.pt"),
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


def found(host_folder: Path, *arguments: str) -> list[str]:
    return ["segment", *arguments, "--model", str(host_folder), "--device", "cpu", "--threshold", "0"]


def test_nothing_is_imported_that_is_not_used(host_folder: Path, photos: Path) -> None:
    arguments = found(host_folder, str(photos / "0.png"), "-p", "dog")
    code = f"import sys; from litetext.cli import run; run({arguments!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "torch" in loaded
    assert not {"torchao", "onnx", "onnxruntime", "matplotlib", "polars", "openvino", "executorch"} & loaded


def test_pictures_and_files_of_the_user_are_not_replaced(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    monkeypatch.chdir(photos)
    told = failure(capsys, *found(host_folder, "0.png", "-p", "dog", "-o", "."))
    assert "0.png" in told
    Image.new("RGB", (8, 8)).save("1.jpg")
    assert "would replace" in failure(capsys, *found(Path("no/such-model"), ".", "-p", "dog", "-o", "."))
    Path("1.jpg").unlink()
    Path("out").mkdir()
    Path("out/annotations.json").write_text("mine")
    assert "annotations.json" in failure(capsys, *found(host_folder, ".", "-p", "dog", "-o", "out"))
    assert Path("out/annotations.json").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in photos.glob("*.*")} == before


def test_a_run_that_was_interrupted_goes_on(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from litetext.sam3.segmenter import Segmenter

    arguments = found(host_folder, str(photos), "-p", "dog")
    assert run([*arguments, "-o", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    embed, calls = Segmenter.embed, []

    def interrupted(self: Segmenter, *others: Any) -> Any:
        calls.append(others)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(self, *others)

    out = tmp_path / "out"
    monkeypatch.setattr(Segmenter, "embed", interrupted)
    assert run([*arguments, "-o", str(out)]) == 130
    told = capsys.readouterr().err
    assert "1 of 2" in told
    assert "error: interrupted" in told
    assert str(out) in told
    assert run([*arguments, "-o", str(out)]) == 0
    assert len(calls) == 3
    assert "1 of 2 images were finished" in capsys.readouterr().err
    assert contents(out) == contents(tmp_path / "whole")
    other = failure(capsys, *found(host_folder, str(photos), "-p", "cat", "-o", str(out)))
    assert "phrases" in other


def test_names_that_are_not_utf8_and_formats_that_are_not_read(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"\xff\x1b.png")
    (photos / "0.png").rename(photos / name)
    (photos / "c.heic").write_bytes(b"ftypheic")
    out = tmp_path / "out"
    assert run([*found(host_folder, str(photos), "-p", "dog", "-o", str(out))]) == 1
    told = capsys.readouterr()
    assert "\x1b" not in told.out
    assert "1 of 3 images were not segmented" in told.err
    data = json.loads((out / "annotations.json").read_bytes())
    assert [Path(image["file_name"]).name for image in data["images"]] == ["1.png", name]
    assert [Path(failed["file"]).name for failed in data["failures"]] == ["c.heic"]


@pytest.mark.parametrize(
    ("phrase", "hints"),
    [
        ("cat, dog", 1),
        ("cat . dog", 1),
        ("cat. dog.", 1),
        ("cat; dog", 1),
        ("cat/dog", 1),
        ("St. Bernard", 0),
        ("1,000 coins", 0),
        ("a dog.", 0),
        ("x" * 300, 1),  # longer than the context, and than a file's name
        ("nmaes.txt", 1),  # a file that is not there
        ("@names", 1),
    ],
)
def test_hints(
    capsys: pytest.CaptureFixture[str],
    host_folder: Path,
    photos: Path,
    phrase: str,
    hints: int,
) -> None:
    with contextlib.chdir(photos):
        assert run(found(host_folder, "0.png", "-p", phrase)) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("hint: ", "warning: "))]
    assert len(told) == hints


def test_lists_of_phrases(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("Dog\ncat\n\nred  car\n" + "".join(f"name {n}\n" for n in range(20)))
    Path("more.csv").write_text("prompt\ncat\na leash\n")
    listed = ["--prompts", "names.txt", "--prompts", "more.csv"]
    assert run(found(host_folder, str(photos), "-p", "Red Car", *listed, "--json")) == 0
    asked = [category["name"] for category in json.loads(capsys.readouterr().out)["categories"]]
    assert asked == ["Red Car", "dog", "cat", *(f"name {n}" for n in range(20)), "a leash"]
    assert run([*found(host_folder, str(photos), *listed), "--threshold", "0.999"]) == 0
    told = capsys.readouterr()
    assert "nothing found (24): dog, cat" in told.out
    assert "nothing was saved" in told.err
    for phrase in ("names.txt", "@names.txt"):
        assert "--prompts names.txt" in failure(capsys, *found(host_folder, str(photos), "-p", phrase))
    Path("dog").touch()  # a thing may be called like a file
    assert run(found(host_folder, str(photos / "0.png"), "-p", "dog")) == 0


def test_a_phrase_beyond_the_context_is_told(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path
) -> None:
    assert run(found(host_folder, str(photos / "0.png"), "-p", "dog " * 40)) == 0
    told = capsys.readouterr().err
    assert "32 of 42 tokens" in told
    assert run(found(host_folder, str(photos / "0.png"), *(f"-p{n} {'dog ' * 40}" for n in range(9)))) == 0
    told = capsys.readouterr().err
    assert told.count("tokens are read of") == 3
    assert "6 other phrases" in told


def test_what_a_terminal_would_obey_is_escaped(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path
) -> None:
    assert run(found(host_folder, str(photos / "0.png"), "-p", "\x1b]0;title\x07, dog", "-p", "[red]cat")) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "\x07" not in told.out + told.err
    assert "[red]cat" in told.out


def test_a_host_with_damaged_weights_is_an_error(
    capsys: pytest.CaptureFixture[str], host_folder: Path, photos: Path, tmp_path: Path
) -> None:
    from litetext.sam3.host import load_host

    model: Any = load_host(str(host_folder), device="cpu")
    model.detr_decoder.query_embed.weight.data[:] = float("nan")
    model.save_pretrained(tmp_path / "damaged")
    capsys.readouterr()
    assert "not finite" in failure(capsys, *found(tmp_path / "damaged", str(photos), "-p", "dog"))
