"""The graphs of a segmenter answer as `transformers` does; those with named weights hold none, and nothing personal."""

import importlib.util
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from transformers.modeling_outputs import BaseModelOutputWithPooling  # noqa: E402

import litetext  # noqa: E402
from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.device import int8_overflows  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.export.graphs.external_weights import Place, point_to  # noqa: E402
from litetext.export.graphs.graph_layers import MICROSOFT, LayerGraph, own_weights  # noqa: E402
from litetext.export.graphs.segmenter_graphs import (  # noqa: E402
    DECODER,
    GEOMETRY,
    TEXT,
    VISION,
    write_segmenter_graphs,
    write_text_graph,
)
from litetext.export.graphs.vision_graph import FEATURES, POSITIONS, vision_graph  # noqa: E402
from litetext.export.segment_bundle import WEIGHTS  # noqa: E402
from litetext.sam3.adapters import encoder_of  # noqa: E402
from litetext.sam3.host import load_host  # noqa: E402
from litetext.tokenizer.bpe import TokenBatch  # noqa: E402
from tests.sam3.hosts import build  # noqa: E402

pytestmark = pytest.mark.torch
Arrays = dict[str, npt.NDArray[Any]]

SHIPPED = Path(litetext.__file__).parent / "weights"
ROOT = Path(__file__).parents[3]
MICRO = SHIPPED / "micro/model.safetensors"
IMAGE = (*FEATURES, POSITIONS)
OUTPUTS = ("pred_masks", "pred_boxes", "pred_logits", "presence_logits")
PHRASES = ("red car", "a", "the big blue triangle to the left of a small yellow circle, and so on and on")
# Sums in another order: a few of float32's last bits, of masks' logits of up to 30.
CLOSE = {"rtol": 1e-5, "atol": 3e-5}
# Random weights of the small hosts magnify rounding: PyTorch in float32 is as far as this from itself in float64.
ROUGH = {"rtol": 1e-4, "atol": 5e-3}


@cache
def host(kind: str) -> Any:
    return load_host("micro", device="cpu", dtype="float32") if kind == "micro" else build(kind)


