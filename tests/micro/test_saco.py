import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycocotools")
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from litetext.errors import OptionError
from litetext.evaluation.labeled_pairs import read_clips
from litetext.evaluation.veval import evaluate_veval
from litetext.evaluation.veval_files import read_video_truth
from litetext.micro.clips import make_clip
from litetext.micro.evaluation import known_clips
from litetext.micro.phrases import make_pairs
from litetext.micro.saco import CLIPS, VIDEOS, is_world, write_clips, write_saco
from litetext.micro.scenes import SceneOptions
from litetext.sam3.masks import decode_masks
from tests.evaluation.official import load_official_veval

OPTIONS = SceneOptions(size=96, split="test")


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
def test_it_reads_back_with_pycocotools(tmp_path: Path) -> None:
    pairs = list(make_pairs(3, 24, OPTIONS))
    assert write_saco(pairs, tmp_path) == json.loads((tmp_path / "gold.json").read_text("utf-8"))
    gold = COCO(str(tmp_path / "gold.json"))
    assert sorted(gold.getImgIds()) == list(range(1, 25))
    for number, pair in enumerate(pairs, start=1):
        entry = gold.imgs[number]
        assert entry["text_input"] == pair.phrase.text
        assert entry["is_instance_exhaustive"] == 1
        assert (entry["width"], entry["height"]) == (96, 96)
        assert np.array_equal(_read(tmp_path / entry["file_name"]), pair.scene.pixels)
        found = gold.loadAnns(gold.getAnnIds([number]))
        assert len(found) == len(pair.phrase.indices)
        for annotation, index in zip(found, pair.phrase.indices, strict=True):
            instance = pair.scene.instances[index]
            assert np.array_equal(gold.annToMask(annotation), instance.mask)
            assert isinstance(annotation["segmentation"]["counts"], str)
            assert annotation["iscrowd"] == 0
            assert annotation["area"] * 96 * 96 == pytest.approx(instance.mask.sum())
            assert np.multiply(annotation["bbox"], 96) == pytest.approx(rle.toBbox(annotation["segmentation"]))
    assert len(list((tmp_path / "images").iterdir())) == 4


def test_the_same_world_twice_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_saco(make_pairs(1, 12, OPTIONS), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 3
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="without pairs"):
        write_saco([], tmp_path)
    assert not (tmp_path / "gold.json").exists()


@pytest.mark.sam3
@pytest.mark.filterwarnings("ignore")
def test_the_official_evaluator_reads_it(tmp_path: Path) -> None:
    """Predictions equal to the truth score one (but for the 1e-4 that the evaluator adds to its denominators)."""
    package = importlib.util.find_spec("sam3")
    if package is None or package.origin is None:
        pytest.skip("no package sam3 (`make oracle`)")
    # The package itself needs more than its evaluator does.
    file = Path(package.origin).parent / "eval/cgf1_eval.py"
    spec = importlib.util.spec_from_file_location("cgf1_eval", file)
    assert spec is not None
    assert spec.loader is not None
    evaluation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluation)
    gold = write_saco(make_pairs(2, 60, OPTIONS), tmp_path)
    truth = [
        {key: entry[key] for key in ("image_id", "category_id", "segmentation")} | {"score": 0.9}
        for entry in gold["annotations"]
    ]
    (tmp_path / "found.json").write_text(json.dumps(truth), encoding="utf-8")
    scores = evaluation.CGF1Evaluator(str(tmp_path / "gold.json")).evaluate(str(tmp_path / "found.json"))
    assert scores["cgF1_eval_segm_cgF1"] == pytest.approx(1, abs=1e-3)
    assert scores["cgF1_eval_segm_IL_MCC"] == pytest.approx(1, abs=1e-3)


PLOTS = ("ordinary", "changing")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips on disk, and the truth as predictions in ``found.json``."""
    written = write_clips(known_clips(5, 1, PLOTS, size=64, length=8), tmp_path)
    assert written == json.loads((tmp_path / CLIPS).read_text("utf-8"))
    kept = ("video_id", "category_id", "segmentations", "bboxes", "areas")
    found = [{key: entry[key] for key in kept} | {"score": 0.9} for entry in written["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")
    return tmp_path


def test_clips_read_back(clips: Path) -> None:
    true = read_video_truth(clips / CLIPS)
    for number, (plot, clip) in enumerate(zip(PLOTS, read_clips(clips / CLIPS, [clips / VIDEOS]), strict=True), 1):
        drawn = make_clip(5, plot, size=64, length=8, split="test")
        assert (clip.number, clip.name, clip.length) == (number, f"{plot}-000005", 8)
        assert list(clip.phrases.values()) == [phrase.text for phrase in drawn.phrases]
        assert sum(not clip.truths[category] for category in clip.phrases) >= 1  # the absent phrase
        assert all(true.categories[category] == phrase for category, phrase in clip.phrases.items())
        for frame, (pixels, masks) in enumerate(drawn):
            np.testing.assert_array_equal(clip.read(frame), pixels)
            for phrase, category in zip(drawn.phrases, clip.phrases, strict=True):
                codes = [one.codes[frame] for one in clip.truths[category]]
                seen = decode_masks([code for code in codes if code is not None], (64, 64))
                expected = list(drawn.true_masks(phrase, frame, masks).values())
                np.testing.assert_array_equal(seen, np.array(expected, dtype=np.bool_).reshape(-1, 64, 64))


def test_true_masklets_score_all(clips: Path) -> None:
    pytest.importorskip("trackeval")
    scores = evaluate_veval(clips / CLIPS, clips / "found.json").headline
    assert [scores[name] for name in ("cgf1", "phota", "teta", "map")] == pytest.approx([100] * 4, abs=0.1)


@pytest.mark.sam3
@pytest.mark.filterwarnings("ignore")
def test_the_official_evaluator_reads_the_clips(clips: Path) -> None:
    official = load_official_veval()
    if official is None:
        pytest.skip("no package sam3 (`make oracle`)")
    scores, _ = official(clips / CLIPS, clips / "found.json")
    found = {name: value for name, value in scores.items() if "phrase_HOTA" in name or name.endswith("cgf1_micro_f1")}
    assert found
    assert min(found.values()) > 0.99


def test_clips_of_nothing_are_an_error_and_ours_are_known(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="without clips"):
        write_clips([], tmp_path / "none")
    with pytest.raises(OptionError, match="odd"):
        known_clips(0, 1, ["odd"])
    assert not is_world(clips, CLIPS, VIDEOS)  # found.json is not ours
    (clips / "found.json").unlink()
    assert is_world(clips, CLIPS, VIDEOS)
    assert not is_world(clips)
