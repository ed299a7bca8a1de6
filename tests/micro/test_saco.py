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
from litetext.micro.phrases import make_pairs
from litetext.micro.saco import write_saco
from litetext.micro.scenes import SceneOptions

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
