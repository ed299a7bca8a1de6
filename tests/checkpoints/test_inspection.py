"""What `litetext inspect` says is right for every format, for broken files too, and costs no reading of weights."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from litetext.checkpoints.inspection import (
    EncoderSize,
    guessed_version,
    measure_encoder,
    summarize_checkpoint,
    summary_lines,
)
from litetext.checkpoints.schema import parameters_by_part
from litetext.encoders.config import PRESETS, EncoderConfig
from litetext.errors import EncoderError
from litetext.storage import to_json

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.checkpoints.writer import convert_checkpoint, save_student  # noqa: E402
from litetext.encoders.student import build_student  # noqa: E402
from tests.encoders.students import generator  # noqa: E402
from tests.encoders.synthetic import (  # noqa: E402
    REAL,
    TEACHER,
    TINY,
    Size,
    Student,
    Teacher,
    every_format,
    of_type,
    save_pt,
    save_safetensors,
    save_sparse,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]


@pytest.mark.parametrize(
    ("writer", "want"),
    [
        ("litetext77", ("sam3-litetext", "student", "tiny", 77, 4, 256)),
        ("litetext16", ("sam3-litetext", "student", "tiny", 16, 4, 256)),
        ("sam3", ("sam3", "teacher", "custom", 32, None, 256)),
        ("sam3-wrapped", ("sam3", "teacher", "custom", 32, None, 256)),
        ("hf-sam3", ("sam3-transformers", "teacher", "custom", 32, None, 256)),
        ("hf-sam3-image", ("sam3-transformers", "teacher", "custom", 32, None, 256)),
        ("hf-litetext", ("sam3-litetext-transformers", "student", "tiny", 77, 4, 256)),
        ("mobileclip", ("mobileclip", "student", "tiny", 77, 4, None)),
        ("openclip", ("openclip", "student", "custom", 77, None, None)),
    ],
)
def test_every_format_is_named(
    student: Student, teacher: Teacher, tmp_path: Path, writer: str, want: tuple[object, ...]
) -> None:
    path = every_format(student, teacher)[writer](tmp_path)
    found = summarize_checkpoint(str(path))
    assert (found["format"], found["model"], found["variant"], found["rows"], found["heads"], found["output"]) == want
    assert found["file_bytes"] == path.stat().st_size
    assert found["dtypes"] == {"float32": sum(found["dtypes"].values())}
    assert found["text_bytes"] < found["file_bytes"]
    assert found["faults"] == ""
    assert found["other_tensors"] == {"sam": 3, "lit": 3, "hf-": 2, "mob": 2, "ope": 1}[writer[:3]]
    assert found["loads_without_choice"] == (want[5] is not None and want[3] != 77)


def shapes_of(size: Size, causal: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of a real encoder, from a real one made on the device "meta"."""
    with torch.device("meta"):
        encoder = Teacher.make(size) if causal else Student.make(size)
    return {name: tuple(value.shape) for name, value in encoder.huggingface().items()}


@pytest.mark.parametrize(
    ("name", "total", "used"),
    [
        ("s0", 42_572_544, 42_310_400),
        ("s1", 63_559_424, 63_297_280),
        ("l", 123_847_168, 123_257_344),
        ("teacher", 353_724_672, 353_200_384),
    ],
)
def test_parameters_of_the_real_ones(name: str, total: int, used: int, tmp_path: Path) -> None:
    size = TEACHER if name == "teacher" else REAL[name]
    shapes = shapes_of(size, name == "teacher")
    counters = [key for key in shapes if key.endswith("tracked")]
    shapes = {key: shape for key, shape in shapes.items() if key not in counters}
    path = save_sparse(shapes, tmp_path / "x.safetensors", counters)
    found = summarize_checkpoint(str(path))
    path.unlink()
    assert (found["variant"], found["heads"], found["faults"]) == (name, PRESETS[name].heads, "")
    assert found["parts"] == parameters_by_part(replace(PRESETS[name], context_length=size.rows))
    assert (found["parameters"], found["used_parameters"]) == (total, used)
    assert found["text_bytes"] >= 4 * total


def test_our_own_file_and_a_pruned_table(student: Student, tmp_path: Path) -> None:
    small = Student.make(replace(TINY, vocabulary=1000, rows=16))
    path = save_pt(of_type(small.upstream(), torch.float16), tmp_path / "x.pt")
    convert_checkpoint(str(path), tmp_path / "own.safetensors", "litetext")
    found = summarize_checkpoint(str(tmp_path / "own.safetensors"))
    assert (found["format"], found["variant"], found["vocabulary"], found["rows"]) == ("litetext", "tiny", 1000, 16)
    assert found["padding"] == "attended"
    assert list(found["dtypes"]) == ["float16"]
    assert found["parts"] == parameters_by_part(replace(PRESETS["tiny"], vocabulary=1000))
    assert found["loads_without_choice"]