@cache
def script() -> Any:
    """What makes the programs in the package."""
    spec = importlib.util.spec_from_file_location("write_programs", ROOT / "scripts/write_programs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


def written(folder: Path, kind: str = "micro", weights: Any = "own", attention: Any = "fused") -> Path:
    """A folder with a model's graphs, written once."""
    target = folder / f"{kind}-{weights}-{attention}"
    if not target.exists():
        target.mkdir()
        if weights == "named":
            script().write_segmenter(host(kind).config, target, script().stored_weights([MICRO]), attention)
            return target
        write_segmenter_graphs(host(kind), target, attention=attention)
        if kind != "sam3_lite_text":
            write_text_graph(host(kind), target, attention=attention)
    return target


@cache
def session(folder: Path, program: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if int8_overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if (folder / WEIGHTS).exists():
        names = list(json.loads((folder / WEIGHTS).read_text())[program])
        file = MICRO if "student" not in program else SHIPPED / Path(program).stem / "student.safetensors"
        values = load_file(file)
        options.add_external_initializers(
            names, [onnxruntime.OrtValue.ortvalue_from_numpy(values[name]) for name in names]
        )
    return onnxruntime.InferenceSession(folder / program, options, providers=["CPUExecutionProvider"])


def run(folder: Path, program: str, inputs: Arrays) -> Arrays:
    names = [output.name for output in session(folder, program).get_outputs()]
    return dict(zip(names, session(folder, program).run(names, inputs), strict=True))


def images(count: int, kind: str = "micro") -> Any:
    side = host(kind).config.vision_config.backbone_config.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def seen(kind: str, pixels: Any) -> Any:
    with torch.inference_mode():
        return host(kind).get_vision_features(pixels)


def as_inputs(vision: Any) -> Arrays:
    levels = (*vision.fpn_hidden_states[:3], vision.fpn_position_encoding[2])
    return {name: level.numpy() for name, level in zip(IMAGE, levels, strict=True)}


def prompts(count: int, length: int, width: int = 64) -> tuple[Any, Any]:
    """Features [B, L, D] and a mask whose rows have from 2 to L tokens."""
    features = torch.randn(count, length, width, generator=torch.Generator().manual_seed(length))
    return features, torch.arange(length) < torch.tensor([[2 + row % (length - 1)] for row in range(count)])


def answer(kind: str, vision: Any, features: Any, mask: Any, **boxes: Any) -> Arrays:
    """What `transformers` says of B prompts; an image for each, or one for all."""
    count = len(features)
    names = ("fpn_hidden_states", "fpn_position_encoding")
    spread = {name: tuple(level.expand(count, -1, -1, -1) for level in vision[name]) for name in names}
    text = BaseModelOutputWithPooling(pooler_output=features)
    with torch.inference_mode():
        output = host(kind)(vision_embeds=type(vision)(**spread), text_embeds=text, attention_mask=mask, **boxes)
    return {name: getattr(output, name).numpy() for name in OUTPUTS}


def assert_same(got: Arrays, wanted: Arrays, names: Sequence[str] = OUTPUTS, kind: str = "micro") -> None:
    bounds = CLOSE if kind == "micro" else ROUGH
    for name in names:
        assert got[name].shape == wanted[name].shape, name
        np.testing.assert_allclose(got[name], wanted[name], err_msg=name, **bounds)


@pytest.mark.parametrize("attention", ["fused", "standard"])
@pytest.mark.parametrize(("kind", "count"), [("micro", 1), ("micro", 3), ("sam3", 2), ("sam3_lite_text", 1)])
def test_the_vision_encoder_sees_what_pytorch_sees(folder: Path, kind: str, count: int, attention: str) -> None:
    pixels = images(count, kind)
    got = run(written(folder, kind, attention=attention), VISION, {"images": pixels.numpy()})
    assert_same(got, as_inputs(seen(kind, pixels)), IMAGE, kind)


@pytest.mark.parametrize("attention", ["fused", "standard"])
def test_openvino_sees_the_same(folder: Path, attention: str) -> None:
    openvino = pytest.importorskip("openvino")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    program = core.compile_model(core.read_model(written(folder, attention=attention) / VISION), "CPU", settings)
    pixels = images(3)
    answers = program(pixels.numpy())
    assert_same({name: answers[name] for name in IMAGE}, as_inputs(seen("micro", pixels)), IMAGE)


@pytest.mark.parametrize("attention", ["fused", "standard"])
@pytest.mark.parametrize(("count", "length"), [(1, 3), (3, 32), (4, 9)])
def test_the_decoder_answers_as_pytorch_of_one_image_and_of_many(
    folder: Path, count: int, length: int, attention: str
) -> None:
    features, mask = prompts(count, length)
    asked = {"prompt_features": features.numpy(), "prompt_mask": mask.numpy()}
    for images_given in {1, count}:
        vision = seen("micro", images(images_given))
        got = run(written(folder, attention=attention), DECODER, as_inputs(vision) | asked)
        assert_same(got, answer("micro", vision, features, mask))


@pytest.mark.parametrize("kind", ["sam3", "sam3_lite_text"])
def test_a_decoder_of_other_numbers_answers_as_pytorch(folder: Path, kind: str) -> None:
    vision, (features, mask) = seen(kind, images(1, kind)), prompts(2, 5)
    asked = {"prompt_features": features.numpy(), "prompt_mask": mask.numpy()}
    got = run(written(folder, kind), DECODER, as_inputs(vision) | asked)
    assert_same(got, answer(kind, vision, features, mask), kind=kind)


@pytest.mark.parametrize("attention", ["fused", "standard"])
@pytest.mark.parametrize("count", [1, 3])
def test_exemplars_go_behind_the_text_as_in_pytorch(folder: Path, count: int, attention: str) -> None:
    vision, (features, mask) = seen("micro", images(1)), prompts(2, 4)
    draws = torch.Generator().manual_seed(count)
    boxes = torch.rand(1, count, 4, generator=draws) * torch.tensor([0.4, 0.4, 0.5, 0.5]) + 0.02
    labels = torch.randint(0, 2, (1, count), generator=draws)
    target, inputs = written(folder, attention=attention), as_inputs(vision)
    shown = {"input_boxes": boxes.numpy(), "input_boxes_labels": labels.numpy()}
    coarse = {name: inputs[name] for name in (FEATURES[2], POSITIONS)}
    shown = run(target, GEOMETRY, shown | coarse)
    assert shown["geometry_mask"].all()
    asked = {
        "prompt_features": np.concatenate([features, shown["geometry_features"].repeat(2, axis=0)], axis=1),
        "prompt_mask": np.concatenate([mask, shown["geometry_mask"].repeat(2, axis=0)], axis=1),
    }
    given = {"input_boxes": boxes.expand(2, -1, -1), "input_boxes_labels": labels.expand(2, -1)}
    assert_same(run(target, DECODER, inputs | asked), answer("micro", vision, features, mask, **given))


def test_a_box_that_is_none_changes_no_other(folder: Path) -> None:
    vision = as_inputs(seen("micro", images(1)))
    coarse = {name: vision[name] for name in (FEATURES[2], POSITIONS)}
    boxes = np.array([[[0.5, 0.5, 0.2, 0.3], [0.1, 0.2, 0.1, 0.1]]], dtype=np.float32)
    some = run(written(folder), GEOMETRY, {"input_boxes": boxes, "input_boxes_labels": np.array([[1, -10]]), **coarse})
    one = run(written(folder), GEOMETRY, {"input_boxes": boxes[:, :1], "input_boxes_labels": np.array([[1]]), **coarse})
    assert some["geometry_mask"].tolist() == [[True, False, True]]
    np.testing.assert_allclose(some["geometry_features"][:, [0, 2]], one["geometry_features"], **CLOSE)


@pytest.mark.parametrize("attention", ["fused", "standard"])
@pytest.mark.parametrize("kind", ["micro", "sam3"])
def test_the_text_tower_reads_phrases_as_the_host_does(folder: Path, kind: str, attention: str) -> None:
    wanted = encoder_of(host(kind)).encode(PHRASES)
    batch = TokenBatch.of_texts(PHRASES, 32)
    inputs = {"input_ids": batch.ids.astype(np.int64), "attention_mask": batch.mask.astype(np.int64)}
    got = run(written(folder, kind, attention=attention), TEXT, inputs)
    length = wanted.mask.shape[1]
    np.testing.assert_array_equal(got["text_mask"], batch.mask)
    kept = np.where(wanted.mask[..., None], wanted.values, 0.0)
    np.testing.assert_allclose(got["text_features"][:, :length], kept, **CLOSE)
    assert not got["text_features"][:, length:].any()
    one = run(written(folder, kind, attention=attention), TEXT, {key: value[1:2, :3] for key, value in inputs.items()})
    np.testing.assert_allclose(one["text_features"], kept[1:2, :3], **CLOSE)


@pytest.mark.parametrize("attention", ["fused", "standard"])
def test_weights_by_name_give_the_very_numbers_of_own_ones(folder: Path, attention: str) -> None:
    own, named = (written(folder, weights=weights, attention=attention) for weights in ("own", "named"))
    features, mask = prompts(2, 5)
    picture = {"images": images(1).numpy()}
    vision = run(own, VISION, picture)
    boxes = {"input_boxes": np.full((1, 1, 4), 0.4, dtype=np.float32), "input_boxes_labels": np.array([[1]])}
    cases: dict[str, Arrays] = {
        VISION: picture,
        DECODER: vision | {"prompt_features": features.numpy(), "prompt_mask": mask.numpy()},
        GEOMETRY: boxes | {name: vision[name] for name in (FEATURES[2], POSITIONS)},
        TEXT: {"input_ids": np.array([[49406, 736, 49407]]), "attention_mask": np.ones((1, 3), dtype=np.int64)},
    }
    for program, inputs in cases.items():
        wanted, got = run(own, program, inputs), run(named, program, inputs)
        for name, values in wanted.items():
            np.testing.assert_array_equal(got[name], values, err_msg=f"{program}: {name}")


def test_half_precision_halves_the_file_and_changes_nothing_of_a_float16_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    files = write_segmenter_graphs(host("micro"), tmp_path, precision="fp16")
    sizes = [(at / f"{VISION}.data").stat().st_size for at in (tmp_path, written(folder))]
    assert sizes[0] < 0.55 * sizes[1]
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    picture = {"images": images(1).numpy()}
    wanted, got = run(written(folder), VISION, picture), run(tmp_path, VISION, picture)
    for name, values in wanted.items():
        np.testing.assert_array_equal(got[name], values, err_msg=name)


def test_an_int8_vision_encoder_is_smaller_and_sees_nearly_the_same(folder: Path, tmp_path: Path) -> None:
    write_segmenter_graphs(host("micro"), tmp_path, precision="int8-vision")
    sizes = [(at / f"{VISION}.data").stat().st_size for at in (tmp_path, written(folder))]
    assert sizes[0] < 0.3 * sizes[1]
    picture = {"images": images(1).numpy()}
    wanted, got = run(written(folder), VISION, picture), run(tmp_path, VISION, picture)
    for name in FEATURES:
        cosine = (got[name] * wanted[name]).sum() / np.linalg.norm(got[name]) / np.linalg.norm(wanted[name])
        assert cosine > 0.999, name
    assert "MatMulInteger" not in {node.op_type for node in onnx.load(tmp_path / DECODER).graph.node}


@pytest.mark.parametrize("programs", ["micro-programs", "sam3-programs"])
def test_shipped_programs_name_their_weights_and_hold_nothing_else(programs: str) -> None:
    folder = SHIPPED / programs
    listed = json.loads((folder / WEIGHTS).read_text())
    paths = sorted(folder.glob("*.onnx"))
    assert sorted(listed) == [path.name for path in paths]
    # Those of the students hold what folding made of their weights.
    assert sum(path.stat().st_size for path in folder.iterdir() if "student" not in path.name) < 1_000_000
    for path in paths:
        model = onnx.load(path, load_external_data=False)
        outside = [one for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL]
        assert {one.name: list(one.dims) for one in outside} == {
            name: entry["shape"] for name, entry in listed[path.name].items()
        }
        rest = [len(one.raw_data) for one in model.graph.initializer if one not in outside]
        assert "student" in path.name or max(rest) < 50_000
        assert not model.metadata_props
        assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
        assert str(ROOT).encode() not in path.read_bytes()
        stored = script().stored_weights([MICRO]) if programs == "micro-programs" and "student" not in path.name else {}
        for name, (dtype, shape) in stored.items():
            if name in listed[path.name]:
                assert listed[path.name][name] == {"dtype": dtype, "shape": list(shape)}


@pytest.mark.parametrize("model", ["micro", "sam3"])
def test_shipped_programs_are_what_the_script_writes(model: str, tmp_path: Path) -> None:
    getattr(script(), f"write_{model}")(tmp_path)
    shipped = SHIPPED / f"{model}-programs"
    assert {path.name for path in tmp_path.glob("*.onnx")} == {path.name for path in shipped.glob("*.onnx")}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes(), f"run scripts/write_programs.py {model}"


@pytest.mark.parametrize("name", ["micro-student", "micro-student-xs"])
def test_shipped_students_read_phrases_as_pytorch_does(name: str) -> None:
    wanted = load_encoder(SHIPPED / name / "student.safetensors", device="cpu", dtype="float32").encode(PHRASES)
    batch = TokenBatch.of_texts(PHRASES, 16)
    inputs = {"input_ids": batch.ids.astype(np.int64), "attention_mask": batch.mask.astype(np.int64)}
    got = run(SHIPPED / "micro-programs", f"{name}.onnx", inputs)
    np.testing.assert_array_equal(got["text_mask"], wanted.mask)
    seen_tokens = np.asarray(wanted.mask)
    np.testing.assert_allclose(got["text_features"][seen_tokens], np.asarray(wanted.values)[seen_tokens], **CLOSE)


@pytest.mark.parametrize("program", [DECODER, "micro-student.onnx"])
def test_a_program_may_be_pointed_to_the_bytes_of_a_checkpoint(program: str) -> None:
    folder, student = SHIPPED / "micro-programs", "student" in program
    file = SHIPPED / "micro-student/student.safetensors" if student else MICRO
    head = file.read_bytes()
    start = 8 + int.from_bytes(head[:8], "little")
    header = json.loads(head[8:start])
    listed = json.loads((folder / WEIGHTS).read_text())[program]
    spans = {name: header[name]["data_offsets"] for name in listed}
    places = {name: Place(file.name, start + begin, end - begin) for name, (begin, end) in spans.items()}
    pointed = point_to((folder / program).read_bytes(), listed, places)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.parent))
    opened = onnxruntime.InferenceSession(pointed, options, providers=["CPUExecutionProvider"])
    ids = np.array([[49406, 736, 49407]])
    features, mask = (one.numpy() for one in prompts(2, 5))
    inputs: Arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if not student:
        inputs = as_inputs(seen("micro", images(1))) | {"prompt_features": features, "prompt_mask": mask}
    for got, wanted in zip(opened.run(None, inputs), run(folder, program, inputs).values(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(EncoderError, match="other weights than its list says"):
        point_to((folder / program).read_bytes(), {**listed, "one.more": {"dtype": "F16", "shape": [1]}}, places)


def test_standard_graphs_need_no_operators_of_a_maker(folder: Path) -> None:
    for attention, domains in (("fused", {"", MICROSOFT}), ("standard", {""})):
        for path in written(folder, attention=attention).glob("*.onnx"):
            model = onnx.load(path, load_external_data=False)
            assert {one.domain for one in model.opset_import} == domains
            assert {node.domain for node in model.graph.node} <= domains
            onnx.checker.check_model(str(path))


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="a text tower of kind"):
        write_text_graph(host("sam3_lite_text"), tmp_path)
    config = host("sam3").config
    backbone = SimpleNamespace(**config.vision_config.backbone_config.to_dict())
    backbone.window_size = 3
    vision = SimpleNamespace(backbone_config=backbone, fpn_hidden_size=64, scale_factors=[4.0, 2.0, 1.0])
    graph = LayerGraph(own_weights(host("sam3").state_dict(), "float32"), "fused")
    with pytest.raises(EncoderError, match="8 patches a side in windows of 3"):
        vision_graph(SimpleNamespace(vision_config=vision), graph)
    backbone.window_size, backbone.hidden_act = 4, "tanh"
    with pytest.raises(EncoderError, match="the activation 'tanh'"):
        vision_graph(SimpleNamespace(vision_config=vision), graph)
