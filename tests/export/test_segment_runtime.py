"""An exported segmenter finds what the PyTorch engine finds, with any text encoder, and without PyTorch."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("onnx")

from litetext.checkpoints.load import load_encoder
from litetext.errors import EncoderError, OptionError
from litetext.export import segment_runtime
from litetext.export.exporter import export_student
from litetext.export.segment_bundle import VISION, open_segment_bundle
from litetext.export.segment_exporter import export_segmenter
from litetext.export.segment_runtime import open_segmenter
from litetext.features.bank import make_bank
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.masks import Masks
from litetext.sam3.segmenter import Exemplars, Segmenter, SegmentOptions

pytestmark = pytest.mark.torch
Picture = tuple[npt.NDArray[np.uint8], list[str]]
LOOSE = SegmentOptions(threshold=0.02)  # so that there are masks to compare for phrases that are absent, too


def pictures(count: int, size: int = 160, seed: int = 3) -> list[Picture]:
    """Scenes, each with its phrases."""
    pairs = make_pairs(seed, count, SceneOptions(size=size, split="test"))
    listed = [list(group) for _, group in groupby(pairs, key=lambda pair: pair.picture)]
    return [(group[0].scene.pixels, [pair.phrase.text for pair in group]) for group in listed]


def assert_same(found: Sequence[Masks], wanted: Sequence[Masks], pixels: float = 1e-3) -> None:
    """Every mask equal, boxes within so many pixels, scores of what is found by default within 1e-5."""
    for one, other in zip(found, wanted, strict=True):
        assert one.prompt == other.prompt
        assert np.array_equal(one.masks, other.masks)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=pixels, rtol=0)
        sure = other.scores > 0.5
        np.testing.assert_allclose(one.scores[sure], other.scores[sure], atol=1e-5, rtol=0)
        np.testing.assert_allclose(one.scores, other.scores, atol=5e-5, rtol=0)


@pytest.fixture(scope="module")
def programs(exported: Path) -> Segmenter:
    return Segmenter(open_segmenter(exported, threads=1), options=LOOSE)


@pytest.mark.parametrize(("count", "size"), [(24, 160), (12, 333)])
def test_masks_boxes_and_scores_of_pytorch(segmenter: Segmenter, programs: Segmenter, count: int, size: int) -> None:
    theirs = segmenter.with_options(LOOSE)
    found = 0
    for pixels, phrases in pictures(count, size):
        wanted = theirs(pixels, phrases)
        assert_same(programs(pixels, phrases), wanted)
        found += sum(map(len, wanted))
    assert found > count / 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (90, 333)])
def test_pictures_of_any_shape(segmenter: Segmenter, programs: Segmenter, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    options = SegmentOptions(threshold=0.0)  # all candidates
    wanted = segmenter.with_options(options)(pixels, "red car")
    found = programs.with_options(options)(pixels, "red car")
    assert len(found[0]) == len(wanted[0]) > 1
    # Of equal scores either may come first.
    order, other = (np.lexsort(one.boxes.round(2).T) for one in (found[0], wanted[0]))
    np.testing.assert_allclose(found[0].boxes[order], wanted[0].boxes[other], atol=1e-2)
    assert found[0].size == shape


@pytest.mark.parametrize("positive", [None, [True], [False], [True, False, True]])
def test_exemplars(segmenter: Segmenter, programs: Segmenter, positive: list[bool] | None) -> None:
    boxes = np.array([[20.0, 30, 60, 80], [90, 10, 150, 60], [5, 100, 40, 150]])[: len(positive or [True])]
    for pixels, phrases in pictures(6):
        shown = Exemplars(boxes, positive)
        assert_same(programs(pixels, phrases, shown), segmenter.with_options(LOOSE)(pixels, phrases, shown))


def test_threads_batches_and_memory_limits_change_nothing(
    programs: Segmenter, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, phrases = pictures(6, seed=4)[0]
    phrases = [*phrases, "a very long phrase about a big red car on the left of a small blue tree", "car"] * 2
    engine = open_segmenter(exported, threads=2)
    wanted = Segmenter(engine, options=LOOSE)(pixels, phrases)
    assert_same(programs(pixels, phrases), wanted)  # of one thread
    shapes: list[int] = []
    decoder = engine._decoder

    def decode(given: Any) -> Any:
        shapes.append(len(given["prompt_features"]))
        return decoder(given)

    monkeypatch.setattr(engine, "_decoder", decode)
    alone = Segmenter(engine, engine.own_encoder(), options=SegmentOptions(threshold=0.02, prompt_batch=1))
    assert_same(alone(pixels, phrases), wanted)
    cells = np.prod(engine.embed(Image.fromarray(pixels))["fpn_feat_2"].shape[-2:])
    monkeypatch.setattr(segment_runtime, "MOST_CELLS", 2 * cells + 1)
    shapes.clear()
    assert_same(Segmenter(engine, options=LOOSE)(pixels, phrases), wanted)
    assert max(shapes) == 2


@pytest.mark.slow
def test_openvino(segmenter: Segmenter, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export_segmenter(segmenter, tmp_path / "ov", ["red car"], target="openvino", name="micro")
    found = Segmenter(open_segmenter(tmp_path / "ov", threads=1), options=LOOSE)
    assert found.engine.name == "openvino"
    for pixels, phrases in pictures(8):
        assert_same(found(pixels, phrases), segmenter.with_options(LOOSE)(pixels, phrases), pixels=5e-3)
    pixels, phrases = pictures(1)[0]
    shown = Exemplars([[20.0, 30, 60, 80]], [False])
    assert_same(found(pixels, phrases, shown), segmenter.with_options(LOOSE)(pixels, phrases, shown), pixels=5e-3)
    # The same graphs have standard operators only, so ONNX Runtime runs them as well.
    assert_same(Segmenter(open_segmenter(tmp_path / "ov", "onnx"))(pixels, phrases), segmenter(pixels, phrases))


def test_a_student_as_text_encoder(segmenter: Segmenter, tmp_path: Path) -> None:
    """As a program of the segmenter, or from a folder that was exported before: the same features.

    The micro model's weights were saved as fp16: stored so, they are the same numbers in half the bytes.
    """
    student = load_encoder("micro-student", device="cpu", dtype="float32")
    theirs = segmenter.with_encoder(student)
    export_student(student, tmp_path / "text", ["red car"])
    export_segmenter(theirs, tmp_path / "own", ["red car"], name="micro")
    export_segmenter(
        segmenter, tmp_path / "copied", ["red car"], text=tmp_path / "text", name="micro", precision="fp16"
    )
    half, single = ((tmp_path / name / f"{VISION}.onnx.data").stat().st_size for name in ("copied", "own"))
    assert half < 0.6 * single
    for folder in ("own", "copied"):
        bundle = open_segment_bundle(tmp_path / folder)
        assert bundle.text is not None
        assert bundle.text.parameters == sum(one.numel() for one in student.module.fold().parameters())  # type: ignore[attr-defined]
        found = Segmenter(open_segmenter(tmp_path / folder), options=LOOSE)
        for pixels, phrases in pictures(6):
            assert_same(found(pixels, phrases), theirs.with_options(LOOSE)(pixels, phrases))


def test_a_bank_as_text_encoder(segmenter: Segmenter, tmp_path: Path) -> None:
    bank = make_bank(tmp_path / "bank.safetensors", ["red car", "blue tree"], segmenter.encoder)
    export_segmenter(segmenter, tmp_path / "micro", ["red car"], text=tmp_path / "bank.safetensors", name="micro")
    assert not (tmp_path / "micro" / "tokenizer.json").exists()
    found = Segmenter(open_segmenter(tmp_path / "micro"), options=LOOSE)
    pixels, _ = pictures(1)[0]
    assert_same(
        found(pixels, ["red car", "blue tree"]),
        Segmenter(segmenter.engine, bank, options=LOOSE)(pixels, ["red car", "blue tree"]),
    )
    with pytest.raises(EncoderError, match="red bus") as raised:
        found(pixels, ["red car", "red bus"])
    assert "\n" not in str(raised.value)


def test_what_cannot_be_opened_is_one_line(exported: Path, tmp_path: Path) -> None:
    for options, message in (({"engine": "tpu"}, "tpu"), ({"threads": 0}, "0 threads")):
        with pytest.raises(OptionError, match=message):
            open_segmenter(exported, **options)  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match="no such file or folder"):
        open_segmenter(tmp_path / "nothing")
    with pytest.raises(EncoderError, match="no programs of this model"):
        open_segmenter(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam3_lite_text"}', encoding="utf-8")
    with pytest.raises(EncoderError, match=r"no model\.safetensors"):
        open_segmenter(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    with pytest.raises(EncoderError, match=r"without a text encoder.*--text-encoder"):
        open_segmenter(tmp_path).own_encoder()


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "transformers", "onnx", "openvino", "huggingface_hub"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np
from litetext.export.segment_runtime import open_segmenter
from litetext.sam3.segmenter import Exemplars, Segmenter
"""


