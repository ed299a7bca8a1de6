"""Conversions lose no bit: there and back, between any two formats that hold the same encoder."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from litetext.checkpoints.formats import FAMILIES
from litetext.checkpoints.reader import open_checkpoint
from litetext.checkpoints.writer import convert_checkpoint
from litetext.encoders.config import EncoderConfig
from litetext.errors import EncoderError, OptionError, OutputError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.checkpoints.writer import save_student  # noqa: E402
from litetext.encoders.student import build_student  # noqa: E402
from tests.encoders.synthetic import (  # noqa: E402
    PROMPTS,
    TINY,
    TINY_TEACHER,
    Student,
    Teacher,
    every_format,
    of_type,
    prefixed,
    save_pt,
    save_safetensors,
    with_image,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]
ENDINGS = {"litetext": "own.safetensors", "upstream": "theirs.pt", "huggingface": "hf"}
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def small() -> Student:
    return Student.make(replace(TINY, vocabulary=600))


def raw(path: Path) -> dict[str, Any]:
    """Tensors of a file by its own names."""
    source = open_checkpoint(path, heads=4).source
    return {name.removeprefix("model."): value for name, value in source.read(source.entries)}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert value.shape == second[name].shape, name
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("first", "second"), list(product(FAMILIES, FAMILIES)))
def test_there_and_back_is_bit_for_bit_the_same_student(
    small: Student, tmp_path: Path, first: str, second: str, dtype: Any
) -> None:
    original = save_pt(with_image(of_type(small.upstream(), dtype)), tmp_path / "released.pt")
    start = tmp_path / "start" / ENDINGS[first]
    convert_checkpoint(str(original), start, first)
    there, back = tmp_path / "there" / ENDINGS[second], tmp_path / "back" / ENDINGS[first]
    convert_checkpoint(str(start), there, second)
    convert_checkpoint(str(there), back, first)
    assert_same(raw(start), raw(back))
    assert open_checkpoint(start).config() == open_checkpoint(back).config()


@pytest.mark.parametrize(("first", "second"), list(product(FAMILIES, FAMILIES)))
def test_there_and_back_is_bit_for_bit_the_same_teacher(
    teacher: Teacher, tmp_path: Path, first: str, second: str
) -> None:
    original = save_pt(with_image(teacher.upstream()), tmp_path / "sam3.pt")
    start = tmp_path / "start" / ENDINGS[first]
    convert_checkpoint(str(original), start, first, heads=4)
    there, back = tmp_path / "there" / ENDINGS[second], tmp_path / "back" / ENDINGS[first]
    convert_checkpoint(str(start), there, second, heads=4)
    convert_checkpoint(str(there), back, first, heads=4)
    assert_same(raw(start), raw(back))


def test_written_files_are_the_original_ones(student: Student, teacher: Teacher, tmp_path: Path) -> None:
    """Not only our two directions agree with each other: what is written is what others wrote."""
    pairs = [
        (student.huggingface(), student.upstream()),
        (teacher.huggingface(), teacher.upstream()),
    ]
    for index, (huggingface, upstream) in enumerate(pairs):
        folder = tmp_path / str(index)
        source = save_safetensors(huggingface, folder / "model.safetensors")
        convert_checkpoint(str(source), folder / "x.pt", "upstream", heads=4)
        assert_same(raw(folder / "x.pt"), upstream)
        convert_checkpoint(str(folder / "x.pt"), folder / "y.safetensors", "huggingface", heads=4)
        assert_same(raw(folder / "y.safetensors"), huggingface)


def test_files_are_no_longer_than_their_tensors(student: Student, tmp_path: Path) -> None:
    source = save_safetensors(student.huggingface(), tmp_path / "model.safetensors")
    for family in FAMILIES:
        target = tmp_path / ENDINGS[family]
        convert_checkpoint(str(source), target, family)
        size = open_checkpoint(target).source.size
        assert size < source.stat().st_size * 1.02, family


def test_a_folder_of_transformers_loads_there(student: Student, tmp_path: Path) -> None:
    from transformers.models.sam3_lite_text.configuration_sam3_lite_text import Sam3LiteTextConfig
    from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextModel

    source = save_pt(student.upstream(16), tmp_path / "x.pt")
    done = convert_checkpoint(str(source), tmp_path / "hf", "huggingface")
    assert (done["source_format"], done["target_format"]) == ("sam3-litetext", "sam3-litetext-transformers")
    assert (done["variant"], done["rows"], done["tensors"]) == ("tiny", 16, 87)
    config = Sam3LiteTextConfig.from_pretrained(tmp_path / "hf").text_config
    model = Sam3LiteTextTextModel(config)
    state = {
        k.removeprefix("text_encoder."): v for k, v in raw(tmp_path / "hf").items() if k.startswith("text_encoder.")
    }
    model.load_state_dict(state, strict=True)
    assert config.num_attention_heads == 4


def test_a_teachers_folder_keeps_its_heads(teacher: Teacher, tmp_path: Path) -> None:
    source = save_pt(teacher.upstream(), tmp_path / "sam3.pt")
    convert_checkpoint(str(source), tmp_path / "hf", "huggingface", heads=4)
    assert open_checkpoint(tmp_path / "hf").config().heads == 4
    first, second = (load_encoder(path) for path in (tmp_path / "hf", own(teacher, tmp_path)))
    assert torch.equal(first.encode(PROMPTS).values, second.encode(PROMPTS).values)


def own(teacher: Teacher, tmp_path: Path) -> Path:
    source = save_pt(teacher.upstream(), tmp_path / "again.pt")
    convert_checkpoint(str(source), tmp_path / "own.safetensors", "litetext", heads=4)
    return tmp_path / "own.safetensors"


def test_a_students_own_file_loads_as_it_was(tmp_path: Path) -> None:
    config = EncoderConfig.of("tiny", padding="masked", vocabulary=49_408)
    module = build_student(config, torch.Generator().manual_seed(1))
    save_student(module, tmp_path / "x.safetensors")
    loaded = load_encoder(tmp_path / "x.safetensors")
    assert loaded.module.config == config
    assert not loaded.module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[name]), name


def test_a_folded_student_is_kept_but_not_converted(student: Student, tmp_path: Path) -> None:
    source = save_pt(student.upstream(16), tmp_path / "x.pt")
    encoder = load_encoder(source)
    save_student(encoder.module.fold(), tmp_path / "folded.safetensors")
    folded = load_encoder(tmp_path / "folded.safetensors")
    assert folded.module.config.folded
    close = (encoder.encode(PROMPTS).values - folded.encode(PROMPTS).values).abs().max()
    assert close < 1e-4
    for family in ("upstream", "huggingface"):
        with pytest.raises(EncoderError, match="folded"):
            convert_checkpoint(str(tmp_path / "folded.safetensors"), tmp_path / "y", family)
    convert_checkpoint(str(tmp_path / "folded.safetensors"), tmp_path / "z.safetensors", "litetext")
    assert_same(raw(tmp_path / "folded.safetensors"), raw(tmp_path / "z.safetensors"))


def test_a_student_that_masks_padding_stays_ours(tmp_path: Path) -> None:
    config = EncoderConfig.of("tiny", padding="masked")
    save_student(build_student(config, torch.Generator()), tmp_path / "x.safetensors")
    for family in ("upstream", "huggingface"):
        with pytest.raises(EncoderError, match="padding"):
            convert_checkpoint(str(tmp_path / "x.safetensors"), tmp_path / "y", family)


def test_what_cannot_be_converted_leaves_no_file(student: Student, tmp_path: Path) -> None:
    state = student.upstream()
    del state["detector.backbone.language_backbone.projector.bias"]
    source = save_pt(state, tmp_path / "x.pt")
    with pytest.raises(EncoderError, match=r"projector\.bias"):
        convert_checkpoint(str(source), tmp_path / "out" / "y.safetensors", "litetext")
    apple = every_format(student, Teacher.make(replace(TINY_TEACHER, blocks=1)))["mobileclip"](tmp_path)
    with pytest.raises(EncoderError, match="no projector"):
        convert_checkpoint(str(apple), tmp_path / "out" / "y.safetensors", "litetext")
    assert not (tmp_path / "out").exists()


def test_options_without_sense(student: Student, tmp_path: Path) -> None:
    source = save_pt(student.upstream(), tmp_path / "x.pt")
    with pytest.raises(OptionError, match="litetext, upstream, huggingface"):
        convert_checkpoint(str(source), tmp_path / "y", "onnx")
    with pytest.raises(OutputError, match="the output is an input"):
        convert_checkpoint(str(source), source, "upstream")
    assert open_checkpoint(source).faults() == ""


def test_a_ddp_prefix_goes_away(student: Student, tmp_path: Path) -> None:
    source = save_pt(prefixed("module.", student.upstream()), tmp_path / "x.pt")
    convert_checkpoint(str(source), tmp_path / "y.pt", "upstream")
    assert_same(raw(tmp_path / "y.pt"), student.upstream())


def test_an_output_is_refused_before_the_work(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    source = save_pt(student.upstream(), tmp_path / "source" / "x.pt")
    monkeypatch.setattr("litetext.checkpoints.writer.open_checkpoint", None)  # nothing is read before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "precious.jpg").touch()
    (tmp_path / "file").touch()
    for target, family in (
        (tmp_path / "photos", "upstream"),
        (tmp_path / "photos", "litetext"),
        (tmp_path / "photos", "huggingface"),
        (tmp_path / "file", "huggingface"),
        (tmp_path / "source", "huggingface"),
        (tmp_path / "file" / "below.pt", "upstream"),
    ):
        with pytest.raises(OutputError, match=target.name if target.parent == tmp_path else "file"):
            convert_checkpoint(str(source), target, family)
    assert (tmp_path / "photos" / "precious.jpg").exists()
    assert source.exists()


def test_a_folder_changes_as_a_whole(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = save_pt(student.upstream(), tmp_path / "x.pt"), tmp_path / "folder"
    convert_checkpoint(str(source), target, "huggingface")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    monkeypatch.setattr("litetext.checkpoints.writer.transformers_config", lambda *_: {"bad": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        convert_checkpoint(str(source), target, "huggingface")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "x.pt"]
