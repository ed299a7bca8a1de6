"""The examples read a segmenter that was exported, and find what LiteText finds in it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from PIL import Image

from litetext.export.segment_runtime import open_segmenter
from litetext.export.segmenter import export_segmenter
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.masks import Masks
from litetext.sam3.segmenter import Segmenter
from tests.examples.test_examples import EXAMPLES, example

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter") / "micro"
    export_segmenter(Segmenter.from_pretrained("micro", device="cpu"), folder, ["red car"], name="micro")
    return folder


@pytest.fixture(scope="module")
def scene(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Masks]:
    """A picture of another size than the model's, and what LiteText finds of a phrase in it: several instances."""
    segmenter = Segmenter(open_segmenter(bundle))
    for pair in make_pairs(5, 80, SceneOptions(size=224, split="test")):
        (found,) = segmenter(pair.scene.pixels, pair.phrase.text)
        if len(found) > 1:
            break
    picture = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(pair.scene.pixels).save(picture)
    return picture, found


def test_python_without_litetext(bundle: Path, scene: tuple[Path, Masks], tmp_path: Path) -> None:
    picture, wanted = scene
    found = example("segment_onnxruntime").main(str(bundle), str(picture), wanted.prompt, str(tmp_path / "over.png"))
    assert len(found) == len(wanted) > 1
    for (score, box, mask), (other_mask, other_box, other_score) in zip(found, wanted, strict=True):
        assert abs(score - other_score) < 0.02
        assert np.abs(box - other_box).max() < 1
        assert (mask & other_mask).sum() / (mask | other_mask).sum() > 0.95
    with Image.open(tmp_path / "over.png") as overlay, Image.open(picture) as original:
        changed = (np.asarray(overlay) != np.asarray(original)).any(axis=2)
    union = np.any([mask for _, _, mask in found], axis=0)
    assert not (changed & ~union).any()
    assert changed[union].mean() > 0.9


def test_python_imports_nothing_of_litetext(bundle: Path, scene: tuple[Path, Masks], tmp_path: Path) -> None:
    picture, wanted = scene
    code = f"import sys; sys.argv[0] = 'x'; exec(open({str(EXAMPLES / 'segment_onnxruntime.py')!r}).read())\n"
    code += "heavy = {'litetext', 'torch', 'onnx', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    arguments = [str(bundle), str(picture), wanted.prompt, str(tmp_path / "over.png")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(wanted)
