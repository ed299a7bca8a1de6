"""Every format is known by its keys; names and shapes agree with the modules of the libraries that made them."""

from dataclasses import replace
from typing import Any

import pytest

from litetext.checkpoints.formats import FAMILIES, FORMATS, TOWER, find_format, writable
from litetext.checkpoints.shapes import UNUSED, Kind, Sizes, is_parameter, part_of, tensor_shapes
from litetext.encoders.config import PRESETS, StudentConfig
from litetext.errors import EncoderError

torch = pytest.importorskip("torch")
from litetext.encoders.meta_init import meta_init  # noqa: E402
from litetext.encoders.student import TextStudent  # noqa: E402
from litetext.encoders.teacher import TeacherConfig, TextTeacher  # noqa: E402
from tests.encoders.synthetic import TINY, TINY_TEACHER, Student, Teacher, openclip_tower, prefixed  # noqa: E402

pytestmark = pytest.mark.torch

MIXED: tuple[Kind, ...] = ("mixer", "encoder", "encoder", "mixer")
BY_NAME = {row.name: row for row in FORMATS}


def shapes_of(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def theirs(name: str, sizes: Sizes, root: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a format says a file has."""
    ours = tensor_shapes(sizes)
    return {
        root + key: shape
        for rule in BY_NAME[name].rules(sizes.kinds)
        if rule.ours in ours
        for key, shape in zip(rule.theirs, rule.change.shapes(ours[rule.ours]), strict=True)
    }


@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if not row.causal])
@pytest.mark.parametrize("folded", [False, True])
def test_shapes_without_torch_are_those_of_the_module(preset: str, folded: bool) -> None:
    config = replace(StudentConfig.of(preset, padding="attended"), folded=folded)
    with meta_init():
        module = TextStudent(config)
    mixer: Kind = "folded" if folded else "mixer"
    ends = (mixer,) * (config.mixer_blocks // 2)
    kinds = (*ends, *["encoder"] * config.encoder_blocks, *ends)
    sizes = Sizes(config.width, config.vocabulary, config.context_length, kinds, config.output, None, config.rank)
    assert list(tensor_shapes(sizes).items()) == list(shapes_of(module).items())
    assert sizes.preset(causal=False) == PRESETS[preset]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_parts_are_those_of_the_preset(preset: str) -> None:
    row = PRESETS[preset]
    ends: tuple[Kind, ...] = ("mixer",) * (row.mixer_blocks // 2)
    kinds: tuple[Kind, ...] = (*ends, *["encoder"] * row.encoder_blocks, *ends)
    parts: dict[str, int] = {}
    sizes = Sizes(row.width, 49_408, row.context_length, kinds, row.output, row.projection, row.rank)
    for name, shape in tensor_shapes(sizes).items():
        if is_parameter(name):
            parts[part_of(name)] = parts.get(part_of(name), 0) + torch.Size(shape).numel()
    assert parts == row.parts()


def test_names_and_shapes_are_those_of_transformers() -> None:
    student, teacher = Student.make(TINY), Teacher.make(TINY_TEACHER)
    sizes = Sizes(32, 49_408, 77, MIXED, 256, 32)
    known = {name: tuple(value.shape) for name, value in student.huggingface().items()}
    assert theirs("sam3-litetext-transformers", sizes, "") == known
    sizes = Sizes(32, 49_408, 32, ("encoder",) * 3, 256, 16)
    known = {name: tuple(value.shape) for name, value in teacher.huggingface().items()}
    assert theirs("sam3-transformers", sizes, "detector_model.") == known


def test_names_and_shapes_are_those_of_openclip() -> None:
    tower = openclip_tower(TINY_TEACHER, causal=False)
    known = {name: tuple(value.shape) for name, value in prefixed("text.", tower.state_dict()).items()}
    assert theirs("openclip", Sizes(32, 49_408, 32, ("encoder",) * 3, None, 32), "") == known


def test_names_of_the_teachers_module_are_known() -> None:
    with meta_init():
        tower = TextTeacher.of(TeacherConfig(32, 4, 2)).tower
    row, root = find_format(tower.state_dict(), "x", [TOWER])
    names = {root + name for rule in row.rules(("encoder",) * 2) for name in rule.theirs}
    assert names == set(tower.state_dict())


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_change_goes_both_ways_without_loss(row: Any) -> None:
    sizes = Sizes(6, 9, 5, ("encoder",) if "mixer" not in row.blocks else ("mixer", "encoder", "mixer"), 4, 3)
    if row.name == "litetext":
        sizes = replace(sizes, rank=2, weights="int8", activations="int8", table="int8")
    shapes = tensor_shapes(sizes)
    for rule in row.rules(sizes.kinds):
        ours = torch.randn(shapes[rule.ours])
        parts = rule.change.save(ours)
        assert tuple(tuple(part.shape) for part in parts) == rule.change.shapes(shapes[rule.ours])
        assert len(parts) == len(rule.theirs)
        assert torch.equal(rule.change.load(parts), ours)


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
@pytest.mark.parametrize("root", ["", "detector.", "model.module.x."])
def test_a_format_is_found_below_any_root(row: Any, root: str) -> None:
    names = [root + name for rule in row.rules(("encoder",) * 2) for name in rule.theirs]
    assert find_format([*names, "image.weight"], "x") == (row, root)


def test_no_encoder_and_two_encoders_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"none of the known .*it has: a, b"):
        find_format(["a", "b"], "x")
    with pytest.raises(EncoderError, match="no tensors"):
        find_format([], "x")
    anchor = BY_NAME["sam3-litetext"].anchor
    with pytest.raises(EncoderError, match=r"2 text encoders are in it .model\.backbone"):
        find_format([f"model.{anchor}", f"model_ema.{anchor}"], "x")


def test_what_can_be_written() -> None:
    assert FAMILIES == ("litetext", "upstream", "huggingface")
    for family in FAMILIES:
        for model in ("student", "teacher"):
            row = writable(family, model)
            assert row.whole
            assert row.model in {model, None}
    with pytest.raises(EncoderError, match="give litetext, upstream, huggingface"):
        writable("onnx", "student")


def test_blocks_in_another_order_are_of_no_preset() -> None:
    sizes = Sizes(32, 9, 16, ("mixer", "encoder", "encoder", "mixer"), 256, None)
    assert sizes.preset(causal=False) is PRESETS["tiny"]
    assert sizes.preset(causal=True) is None
    for kinds in (("encoder", "mixer", "encoder", "mixer"), ("mixer", "encoder", "encoder", "folded")):
        odd = replace(sizes, kinds=kinds)
        assert not odd.symmetric
        assert odd.preset(causal=False) is None


def test_the_unused_projection_is_last() -> None:
    assert list(tensor_shapes(Sizes(4, 9, 2, (), 8, 3)))[-1] == UNUSED
