"""Small integers: known answers, how far they may be off, ONNX as an oracle, and students of them through files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.checkpoints.inspection import summarize_checkpoint, summary_lines
from litetext.checkpoints.schema import count_parameters, exact_types, tensor_shapes
from litetext.encoders.config import groups_of
from litetext.errors import EncoderError, LiteTextError, OptionError

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from litetext.checkpoints.load import load_encoder, load_stored_student, read_student_tensors  # noqa: E402
from litetext.checkpoints.writer import convert_checkpoint, save_student  # noqa: E402
from litetext.encoders.quantized import (  # noqa: E402
    QuantizedLinear,
    QuantizedTable,
    dequantize_activation,
    dequantize_table,
    dequantize_weight,
    quantize_activation,
    quantize_table,
    quantize_weight,
)
from litetext.encoders.student import StudentEncoder, TextStudent, build_student  # noqa: E402
from litetext.export.quantize import Kind, quantize_student  # noqa: E402
from litetext.features.fingerprint import fingerprint_encoder  # noqa: E402
from tests.encoders.students import VOCABULARY, generator, prefix_mask, random_ids, tiny_student  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]
KINDS = [
    Kind("int8", "int8", "int8"),
    Kind("int8", "int8", "int4"),
    Kind("int8", "float", "float"),
    Kind("float", "float", "int8", torch.float32),
    Kind("float", "float", "int4", torch.float16),
]


def quantized(kind: Kind = KINDS[0], padding: Any = "masked", rank: int | None = None) -> TextStudent:
    student = tiny_student(padding, rank=rank).fold()
    names = [name for name, module in student.named_modules() if isinstance(module, torch.nn.Linear)]
    ranges = {name: torch.tensor([-3.0, 4.5]) for name in names if not name.startswith("token_table")}
    return quantize_student(student, kind, ranges)


def test_known_answers_of_weights() -> None:
    weight = torch.tensor([[127.0, -1.4, 0.6], [0.0, 0.0, 0.0], [-2.0, 1.0, 0.0]])
    steps, scale = quantize_weight(weight)
    assert steps.dtype == torch.int8
    assert steps.tolist() == [[127, -1, 1], [0, 0, 0], [-127, 64, 0]]
    assert scale.tolist() == [1.0, 1.0, pytest.approx(2 / 127)]
    assert dequantize_weight(steps, scale)[0].tolist() == [127.0, -1.0, 1.0]


def test_known_answers_of_an_int4_table() -> None:
    table = torch.tensor([[7.0, -7.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    packed, scale = quantize_table(table, "int4")
    # The lower column stands in the lower half of its byte, each number + 8.
    assert packed.tolist() == [[15 + 16 * 1, 9 + 16 * 8], [8 + 16 * 8, 8 + 16 * 8]]
    assert scale.tolist() == [[1.0], [1.0]]
    assert torch.equal(dequantize_table(packed, scale), table)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_no_weight_is_off_by_more_than_half_a_step(seed: int, size: float) -> None:
    weight = torch.randn(5, 9, generator=generator(seed)) * size
    steps, scale = quantize_weight(weight)
    assert steps.abs().max() == 127
    assert bool(((dequantize_weight(steps, scale) - weight).abs() <= scale[:, None] * 0.5001).all())
    again, same = quantize_weight(dequantize_weight(steps, scale))
    assert torch.equal(again, steps)
    torch.testing.assert_close(same, scale)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 8, 32, 48, 96]))
def test_an_int4_table_is_never_worse_than_with_the_widest_step(seed: int, columns: int) -> None:
    table = torch.randn(7, columns, generator=generator(seed)) ** 3
    packed, scale = quantize_table(table, "int4")
    assert (packed.shape, scale.shape) == ((7, columns // 2), (7, groups_of(columns)))
    assert (packed.dtype, scale.dtype) == (torch.uint8, torch.float32)
    groups = table.reshape(7, groups_of(columns), -1)
    step = groups.abs().amax(2, keepdim=True) / 7
    plain = (torch.round(groups / step) * step - groups).square().sum()
    assert (dequantize_table(packed, scale) - table).square().sum() <= plain * 1.0001
    rows = torch.tensor([[3, 0], [6, 6]])
    assert torch.equal(dequantize_table(packed[rows], scale[rows]), dequantize_table(packed, scale)[rows])


def test_groups_share_no_scale() -> None:
    table = torch.cat((torch.full((3, 32), 7.0), torch.full((3, 32), 0.07)), 1)
    packed, scale = quantize_table(table, "int4")
    assert scale.shape == (3, 2)
    torch.testing.assert_close(dequantize_table(packed, scale), table)


def test_a_large_table_is_packed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.randn(50, 6, generator=generator())
    whole = quantize_table(table, "int4")
    monkeypatch.setattr("litetext.encoders.quantized.ROWS_AT_ONCE", 7)
    assert all(torch.equal(one, other) for one, other in zip(whole, quantize_table(table, "int4"), strict=True))


@pytest.mark.parametrize(("columns", "kind"), [(5, "int4"), (4, "float"), (4, "int5")])
def test_no_such_table(columns: int, kind: Any) -> None:
    with pytest.raises(OptionError, match=f"a token table of {columns} columns as {kind}"):
        quantize_table(torch.zeros(3, columns), kind)


def test_known_answers_of_activations() -> None:
    ends = torch.tensor([-1.0, 254.0])  # a step of 1, and 1 stands for zero
    x = torch.tensor([-5.0, -1.0, 0.0, 0.5, 1.5, 254.0, 300.0])
    steps = quantize_activation(x, ends)
    assert steps.tolist() == [0, 0, 1, 1, 3, 255, 255]  # halves go to the even number, as in ONNX
    assert dequantize_activation(steps, ends).tolist() == [-1, -1, 0, 0, 2, 254, 254]


@pytest.mark.parametrize("ends", [(-3.0, 4.5), (0.0, 2.0), (-0.17, 5.1)])
def test_onnx_computes_the_same(ends: tuple[float, float]) -> None:
    """ONNX's own reference of QuantizeLinear, DequantizeLinear and Gemm."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    layer = QuantizedLinear(6, 4, activations="int8")
    weight, scale = quantize_weight(torch.randn(4, 6, generator=generator()))
    state = {"weight": weight, "scale": scale, "bias": torch.randn(4, generator=generator(1))}
    layer.load_state_dict(state | {"input_range": torch.tensor(ends)})
    x = torch.randn(50, 6, generator=generator(2)) * 2
    step = np.float32((np.float32(ends[1]) - np.float32(ends[0])) / np.float32(255))
    constants = {
        "step": step,
        "zero": np.uint8(np.round(-np.float32(ends[0]) / step)),
        "w": weight.numpy(),
        "s": scale.numpy(),
        "z": np.zeros(4, np.int8),
        "b": state["bias"].numpy(),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dw"], axis=0),
        helper.make_node("Gemm", ["d", "dw", "b"], ["y"], transB=1),
    ]
    described = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "one", described[:1], described[1:], initializers)
    theirs = ReferenceEvaluator(helper.make_model(graph)).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(layer(x).numpy(), theirs, rtol=1e-5, atol=1e-5)