def in_fresh_process(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_masks_without_pytorch(programs: Segmenter, exported: Path, tmp_path: Path) -> None:
    pixels, phrases = pictures(1)[0]
    np.save(tmp_path / "pixels.npy", pixels)
    code = (
        "pixels = np.load(sys.argv[2])\n"
        "found = Segmenter(open_segmenter(sys.argv[1]))\n"
        "boxes = Exemplars([[20.0, 30, 60, 80]])\n"
        "print([int(one.masks.sum()) for shown in (None, boxes) for one in found(pixels, sys.argv[3:], shown)])\n"
        "found(pixels, sys.argv[3:])[0].draw(pixels)\n"
    )
    printed = in_fresh_process(code, str(exported), str(tmp_path / "pixels.npy"), *phrases)
    whole = programs.with_options(SegmentOptions())
    shown = Exemplars([[20.0, 30, 60, 80]])
    expected = [int(one.masks.sum()) for boxes in (None, shown) for one in whole(pixels, phrases, boxes)]
    assert printed == f"{expected}\n"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak from /proc (Linux)")
def test_memory_is_bounded(exported: Path) -> None:
    """A picture of 100 megapixels takes its array, and twice what Pillow holds: 4 bytes a pixel; one pixel nothing."""
    code = """
import re
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
found = Segmenter(open_segmenter(sys.argv[1], threads=1))
found(np.zeros((1, 1, 3), np.uint8), ["red car"])
small = peak()
pixels = np.zeros((10_000, 10_000, 3), np.uint8)
pixels[2000:6000, 2000:6000] = (220, 20, 20)
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
found(pixels, ["red car"])
print(small, peak() - small)
"""
    small, more = map(float, in_fresh_process(code, str(exported)).split())
    assert small < 200
    assert more < 1300
