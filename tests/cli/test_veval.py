"""`litetext evaluate veval`: one set, the six sets of a folder, and what goes wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("trackeval")
from litetext.cli import run
from litetext.evaluation import labeled_pairs
from litetext.evaluation.veval import HEADLINE, evaluate_veval
from tests.cli.helpers import failure
from tests.evaluation.films import write_films
from tests.evaluation.videos import video_set


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Ground truth of three sets in ``gt/``, predictions of two in ``found/``."""
    (tmp_path / "gt").mkdir()
    (tmp_path / "found").mkdir()
    for seed, (name, named) in enumerate(
        {"sav_test": "saco_veval_sav_test_preds", "yt1b_val": "yt1b_val", "smartglasses_val": "other"}.items()
    ):
        truth, found = video_set(seed, tmp_path, videos=2)
        truth.rename(tmp_path / "gt" / f"saco_veval_{name}.json")
        found.rename(tmp_path / "found" / f"{named}.json")
    return tmp_path


def test_a_set_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = video_set(0, tmp_path, videos=2)
    typed = ["evaluate", "veval", "--gt", str(truth), "--pred", str(found)]
    report = evaluate_veval(truth, found)
    assert run([*typed, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(report.to_json()))
    assert run(typed) == 0
    captured = capsys.readouterr()
    for name in ("cgf1", "phota", "teta", "map"):
        assert f"{report.headline[name]:.2f}" in captured.out
    assert captured.err == ""


def test_the_sets_of_a_folder_are_in_one_table(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["evaluate", "veval", "--gt", str(sets / "gt"), "--pred", str(sets / "found")]
    assert run(typed) == 0
    captured = capsys.readouterr()
    assert "SA-V test" in captured.out
    assert captured.err.count("warning: ") == 1
    assert "SmartGlasses val" in captured.err
    assert run([*typed, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["sets"]) == ["sav_test", "yt1b_val"]
    assert set(HEADLINE) <= result["sets"]["sav_test"].keys()
    assert "smartglasses_val" in result["missing"]


@pytest.mark.parametrize(
    ("truth", "found", "told"),
    [
        ("gt", "found/yt1b_val.json", "--pred"),
        ("found", "found", "saco_veval"),
        ("gt/saco_veval_sav_test.json", "found/yt1b_val.json", "yt1b_val.json"),
        ("gt/saco_veval_sav_test.json", "none.json", "none.json"),
        ("found/yt1b_val.json", "found/yt1b_val.json", "yt1b_val.json"),
    ],
)
def test_mistakes_are_one_line(
    sets: Path, capsys: pytest.CaptureFixture[str], truth: str, found: str, told: str
) -> None:
    typed = ["evaluate", "veval", "--gt", str(sets / truth), "--pred", str(sets / found)]
    assert told in failure(capsys, *typed)


def test_a_folder_without_predictions_is_refused(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sets / "empty").mkdir()
    assert run(["evaluate", "veval", "--gt", str(sets / "gt"), "--pred", str(sets / "empty")]) == 1
    assert "saco_veval_sav_test_preds.json" in capsys.readouterr().err.splitlines()[-1]


def predicting(folder: Path, model: object = "micro", *more: str) -> list[str]:
    write_films(folder)
    found = ["--pred", str(folder / "out" / "found.json"), "--model", str(model), "--videos", str(folder / "videos")]
    return ["evaluate", "veval", "--gt", str(folder / "gt.json"), *found, "--device", "cpu", *more]


@pytest.mark.torch
@pytest.mark.usefixtures("no_network")
def test_predict_resume_and_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host_folder: Path
) -> None:
    """On a host with random weights."""
    real, seen = labeled_pairs.find_masklets, list[str]()

    def stopping(segmenter: Any, clip: Any, method: str) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(clip.name)
        return real(segmenter, clip, method)

    typed = predicting(tmp_path, host_folder)
    with monkeypatch.context() as patch:
        patch.setattr(labeled_pairs, "find_masklets", stopping)
        assert run(typed) == 130
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["found.json.journal"]
    capsys.readouterr()
    assert run([*typed, "--json"]) == 0
    captured = capsys.readouterr()
    assert "resuming after 2 of 3 videos" in captured.err
    scores = json.loads(captured.out)
    assert len(scores["pairs"]) == 7
    monkeypatch.setattr(labeled_pairs, "find_masklets", stopping)  # would stop at once: what is complete is only scored
    assert run([*typed, "--json"]) == 0
    captured = capsys.readouterr()
    assert "complete already" in captured.err
    assert json.loads(captured.out) == scores
    assert "another run" in failure_after(capsys, *typed, "--text-encoder", "micro-student-xs")


def failure_after(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "told", "status"),
    [
        (["--videos", "nowhere"], "no such folder, nowhere", 1),
        (["--gt", "none.json"], "no such file, none.json", 1),
        (["--pred", "."], "a folder where predictions", 1),
        (["--method", "odd"], "'odd'", 2),
        (["--text-encoder", "nowhere/s.pt"], "nowhere/s.pt", 1),
        (["--context-length", "8"], "without a text encoder", 1),
    ],
)
def test_mistakes_before_predicting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str, status: int
) -> None:
    typed = predicting(tmp_path, "micro", *more)
    if more[0] == "--videos":
        typed.remove(str(tmp_path / "videos"))
        typed.remove("--videos")
    assert run(typed) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err.splitlines()[-1]
    assert not (tmp_path / "out" / "found.json").exists()


def test_options_of_a_model_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["evaluate", "veval", "--gt", str(write_films(tmp_path)), "--pred", "x.json"]
    for more in (["--videos", "x"], ["--method", "tracker"], ["--text-encoder", "x"]):
        assert "without a model" in failure(capsys, *typed, *more)
    assert "--videos" in failure(capsys, *typed, "--model", "micro", status=2)
    (tmp_path / "videos/film2/3.png").unlink()
    told = failure(capsys, *typed, "--model", "micro", "--videos", str(tmp_path / "videos"))
    assert "film2/3.png" in told
