"""The teacher equals CLIP's tower and SAM3's own text encoder, at any length that holds the texts."""

import importlib
import importlib.util
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litetext.checkpoints.schema import count_parameters
from litetext.encoders.config import PRESETS
from litetext.errors import OptionError
from litetext.features.protocol import TextEncoder
from litetext.tokenizer.bpe import TokenBatch

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from torch import nn  # noqa: E402

from litetext.encoders.encoder import ModuleEncoder, encode_batch  # noqa: E402
from litetext.encoders.layers import meta_init  # noqa: E402
from litetext.encoders.teacher import TextTeacher, build_teacher  # noqa: E402
from tests.encoders.students import TINY_TEACHER, disturb, generator, random_ids, teacher_config  # noqa: E402

pytestmark = pytest.mark.torch
TEXTS = ["dog", "a white dog on the left of a red car", "", "two cats"]


@pytest.fixture(scope="module")
def teacher() -> TextTeacher:
    return disturb(build_teacher(TINY_TEACHER, generator()))


def test_the_real_teacher_has_the_parameters_of_the_table_without_the_unused() -> None:
    with meta_init():
        teacher = TextTeacher(PRESETS["teacher"])
    assert sum(parameter.numel() for parameter in teacher.parameters()) == count_parameters(teacher.config)
    assert teacher.config == replace(PRESETS["teacher"], projection=0)


def test_a_teacher_made_on_meta_is_whole_once_its_weights_are_loaded(teacher: TextTeacher) -> None:
    with torch.device("meta"):
        other = TextTeacher(TINY_TEACHER)
    other.load_state_dict(teacher.state_dict(), strict=True, assign=True)
    got, want = (ModuleEncoder(module, "tiny").encode(TEXTS) for module in (other.to("cpu"), teacher))
    assert torch.equal(got.values, want.values)


@torch.no_grad()
def test_equals_the_text_side_of_a_sam3_host(teacher: TextTeacher) -> None:
    """What `Sam3Model.get_text_features` computes: the tower with CLIP's projection beside it, and the projector."""
    from transformers import CLIPTextModelWithProjection

    tower = CLIPTextModelWithProjection._from_config(teacher.tower.config)
    tower.text_model.load_state_dict(teacher.tower.state_dict())
    batch = TokenBatch.of_texts(TEXTS, 32)
    ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
    want = teacher.projector(tower.eval()(input_ids=ids, attention_mask=mask).last_hidden_state)
    got = ModuleEncoder(teacher, "tiny").encode(TEXTS)
    for row, length in enumerate(got.mask.sum(1).tolist()):
        torch.testing.assert_close(got.values[row, :length], want[row, :length], atol=1e-5, rtol=0)


def test_the_longest_prompt_is_as_good_as_the_whole_context(teacher: TextTeacher) -> None:
    shorter: TextEncoder = ModuleEncoder(teacher, "tiny")
    got, want = shorter.encode(TEXTS), encode_batch(teacher, TokenBatch.of_texts(TEXTS, 32))
    assert (shorter.name, shorter.context_length, shorter.width) == ("tiny", 32, 256)
    assert got.values.shape == (4, 12, 256)
    assert want.values.shape == (4, 32, 256)
    assert got.mask.sum(1).tolist() == want.mask.sum(1).tolist() == [3, 12, 2, 4]
    torch.testing.assert_close(got.values[got.mask], want.values[want.mask], atol=1e-5, rtol=0)
    tokens = shorter.encode(TokenBatch.of_texts(TEXTS, 20))
    assert torch.equal(tokens.values, got.values)


def test_long_texts_are_cut_off(teacher: TextTeacher) -> None:
    assert ModuleEncoder(teacher, "tiny").encode(["dog " * 50]).values.shape == (1, 32, 256)


@pytest.mark.parametrize("texts", [[], 3, ["dog", 3]])
def test_what_is_no_list_of_texts_is_refused(teacher: TextTeacher, texts: Any) -> None:
    with pytest.raises(OptionError):
        ModuleEncoder(teacher, "tiny").encode(texts)


