"""`litetext evaluate veval`: one set, the six sets of a folder, and what goes wrong."""

import json
from pathlib import Path

import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("trackeval")
from litetext.cli import run
from litetext.evaluation.veval import HEADLINE, evaluate_veval
from tests.cli.helpers import failure
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