def test_a_factorized_table_is_raised_from_its_integers() -> None:
    table = QuantizedTable(9, 4, 6, "int4")
    weight, scale = quantize_table(torch.randn(9, 4, generator=generator()), "int4")
    up = torch.randn(6, 4, generator=generator(1))
    table.load_state_dict({"weight": weight, "scale": scale, "up.weight": up})
    ids = torch.tensor([[8, 0], [3, 3]])
    torch.testing.assert_close(table(ids), dequantize_table(weight, scale)[ids] @ up.T)


@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize("rank", [None, 8])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_through_a_file_and_back(padding: Any, rank: int | None, kind: Kind, tmp_path: Path) -> None:
    student, path = quantized(kind, padding, rank), tmp_path / "a.safetensors"
    save_student(student, path)
    loaded = load_encoder(path, device="cpu")
    assert isinstance(loaded, StudentEncoder)
    assert loaded.module.config == student.config
    ids, mask = random_ids(3, 16, VOCABULARY), prefix_mask([16, 5, 2], 16)
    expected = student.float() if kind.dtype == torch.float16 else student
    assert torch.equal(loaded.module(ids, mask), expected(ids, mask))
    found = summarize_checkpoint(str(path))
    float_parameters = sum(parameter.numel() for parameter in tiny_student(padding, rank=rank).fold().parameters())
    assert (found["parameters"], found["faults"]) == (float_parameters, "")
    assert found["text_bytes"] == sum(tensor.nbytes for tensor in load_file(path).values())
    assert f"quantized            {student.config.describe_quantized()}" in summary_lines(found)
    done = convert_checkpoint(str(path), tmp_path / "b.safetensors", "litetext")
    again = load_encoder(done["target"], device="cpu")
    assert fingerprint_encoder(again) == fingerprint_encoder(loaded)
    state, shapes = student.state_dict(), tensor_shapes(student.config)
    assert list(shapes.items()) == [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    assert count_parameters(student.config) == float_parameters
    assert all(str(state[name].dtype) == f"torch.{number}" for name, number in exact_types(student.config).items())


def test_the_features_of_a_token_do_not_depend_on_padding() -> None:
    student = quantized(KINDS[1])
    ids, mask = random_ids(2, 12, VOCABULARY), prefix_mask([5, 5], 12)
    torch.testing.assert_close(student(ids, mask)[:, :5], student(ids[:, :5], mask[:, :5]))


@pytest.mark.parametrize("number", ["bf16", "fp16"])
def test_integers_and_scales_keep_their_types(number: str, tmp_path: Path) -> None:
    student, path = quantized(), tmp_path / "a.safetensors"
    save_student(student, path)
    loaded = load_encoder(path, dtype=number, device="cpu")
    assert isinstance(loaded, StudentEncoder)
    state = loaded.module.state_dict()
    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[number]
    for name, tensor in student.state_dict().items():
        exact = not tensor.is_floating_point() or name.endswith((".scale", ".input_range"))
        assert state[name].dtype == (tensor.dtype if exact else wanted), name
    ids, mask = random_ids(2, 6, VOCABULARY), prefix_mask([6, 3], 6)
    halves = loaded.module(ids, mask)
    assert halves.dtype == wanted
    assert torch.cosine_similarity(halves[0].float(), student(ids, mask)[0]).min() > 0.99


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("blocks.1.qkv.weight", torch.zeros(96, 32), "blocks.1.qkv.weight is float32, not int8"),
        ("blocks.1.qkv.weight", torch.zeros(96, 32, dtype=torch.uint8), "is uint8, not int8"),
        ("blocks.1.qkv.scale", torch.ones(96, dtype=torch.float16), "qkv.scale is float16, not float32"),
        ("blocks.1.qkv.bias", torch.ones(96, dtype=torch.int8), "qkv.bias is int8, not floating point"),
        ("positions", torch.ones(16, 32, dtype=torch.int8), "positions is int8, not floating point"),
        ("token_table.weight", torch.zeros(600, 32, dtype=torch.int8), r"is \[600, 32\], not \[600, 16\]"),
        ("token_table.weight", torch.zeros(600, 16, dtype=torch.int8), "is int8, not uint8"),
        ("token_table.scale", torch.zeros(600), r"token_table.scale is \[600\], not \[600, 1\]"),
        ("projector.input_range", torch.zeros(3), r"input_range is \[3\], not \[2\]"),
        ("projector.input_range", torch.zeros(2), r"'projector.input_range' is \[0.0, 0.0\], no range around 0"),
        ("projector.input_range", torch.tensor([1.0, 2.0]), "no range around 0, .*; quantize it again"),
        ("projector.scale", torch.full((256,), torch.inf), "NaN or infinity in 'projector.scale'"),
        ("projector.scale", None, r"missing \(1\): projector.scale"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(name: str, value: Any, complaint: str, tmp_path: Path) -> None:
    student, path = quantized(KINDS[1]), tmp_path / "a.safetensors"
    tensors = student.state_dict() | {name: value}
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, path, student.config.metadata())
    with pytest.raises(EncoderError, match=complaint):
        load_encoder(path, device="cpu")


def test_a_file_that_says_another_type_is_refused(tmp_path: Path) -> None:
    student, path = quantized(), tmp_path / "a.safetensors"
    save_file(student.state_dict(), path, tiny_student("masked").config.metadata())
    with pytest.raises(EncoderError, match="unexpected"):
        load_encoder(path, device="cpu")
    save_file(student.state_dict(), path, student.config.metadata() | {"model": "teacher"})
    with pytest.raises(EncoderError, match="teacher"):
        load_encoder(path, device="cpu")


@pytest.mark.parametrize("family", ["upstream", "huggingface"])
def test_other_formats_cannot_hold_it(family: str, tmp_path: Path) -> None:
    save_student(quantized(padding="attended"), tmp_path / "a.safetensors")
    with pytest.raises(EncoderError, match="int8 weights, int8 activations, int8 token table"):
        convert_checkpoint(str(tmp_path / "a.safetensors"), tmp_path / "b", family)
    assert not (tmp_path / "b").exists()


def test_nothing_is_trained(tmp_path: Path) -> None:
    student, path = quantized(), tmp_path / "a.safetensors"
    save_student(student, path)
    with pytest.raises(EncoderError, match="quantized"):
        read_student_tensors(path)
    with pytest.raises(OptionError, match="quantized"):
        build_student(student.config, generator())
    with pytest.raises(LiteTextError, match="a teacher, not a student"):
        load_stored_student("micro")


def test_a_fingerprint_tells_every_integer_apart() -> None:
    one = StudentEncoder(quantized(), "one")
    mark = fingerprint_encoder(one)
    assert mark == fingerprint_encoder(StudentEncoder(quantized(), "other"))
    one.module.token_table.weight[3, 1] += 1
    assert fingerprint_encoder(one) != mark
