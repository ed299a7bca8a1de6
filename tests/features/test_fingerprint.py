"""Two encoders have one fingerprint if and only if their features come out the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch
from torch import nn

from litetext.checkpoints.huggingface import load_huggingface
from litetext.encoders.encoder import ModuleEncoder
from litetext.encoders.student import StudentEncoder
from litetext.encoders.teacher import build_teacher
from litetext.errors import EncoderError
from litetext.features.fingerprint import fingerprint_encoder, fingerprint_tokenizer
from litetext.features.protocol import TextFeatures
from tests.auditing.fakes import FakeEncoder
from tests.checkpoints.test_huggingface import bert, clip_text, letters_tokenizer, save, words_tokenizer
from tests.encoders.students import generator, teacher_config, tiny_student

pytestmark = pytest.mark.torch


def student(**changes: object) -> StudentEncoder:
    return StudentEncoder(tiny_student("masked", **changes), "student")


def test_name_and_path_and_mode_do_not_count(tmp_path: Path) -> None:
    first = student()
    second = StudentEncoder(tiny_student("masked").train(), "another name")
    assert fingerprint_encoder(first) == fingerprint_encoder(second)
    folders = [
        save(clip, letters_tokenizer(), tmp_path / name) for clip in [clip_text("CLIPTextModel")] for name in "ab"
    ]
    marks = {fingerprint_encoder(load_huggingface(folder, device="cpu")) for folder in folders}
    assert len(marks) == 1


def test_encoding_does_not_count(tmp_path: Path) -> None:
    encoder = load_huggingface(save(bert(), words_tokenizer(), tmp_path), device="cpu")
    before = fingerprint_encoder(encoder)
    encoder.encode(["red", "red car"])
    assert fingerprint_encoder(encoder) == before


def test_each_weight_counts() -> None:
    encoder = student()
    seen = {fingerprint_encoder(encoder)}
    tensors = list(encoder.module.state_dict().values())
    for tensor in tensors:
        value = tensor.flatten()[-1].clone()
        tensor.flatten()[-1] = value + 1
        seen.add(fingerprint_encoder(encoder))
        tensor.flatten()[-1] = value
    assert len(seen) == 1 + len(tensors)


def test_what_weights_do_not_say_counts() -> None:
    encoder = student()
    seen = {fingerprint_encoder(encoder)}
    module = encoder.module
    for changes in ({"heads": 1}, {"padding": "attended"}, {"folded": True}):
        other = tiny_student("masked")
        other.config = replace(module.config, **changes)
        seen.add(fingerprint_encoder(StudentEncoder(other, "student")))
    seen.add(fingerprint_encoder(StudentEncoder(tiny_student("masked").bfloat16(), "student")))
    seen.add(fingerprint_encoder(student(context_length=8)))
    assert len(seen) == 6


def test_the_teacher_by_heads() -> None:
    configs = (teacher_config(16, 2, 2, output=8), teacher_config(16, 4, 2, output=8))
    assert len({fingerprint_encoder(ModuleEncoder(build_teacher(c, generator()), "t")) for c in configs}) == 2


def test_context_and_tokenizer_of_a_hugging_face_model_count(tmp_path: Path) -> None:
    model = bert()
    first = load_huggingface(save(model, words_tokenizer(), tmp_path / "a"), device="cpu")
    tokenizer = words_tokenizer()
    tokenizer.add_tokens(["dog"])
    second = load_huggingface(save(model, tokenizer, tmp_path / "b"), device="cpu")
    assert len({fingerprint_encoder(encoder) for encoder in (first, second, replace(first, context_length=5))}) == 3
    assert fingerprint_tokenizer(first) != fingerprint_tokenizer(second)
    assert fingerprint_tokenizer(student()) not in {fingerprint_tokenizer(first), fingerprint_tokenizer(second)}


@dataclass(frozen=True)
class TwoModules:
    """What a host's tower is like: several modules, no configuration."""

    name: str
    tower: nn.Module
    projection: nn.Module
    context_length: int = 8
    width: int = 2

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        raise NotImplementedError


class Itself(nn.Linear):
    name, context_length, width = "itself", 8, 2

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        raise NotImplementedError


def test_every_module_of_an_encoder_counts_by_its_place() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    encoders = [TwoModules("x", first, second), TwoModules("x", second, first), TwoModules("x", first, first)]
    assert len(set(map(fingerprint_encoder, encoders))) == 3
    assert fingerprint_encoder(Itself(2, 2)) != fingerprint_encoder(Itself(2, 2))


def test_special_tensors() -> None:
    module = nn.Module()
    module.register_buffer("count", torch.tensor(3))
    module.register_buffer("nothing", torch.empty(0, 4))
    module.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
    module.register_buffer("brain", torch.ones(3, dtype=torch.bfloat16))
    assert len(fingerprint_encoder(TwoModules("x", module, module))) == 64


def test_an_encoder_without_weights_is_refused() -> None:
    with pytest.raises(EncoderError, match="an encoder without weights, fake; keep its module"):
        fingerprint_encoder(FakeEncoder(whole=True))
