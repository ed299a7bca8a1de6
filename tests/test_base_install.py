"""The base install: what runs in a process that can import no package of any extra, and what says what it needs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

# The packages of the extras; huggingface_hub comes with tokenizers, and nothing here may lean on that.
EXTRAS = (
    "torch", "torchvision", "transformers", "huggingface_hub", "scipy", "onnx", "openvino", "executorch", "coremltools",
    "av", "gradio", "trackeval", "cv2", "polars", "zstandard", "supervision", "pandas", "psutil",
)  # fmt: skip
ANY_MICRO = ("-p", "red car", "--model", "micro")
PROGRAM = """
import contextlib, io, json, sys
extras, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])
sys.modules.update(dict.fromkeys(extras))
from litetext.cli import run
answers = []
for command in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(command)
    answers.append([status, out.getvalue(), err.getvalue()])
import litetext as lt
found = lt.SegmentRuntime.open("micro")("scene.png", ["red car"])[0]
features, mask = lt.TextEncoder.from_pretrained("micro-student").encode(["red car"])
json.dump([answers, len(found), list(features.shape)], sys.stdout)
"""
WORKS = (
    ("micro", "scene", "-o", "scene.png", "--seed", "187", "--split", "test"),
    ("micro", "world", "-o", "world", "--pairs", "6", "--seed", "1"),
    ("micro", "clips", "-o", "clips", "--plot", "crossing", "--count", "1", "--seed", "5", "--length", "8"),
    ("micro", "phrases", "-o", "phrases.txt", "--count", "3100"),
    ("segment", "scene.png", *ANY_MICRO, "-o", "found"),
    ("segment", "scene.png", *ANY_MICRO, "--text-encoder", "micro-student", "--json"),
    ("segment", "scene.png", *ANY_MICRO, "--text-encoder", "micro", "--json"),
    ("track", "clips/videos/crossing-000005", "-p", "pig", "--model", "micro", "-o", "tracked"),
    ("track", "clip.gif", "-p", "pig", "--model", "micro", "--method", "association", "--json"),
    (
        "evaluate",
        "gold",
        "--gt",
        "world/gold.json",
        "--images",
        "world",
        "--model",
        "micro",
        "--pred",
        "pred",
        "--json",
    ),
    ("evaluate", "retention", "--model", "micro", "--student", "micro", "--pairs", "6", "--json"),
    ("audit", "phrases.txt", "--json"),
    ("audit", "phrases.txt", "-o", "report"),
    ("audit", "phrases.txt", "--text-encoder", "micro-student", "--json"),
    ("inspect", "micro", "--json"),
    ("inspect", "micro-student", "--json"),
)
NEEDS = (
    (("segment", "scene.png", *ANY_MICRO, "--engine", "torch"), "sam3"),
    (("segment", "scene.png", "-p", "red car"), "sam3"),
    (("track", "clip.gif", *ANY_MICRO, "--method", "tracker"), "sam3"),
    (("track", "clip.gif", *ANY_MICRO, "--overlay", "mp4", "-o", "video"), "video"),
    (("track", "clip.mp4", *ANY_MICRO), "video"),
    (("segment", "scene.png", *ANY_MICRO, "--engine", "openvino"), ""),
    (("embed", "phrases.txt", "-o", "features", "--teacher", "micro"), "sam3"),
    (("bank", "phrases.txt", "-o", "bank.safetensors", "--text-encoder", "micro"), "sam3"),
    (("compress", "micro-student", "-o", "small.safetensors"), "sam3"),
    (("export", "micro-student", "--to", "onnx", "-o", "served"), "sam3"),
    (("export", "micro", "--to", "onnx", "-o", "whole"), "sam3,onnx"),
    (("app",), "app"),
    (("audit", "prompts.parquet"), "formats"),
    (("evaluate", "veval", "--gt", "clips/veval.json", "--pred", "tracked/masklets.json"), "video"),
    (("evaluate", "retention", "--model", "micro", "--student", "micro", "--video", "--clips", "1"), "video"),
)


class Tried(NamedTuple):
    """Of each command its status, and what it wrote to standard output and standard error."""

    folder: Path
    answers: dict[tuple[str, ...], tuple[int, str, str]]
    found: int
    shape: list[int]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    folder = tmp_path_factory.mktemp("base")
    frames = [Image.new("RGB", (48, 48), color) for color in ("red", "green", "blue")]
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    (folder / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (folder / "prompts.parquet").write_bytes(b"PAR1")
    commands = [*WORKS, *(command for command, _ in NEEDS)]
    arguments = [sys.executable, "-c", PROGRAM, json.dumps(EXTRAS), json.dumps(commands)]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers, found, shape = json.loads(done.stdout)
    return Tried(folder, dict(zip(commands, map(tuple, answers), strict=True)), found, shape)


@pytest.mark.parametrize("command", WORKS, ids=" ".join)
def test_what_runs(tried: Tried, command: tuple[str, ...]) -> None:
    status, out, err = tried.answers[command]
    assert status == 0, err
    if "--json" in command:
        json.loads(out)


@pytest.mark.parametrize(("command", "extra"), NEEDS, ids=lambda value: " ".join(value) if value else "")
def test_what_needs_more_says_so_in_one_line(tried: Tried, command: tuple[str, ...], extra: str) -> None:
    status, _, err = tried.answers[command]
    assert status == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == err.splitlines()[-1]
    assert f"pip install 'litetext[{extra}]'" in line if extra else "OpenVINO" in line


def test_what_is_written(tried: Tried) -> None:
    names = {path.name for path in (tried.folder / "found").iterdir()}
    assert {"scene.png", "annotations.json"} <= names
    assert {path.name for path in (tried.folder / "tracked").iterdir()} == {"masklets.json", "tracks.csv", "counts.csv"}
    found = json.loads((tried.folder / "found" / "annotations.json").read_text("utf-8"))["annotations"]
    assert len(found) == tried.found == 1
    assert tried.shape[::2] == [1, 64]
    assert (tried.folder / "report" / "report.html").is_file()
