"""VEval: known answers, what must not change a score, and what is said of files that do not belong together."""

import copy
import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
pytest.importorskip("trackeval")
from litetext.errors import EvaluationError
from litetext.evaluation.veval import VEvalReport, evaluate_veval, find_veval_sets
from tests.evaluation.files import SIDE, stripe
from tests.evaluation.official import official_names
from tests.evaluation.videos import video_set

Masks = Sequence[dict[str, Any] | None]
A, B, HALF = stripe(0, 40), stripe(60, 100), stripe(0, 20)
Documents = tuple[dict[str, Any], list[dict[str, Any]]]


def documents(things: dict[tuple[int, int], list[Masks]], found: Sequence[tuple[int, int, Masks, float]]) -> Documents:
    """Ground truth of the masklets of each (video, category) pair, of two frames each, and predictions."""
    videos = [
        {"id": video, "file_names": [f"{video}/0.jpg", f"{video}/1.jpg"], "height": SIDE, "width": SIDE, "length": 2}
        for video in sorted({video for video, _ in things})
    ]
    annotations = [
        {"id": 0, "video_id": video, "category_id": category, "segmentations": list(masks)}
        for (video, category), masklets in things.items()
        for masks in masklets
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    pairs = [
        {"id": number, "video_id": video, "category_id": category, "noun_phrase": f"thing {category}"}
        for number, (video, category) in enumerate(things, start=1)
    ]
    names = [{"id": number, "name": f"thing {number}"} for number in range(1, 6)]
    predictions = [
        {"video_id": video, "category_id": category, "segmentations": list(masks), "score": score}
        for video, category, masks, score in found
    ]
    return {"videos": videos, "annotations": annotations, "categories": names, "video_np_pairs": pairs}, predictions


def write(folder: Path, both: Documents) -> tuple[Path, Path]:
    paths = folder / "truth.json", folder / "found.json"
    for path, document in zip(paths, both, strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    return paths


def evaluate(both: Documents) -> VEvalReport:
    with tempfile.TemporaryDirectory() as folder:
        return evaluate_veval(*write(Path(folder), both))


def pair_of(report: VEvalReport, video: int, category: int) -> dict[str, Any]:
    (pair,) = [one for one in report.pairs if (one["video_id"], one["category_id"]) == (video, category)]
    return dict(pair)


def test_the_overlap_is_that_of_volumes() -> None:
    # 40 of 40 pixels in the first frame and 20 of 40 in the second: 60 / 80 = 0.75, which six of ten thresholds take.
    report = evaluate(documents({(1, 1): [[A, A]], (2, 1): []}, [(1, 1, [A, HALF], 0.9)]))
    assert report.headline["pmf1"] == pytest.approx(60, abs=0.01)
    assert report.headline["il_mcc"] == pytest.approx(1, abs=1e-5)
    assert report.headline["cgf1"] == pytest.approx(60, abs=0.01)
    want = {"map": 0.6, "phrase_ap": 0.6, "phrase_ap50": 1.0, "phrase_ap75": 1.0}
    assert report.masks["ap"] == pytest.approx(want)
    pair = pair_of(report, 1, 1)
    assert pair["masks"]["tp"] == 0.6
    assert pair["masks"]["tp@0.75"] == 1
    # Both frames match up to an IoU of 0.5, ten of nineteen; beyond, one of three detections, and so the track.
    assert report.headline["phota"] == pytest.approx(100 * (10 + 9 / 3) / 19)
    assert report.masks["hota"]["detre"] == pytest.approx((10 + 9 / 2) / 19)


def test_a_frame_without_a_mask_is_missed_area() -> None:
    # 40 shared of 80: the second frame is missed as a whole.
    report = evaluate(documents({(1, 1): [[A, A]]}, [(1, 1, [A, None], 0.9)]))
    assert pair_of(report, 1, 1)["masks"]["tp"] == 0.1
    assert report.masks["hota"]["detre"] == 0.5
    assert report.masks["hota"]["detpr"] == 1


def test_each_score_has_its_own_threshold() -> None:
    things: dict[tuple[int, int], list[Masks]] = {(1, 1): [[A, A]], (2, 1): []}
    at, above, below = (evaluate(documents(things, [(1, 1, [A, A], score)])) for score in (0.5, 0.50001, 0.49999))
    assert [round(one.headline["cgf1"], 1) for one in (at, above, below)] == [100, 100, 0]
    assert [one.headline["teta"] for one in (at, above, below)] == pytest.approx([100, 100, 0])
    assert [one.headline["phota"] for one in (at, above, below)] == pytest.approx([0, 100, 0])
    assert [one.headline["map"] for one in (at, above, below)] == pytest.approx([100, 100, 100])


def test_a_wrong_class_is_found_but_not_named() -> None:
    things: dict[tuple[int, int], list[Masks]] = {(1, 1): [[A, A]], (1, 2): [[B, B]]}
    report = evaluate(documents(things, [(1, 2, [A, A], 0.9), (1, 2, [B, B], 0.9)]))
    teta = report.masks["teta"]
    assert (teta["loca"], teta["assoca"]) == (1, 1)
    # Class 1 has no hit. What is wrong about it counts against class 2 twice: as an error and as no thing of class 2.
    assert teta["clsre"] == 0.5
    assert teta["clspr"] == pytest.approx(2 / (2 + 4) / 2)
    assert teta["clsa"] == pytest.approx(2 / (2 + 4) / 2)
    assert teta["teta"] == pytest.approx((1 + 1 + 1 / 6) / 3)


def test_two_halves_of_a_track_are_associated_half() -> None:
    report = evaluate(documents({(1, 1): [[A, A]]}, [(1, 1, [A, None], 0.9), (1, 1, [None, A], 0.9)]))
    hota = report.masks["hota"]
    assert (hota["deta"], hota["assre"], hota["asspr"]) == (1, 0.5, 1)
    assert hota["hota"] == pytest.approx(0.5**0.5)
    assert report.masks["teta"]["assoca"] == 0.5


def test_a_negative_counts_for_presence_and_for_hota_only_when_something_is_found() -> None:
    things: dict[tuple[int, int], list[Masks]] = {(1, 1): [[A, A]], (2, 1): [], (2, 2): []}
    silent = evaluate(documents(things, [(1, 1, [A, A], 0.9)]))
    loud = evaluate(documents(things, [(1, 1, [A, A], 0.9), (2, 2, [B, None], 0.9)]))
    assert silent.masks["cgf1"]["pairs"] == {
        "all": 3,
        "true_positive": 1,
        "false_positive": 0,
        "true_negative": 2,
        "false_negative": 0,
    }
    assert "hota" not in pair_of(silent, 2, 2)["masks"]
    assert pair_of(loud, 2, 2)["masks"]["hota"] == 0
    assert loud.headline["il_mcc"] == pytest.approx(0.5)
    assert loud.masks["hota"]["detpr"] == pytest.approx(2 / 3)
    assert {video["video_id"]: video["pairs"] for video in loud.videos} == {1: 1, 2: 2}
    assert loud.videos[0]["phota"] == 100


def test_predictions_for_a_pair_that_nobody_asked_for_are_false() -> None:
    report = evaluate(documents({(1, 1): [[A, A]]}, [(1, 1, [A, A], 0.9), (1, 5, [B, B], 0.9)]))
    assert pair_of(report, 1, 5)["masks"]["fp"] == 1
    assert pair_of(report, 1, 5)["noun_phrase"] == "thing 5"


def test_nothing_found_scores_nothing() -> None:
    report = evaluate(documents({(1, 1): [[A, A]], (1, 2): []}, []))
    assert set(report.headline.values()) == {0}


def test_scores_that_are_undefined_are_minus_one() -> None:
    report = evaluate(documents({(1, 1): []}, []))
    assert [report.headline[name] for name in ("phota", "teta", "map", "phrase_ap")] == [-1] * 4


def test_a_crowd_makes_a_prediction_neither_right_nor_wrong() -> None:
    both = documents({(1, 1): [[A, A], [B, B]]}, [(1, 1, [A, A], 0.9), (1, 1, [B, B], 0.8)])
    both[0]["annotations"][1]["iscrowd"] = 1
    report = evaluate(both)
    assert report.headline["phrase_ap"] == pytest.approx(100)
    assert pair_of(report, 1, 1)["masks"]["fn"] == 0
    assert pair_of(report, 1, 1)["masks"]["fp"] == 1  # to cgF1 it is not there


def test_boxes_and_areas_are_counted_in_the_masks_where_they_are_missing(tmp_path: Path) -> None:
    truth, found = video_set(3, tmp_path)
    want = evaluate_veval(truth, found).to_json()
    bare = json.loads(truth.read_text("utf-8")), json.loads(found.read_text("utf-8"))
    for one in (*bare[0]["annotations"], *bare[1]):
        one.pop("areas", None)
    assert evaluate(bare).to_json() == want
    for one in (*bare[0]["annotations"], *bare[1]):
        del one["bboxes"]
    assert evaluate(bare).masks == want["masks"]


def test_files_may_be_compressed(tmp_path: Path) -> None:
    paths = video_set(1, tmp_path, videos=2)
    packed = [path.with_name(f"{path.name}.gz") for path in paths]
    for path, target in zip(paths, packed, strict=True):
        target.write_bytes(gzip.compress(path.read_bytes()))
    assert evaluate_veval(*packed).to_json() == evaluate_veval(*paths).to_json()


def test_categories_that_no_pair_has_change_nothing(tmp_path: Path) -> None:
    truth, found = video_set(2, tmp_path, videos=3)
    want = evaluate_veval(truth, found).to_json()
    document = json.loads(truth.read_text("utf-8"))
    document["categories"] += [{"id": number, "name": f"other {number}"} for number in range(1000, 3000)]
    truth.write_text(json.dumps(document), encoding="utf-8")
    assert evaluate_veval(truth, found).to_json() == want


def loaded(seed: int) -> Documents:
    with tempfile.TemporaryDirectory() as folder:
        truth, found = video_set(seed, Path(folder), videos=3)
        return json.loads(truth.read_text("utf-8")), json.loads(found.read_text("utf-8"))


seeds = st.integers(0, 10_000)


@settings(max_examples=6, deadline=None)
@given(seeds)
def test_the_truth_scores_the_most(seed: int) -> None:
    truth, _ = loaded(seed)
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    perfect = evaluate((truth, [{**one, "score": 0.9} for one in truth["annotations"]]))
    assert perfect.headline["pmf1"] == pytest.approx(100, abs=0.1)
    shares = {**perfect.masks["hota"], **perfect.masks["teta"], **perfect.masks["ap"], **perfect.boxes["ap"]}
    twins = {
        name for name in shares if "ass" in name or name in {"hota", "owta", "teta"}
    }  # may be taken for each other
    assert {name: shares[name] for name in shares.keys() - twins} == pytest.approx(
        dict.fromkeys(shares.keys() - twins, 1.0)
    )


@settings(max_examples=6, deadline=None)
@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_videos_and_pairs_changes_nothing(seed: int, random: Any) -> None:
    truth, found = loaded(seed)
    want = evaluate((truth, found))
    shuffled = copy.deepcopy((truth, found))
    random.shuffle(shuffled[0]["videos"])
    random.shuffle(shuffled[0]["video_np_pairs"])
    place = {one["id"]: number for number, one in enumerate(shuffled[0]["videos"])}
    shuffled[1].sort(key=lambda one: place[one["video_id"]])
    got = evaluate(shuffled)
    assert official_names(got) == pytest.approx(official_names(want))
    assert list(got.pairs) == list(want.pairs)


@settings(max_examples=6, deadline=None)
@given(seeds, st.sampled_from([0.3, 0.5, 0.6, 0.95]))
def test_a_false_positive_raises_no_score(seed: int, score: float) -> None:
    truth, found = loaded(seed)
    video = truth["videos"][0]
    asked = (*truth["annotations"], *truth["video_np_pairs"], *found)
    used = {one["category_id"] for one in asked if one["video_id"] == video["id"]}
    new = next(one["id"] for one in truth["categories"] if one["id"] not in used)
    truth["video_np_pairs"].append({"id": 0, "video_id": video["id"], "category_id": new})
    size = video["height"], video["width"]
    mask = next(
        mask for one in truth["annotations"] for mask in one["segmentations"] if mask and mask["size"] == [*size]
    )
    before, after = (
        evaluate((truth, [*found, *more]))
        for more in (
            [],
            [{"video_id": video["id"], "category_id": new, "score": score, "segmentations": [mask] * video["length"]}],
        )
    )
    for name in ("il_mcc", "pmf1", "phota", "map", "phrase_ap"):
        assert after.headline[name] <= before.headline[name] + 1e-9


VALID = documents({(1, 1): [[A, A]], (1, 2): []}, [(1, 1, [A, None], 0.9)])
VALID[0]["annotations"][0] |= {"bboxes": [[0, 0, 10, 4]] * 2, "areas": [40, 40]}
VALID[1][0] |= {"bboxes": [[0, 0, 10, 4], None], "areas": [40, None]}
WRONG: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "no videos": (lambda truth, _: truth.pop("videos"), "videos"),
    "no pairs": (lambda truth, _: truth.pop("video_np_pairs"), "video_np_pairs"),
    "empty pairs": (lambda truth, _: truth["video_np_pairs"].clear(), "video_np_pairs"),
    "a video twice": (lambda truth, _: truth["videos"].append(truth["videos"][0]), "twice"),
    "a category twice": (lambda truth, _: truth["categories"].append(truth["categories"][0]), "twice"),
    "an annotation twice": (lambda truth, _: truth["annotations"].append(truth["annotations"][0]), "twice"),
    "a pair twice": (
        lambda truth, _: truth["video_np_pairs"].append({**truth["video_np_pairs"][0], "id": 9}),
        "twice",
    ),
    "a video without frames": (lambda truth, _: truth["videos"][0].update(file_names=[]), "file_names"),
    "another length": (lambda truth, _: truth["videos"][0].update(length=3), "length"),
    "no size": (lambda truth, _: truth["videos"][0].pop("height"), "size"),
    "a size of 0": (lambda truth, _: truth["videos"][0].update(width=0), "size"),
    "a pair of no video": (lambda truth, _: truth["video_np_pairs"][0].update(video_id=7), "video_id"),
    "a name that is a number": (lambda truth, _: truth["categories"][0].update(name=3), "name"),
    "a video id that is a text": (lambda _, found: found[0].update(video_id="1"), "video_id"),
    "an unknown video": (lambda _, found: found[0].update(video_id=9), "video_id"),
    "an unknown category": (lambda _, found: found[0].update(category_id=99), "category_id"),
    "no score": (lambda _, found: found[0].pop("score"), "score"),
    "a score that is no number": (lambda _, found: found[0].update(score=float("nan")), "score"),
    "no masks": (lambda _, found: found[0].pop("segmentations"), "segmentations"),
    "a frame too few": (lambda _, found: found[0]["segmentations"].pop(), "frames"),
    "a box too many": (lambda _, found: found[0]["bboxes"].append(None), "bboxes"),
    "a mask of another size": (
        lambda _, found: found[0].update(segmentations=[{"size": [5, 20], "counts": A["counts"]}, None]),
        "[10, 10]",
    ),
    "polygons": (lambda _, found: found[0].update(segmentations=[[[0, 0, 4, 0, 4, 4]], None]), "RLE"),
    "a broken mask": (
        lambda _, found: found[0].update(segmentations=[{"size": [10, 10], "counts": "0"}, None]),
        "frame 0",
    ),
    "a box of three": (lambda _, found: found[0].update(bboxes=[[0, 0, 1], None]), "bboxes"),
    "a box of no size": (lambda _, found: found[0].update(bboxes=[[0, 0, -1, 1], None]), "bboxes"),
    "a huge box": (lambda _, found: found[0].update(bboxes=[[0, 0, 10**400, 1], None]), "bboxes"),
    "a box of true": (lambda _, found: found[0].update(bboxes=[[0, 0, True, 1], None]), "bboxes"),
    "areas of text": (lambda _, found: found[0].update(areas=["40", None]), "areas"),
    "a box without a mask": (lambda _, found: found[0].update(bboxes=[[0, 0, 9, 4]] * 2), "frame 1"),
    "a true box without a mask": (lambda truth, _: truth["annotations"][0].update(segmentations=[A, None]), "frame 1"),
    "a crowd of 2": (lambda truth, _: truth["annotations"][0].update(iscrowd=2), "iscrowd"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_files_that_are_wrong_are_refused_by_name(tmp_path: Path, wrong: str) -> None:
    change, told = WRONG[wrong]
    both = copy.deepcopy(VALID)
    change(*both)
    with pytest.raises(EvaluationError) as caught:
        evaluate_veval(*write(tmp_path, both))
    assert told in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [("[]", 0), *((text, place) for text in ("", "{", "3", '{"videos": {}}', "\x00") for place in (0, 1))],
)
def test_other_files_are_refused(tmp_path: Path, text: str, place: int) -> None:
    paths = write(tmp_path, VALID)
    paths[place].write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError):
        evaluate_veval(*paths)


def test_sets_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("saco_veval_sav_test", "saco_veval_yt1b_val", "other"):
        (tmp_path / f"{name}.json").touch()
    found = tmp_path / "found"
    found.mkdir()
    (found / "yt1b_val.json").touch()
    sets = find_veval_sets(tmp_path, found)
    assert {name: files[1].name for name, files in sets.items()} == {
        "sav_test": "saco_veval_sav_test_preds.json",
        "yt1b_val": "yt1b_val.json",
    }
    assert find_veval_sets(tmp_path, tmp_path)["sav_test"][1].name == "saco_veval_sav_test_preds.json"
    with pytest.raises(EvaluationError):
        find_veval_sets(found, found)


def test_the_report_is_plain_json() -> None:
    report = evaluate(VALID).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert np.isfinite(report["cgf1"])
