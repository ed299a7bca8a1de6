"""Every format is known by its keys; names and shapes agree with the modules of the libraries that made them."""

from dataclasses import replace
from typing import Any

import pytest

from litetext.checkpoints.formats import FAMILIES, FORMATS, TOWER, find_format, writable
from litetext.checkpoints.schema import UNUSED, count_parameters, tensor_shapes
from litetext.encoders.config import PRESETS, EncoderConfig, find_preset
from litetext.errors import EncoderError

torch = pytest.importorskip("torch")
from litetext.encoders.layers import meta_init  # noqa: E402
from litetext.encoders.student import TextStudent  # noqa: E402
from litetext.encoders.teacher import TextTeacher  # noqa: E402
from tests.encoders.synthetic import TINY, TINY_TEACHER, Student, Teacher, openclip_tower, prefixed  # noqa: E402

pytestmark = pytest.mark.torch

TEACHER = replace(PRESETS["teacher"], width=32, encoder_blocks=3, projection=0)
BY_NAME = {row.name: row for row in FORMATS}


def shapes_of(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def theirs(name: str, config: EncoderConfig, root: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a format says a file has."""
    row = BY_NAME[name]
    ours = tensor_shapes(config, projector=row.has_projector)
    return {
        root + key: shape
        for rule in row.rules(config.block_kinds)
        if rule.ours in ours
        for key, shape in zip(rule.theirs, rule.change.shapes(ours[rule.ours]), strict=True)
    }


@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if row.kind == "student"])
@pytest.mark.parametrize("folded", [False, True])
def test_shapes_without_torch_are_those_of_the_module(preset: str, folded: bool) -> None:
    config = replace(EncoderConfig.of(preset, padding="attended"), folded=folded)
    with meta_init():
        module = TextStudent(config)
    assert list(tensor_shapes(config).items()) == list(shapes_of(module).items())
    assert find_preset(config) is PRESETS[preset]
    assert folded or count_parameters(config) == sum(parameter.numel() for parameter in module.parameters())


def test_names_and_shapes_are_those_of_transformers() -> None:
    student, teacher = Student.make(TINY), Teacher.make(TINY_TEACHER)
    config = replace(PRESETS["tiny"], context_length=77)
    assert theirs("sam3-litetext-transformers", config, "") == {
        name: tuple(value.shape) for name, value in student.huggingface().items()
    }
    assert theirs("sam3-transformers", replace(TEACHER, projection=16), "detector_model.") == {
        name: tuple(value.shape) for name, value in teacher.huggingface().items()
    }


def test_names_and_shapes_are_those_of_openclip() -> None:
    tower = openclip_tower(TINY_TEACHER, causal=False)
    known = {name: tuple(value.shape) for name, value in prefixed("text.", tower.state_dict()).items()}
    assert theirs("openclip", replace(TEACHER, kind="student", projection=32), "") == known


def test_names_of_the_teachers_module_are_known() -> None:
    with meta_init():
        tower = TextTeacher(TEACHER).tower
    row, root = find_format(tower.state_dict(), "x", [TOWER])
    names = {root + name for rule in row.rules(TEACHER.block_kinds) for name in rule.theirs}
    assert names == set(tower.state_dict())


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_every_change_goes_both_ways_without_loss(row: Any) -> None:
    mixers = 2 if "mixer" in row.blocks else 0
    config = EncoderConfig("x", 6, 1, 1, mixers, 5, "masked", vocabulary=9, output=4, projection=3)
    if row.name == "litetext":
        config = replace(config, folded=True, rank=2, weights="int8", activations="int8", table="int8")
    shapes = tensor_shapes(config)
    for rule in row.rules(config.block_kinds):
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
        for kind in ("student", "teacher"):
            row = writable(family, kind)
            assert row.has_projector
            assert row.kind in {kind, None}
    with pytest.raises(EncoderError, match="litetext, upstream, huggingface"):
        writable("onnx", "student")


def test_the_unused_projection_is_last() -> None:
    assert list(tensor_shapes(PRESETS["tiny"]))[-1] == UNUSED