def test_a_file_that_is_not_whole_is_described_with_its_faults(student: Student, tmp_path: Path) -> None:
    state = student.upstream()
    del state["detector.backbone.language_backbone.projector.bias"]
    found = summarize_checkpoint(str(save_pt(state, tmp_path / "x.pt")))
    assert found["variant"] == "tiny"
    assert found["faults"] == "missing (1): model.detector.backbone.language_backbone.projector.bias"
    assert any("faults" in line and "projector.bias" in line for line in summary_lines(found))


def test_json_and_lines(student: Student, tmp_path: Path) -> None:
    found = summarize_checkpoint(str(save_pt(student.upstream(), tmp_path / "x.pt")))
    value = json.loads(to_json(found))
    assert value["parameters"] == sum(value["parts"].values())
    assert value["used_parameters"] == value["parameters"] - 32 * 32
    assert value["loads_without_choice"] is False
    text = "\n".join(summary_lines(found))
    for word in ("sam3-litetext", "student tiny", "77 rows (load it with positions=slice or", "float32 (", "none"):
        assert word in text
    assert f"{found['parameters']:,}" in text


def test_an_unknown_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="none of the known text encoders"):
        summarize_checkpoint(str(save_pt({"x": torch.ones(2)}, tmp_path / "x.pt")))


def test_safetensors_need_no_torch(student: Student, tmp_path: Path) -> None:
    path = save_safetensors(student.huggingface(), tmp_path / "x.safetensors")
    code = (
        "import sys; from litetext.checkpoints.inspection import summarize_checkpoint as summarize;"
        "print(summarize(sys.argv[1])['variant'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "tiny False\n"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_student_in_the_types_of_its_file(tmp_path: Path, dtype: torch.dtype) -> None:
    student = build_student(EncoderConfig.of("micro-xs", padding="masked"), generator()).to(dtype)
    save_student(student, tmp_path / "x.safetensors")
    count = sum(parameter.numel() for parameter in student.parameters())
    spec = str(tmp_path / "x.safetensors")
    size = measure_encoder(spec, load_encoder(spec, device="cpu"))  # in float32
    # Batch norm's statistics are tensors, but no parameters.
    assert size == EncoderSize(spec, count, sum(tensor.nbytes for tensor in student.state_dict().values()))


def test_a_model_of_another_kind_as_it_was_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    class Other:
        name, context_length, width = "other", 8, 4

        def __init__(self) -> None:
            self.model = torch.nn.Linear(3, 4, dtype=torch.float16)

    assert measure_encoder(str(tmp_path), Other()) == EncoderSize(str(tmp_path), 16, 32)  # type: ignore[arg-type]


NECKS_31 = {"{}backbone.vision_backbone.interactive_convs.0.conv_1x1.bias": torch.zeros(2)}


@pytest.mark.parametrize("root", ["detector.", "sam3_model.", "sam2_predictor.", "model.detector.", ""])
@pytest.mark.parametrize("kind", ["sam3", "sam3-litetext-16", "sam3-litetext-32"])
def test_sam_31_is_recognized_below_every_prefix(
    student: Student, teacher: Teacher, tmp_path: Path, root: str, kind: str
) -> None:
    """The teacher, and students of 16 and 32 rows, with the necks that only SAM 3.1 has; they load strictly."""
    text = teacher.upstream() if kind == "sam3" else student.upstream(int(kind[-2:]))
    state = {root + name.removeprefix("detector."): value for name, value in text.items()}
    state |= {name.format(root): value for name, value in NECKS_31.items()}
    path = save_pt(state, tmp_path / "weights.pt")
    found = summarize_checkpoint(path)
    assert (found["sam"], found["sam_guessed"], found["faults"]) == ("3.1", False, "")
    assert found["rows"] == (16 if kind.endswith("16") else 32)
    assert "SAM 3.1" in "\n".join(summary_lines(found))
    own = tmp_path / "own.safetensors"
    done = convert_checkpoint(str(path), own, "litetext", heads=4)
    assert done["sam"] == summarize_checkpoint(own)["sam"] == "3.1"  # the note goes along
    assert load_encoder(own, device="cpu").context_length == found["rows"]


@pytest.mark.parametrize(
    ("name", "more", "want"),
    [
        ("sam3.pt", {}, (None, False)),
        ("sam3.1_multiplex.pt", {}, ("3.1", True)),
        ("sam3p1_litetext/efficient_sam3p1_litetext_mobileclip_s0_ctx16.pt", {}, ("3.1", True)),
        ("sam3.1/model.pt", {"detector.backbone.vision_backbone.sam2_convs.0.x": torch.zeros(1)}, ("3", False)),
        ("sam31.pt", {}, (None, False)),
    ],
)
def test_without_an_image_side_the_name_is_a_guess(
    teacher: Teacher, tmp_path: Path, name: str, more: dict[str, torch.Tensor], want: tuple[str | None, bool]
) -> None:
    path = tmp_path / "files" / "of" / name
    path.parent.mkdir(parents=True)
    found = summarize_checkpoint(save_pt({**teacher.upstream(), **more}, path))
    assert (found["sam"], found["sam_guessed"]) == want
    assert (guessed_version(path) is not None) == want[1]
    assert ("guessed" in "\n".join(summary_lines(found))) == want[1]
