"""Video retention with known answers, its interval, and the strips of the worst disagreements."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("trackeval")
from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import EvaluationError
from litetext.evaluation.comparison import Comparison, compare_clips, report_retention
from litetext.evaluation.hota import combine_hota, count_hota, score_hota, sum_hota
from litetext.evaluation.veval import count_masks
from litetext.evaluation.worst_cases import draw_panels, write_retention
from tests.evaluation.films import BLINKING, FRAMES, RIGHT, SCRIPT, Replay, Script, film

SIZES = (EncoderSize("big", 1000, 4000), EncoderSize("small", 120, 500))
ONE_DOG: Script = {"dog": [RIGHT], "cat": [BLINKING], "bus": []}


def contest(student: Script, count: int = 4, worst: int = 12, score: float = 0.9) -> Comparison:
    """The student answers by the script, but in the first clip, where it is right."""
    asked: list[int] = []

    def make(prompts: Iterable[str]) -> Replay:
        asked.append(0)
        return Replay(prompts, SCRIPT if len(asked) == 1 else student, 0.9 if len(asked) == 1 else score)

    clips = [film(name=f"film{number}") for number in range(count)]
    return compare_clips([Replay, make], clips, worst)


def report(comparison: Comparison, **options: Any) -> dict[str, Any]:
    return report_retention(comparison, *SIZES, resamples=100, **options)


def test_the_same_answers_keep_everything() -> None:
    comparison = contest(SCRIPT)
    found = report(comparison)
    assert found["retention"]["cgf1"] == found["retention"]["phota"] == 100
    assert found["retention"]["interval"] == found["retention"]["phota_interval"] == [100, 100]
    assert found["teacher"]["phota"] == pytest.approx(100)
    assert (found["pairs"], found["clips"], found["agreement"]) == (12, 4, 1)
    assert "pictures" not in found
    assert comparison.worst == []


def test_a_student_that_misses_one_of_three_things() -> None:
    comparison = contest(ONE_DOG)
    found = report(comparison)
    share = (16 + 3 * 10) / (4 * 16)  # of 6 + 6 + 4 masks in each of four clips; one dog is missing in three
    assert found["student"]["deta"] == pytest.approx(100 * share)
    assert found["student"]["assa"] == pytest.approx(100)
    assert found["retention"]["phota"] == pytest.approx(100 * np.sqrt(share))
    assert 50 < found["retention"]["cgf1"] < 100
    assert found["presence_agreement"] == 1
    low, high = found["retention"]["phota_interval"]
    assert low <= found["retention"]["phota"] <= high
    assert [(one["phrase"], one["true"], one["teacher"], one["student"]) for one in found["disagreements"]] == [
        ("dog", 2, 2, 1)
    ] * 3
    assert [one["agreement"] for one in found["disagreements"]] == [0.5] * 3
    json.dumps(found, allow_nan=False)


def test_exchanged_tracks_cost_association_and_no_detection() -> None:
    found = report(compare_clips([Replay, partial(Replay, exchanged_from=3)], [film()]))
    assert found["student"]["deta"] == pytest.approx(100)
    assert found["student"]["assa"] == pytest.approx(100 * (4 + 12 / 3) / 16)  # half of each dog's frames, of 9
    assert found["retention"]["phota"] < 100
    assert found["retention"]["cgf1"] < 100
    assert found["retention"]["interval"] is None  # of one clip


def test_a_score_of_exactly_half_counts_for_cgf1_and_not_for_hota() -> None:
    found = report(contest(SCRIPT, count=2, score=0.5))["retention"]
    assert found["cgf1"] == 100
    assert found["phota"] == pytest.approx(100 * np.sqrt(0.5))


def test_no_clips_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no pairs"):
        compare_clips([Replay, Replay], [])


def test_hota_from_sums_is_that_of_trackeval() -> None:
    rng = np.random.default_rng(0)
    counted = []
    for _ in range(20):
        left: list[Any] = [[int(place) for place in rng.integers(0, 15, FRAMES)] for _ in range(3)]
        other = film({"dog": left}).truths[0]
        pair = count_masks(film().truths[0], other).hota
        assert pair is not None
        counted.append(pair)
    counted.append(count_hota([]))
    whole, mine = combine_hota(counted), score_hota(np.sum([sum_hota([one]) for one in counted], axis=0))
    assert mine == pytest.approx({name: 100 * whole[name.removeprefix("p")] for name in mine}, abs=1e-10)
    assert 0 < mine["assa"] < 100
    assert score_hota(sum_hota([])) == {"phota": 0, "deta": 0, "assa": 0}


def test_panels_show_frames() -> None:
    answers = contest(ONE_DOG, worst=1).worst[0]
    answers = answers._replace(teacher=answers.teacher[::-1])
    drawn = [np.asarray(panel).astype(int) for panel in draw_panels(answers).values()]
    rows = -(-FRAMES // 4)
    for frame in range(FRAMES):
        top, left = 168 * (frame // 4), 168 * (frame % 4)
        panels = [panel[top : top + 160, left : left + 160, :3] for panel in drawn]
        assert (panels[0] == panels[1]).all()  # the same colors, whatever the order in which they were found
        colored = [np.ptp(panel, axis=2) > 40 for panel in panels]
        first, second = (slice(0, 40), slice(53, 93))  # rows of the two dogs, 6 and 2 pixels of 24 in 160
        assert [bool(mask[first].any()) for mask in colored] == [True, True, True]
        assert [bool(mask[second].any()) for mask in colored] == [True, True, False]
    assert {panel.shape for panel in drawn} == {(168 * rows - 8, 4 * 168 - 8, 4)}
    assert (drawn[0][160:168, :, 3] == 0).all()  # the page shows between them


def test_a_page_of_strips(tmp_path: Path) -> None:
    comparison = contest(ONE_DOG)
    found = report(comparison)
    page = write_retention(found, comparison.worst, tmp_path / "kept").read_text("utf-8")
    assert "pHOTA" in page
    assert "of 4 clips" in page
    pictures = sorted((tmp_path / "kept" / "disagreements").iterdir())
    assert len(pictures) == 3
    with Image.open(pictures[0]) as image:
        assert image.width == 3 * (4 * 168 - 8) + 2 * 8
    assert json.loads((tmp_path / "kept" / "retention.json").read_text("utf-8")) == found
    nothing = compare_clips([partial(Replay, script={}), Replay], [film()])
    undefined = report(nothing)
    assert undefined["retention"] is None
    assert "undefined" in write_retention(undefined, [], tmp_path / "none").read_text("utf-8")