def test_the_generator_is_the_only_source_of_randomness() -> None:
    config = teacher_config(16, 2, 1, vocabulary=99)
    before = torch.random.get_rng_state()
    first, second, other = (build_teacher(config, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.projector.weight, other.projector.weight)
    assert first.config == config
    assert not first.training


def sam3_text_encoder(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The file of the package `sam3`, without the package around it, which needs much more."""
    found = importlib.util.find_spec("sam3")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package sam3 (SAM License) is not installed: `make oracle`")
    package = types.ModuleType("sam3_oracle")
    package.__path__ = [str(Path(found.submodule_search_locations[0]) / "model")]
    for name in ("sam3_oracle", "sam3_oracle.model_misc", "sam3_oracle.text_encoder_ve"):
        monkeypatch.setitem(sys.modules, name, package)  # so that each is taken away after the test
        if name != "sam3_oracle":
            del sys.modules[name]
    return importlib.import_module("sam3_oracle.text_encoder_ve")


def load_teacher(oracle: nn.Module, teacher: TextTeacher) -> None:
    """Put a teacher's weights into SAM3's text encoder; its unused projection stays as it is."""
    state = oracle.state_dict()
    ours = teacher.tower.state_dict()
    state["encoder.token_embedding.weight"] = ours["embeddings.token_embedding.weight"]
    state["encoder.positional_embedding"] = ours["embeddings.position_embedding.weight"]
    for leaf in ("weight", "bias"):
        state[f"resizer.{leaf}"] = teacher.projector.state_dict()[leaf]
        state[f"encoder.ln_final.{leaf}"] = ours[f"final_layer_norm.{leaf}"]
        for index in range(teacher.config.encoder_blocks):
            from_, to = f"encoder.layers.{index}", f"encoder.transformer.resblocks.{index}"
            fused = [ours[f"{from_}.self_attn.{name}_proj.{leaf}"] for name in "qkv"]
            state[f"{to}.attn.in_proj_{leaf}"] = torch.cat(fused)
            state[f"{to}.attn.out_proj.{leaf}"] = ours[f"{from_}.self_attn.out_proj.{leaf}"]
            state[f"{to}.mlp.c_fc.{leaf}"] = ours[f"{from_}.mlp.fc1.{leaf}"]
            state[f"{to}.mlp.c_proj.{leaf}"] = ours[f"{from_}.mlp.fc2.{leaf}"]
            state[f"{to}.ln_1.{leaf}"] = ours[f"{from_}.layer_norm1.{leaf}"]
            state[f"{to}.ln_2.{leaf}"] = ours[f"{from_}.layer_norm2.{leaf}"]
    oracle.load_state_dict(state, strict=True, assign=True)


@pytest.mark.sam3
@torch.no_grad()
def test_equals_the_sam3_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sam3_text_encoder(monkeypatch)
    config = teacher_config(128, 4, 6)
    teacher = disturb(build_teacher(config, generator()))
    batch = TokenBatch.of_texts([*TEXTS, "dog " * 50], 32)
    with torch.random.fork_rng():
        oracle = module.VETextEncoder(
            256, lambda texts, context_length: torch.from_numpy(batch.ids), width=128, heads=4, layers=6
        ).eval()
    load_teacher(oracle, teacher)
    padding, memory, _ = oracle([*TEXTS, "dog " * 50], device=torch.device("cpu"))
    want = memory.transpose(0, 1)
    got = encode_batch(teacher, batch)
    assert torch.equal(got.mask, ~padding)
    torch.testing.assert_close(got.values, want, atol=1e-5, rtol=0)
    ids = random_ids(3, 32, 49_408)
    torch.testing.assert_close(
        teacher(ids, torch.ones_like(ids, dtype=torch.bool)),
        oracle.resizer(oracle.encoder(ids)[1]),
        atol=1e-5,
        rtol=0,
    )
