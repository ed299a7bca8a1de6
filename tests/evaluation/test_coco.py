"""Reading: COCO's notations of a mask, and what is said of files that cannot be read."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

pytest.importorskip("pycocotools")
from litetext.errors import EvaluationError, OptionError
from litetext.evaluation.cgf1 import choose_pairs
from litetext.evaluation.coco import read_annotations, read_predictions
from litetext.evaluation.coco_json import encode
from litetext.sam3.masks import mask_ious
from tests.evaluation.files import stripe
from tests.evaluation.synthetic import rectangle, rle, runs

MASK = rectangle((20, 30), 4, 2, 14, 12)
POLYGON = [[4, 2, 14, 2, 14, 12, 4, 12]]
IMAGE = {"id": 1, "height": 10, "width": 10, "is_instance_exhaustive": 1}
PREDICTION = {"image_id": 1, "score": 0.9, "segmentation": stripe(0, 9)}


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("segmentation", [rle(MASK), runs(MASK), POLYGON], ids=["compressed", "runs", "polygon"])
def test_every_notation_is_the_same_mask(segmentation: Any) -> None:
    assert mask_ious([encode(segmentation, (20, 30), "")], [rle(MASK)]).tolist() == [[1.0]]


def test_several_polygons_are_one_mask() -> None:
    both = encode([*POLYGON, [20, 2, 25, 2, 25, 12, 20, 12]], (20, 30), "")
    assert mask_ious([both], [rle(MASK)])[0, 0] == pytest.approx(100 / 150)


def test_overlap_is_by_hand() -> None:
    ious = mask_ious([stripe(0, 20), stripe(50, 60)], [stripe(0, 10), stripe(10, 30), stripe(50, 60)])
    np.testing.assert_allclose(ious, [[0.5, 1 / 3, 0], [0, 0, 1]])
    assert mask_ious([], [stripe(0, 1)]).shape == (0, 1)
    assert mask_ious([stripe(0, 1)], []).shape == (1, 0)


@pytest.mark.parametrize(
    "segmentation",
    [None, 3, [], {}, {"size": [20, 30]}, {"size": [20], "counts": "x"}, {"size": [20, 30], "counts": [5, 5]},
     {"size": [2, 2], "counts": []}, {"size": [2, 2], "counts": [8, -4]}, {"size": [2, 2], "counts": 7},
     [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], ["polygon"], [["a"] * 6], [[float("nan")] * 6]],
)  # fmt: skip
def test_what_is_no_segmentation(segmentation: Any) -> None:
    with pytest.raises(EvaluationError, match=r"not a segmentation .*, p.json, pair 3; give RLE or polygons"):
        encode(segmentation, (20, 30), "p.json, pair 3")


def test_polygons_need_the_size_of_the_image() -> None:
    with pytest.raises(EvaluationError, match="polygons of an image without a size, here; give height and width"):
        encode(POLYGON, None, "here")


def test_a_box_without_a_mask_is_a_rectangle(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path / "p.json", [{"image_id": 1, "score": 1, "bbox": [4, 2, 10, 10]}]), 0.5)
    assert mask_ious([encode(found.masks[1][0], (20, 30), "")], [rle(MASK)]).tolist() == [[1.0]]


def test_poor_predictions_leave_only_their_pair(tmp_path: Path) -> None:
    listed = [PREDICTION, {**PREDICTION, "image_id": 2, "score": 0.4999}, {**PREDICTION, "image_id": "3", "score": 0.5}]
    found = read_predictions(write(tmp_path / "p.json", listed), 0.5)
    assert (set(found.masks), found.pairs, found.categories) == ({1, "3"}, {1, 2, "3"}, frozenset())


def test_annotations_without_crowds_and_categories(tmp_path: Path) -> None:
    mask = {"image_id": 1, "segmentation": stripe(0, 9)}
    sizeless = {"id": "b", "is_instance_exhaustive": 0}
    document = {"images": [IMAGE, sizeless], "annotations": [mask, {**mask, "iscrowd": 1}]}
    found = read_annotations(write(tmp_path / "a.json", document))
    assert found.exhaustive == {1}
    assert (found.size(1), found.size("b")) == ((10, 10), None)
    assert (len(found.masks[1]), found.categories) == (1, frozenset())


MASKLESS = {"image_id": 1}
MASKED = {"image_id": 1, "segmentation": stripe(0, 9)}
TWO = {"categories": [{"id": 1}, {"id": 2}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", r"not JSON \(.*\), .*a.json; write the file again"),
        ("[" * 100_000, "not JSON"),
        ([], "not a COCO object"),
        ({}, "no list 'images', .*a.json; give a COCO file of SA-Co Gold"),
        ({"images": [IMAGE]}, "no list 'annotations'"),
        ({"images": [IMAGE, 3], "annotations": []}, r"images\[1\] is not an object"),
        ({"images": [{}], "annotations": []}, r"no 'id', .*a.json, images\[0\]; every entry of that list needs one"),
        ({"images": [{"id": 1}], "annotations": []}, r"no 'is_instance_exhaustive', .*images\[0\]"),
        ({"images": [{**IMAGE, "id": [1]}], "annotations": []}, r"'id' is \[1\], .*; give an integer or a string"),
        ({"images": [{**IMAGE, "width": "x"}], "annotations": []}, "the size is 10 x 'x'"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, r"the id 1 is there twice, .*images\[1\]"),
        ({"images": [IMAGE], "annotations": [MASKLESS]}, r"no 'segmentation', .*annotations\[0\]"),
        ({"images": [IMAGE], "annotations": [{"image_id": 5}]}, r"no image has the id 5, .*annotations\[0\]"),
        ({"images": [IMAGE], "annotations": [{**MASKLESS, "category_id": 3}], **TWO}, "no category has that"),
        ({"images": [IMAGE], "annotations": [{**MASKLESS, "category_id": "x"}]}, "'category_id' is 'x'"),
        ('{"images": [], "images": [], "annotations": []}', "not JSON .*'images' is twice"),
        ({"images": [{**IMAGE, "id": True}], "annotations": []}, "'id' is True"),
        ({"images": [{**IMAGE, "id": 1.0}], "annotations": []}, "'id' is 1.0"),
        ({"images": [{**IMAGE, "id": "\ud800"}], "annotations": []}, "'id' is "),
        ({"images": [{**IMAGE, "is_instance_exhaustive": "true"}], "annotations": []}, "'is_instance_exhaustive' is"),
        ({"images": [{**IMAGE, "is_instance_exhaustive": 2}], "annotations": []}, "'is_instance_exhaustive' is 2"),
        ({"images": [{**IMAGE, "height": True}], "annotations": []}, "the size is True x 10"),
        ({"images": [{**IMAGE, "height": 2**30}], "annotations": []}, "the size is 1073741824 x 10"),
        ({"images": [IMAGE], "annotations": [], "categories": [{"id": 1}, {"id": 1}]}, r"twice, .*categories\[1\]"),
        ({"images": [IMAGE], "annotations": [], "categories": [{"id": True}]}, "'id' is True"),
        ({"images": [IMAGE], "annotations": [{**MASKED, "id": 1}, {**MASKED, "id": 1}]}, r"twice, .*annotations\[1\]"),
        ({"images": [IMAGE], "annotations": [{**MASKED, "iscrowd": "0"}]}, "'iscrowd' is '0'"),
        ({"images": [IMAGE], "annotations": [{**MASKED, "segmentation": rle(MASK)}]}, r"\[20, 30\] pixels .* pair 1"),
        ({"images": [IMAGE], "annotations": [{**MASKED, "segmentation": {"size": [10, 10], "counts": "!"}}]}, "pair 1"),
        ("[" * 500 + "]" * 500, "not a COCO object"),
        ({"images": [{**IMAGE, "id": [[[[[[[[[[[[]]]]]]]]]]]]}], "annotations": []}, "'id' is"),
    ],
)
def test_ground_truth_that_cannot_be_read(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_annotations(write(tmp_path / "a.json", document))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "not a list of COCO results"),
        ([{"score": 1}], r"no 'image_id', .*p.json, predictions\[0\]"),
        ([{"image_id": 1}], "no 'score'"),
        ([{"image_id": 1, "score": "high"}], "'score' is 'high'"),
        ([{"image_id": 1, "score": float("nan")}], "'score' is nan"),
        ([{"image_id": 1, "score": 1}], "no 'segmentation'"),
        ([{"image_id": 1, "score": 1, "bbox": [1, 2]}], "'bbox' is .*; give x, y, width, height"),
        ([{"image_id": 1, "score": 1, "bbox": [1, 2, -3, 4]}], "'bbox' is .*; give x, y, width, height"),
        ([{"image_id": 1, "score": 1, "bbox": ["1", 2, 3, 4]}], "'bbox' is .*; give x, y, width, height"),
        ([{"image_id": 1, "score": 1, "bbox": [0, 0, 1e300, 1]}], "not a segmentation .* pair 1"),
        ([{"image_id": 1, "score": 10**400}], "'score' is 1"),
        ([{"image_id": 1, "score": True}], "'score' is True"),
        ([{"image_id": False, "score": 1}], "'image_id' is False"),
        ([{**PREDICTION, "category_id": True}], "'category_id' is True"),
        ([{**PREDICTION, "segmentation": {"size": [10, 10], "counts": "!!"}}], r"predictions\[0\], pair 1"),
    ],
)
def test_predictions_that_cannot_be_read(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_predictions(write(tmp_path / "p.json", document), 0.5)


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_compressed_files_are_read(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"p.json.{ending}"
    path.write_bytes(pack(json.dumps([PREDICTION]).encode()))
    assert read_predictions(path, 0.5).pairs == {1}
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EvaluationError, match=path.name):
        read_predictions(path, 0.5)


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litetext.evaluation.coco_json.MOST_UNPACKED", 10_000)
    path = tmp_path / "p.json.gz"
    path.write_bytes(gzip.compress(b" " * 1_000_000 + b"[]"))
    with pytest.raises(EvaluationError, match="unpacks to more than"):
        read_predictions(path, 0.5)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no such file, .*nowhere.json; check the path"):
        read_annotations(tmp_path / "nowhere.json")
    with pytest.raises(EvaluationError, match="a folder"):
        read_predictions(tmp_path, 0.5)


# Plain COCO: two pictures and three categories, the last of which is nowhere.
PICTURES = [
    {"id": 7, "file_name": "a.jpg", "height": 20, "width": 30},
    {"id": "b", "file_name": "b.jpg", "height": 20, "width": 30},
]
CATEGORIES = [{"id": 1, "name": "fire_hydrant"}, {"id": 2, "name": "dog.n.01"}, {"id": 5, "name": "unused"}]
PLAIN = {
    "images": PICTURES,
    "categories": CATEGORIES,
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": POLYGON, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 1, "segmentation": rle(MASK), "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 2, "segmentation": rle(MASK)},
        {"id": 4, "image_id": 7, "category_id": 2, "segmentation": runs(MASK), "iscrowd": 1},
        {"id": 5, "image_id": "b", "category_id": 2, "segmentation": runs(MASK), "iscrowd": 0},
    ],
}


class TestPlainCoco:
    """A picture and a category make a pair."""

    def test_every_annotated_category_is_a_pair_of_every_picture(self, tmp_path: Path) -> None:
        found = read_annotations(write(tmp_path / "a.json", PLAIN))
        assert set(found.pairs) == {(7, 1), (7, 2), ("b", 1), ("b", 2)}
        assert found.exhaustive == {(7, 1), ("b", 1), ("b", 2)}  # in the other is a crowd
        assert [found.pairs[7, number].fields["text_input"] for number in (1, 2)] == ["fire hydrant", "dog"]
        assert mask_ious(found.codes((7, 1)), [rle(MASK)]).tolist() == [[1.0], [1.0]]
        assert (len(found.crowd_codes((7, 2))), found.codes(("b", 1))) == (1, [])
        assert read_annotations(found) is found

    @pytest.mark.parametrize(("exhaustive", "more"), [(True, {(7, 5), ("b", 5)}), (False, set())])
    def test_the_user_says_what_was_looked_for(self, tmp_path: Path, exhaustive: bool, more: set[Any]) -> None:
        found = read_annotations(write(tmp_path / "a.json", PLAIN), exhaustive)
        assert set(found.pairs) == {(7, 1), (7, 2), ("b", 2), *({("b", 1)} if exhaustive else ()), *more}
        for other in (
            {**PLAIN, "images": [{**PICTURES[0], "neg_category_ids": []}, PICTURES[1]]},
            {"images": [IMAGE], "annotations": [], **TWO},
        ):
            with pytest.raises(OptionError, match="exhaustive"):
                read_annotations(write(tmp_path / "b.json", other), exhaustive)

    def test_lvis_says_it_itself(self, tmp_path: Path) -> None:
        url = {key: value for key, value in PICTURES[0].items() if key != "file_name"}
        url |= {"coco_url": "http://images.cocodataset.org/val2017/a.jpg", "neg_category_ids": [5]}
        lists = {"neg_category_ids": [1], "not_exhaustive_category_ids": [2]}
        found = read_annotations(write(tmp_path / "a.json", {**PLAIN, "images": [url, {**PICTURES[1], **lists}]}))
        assert set(found.pairs) == {(7, 1), (7, 2), (7, 5), ("b", 1), ("b", 2)}
        assert found.exhaustive == {(7, 1), (7, 5), ("b", 1)}
        assert found.pairs[7, 5].fields["file_name"] == "val2017/a.jpg"

    def test_results_are_by_picture_and_category(self, tmp_path: Path) -> None:
        truth = read_annotations(write(tmp_path / "a.json", PLAIN), exhaustive=False)
        listed = [{"image_id": image, "category_id": number, "segmentation": rle(MASK), "score": 0.9}
                  for image, number in ((7, 1), ("b", 2), ("b", 1))]  # fmt: skip
        found = read_predictions(write(tmp_path / "p.json", listed), 0.5, truth)
        assert set(found.masks) == {(7, 1), ("b", 2)}  # nobody looked for the last
        with pytest.raises(EvaluationError, match="give an integer"):
            read_predictions(write(tmp_path / "p.json", [{**listed[0], "category_id": "x"}]), 0.5, truth)
        for wrong in ({"category_id": 9}, {"image_id": 3}):
            unknown = read_predictions(write(tmp_path / "p.json", [{**listed[0], **wrong}]), 0.5, truth)
            with pytest.raises(EvaluationError, match="unknown pairs"):
                choose_pairs([truth], unknown)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"annotations": [{**MASKED, "image_id": 7}]}, "no 'category_id'"),
            ({"annotations": [{**MASKED, "image_id": 7, "category_id": 3}]}, "no category has that"),
            ({"images": [{**PICTURES[0], "neg_category_ids": [3]}], "annotations": []}, "'neg_category_ids' is"),
            ({"categories": [{"id": 1}], "annotations": []}, "no 'name'"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
        with pytest.raises(EvaluationError, match=message):
            read_annotations(write(tmp_path / "a.json", {**PLAIN, **changed}))
