"""The examples read a segmenter that was exported, and find what LiteText finds in it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
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
from litetext.tokenizer.bpe import clip_tokenizer
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


HEADER = Path("/usr/include/onnxruntime/onnxruntime_c_api.h")  # of Debian 13's libonnxruntime-dev
CPP_MAIN = """
#define main segment_main
#include "segment.cpp"
#undef main
#include <iostream>
int main(int, char** words) {
  for (std::string phrase; std::getline(std::cin, phrase);) {
    for (int64_t id : tokens(words[1], phrase)) std::cout << id << " ";
    std::cout << "\\n";
  }
}
"""


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of ONNX Runtime's header, or of a stand-in for it, and of the library that PyPI's package has."""
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not found or not shutil.which("cmake") or not shutil.which("c++"):
        pytest.skip("no compiler, or no library in the package of ONNX Runtime")
    folder = tmp_path_factory.mktemp("lib")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found[0])
    header = HEADER.parent if HEADER.is_file() else Path(__file__).parent / "onnxruntime_c_api"
    return header, folder


@pytest.mark.slow
def test_cpp_finds_the_same_masks(
    native: tuple[Path, Path], bundle: Path, scene: tuple[Path, Masks], tmp_path: Path
) -> None:
    header, library = native
    places = [f"-DONNXRUNTIME_INCLUDE={header}", f"-DONNXRUNTIME_LIBRARY={library / 'libonnxruntime.so'}"]
    for command in (["-S", str(EXAMPLES / "cpp"), "-B", str(tmp_path), *places], ["--build", str(tmp_path)]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    picture, wanted = scene
    with Image.open(picture) as image:
        image.save(tmp_path / "scene.ppm")
    arguments = [str(bundle), str(tmp_path / "scene.ppm"), wanted.prompt, str(tmp_path / "found")]
    done = subprocess.run([tmp_path / "segment", *arguments], capture_output=True, text=True, check=True)
    lines = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    np.testing.assert_allclose(lines[:, 0], wanted.scores, atol=1e-5)
    np.testing.assert_allclose(lines[:, 1:], wanted.boxes, atol=2e-3)
    for number, mask in enumerate(wanted.masks):
        with Image.open(tmp_path / f"found-{number}.pgm") as image:
            assert np.array_equal(np.asarray(image) > 0, mask)
    for wrong in ({0: "nothing"}, {1: str(picture)}, {2: "café"}):
        given = [wrong.get(place, argument) for place, argument in enumerate(arguments)]
        failed = subprocess.run([tmp_path / "segment", *given], capture_output=True, text=True, check=False)
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1), failed.stderr


@pytest.mark.slow
def test_cpp_reads_phrases_as_the_tokenizer_does(native: tuple[Path, Path], bundle: Path, tmp_path: Path) -> None:
    header, library = native
    (tmp_path / "tokens.cpp").write_text(CPP_MAIN)
    flags = ["-std=c++17", "-O2", f"-I{header}", f"-I{EXAMPLES / 'cpp'}", f"-L{library}", f"-Wl,-rpath,{library}"]
    subprocess.run(["c++", *flags, "tokens.cpp", "-lonnxruntime", "-o", "tokens"], cwd=tmp_path, check=True)
    pairs = make_pairs(0, 30, SceneOptions(split="test"))
    phrases = [
        "the man's 3rd RED-car, 12!",
        "we'll  don't",
        "a",
        "' 's",
        "x'll'",
        *(pair.phrase.text for pair in pairs),
    ]
    done = subprocess.run(
        ["./tokens", str(bundle)], input="\n".join(phrases), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    assert found == [ids.tolist() for ids in clip_tokenizer().encode(phrases)]
