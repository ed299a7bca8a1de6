"""`litetext evaluate retention`: what a user types, what is written, what fails and how."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocotools")
import torch
from PIL import Image

from litetext.checkpoints import hub
from litetext.checkpoints.hub import shipped_folder
from litetext.checkpoints.writer import save_student
from litetext.cli import run
from litetext.cli.evaluate_commands import student_name
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import build_student
from litetext.micro.phrases import make_pairs
from litetext.micro.saco import write_saco
from litetext.micro.scenes import SceneOptions
from tests.cli.helpers import failure
from tests.evaluation.films import write_films

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]
ITSELF = shipped_folder("micro")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a student with random weights, of the width of the micro host."""
    return save("micro-xs", tmp_path_factory.mktemp("runs") / "xs")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs as files of SA-Co Gold."""
    folder = tmp_path_factory.mktemp("world")
    write_saco(make_pairs(0, 12, SceneOptions(size=64, split="test")), folder)
    return folder


def save(preset: str, folder: Path) -> Path:
    config = EncoderConfig.of(preset, 16, padding="masked")
    save_student(build_student(config, torch.Generator().manual_seed(0)), folder / "student.safetensors")
    return folder


def typed(model: object, student: object, *more: str) -> list[str]:
    return ["evaluate", "retention", "--model", str(model), "--student", str(student), "--device", "cpu", *more]


def test_a_page_and_json(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    assert (
        run(typed("micro", student, "--pairs", "12", "--seed", "3", "-o", str(folder), "--worst", "2", "--json")) == 0
    )
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"Page: {folder / 'index.html'}"
    found = json.loads(captured.out)
    for side, name in (("teacher", "micro"), ("student", str(student))):
        assert found[side]["name"] == name
        assert {"cgf1", "il_mcc", "pmf1"} < found[side].keys()
        assert found[side]["parameters"] == found["parameters"][side]
        assert found[side]["bytes"] == found["bytes"][side]
    assert found["retention"] is None or {"cgf1", "interval", "il_mcc", "pmf1"} <= found["retention"].keys()
    assert (found["teacher"]["parameters"], found["student"]["parameters"]) == (5_209_216, 244_608)
    assert found["parameters"]["reduction"] == pytest.approx(100 * (1 - 244_608 / 5_209_216))
    assert found["bytes"]["reduction"] > 88
    assert (found["pairs"], found["pictures"], found["seed"]) == (12, 2, 3)
    assert 0 <= found["agreement_found"] <= found["agreement"] < 1
    assert json.loads((folder / "retention.json").read_text("utf-8")) == found
    pictures = sorted((folder / "disagreements").iterdir())
    assert len(pictures) == len(found["disagreements"]) == 2
    with Image.open(pictures[0]) as image:
        assert image.width > 3 * 160
    assert found["disagreements"][0]["phrase"] in (folder / "index.html").read_text("utf-8")


def test_itself_as_its_student(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed("micro", ITSELF, "--pairs", "12", "--seed", "3")) == 0
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if cells}
    assert rows["cgF1"][0] == rows["cgF1"][1]
    assert rows["cgF1"][2] == "100.0 %"
    assert rows["parameters"] == ["5,209,216", "5,209,216", "100.0 %"]
    assert float(rows["mask agreement"][2]) > 0.999
    assert rows["agree on presence"][2] == "100.0 %"
    assert {"IL_MCC", "pmF1", "bytes", "95 % interval", "where either found some"} <= rows.keys()


def test_pairs_of_files(
    capsys: pytest.CaptureFixture[str], world: Path, host_folder: Path, student: Path, tmp_path: Path
) -> None:
    """On a host with random weights, whose cgF1 is 0."""
    gold = str(world / "gold.json")
    arguments = typed(host_folder, student, "--gt", gold, gold, "--images", str(world))
    assert run([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["pairs"], found["pictures"]) == (12, 2)
    assert found["retention"] is None
    assert captured.err == "warning: the teacher's cgF1 is not above 0 on these pairs: retention is undefined\n"
    assert run([*arguments, "-o", str(tmp_path)]) == 0
    assert "cgF1" in capsys.readouterr().out
    assert "undefined" in (tmp_path / "index.html").read_text("utf-8")


def test_a_student_of_another_width(capsys: pytest.CaptureFixture[str], host_folder: Path, tmp_path: Path) -> None:
    message = failure(capsys, *typed(host_folder, save("tiny", tmp_path)))
    assert message.startswith("error: features of width 256 where the model reads 64, ")


def test_a_page_of_clips(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackeval")
    truth = str(write_films(tmp_path, 2))
    folder = tmp_path / "kept"
    arguments = typed("micro", student, "--video", "--gt", truth, "--videos", str(tmp_path / "videos"), "--json")
    assert run([*arguments, "-o", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"Page: {folder / 'index.html'}"
    found = json.loads(captured.out)
    assert {"cgf1", "phota", "deta", "assa"} < found["teacher"].keys() & found["student"].keys()
    assert (found["pairs"], found["clips"]) == (4, 2)
    assert json.loads((folder / "retention.json").read_text("utf-8")) == found


@pytest.mark.slow
def test_clips_of_the_micro_world(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackeval")
    more = ["--video", "--clips", "1", "--plot", "ordinary", "--plot", "hidden", "--seed", "3"]
    assert run(typed("micro", ITSELF, *more)) == 0
    out = capsys.readouterr().out
    lines = [line.split("│")[1:-1] for line in out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if cells}
    for name in ("cgF1", "pHOTA", "DetA", "AssA"):
        assert rows[name][0] == rows[name][1]
        assert rows[name][2] == "100.0 %"
    assert "of 2 clips" in out
    assert run(typed("micro", student, *more, "--json", "-o", str(tmp_path / "kept"), "--worst", "2")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["teacher"]["phota"] > 50
    assert 0 <= found["retention"]["phota"] <= 100
    assert len(list((tmp_path / "kept" / "disagreements").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--video", "--clips", "0"], "0 clips, --clips; ask for 1 or more", 1),
        (["--video", "--plot", "odd"], "no plot 'odd'", 1),
        (["--video", "--videos", "x"], "videos without ground truth, --videos", 1),
        (["--video", "--gt", "gold.json"], "--videos", 2),
        (["--video", "--gt", "a.json", "b.json", "--videos", "x"], "several files of ground truth, --gt", 1),
        (["--video", "--gt", "a.json", "--clips", "3", "--videos", "x"], "clips of the micro world beside files", 1),
        (["--video", "--gt", "nowhere.json", "--videos", "x"], "no such file, nowhere.json", 1),
        (["--video", "--pairs", "6"], "--pairs or --images with --video", 1),
        (["--clips", "6"], "options of --video without it", 1),
        (["--method", "tracker"], "options of --video without it", 1),
        (["--pairs", "0"], "0 pairs, --pairs; ask for 1 or more", 1),
        (["--seed", "-1"], "--seed", 2),
        (["--worst", "-1"], "--worst", 2),
        (["--images", "world"], "pictures without ground truth, --images", 1),
        (["--gt", "gold.json", "--pairs", "6", "--images", "x"], "a number of pairs for files, --pairs", 1),
        (["--gt", "gold.json"], "--images", 2),
        (["--gt", "nowhere.json", "--images", "x"], "no such file, nowhere.json; check the path", 1),
        (["--positions", "odd"], "'odd'", 2),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, status: int
) -> None:
    assert message in failure(capsys, *typed("micro", "nowhere/student.pt", *arguments), status=status)


def test_files_that_are_not_there(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    assert "no such file or folder, nowhere/s.pt" in failure(capsys, *typed("micro", "nowhere/s.pt"))
    assert "./nowhere" in failure(capsys, *typed("./nowhere", student))
    (tmp_path / "file").touch()
    assert "a file where a folder" in failure(capsys, *typed("micro", student, "-o", str(tmp_path / "file")))


def test_a_page_takes_the_place_of_ours_only(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    for worst in (3, 1):
        more = ["--pairs", "12", "--seed", "3", "-o", str(folder), "--worst", str(worst)]
        assert run(typed("micro", student, *more)) == 0
        assert len(list((folder / "disagreements").iterdir())) == worst
    capsys.readouterr()
    (folder / "notes.txt").write_text("mine")
    assert "something else is there" in failure(capsys, *typed("micro", "nowhere", "-o", str(folder)))
    assert (folder / "notes.txt").read_text() == "mine"


def test_names_of_shipped_students(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SHIPPED", ("toy", "toy-student"))
    assert student_name("toy") == "toy-student"
    assert student_name("toy-student") == "toy-student"
    assert student_name("./toy") == "./toy"
    assert student_name("s0.pt") == "s0.pt"


def test_the_shipped_student_is_meant(
    capsys: pytest.CaptureFixture[str],
    student: Path,
    host_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--student toy` opens the shipped toy-student."""
    (student.parent / "toy-student").symlink_to(student)
    monkeypatch.setattr(hub, "FOLDER", student.parent)
    monkeypatch.setattr(hub, "SHIPPED", ("toy-student",))
    assert run(typed(host_folder, "toy", "--pairs", "6", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["student"]["name"] == "toy-student"
    assert found["student"]["parameters"] == 244_608


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "retention", "--help"]) == 0
    assert "litetext evaluate retention --model micro --student micro" in capsys.readouterr().out
