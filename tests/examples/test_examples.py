"""The examples do what they say: against our own host, against parts of facebook's package, against a small decoder."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
onnx = pytest.importorskip("onnx")

from PIL import Image  # noqa: E402

from litetext.checkpoints.hub import shipped_folder  # noqa: E402
from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.export.exporter import export_student  # noqa: E402
from litetext.export.runtime import TextRuntime  # noqa: E402
from litetext.micro.phrases import make_pairs  # noqa: E402
from litetext.micro.scenes import SceneOptions  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402

pytestmark = pytest.mark.torch
EXAMPLES = Path(__file__).parents[2] / "examples"
PROMPTS = ["red circle", "a blue star on the left"]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "bundle"
    export_student(load_encoder("micro-student"), folder, PROMPTS)
    return folder


def test_huggingface(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The masks are those of our `Segmenter` with the student of which the text features come."""
    pair = next(
        pair for pair in make_pairs(1, 40, SceneOptions(size=224, split="test")) if len(pair.phrase.indices) > 1
    )
    Image.fromarray(pair.scene.pixels).save(tmp_path / "scene.png")
    arguments = (str(shipped_folder("micro")), str(text), str(tmp_path / "scene.png"), pair.phrase.text)
    found = example("huggingface_sam3").main(*arguments)
    segmenter = Segmenter.from_pretrained("micro", "micro-student")
    (want,) = segmenter(tmp_path / "scene.png", [pair.phrase.text])
    assert len(want.scores) == len(found["scores"]) > 0
    order, other = np.argsort(-found["scores"].numpy()), np.argsort(-want.scores)
    assert np.allclose(found["scores"].numpy()[order], want.scores[other], atol=1e-3)
    assert np.allclose(found["boxes"].numpy()[order], want.boxes[other], atol=0.1)
    assert (found["masks"].numpy().astype(bool)[order] == want.masks[other]).mean() > 0.999
    assert f"{len(want.scores)} of '{pair.phrase.text}'" in capsys.readouterr().out


@pytest.mark.sam3
@pytest.mark.filterwarnings("ignore")
def test_facebook(text: Path) -> None:
    """In the package's own backbone: what its detector reads. Its decoder asks for an NVIDIA card."""
    for needed in ("sam3", "einops", "iopath"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"no package {needed} (`make oracle`)")
    from sam3.model.text_encoder_ve import VETextEncoder
    from sam3.model.vl_combiner import SAM3VLBackbone

    runtime = TextRuntime.open(text)
    backbone = SAM3VLBackbone(torch.nn.Identity(), example("facebook_sam3").LiteTextBackbone(runtime)).eval()
    given = backbone.forward_text(list(PROMPTS), device="cpu")
    features, mask = runtime.encode(PROMPTS)
    ids = torch.from_numpy(np.where(mask, 5, 0))  # as many tokens, by its own encoder: the conventions are its
    own = VETextEncoder(runtime.width, lambda *_, **__: ids, width=32, heads=2, layers=1, context_length=mask.shape[1])
    theirs = SAM3VLBackbone(torch.nn.Identity(), own.eval()).forward_text(list(PROMPTS), device="cpu")
    assert torch.equal(given["language_mask"], theirs["language_mask"])
    assert given["language_features"].shape == theirs["language_features"].shape
    for row in range(len(PROMPTS)):
        kept = ~given["language_mask"][row]
        assert np.array_equal(given["language_features"][kept, row].numpy(), features[row][mask[row]])


def test_facebook_arranges_what_it_gives(text: Path) -> None:
    """The same without the package, as its detector takes it: sequence first, True at padding."""
    runtime = TextRuntime.open(text)
    features, mask = runtime.encode(PROMPTS)
    padding, memory, _ = example("facebook_sam3").LiteTextBackbone(runtime)(PROMPTS, device="cpu")
    assert np.array_equal(padding.numpy(), ~mask)
    assert padding.any()
    assert np.array_equal(memory.numpy(), features.swapaxes(0, 1))


@pytest.mark.parametrize("convention", ["prompt", "text", "language"])
@pytest.mark.parametrize("length", [None, 32])
def test_onnx(text: Path, tmp_path: Path, convention: str, length: int | None) -> None:
    """The decoder sums the features of the tokens, by the mask and layout that its convention has."""
    Image.new("RGB", (40, 20), (255, 0, 128)).save(tmp_path / "red.png")
    onnx.save(image_encoder(), tmp_path / "encoder.onnx")
    onnx.save(text_decoder(convention, length), tmp_path / "decoder.onnx")
    files = [str(tmp_path / name) for name in ("encoder.onnx", "decoder.onnx")]
    found = example("onnx_sam3").main(*files, str(text), str(tmp_path / "red.png"), PROMPTS[1])
    features, mask = TextRuntime.open(text).encode([PROMPTS[1]])
    assert np.allclose(found["pred_logits"], features[mask].sum(axis=0)[None], atol=1e-4)
    assert np.allclose(found["pred_masks"].mean(axis=(2, 3)), [[1, -1, 0]], atol=5e-3)


def image_encoder() -> Any:
    """[1, 3, 8, 8] as it is."""
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("images", "fpn_feat_0")]
    node = helper.make_node("Identity", ["images"], ["fpn_feat_0"])
    return _model([node], ports[:1], ports[1:])


def text_decoder(convention: str, length: int | None) -> Any:
    """Sums text features over tokens, and hands the image through."""
    from onnx import TensorProto, helper

    size, first = length or "length", convention == "language"
    shape = [size, 1, 64] if first else [1, size, 64]
    nodes = [
        helper.make_node("Transpose", [f"{convention}_features"], ["rows"], perm=[1, 0, 2] if first else [0, 1, 2]),
        helper.make_node("Not" if first else "Identity", [f"{convention}_mask"], ["seen"]),
        helper.make_node("Cast", ["seen"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["number", "last"], ["share"]),
        helper.make_node("Mul", ["rows", "share"], ["valid"]),
        # Padding that is not zero, or not masked, would be seen here.
        helper.make_node("ReduceSum", ["valid", "tokens"], ["pred_logits"], keepdims=0),
        helper.make_node("Identity", ["fpn_feat_0"], ["pred_masks"]),
    ]
    constants = [helper.make_tensor(*axis) for axis in (("last", 7, [1], [2]), ("tokens", 7, [1], [1]))]
    inputs = [
        helper.make_tensor_value_info("fpn_feat_0", TensorProto.FLOAT, [1, 3, 8, 8]),
        helper.make_tensor_value_info(f"{convention}_features", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info(f"{convention}_mask", TensorProto.BOOL, [1, size]),
    ]
    outputs = [
        helper.make_tensor_value_info("pred_logits", TensorProto.FLOAT, [1, 64]),
        helper.make_tensor_value_info("pred_masks", TensorProto.FLOAT, [1, 3, 8, 8]),
    ]
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] | None = None) -> Any:
    from onnx import helper

    graph = helper.make_graph(nodes, "small", inputs, outputs, constants or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
