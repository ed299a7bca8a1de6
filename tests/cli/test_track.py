"""`litetext track`: what a user types, what is written and printed, what fails and how."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
from PIL import Image

from litetext.cli import run
from litetext.cli._options import ModelChoice
from litetext.video import methods
from tests.cli.helpers import failure
from tests.video.fakes import FakeTracker

pytestmark = pytest.mark.torch


@pytest.fixture
def frames(tmp_path: Path) -> str:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(9):
        pixels = np.random.default_rng(index).integers(0, 256, (16, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"frame{index}.png")
    return str(folder)


@pytest.fixture
def places(frames: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "text").write_text("not a video at all")
    (tmp_path / "empty").mkdir()
    return {"{frames}": frames, "{text}": str(tmp_path / "text"), "{empty}": str(tmp_path / "empty")}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """No model is loaded, and a fake tracks; what it was made with is listed."""
    made: list[dict[str, Any]] = []

    class Encoder:
        context_length = 3

    class Segmenter:
        encoder = Encoder()

    def make_tracker(segmenter: Any, prompts: list[str], method: str, **options: Any) -> FakeTracker:
        made.append({"prompts": prompts, "method": method, **options})
        return FakeTracker(prompts)

    monkeypatch.setattr(ModelChoice, "load", lambda *_, **__: Segmenter())
    monkeypatch.setattr(methods, "make_tracker", make_tracker)
    return made


def test_files_and_summary(
    capsys: pytest.CaptureFixture[str], fake: list[dict[str, Any]], frames: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["track", frames, "-p", "red car", "-p", "dog", "--model", "micro", "-o", str(out)]
    assert run([*arguments, "--overlay", "webp", "--overlay", "mp4", "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert (summary["frames"], summary["size"], summary["broken"]) == (9, [16, 24], [])
    assert [(row["phrase"], row["tracks"], row["first"], row["last"]) for row in summary["phrases"]] == [
        ("red car", 2, 0, 8),
        ("dog", 2, 0, 8),
    ]
    assert summary["output"] == str(out)
    assert "frames/s" in captured.err
    names = {path.name for path in out.iterdir()}
    assert names == {"masklets.json", "tracks.csv", "counts.csv", "overlay.webp", "overlay.mp4"}
    with Image.open(out / "overlay.webp") as overlay:
        assert overlay.width * 16 == overlay.height * 24
    assert run([*arguments, "--overlay", "webp", "--overlay", "mp4", "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == summary
    assert "nothing to do" in again.err
    assert len(fake) == 1


def test_the_evaluator_reads_masklets_as_truth_and_as_predictions(
    capsys: pytest.CaptureFixture[str], fake: Any, frames: str, tmp_path: Path
) -> None:
    arguments = ["track", frames, "--model", "micro", "--overlay", "none"]
    assert run([*arguments, "-p", "red car", "-p", "dog", "-o", str(tmp_path / "truth")]) == 0
    assert run([*arguments, "-p", "dog", "-p", "cat", "-p", "red car", "-o", str(tmp_path / "found")]) == 0
    truth = str(tmp_path / "truth" / "masklets.json")
    capsys.readouterr()
    assert run(["evaluate", "veval", "--gt", truth, "--pred", truth, "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["phota"] == pytest.approx(100)
    assert run(["evaluate", "veval", "--gt", truth, "--pred", str(tmp_path / "found" / "masklets.json"), "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert 0 < other["phota"] < 90  # the fake finds things elsewhere when there are more phrases
    assert run([*arguments, "-p", "cat", "-o", str(tmp_path / "cats")]) == 0
    capsys.readouterr()
    told = failure(capsys, "evaluate", "veval", "--gt", truth, "--pred", str(tmp_path / "cats" / "masklets.json"))
    assert "cat" in told  # no zero in silence


def test_a_table_without_a_folder(capsys: pytest.CaptureFixture[str], fake: Any, frames: str) -> None:
    part = ["--every", "2", "--from", "1", "--to", "8", "--threshold", "0.6", "--no-refine-edges"]
    arguments = ["track", f"{frames}/*.png", "-p", "dog", *part]
    assert run([*arguments, "--model", "micro", "--method", "association"]) == 0
    out, told = capsys.readouterr()
    assert "nothing was saved" in told
    assert "dog" in out
    assert "4 frames of 24 x 16 pixels" in out
    assert fake == [{"prompts": ["dog"], "method": "association", "threshold": 0.6, "refine_edges": False}]


def test_lists_of_phrases(capsys: pytest.CaptureFixture[str], fake: Any, frames: str, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\n" + "".join(f"name {n}\n" for n in range(41)))
    arguments = ["track", frames, "--model", "micro", "-p", "Dog"]
    assert run([*arguments, "--prompts", str(names)]) == 0
    assert len(fake[0]["prompts"]) == 42
    assert capsys.readouterr().out.count("name ") == 41
    assert f"--prompts {names}" in failure(capsys, *arguments, "-p", str(names))


def test_phrases_that_look_like_several_or_are_long(capsys: pytest.CaptureFixture[str], fake: Any, frames: str) -> None:
    assert run(["track", frames, "-p", "cat, dog", "--model", "micro"]) == 0
    told = capsys.readouterr().err
    assert "hint" in told
    assert "warning: only 3 of" in told


def test_an_interrupted_run_goes_on(
    capsys: pytest.CaptureFixture[str], fake: Any, frames: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["track", frames, "-p", "dog", "--model", "micro", "--overlay", "webm"]
    assert run([*arguments, "-o", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    step = FakeTracker.step

    def interrupted(self: FakeTracker, frame: Any) -> Any:
        if frame.index == 5:
            signal.raise_signal(signal.SIGINT)
        return step(self, frame)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(FakeTracker, "step", interrupted)
        assert run([*arguments, "-o", str(out)]) == 130
    told = capsys.readouterr().err
    assert f"4 frames are finished and kept in {out}" in told
    assert "error: interrupted" in told
    assert run([*arguments, "-o", str(out)]) == 0
    assert "4 frames were finished" in capsys.readouterr().err
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{frames}", "-p", " "], "an empty phrase"),
        (["nowhere.mp4", "-p", "dog"], "nowhere.mp4"),
        (["{text}", "-p", "dog"], "not a video"),
        (["{frames}", "{frames}", "-p", "dog"], "2 clips"),
        (["{empty}", "-p", "dog"], "no images"),
        (["-p", "dog"], "a clip or a camera"),
        (["{frames}", "--camera", "99", "-p", "dog"], "a clip or a camera"),
        (["--camera", "99", "-p", "dog"], "no such camera"),
        (["{frames}", "-p", "dog", "--every", "0"], "every 0"),
        (["{frames}", "-p", "dog", "--from", "soon"], "soon"),
        (["{frames}", "-p", "dog", "--from", "30"], "no frames"),
        (["{frames}", "-p", "dog", "--threshold", "2"], "threshold"),
        (["{frames}", "-p", "dog", "--overlay", "gif"], "-o"),
        (["{frames}", "-p", "dog", "--overlay", "avi", "-o", "{empty}"], "avi"),
        (["{frames}", "-p", "dog", "-o", "{frames}"], "the folder of the frames"),
        (["{frames}", "-p", "dog", "-o", "{text}"], "a file where a folder"),
        (["{frames}", "-p", "dog", "-o", "out.mp4"], "a video as the output"),
        (["{frames}", "-p", "dog", "--context-length", "16"], "--text-encoder"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], fake: Any, places: dict[str, str], arguments: list[str], message: str
) -> None:
    given = [places.get(argument, argument) for argument in arguments]
    assert message in failure(capsys, "track", *given, "--model", "micro")
    assert not list(Path(places["{empty}"]).iterdir())


def test_what_needs_no_video_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fake: Any, frames: str, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    out = tmp_path / "out"
    arguments = ["track", frames, "-p", "dog", "--model", "micro", "-o", str(out)]
    assert "litetext[video]" in failure(capsys, *arguments, "--overlay", "mp4")
    assert not out.exists()
    assert not fake  # no model was loaded
    assert run(arguments) == 0  # no kind of overlay was asked for: none is written, and that is told
    assert "no overlay video; for one: writing videos needs the extra 'video'" in capsys.readouterr().err
    assert run([*arguments, "--overlay", "none"]) == 0
    assert {path.name for path in out.iterdir()} == {"masklets.json", "tracks.csv", "counts.csv"}


def test_a_phrase_and_a_known_method_are_needed(capsys: pytest.CaptureFixture[str], frames: str) -> None:
    assert "--prompt" in failure(capsys, "track", frames, status=2)
    assert "association" in failure(capsys, "track", frames, "-p", "dog", "--method", "magic", status=2)


@pytest.mark.usefixtures("no_network")
def test_an_image_model_has_no_tracker(
    capsys: pytest.CaptureFixture[str], host_folder: Path, frames: str, tmp_path: Path
) -> None:
    told = failure(capsys, "track", frames, "-p", "dog", "--model", str(host_folder), "--method", "tracker")
    assert "no tracker" in told
    assert "--method association" in told
