"""A checkpoint is whole or refused: missing, unknown and misshapen tensors are named, and nothing is filled in."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litetext.checkpoints.reader import Checkpoint, open_checkpoint
from litetext.encoders.config import EncoderConfig
from litetext.errors import EncoderError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from litetext.encoders.layers import meta_init  # noqa: E402
from tests.encoders.synthetic import (  # noqa: E402
    Student,
    Teacher,
    Writer,
    every_format,
    of_type,
    prefixed,
    save_pt,
    save_safetensors,
    save_shards,
    save_sparse,
    with_image,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]
ENCODER = "detector.backbone.language_backbone.encoder."


@pytest.fixture(scope="module")
def writers(student: Student, teacher: Teacher) -> dict[str, Writer]:
    return every_format(student, teacher)


def complaint(checkpoint: Checkpoint) -> str:
    with pytest.raises(EncoderError) as caught:
        list(checkpoint.read())
    message = str(caught.value)
    assert checkpoint.where in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("writer", "want"),
    [
        ("litetext77", ("sam3-litetext", "model.detector.", 77)),
        ("litetext16", ("sam3-litetext", "model.detector.", 16)),
        ("sam3", ("sam3", "detector.", 32)),
        ("sam3-wrapped", ("sam3", "model.", 32)),
        ("hf-sam3", ("sam3-transformers", "detector_model.", 32)),
        ("hf-sam3-image", ("sam3-transformers", "", 32)),
        ("hf-litetext", ("sam3-litetext-transformers", "", 77)),
        ("mobileclip", ("mobileclip", "", 77)),
        ("openclip", ("openclip", "", 77)),
    ],
)
def test_every_format_is_recognized_and_whole(
    writers: dict[str, Writer], tmp_path: Path, writer: str, want: tuple[str, str, int]
) -> None:
    checkpoint = open_checkpoint(writers[writer](tmp_path))
    layout, is_tiny = checkpoint.layout, writer in {"litetext77", "litetext16", "hf-litetext", "mobileclip"}
    assert (checkpoint.format.name, checkpoint.root, layout.context_length) == want
    assert checkpoint.faults() == ""
    assert (layout.width, layout.vocabulary) == (32, 49_408)
    assert (layout.name, layout.mixer_blocks) == (("tiny", 2) if is_tiny else ("custom", 0))


def test_formats_of_one_student_read_alike(writers: dict[str, Writer], tmp_path: Path) -> None:
    upstream = dict(open_checkpoint(writers["litetext77"](tmp_path)).read())
    huggingface = dict(open_checkpoint(writers["hf-litetext"](tmp_path)).read())
    apple = dict(open_checkpoint(writers["mobileclip"](tmp_path)).read())
    assert upstream.keys() == huggingface.keys()
    assert upstream.keys() - apple.keys() == {"projector.weight", "projector.bias"}
    for name, value in upstream.items():
        assert torch.equal(value, huggingface[name]), name
        assert name not in apple or torch.equal(value, apple[name]), name


def test_formats_of_one_teacher_read_alike(writers: dict[str, Writer], tmp_path: Path) -> None:
    first, *others = (
        dict(open_checkpoint(writers[name](tmp_path)).read())
        for name in ("sam3", "sam3-wrapped", "hf-sam3", "hf-sam3-image")
    )
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_shards_read_as_one_file(student: Student, tmp_path: Path) -> None:
    state = student.huggingface()
    folder = save_shards(state, tmp_path / "shards", 5)  # queries, keys and values of a block are in different shards
    single = save_safetensors(state, tmp_path / "single.safetensors")
    whole = dict(open_checkpoint(single).read())
    for name, value in open_checkpoint(folder).read():
        assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(student: Student, tmp_path: Path, dtype: Any) -> None:
    path = save_pt(of_type(student.upstream(), dtype), tmp_path / "x.pt")
    types = {name: value.dtype for name, value in open_checkpoint(path).read()}
    assert {value for name, value in types.items() if not name.endswith("tracked")} == {dtype}


Harm = Callable[[dict[str, Any]], object]


def drop(*names: str) -> Harm:
    return lambda state: [state.pop(name) for name in names]


def put(name: str, value: Any) -> Harm:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (drop(f"{ENCODER}final_layer_norm.bias"), ["missing (1)", "encoder.final_layer_norm.bias"]),
        (
            drop(
                f"{ENCODER}transformer.1.pre_norm_ffn.4.weight",
                f"{ENCODER}transformer.0.token_mixer.norm.rbr_skip.running_mean",
            ),
            ["missing (2)", "transformer.1.pre_norm_ffn.4.weight", "token_mixer.norm.rbr_skip.running_mean"],
        ),
        (drop("detector.backbone.language_backbone.projector.weight"), ["missing (1)", "projector.weight"]),
        (drop(f"{ENCODER}positional_embedding.pos_embed.pos_embed"), ["missing (1)", "pos_embed.pos_embed"]),
        (put(f"{ENCODER}extra.weight", torch.ones(2)), ["unexpected (1)", "encoder.extra.weight"]),
        (put(f"{ENCODER}transformer.999999.x", torch.ones(2)), ["unexpected (1)", "transformer.999999.x"]),
        (put(f"{ENCODER}transformer.2.pre_norm_ffn.0.bias", torch.ones(2)), ["is [2], not [32]"]),
        (put(f"{ENCODER}positional_embedding.pos_embed.pos_embed", torch.ones(77, 32)), ["not [1, 1, 77, 32]"]),
        (put(f"{ENCODER}positional_embedding.pos_embed.pos_embed", torch.ones(77)), ["is [77], not [1, 1, 2, 32]"]),
        (put(f"{ENCODER}transformer.0.convffn.fc1.weight", torch.ones(128, 32)), ["is [128, 32], not [128, 32, 1, 1]"]),
        (put(f"{ENCODER}final_layer_norm.bias", torch.ones(32).to(torch.int8)), ["is int8, not floating point"]),
    ],
)
def test_what_is_not_whole_is_refused_by_name(student: Student, tmp_path: Path, harm: Harm, words: list[str]) -> None:
    state = with_image(student.upstream())
    harm(state)
    message = complaint(open_checkpoint(save_pt(state, tmp_path / "x.pt")))
    for word in words:
        assert word in message


def test_a_lost_block_is_listed(student: Student, tmp_path: Path) -> None:
    state = {name: value for name, value in student.upstream().items() if ".transformer.2." not in name}
    assert "missing (12)" in complaint(open_checkpoint(save_pt(state, tmp_path / "x.pt")))


def test_one_third_of_attention_is_missing(student: Student, tmp_path: Path) -> None:
    state = student.huggingface()
    del state["text_encoder.layers.1.self_attn.k_proj.weight"]
    message = complaint(open_checkpoint(save_safetensors(state, tmp_path / "x.safetensors")))
    assert "missing (1): text_encoder.layers.1.self_attn.k_proj.weight" in message


def test_a_broken_token_table_is_named(student: Student, tmp_path: Path) -> None:
    state = student.upstream()
    state[f"{ENCODER}embedding_layer.weight"] = torch.ones(5)
    with pytest.raises(EncoderError, match=r"token table has the shape \[5\], not \[V, C\]"):
        open_checkpoint(save_pt(state, tmp_path / "x.pt"))


@pytest.mark.parametrize("file", ["litetext77", "sam3", "hf-litetext", "hf-sam3"])
def test_the_unused_projection_may_be_missing(
    student: Student, teacher: Teacher, tmp_path: Path, writers: dict[str, Writer], file: str
) -> None:
    states = {
        "litetext77": student.upstream(),
        "sam3": teacher.upstream(),
        "hf-litetext": student.huggingface(),
        "hf-sam3": teacher.huggingface(),
    }
    ends = (
        "projection_layer",
        "encoder.text_projection",
        "encoder.projection.weight",
        "encoder.text_projection.weight",
    )
    state = {name: value for name, value in states[file].items() if not name.endswith(ends)}
    assert len(states[file]) - len(state) == 1
    names = [name for name, _ in open_checkpoint(save_pt(state, tmp_path / "x.pt")).read()]
    assert "unused_projection" not in names


def test_a_file_of_another_model_is_one_line(tmp_path: Path) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3)).state_dict()
    with pytest.raises(EncoderError, match=r"none of the known text encoders is in it; it has: .*0\.bias") as caught:
        open_checkpoint(save_pt(state, tmp_path / "x.pt", wrapped=False))
    assert "\n" not in str(caught.value)


def test_two_students_in_one_file_are_refused(student: Student, tmp_path: Path) -> None:
    torch.save({"model": student.upstream(), "ema": student.upstream()}, tmp_path / "x.pt")
    with pytest.raises(EncoderError, match="2 text encoders"):
        open_checkpoint(tmp_path / "x.pt")


def test_apples_files_hold_no_trained_student(writers: dict[str, Writer], tmp_path: Path) -> None:
    for name in ("mobileclip", "openclip"):
        with pytest.raises(EncoderError, match="no projector to SAM3's decoder: it can only start the training"):
            open_checkpoint(writers[name](tmp_path)).config()


def test_heads_are_never_guessed(teacher: Teacher, tmp_path: Path) -> None:
    path = save_pt(teacher.upstream(), tmp_path / "x.pt")
    with pytest.raises(EncoderError, match=r"heads.*width 32, 3 encoder blocks"):
        open_checkpoint(path).config()
    assert open_checkpoint(path, heads=8).config().heads == 8


@pytest.mark.parametrize("nested", [False, True])
def test_heads_are_read_from_the_configuration_of_transformers(teacher: Teacher, tmp_path: Path, nested: bool) -> None:
    save_safetensors(teacher.huggingface(), tmp_path / "model.safetensors")
    text = {"text_config": {"num_attention_heads": 2}}
    (tmp_path / "config.json").write_text(json.dumps({"detector_config": text} if nested else text))
    assert open_checkpoint(tmp_path).config().heads == 2
    assert open_checkpoint(tmp_path / "model.safetensors").config().heads == 2
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(EncoderError, match="not a configuration of transformers"):
        open_checkpoint(tmp_path)


OWN = EncoderConfig.of("tiny", 77, padding="attended")


def own_state(student: Student, tmp_path: Path) -> dict[str, Any]:
    return dict(open_checkpoint(save_pt(student.upstream(), tmp_path / "upstream.pt")).read())


def test_our_own_file_says_what_it_is(student: Student, tmp_path: Path) -> None:
    path = save_safetensors(own_state(student, tmp_path), tmp_path / "x.safetensors", OWN.metadata())
    checkpoint = open_checkpoint(path)
    assert checkpoint.config() == OWN
    assert checkpoint.faults() == ""


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({"format": "pt"}, "without its metadata"),
        (OWN.metadata() | {"litetext": "2"}, "of another version"),
        (OWN.metadata() | {"model": "teacher"}, "teacher"),
        (OWN.metadata() | {"config": "{"}, "configuration"),
        (OWN.metadata() | {"config": '{"width": 3}'}, "configuration"),
    ],
)
def test_our_own_file_without_a_good_configuration(
    student: Student, tmp_path: Path, metadata: dict[str, str], word: str
) -> None:
    path = save_safetensors(own_state(student, tmp_path), tmp_path / "x.safetensors", metadata)
    with pytest.raises(EncoderError, match=word):
        open_checkpoint(path)


@pytest.mark.parametrize("changes", [{"width": 64}, {"context_length": 16}, {"mixer_blocks": 0}, {"folded": True}])
def test_our_own_configuration_must_agree_with_the_tensors(
    student: Student, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(OWN, **changes)
    path = save_safetensors(own_state(student, tmp_path), tmp_path / "x.safetensors", config.metadata())
    assert "not a whole student in the format 'litetext'" in complaint(open_checkpoint(path))


def test_names_with_two_prefixes_are_found(student: Student, tmp_path: Path) -> None:
    state = prefixed("student_trunk.module.", student.upstream())
    assert open_checkpoint(save_pt(state, tmp_path / "x.pt")).root == "model.student_trunk.module.detector."


@pytest.mark.parametrize(
    ("name", "format_name", "root"),
    [
        ("Sam3Model", "sam3-transformers", ""),
        ("Sam3VideoModel", "sam3-transformers", "detector_model."),
        ("Sam3LiteTextModel", "sam3-litetext-transformers", ""),
    ],
)
def test_whole_models_of_transformers_are_recognized(tmp_path: Path, name: str, format_name: str, root: str) -> None:
    """Of the real models of 2 to 4 GB only the names and shapes are made."""
    import transformers

    model = getattr(transformers, name)
    with meta_init():
        state = model(model.config_class()).state_dict()
    counters = [key for key, value in state.items() if not value.is_floating_point() and value.ndim == 0]
    shapes = {key: tuple(value.shape) for key, value in state.items() if value.is_floating_point()}
    path = save_sparse(shapes, tmp_path / "model.safetensors", counters)
    checkpoint = open_checkpoint(path)
    path.unlink()
    assert (checkpoint.format.name, checkpoint.root) == (format_name, root)
    assert checkpoint.faults() == ""
    assert checkpoint.source.size > 2_000_000_000
