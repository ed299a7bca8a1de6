"""The table of Gold's subsets: which files belong together, and what the averages are."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.errors import EvaluationError
from litetext.evaluation.cgf1 import CgF1, evaluate_gold
from litetext.evaluation.gold import SUBSETS, SubsetScores, evaluate, find_subsets, score_set
from tests.evaluation.files import stripe, write_predictions, write_truth

A, B = stripe(0, 20), stripe(50, 70)
HALF = stripe(0, 16)  # IoU 0.8 with A: good at 7 of 10 thresholds
TITLES = ["MetaCLIP", "SA-1B", "Crowded", "Food", "Sport", "Attributes", "Wiki"]
STEMS = ["metaclip", "sa1b", "crowded", "fg_food", "fg_sports_equipment", "attributes", "wiki_common"]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("ending", ["release_test", "test"])
def test_all_seven(tmp_path: Path, ending: str) -> None:
    names = [f"gold_{stem}_merged_{letter}_{ending}.json" for stem in STEMS for letter in "bca"]
    found = find_subsets(touch(tmp_path, *names), Path("here"))
    assert [one.title for one in found.values()] == TITLES
    assert [[path.name for path in one.truths] for one in found.values()] == [
        [f"gold_{stem}_merged_{letter}_{ending}.json" for letter in "abc"] for stem in STEMS
    ]
    assert [one.predictions for one in found.values()] == [Path("here") / f"{name}.json" for name in SUBSETS]
    assert found["food"].predictions == Path("here/food.json")


def test_a_part_of_them_among_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "gold_wiki_common_merged_c_release_test.json", "gold_sa1b_merged_b_release_test.json")
    touch(tmp_path, "silver_geode_merged_test.json", "gold_metaclip_merged_a_release_val.json", "sa1b.json")
    found = find_subsets(tmp_path, tmp_path)
    assert list(found) == ["sa1b", "wiki"]
    assert [len(one.truths) for one in found.values()] == [1, 1]


def test_folders_that_do_not_say_what_is_meant(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no annotations of SA-Co Gold, .*named like gold_metaclip_merged_a_rel"):
        find_subsets(tmp_path, tmp_path)
    touch(tmp_path, "gold_fg_food_merged_a_test.json", "gold_fg_food_merged_a_release_test.json")
    with pytest.raises(EvaluationError, match="two files of one annotator: gold_fg_food_merged_a_release"):
        find_subsets(tmp_path, tmp_path)


def test_averages_are_plain(tmp_path: Path) -> None:
    write_truth(tmp_path / "gold_sa1b_merged_a_test.json", {1: [A], 2: [], 3: [B]})
    write_truth(tmp_path / "gold_crowded_merged_a_test.json", {1: [A], 2: []})
    write_predictions(tmp_path / "sa1b.json", [(1, HALF, 0.9), (3, B, 0.4)])
    write_predictions(tmp_path / "crowded.json", [(1, A, 0.9)])
    told: list[str] = []
    sets = find_subsets(tmp_path, tmp_path)
    scores = SubsetScores(
        {subset: score_set(one, lambda stage, _: told.append(stage), with_ap=True) for subset, one in sets.items()}
    )
    found = scores.to_json()
    parts = [found["subsets"][name] for name in ("sa1b", "crowded")]
    assert parts[0]["cgf1"] != parts[1]["cgf1"]
    for name in ("cgf1", "il_mcc", "pmf1"):
        assert found[name] == pytest.approx((parts[0][name] + parts[1][name]) / 2)
    whole = evaluate_gold([tmp_path / "gold_sa1b_merged_a_test.json"], tmp_path / "sa1b.json").to_json()
    assert {key: value for key, value in parts[0].items() if key != "ap"} == whole
    # sa1b: 7 of 10 thresholds found, and then the poor one; crowded: all. Recall 1/2 is 51 of 101 points.
    assert parts[0]["ap"]["ap"] == pytest.approx((7 * 1 + 3 * 0.25) / 10, abs=0.01)
    assert found["ap"]["ap"] == pytest.approx((parts[0]["ap"]["ap"] + 1) / 2)
    assert found["ap"]["ap_large"] == -1  # nowhere a large instance
    assert found["missing"] == ["metaclip", "food", "sport", "attributes", "wiki"]
    assert set(told) == {"SA-1B: pairs", "SA-1B: average precision", "Crowded: pairs", "Crowded: average precision"}


def test_an_undefined_precision_is_not_averaged(tmp_path: Path) -> None:
    write_truth(tmp_path / "gold_sa1b_merged_a_test.json", {1: []})
    write_truth(tmp_path / "gold_crowded_merged_a_test.json", {1: [A]})
    write_predictions(tmp_path / "sa1b.json", [])
    write_predictions(tmp_path / "crowded.json", [(1, A, 0.9)])
    sets = find_subsets(tmp_path, tmp_path)
    scores = {subset: score_set(one, lambda *_: None, with_ap=True) for subset, one in sets.items()}
    assert SubsetScores(scores).to_json()["ap"]["ap"] == pytest.approx(1)
    without = SubsetScores({name: replace(one, ap=None) for name, one in scores.items()}).to_json()
    assert "ap" not in without
    assert "ap" not in without["subsets"]["sa1b"]


def test_evaluate_takes_files_and_folders(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "gold_sa1b_merged_a_test.json", {1: [A], 2: [], 3: [B]})
    found = write_predictions(tmp_path / "sa1b.json", [(1, HALF, 0.9), (3, B, 0.4)])
    one, subsets = evaluate(found, truth), evaluate(tmp_path, tmp_path)
    assert isinstance(one, CgF1)
    assert isinstance(subsets, SubsetScores)
    assert one.to_json() == evaluate_gold([truth], found).to_json() == subsets.scores["sa1b"].to_json()
    assert subsets.cgf1 == one.cgf1
    with pytest.raises(EvaluationError, match="no predictions, nowhere"):
        evaluate("nowhere", [truth])


def test_evaluate_takes_a_segmenter(tmp_path: Path) -> None:
    from litetext.export.segment_runtime import open_segmenter
    from litetext.micro.evaluation import evaluate_pairs
    from litetext.micro.phrases import make_pairs
    from litetext.micro.saco import ANNOTATIONS, write_saco
    from litetext.micro.scenes import SceneOptions
    from litetext.sam3.segmenter import Segmenter

    pairs = list(make_pairs(5, 12, SceneOptions(split="test")))
    write_saco(pairs, tmp_path)
    segmenter = Segmenter(open_segmenter("micro", threads=1))
    stages: set[str] = set()
    found = evaluate(segmenter, tmp_path / ANNOTATIONS, [tmp_path], lambda stage, _: stages.add(stage))
    assert found.cgf1 == pytest.approx(evaluate_pairs(segmenter, pairs).overall.cgf1, abs=0.5)
    assert found.cgf1 > 0
    assert stages == {"predicting", "pairs"}
