"""The student equals transformers' port of SAM3-LiteText, and its two ways with padding do what their names say."""

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.checkpoints.schema import count_parameters
from litetext.encoders.config import PRESETS, EncoderConfig
from litetext.errors import OptionError
from litetext.features.protocol import TextEncoder
from litetext.tokenizer.bpe import TokenBatch

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from litetext.checkpoints.load import resize_positions  # noqa: E402
from litetext.encoders.student import StudentEncoder, TextStudent, build_student  # noqa: E402
from tests.encoders.students import (  # noqa: E402
    VOCABULARY,
    disturb,
    generator,
    prefix_mask,
    random_ids,
    state_of_huggingface,
    tiny_student,
)

pytestmark = pytest.mark.torch
TEXTS = ["dog", "a white dog on the left of a red car", "", "two cats"]
PADDINGS = ("attended", "masked")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    """Tensors this small gain nothing from threads, and on a busy machine they wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@lru_cache
def known_student(padding: Any, seed: int, folded: bool) -> TextStudent:
    """One of a few students for properties: building one takes longer than running it."""
    student = tiny_student(padding, seed)
    return student.fold() if folded else student


def oracle(name: str, rows: int) -> tuple[Any, nn.Linear]:
    """Transformers' port of a preset with random weights and the projector that SAM3 puts after it."""
    from transformers import Sam3LiteTextTextConfig
    from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextModel

    preset = PRESETS[name]
    config = Sam3LiteTextTextConfig(
        hidden_size=preset.width,
        intermediate_size=4 * preset.width,
        projection_dim=preset.projection,
        num_hidden_layers=preset.encoder_blocks + preset.mixer_blocks,
        num_attention_heads=preset.heads,
        max_position_embeddings=rows,
        use_repmixer_blocks=preset.mixer_blocks > 0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, projector = Sam3LiteTextTextModel(config), nn.Linear(preset.width, 256)
    return disturb(model).eval(), disturb(projector)


def loaded(name: str, context_length: int, state: dict[str, Any], padding: Any = "attended") -> TextStudent:
    with torch.device("meta"):
        student = TextStudent(EncoderConfig.of(name, context_length, padding=padding))
    student.load_state_dict(state, strict=True, assign=True)
    return student.eval()


@pytest.mark.parametrize(
    "name", ["tiny", "s0", pytest.param("s1", marks=pytest.mark.slow), pytest.param("l", marks=pytest.mark.slow)]
)
@torch.no_grad()
def test_equals_the_port_of_transformers(name: str) -> None:
    model, projector = oracle(name, 16)
    parts = (model, projector)
    assert sum(p.numel() for part in parts for p in part.parameters()) == count_parameters(PRESETS[name])
    ids, mask = random_ids(3, 16, 49_408), prefix_mask([16, 2, 9], 16)
    student = loaded(name, 16, state_of_huggingface(model, projector))
    assert sum(p.numel() for p in student.parameters()) == count_parameters(student.config)
    want = projector(model(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(student(ids, mask), want, atol=1e-5, rtol=0)
    torch.testing.assert_close(student.fold()(ids, mask), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tiny", pytest.param("s1", marks=pytest.mark.slow)])
@torch.no_grad()
def test_without_padding_the_masked_student_is_the_same_function(name: str) -> None:
    model, projector = oracle(name, 16)
    student = loaded(name, 16, state_of_huggingface(model, projector), "masked")
    ids = random_ids(2, 16, 49_408)
    want = projector(model(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(student(ids, torch.ones_like(ids, dtype=torch.bool)), want, atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_interpolated_table_is_what_the_port_reads_of_a_longer_one() -> None:
    model, projector = oracle("tiny", 77)
    state = state_of_huggingface(model, projector)
    state["positions"] = resize_positions(state["positions"], 32, "interpolate")
    ids = random_ids(2, 32, 49_408)
    want = projector(model(input_ids=ids).last_hidden_state)
    got = loaded("tiny", 32, state)(ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=4),
    extra=st.integers(0, 15),
    seed=st.integers(0, 4),
    folded=st.booleans(),
)
@torch.no_grad()
def test_masked_padding_is_seen_by_nothing(lengths: list[int], extra: int, seed: int, folded: bool) -> None:
    """Features at valid tokens depend neither on L, nor on what is written at padding, nor on the rest of the batch."""
    student = known_student("masked", seed, folded)
    ids, longer = random_ids(len(lengths), 16, VOCABULARY, seed), min(16, max(lengths) + extra)
    mask = prefix_mask(lengths, longer)
    got = student(torch.where(mask, ids[:, :longer], random_ids(1, 1, VOCABULARY, seed)), mask)
    for row, length in enumerate(lengths):
        alone = student(ids[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(got[row, :length], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_attended_padding_is_seen() -> None:
    """The released students' features depend on what stands at padding: so the property above can fail."""
    student, mask = tiny_student("attended"), prefix_mask([5, 9], 16)
    ids = random_ids(2, 16, VOCABULARY)
    changed = student(torch.where(mask, ids, 0), mask) - student(ids, mask)
    assert changed[mask].abs().max() > 1e-2
    assert torch.equal(student(ids, mask), student(ids, torch.ones_like(mask)))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 4),
    padding=st.sampled_from(PADDINGS),
    lengths=st.lists(st.integers(2, 16), min_size=1, max_size=4),
)
@torch.no_grad()
def test_folding_changes_nothing(seed: int, padding: Any, lengths: list[int]) -> None:
    student, folded = known_student(padding, seed, False), known_student(padding, seed, True)
    ids, mask = random_ids(len(lengths), 16, VOCABULARY, seed), prefix_mask(lengths, 16)
    read = mask if padding == "masked" else torch.ones_like(mask)
    torch.testing.assert_close(folded(ids, mask)[read], student(ids, mask)[read], atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_folded_student_is_a_student_of_its_own(padding: Any) -> None:
    student = tiny_student(padding).train()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    folded = student.fold()
    assert folded.config == replace(student.config, folded=True)
    assert not folded.training
    assert student.training
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert not any(isinstance(part, nn.BatchNorm1d) for part in folded.modules())
    own = {tensor.data_ptr() for tensor in student.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in folded.state_dict().values()}
    again = TextStudent(folded.config)
    again.load_state_dict(folded.state_dict(), strict=True)
    ids, mask = random_ids(2, 16, VOCABULARY), prefix_mask([4, 16], 16)
    assert torch.equal(again.eval()(ids, mask), folded(ids, mask))
    assert torch.equal(folded.fold()(ids, mask), folded(ids, mask))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("folded", [False, True])
def test_every_parameter_is_used(padding: Any, folded: bool) -> None:
    student = tiny_student(padding)
    student = student.fold() if folded else student
    mask = prefix_mask([16, 5, 16], 16)
    student(random_ids(3, 16, VOCABULARY), mask)[mask].pow(2).sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_training_step_does_not_depend_on_padding() -> None:
    steps = []
    for length in (9, 16):
        student = tiny_student("masked").train()
        mask = prefix_mask([9, 4, 6], length)
        values = student(random_ids(3, 16, VOCABULARY)[:, :length], mask)
        values[mask].pow(2).mean().backward()
        gradients = {name: parameter.grad for name, parameter in student.named_parameters()}
        steps.append(gradients | dict(student.named_buffers()))
    for name, want in steps[0].items():
        torch.testing.assert_close(steps[1][name], want, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("padding", "ids", "mask", "complaint"),
    [
        ("attended", (2, 15), (2, 15), "15 tokens for a student with attended padding; give exactly its context of 16"),
        ("attended", (2, 17), (2, 17), "17 tokens for a student with attended padding; give exactly"),
        ("masked", (2, 17), (2, 17), "17 tokens for a student with masked padding; give at most its context of 16"),
        ("masked", (2, 16), (2, 15), "ids [2, 16] and mask [2, 15] are not both [B, L]"),
        ("masked", (16,), (16,), "ids [16] and mask [16]"),
    ],
)
def test_wrong_shapes_are_refused(padding: Any, ids: Any, mask: Any, complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        tiny_student(padding)(torch.zeros(ids, dtype=torch.int64), torch.ones(mask, dtype=torch.bool))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("padding", PADDINGS)
@torch.no_grad()
def test_half_precision(padding: Any) -> None:
    student = tiny_student(padding)
    ids, mask = random_ids(2, 16, VOCABULARY), prefix_mask([16, 5], 16)
    want = student(ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = student(ids, mask)
    assert automatic.dtype is torch.bfloat16
    results = [automatic]
    for dtype in (torch.bfloat16, torch.float16):
        whole = copy.deepcopy(student).to(dtype)
        results += [whole(ids, mask), whole.fold()(ids, mask)]
        assert results[-1].dtype is results[-2].dtype is dtype
    for got in results:
        cosine = torch.cosine_similarity(got.float(), want, dim=-1)
        assert cosine[mask].min() > 0.998


def test_training_under_autocast() -> None:
    student, mask = tiny_student("masked").train(), prefix_mask([16, 5], 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = student(random_ids(2, 16, VOCABULARY), mask)[mask].float().pow(2).mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in student.parameters())


@torch.no_grad()
def test_a_folded_student_can_be_exported_for_any_number_of_texts_and_tokens() -> None:
    student = tiny_student("masked").fold()
    sizes = {0: torch.export.Dim("B"), 1: torch.export.Dim("L", min=2, max=16)}
    example = (random_ids(2, 12, VOCABULARY), prefix_mask([12, 5], 12))
    program = torch.export.export(student, example, dynamic_shapes=(sizes, sizes)).module()
    for length in (2, 16):
        ids, mask = random_ids(3, length, VOCABULARY), prefix_mask([length, 1, 2], length)
        torch.testing.assert_close(program(ids, mask), student(ids, mask), atol=1e-5, rtol=0)


def encoder(padding: Any, **changes: Any) -> StudentEncoder:
    config = replace(EncoderConfig.of("tiny", padding=padding), **changes)
    return StudentEncoder(disturb(build_student(config, generator())), "tiny student")


def test_an_encoder_encodes_texts() -> None:
    student: TextEncoder = encoder("masked")
    assert (student.name, student.context_length, student.width) == ("tiny student", 16, 256)
    features = student.encode(TEXTS)
    assert features.values.shape == (4, 12, 256)
    assert features.mask.dtype is torch.bool
    assert features.mask.sum(1).tolist() == [3, 12, 2, 4]
    assert encoder("attended").encode(TEXTS).values.shape == (4, 16, 256)
    assert encoder("masked", context_length=5).encode(TEXTS).values.shape == (4, 5, 256)
    assert student.encode("dog").values.equal(student.encode(["dog"]).values)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_text_has_the_same_features_in_every_batch(padding: Any) -> None:
    student = encoder(padding)
    together = student.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        alone = student.encode([text])
        valid = together.values[row][together.mask[row]]
        torch.testing.assert_close(alone.values[0][alone.mask[0]], valid, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_tokens_and_texts_have_the_same_features(padding: Any) -> None:
    student = encoder(padding)
    want = student.encode(TEXTS)
    for context_length in (12, 16, 40):
        got = student.encode(TokenBatch.of_texts(TEXTS, context_length))
        assert torch.equal(got.values, want.values)
        assert torch.equal(got.mask, want.mask)


def test_encoding_does_not_train() -> None:
    student = encoder("masked")
    student.module.train()
    before = {name: tensor.clone() for name, tensor in student.module.state_dict().items()}
    first, second = student.encode(TEXTS), student.encode(TEXTS[:1])
    assert student.module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in student.module.state_dict().items())
    torch.testing.assert_close(first.values[:1, :3], second.values)


@pytest.mark.parametrize("texts", [[], 3, ["dog", 3]])
@pytest.mark.parametrize("padding", PADDINGS)
def test_what_is_no_list_of_texts_is_refused(padding: Any, texts: Any) -> None:
    with pytest.raises(OptionError):
        encoder(padding).encode(texts)


def test_a_small_vocabulary_says_so() -> None:
    with pytest.raises(OptionError, match=r"49406.* 600 tokens"):
        StudentEncoder(tiny_student("masked"), "tiny").encode(["dog"])


def test_the_generator_is_the_only_source_of_randomness() -> None:
    config = EncoderConfig.of("tiny", padding="masked", vocabulary=VOCABULARY)
    before = torch.random.get_rng_state()
    first, second, other = (build_student(config, generator(seed)) for seed in (1, 1, 2))
    first.fold()
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.positions, other.positions)
    assert first.training


@torch.no_grad()
def test_random_weights_are_sensible() -> None:
    student = build_student(EncoderConfig.of("s0", padding="masked"), generator())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    for table in (
        student.token_table.weight,
        student.positions,
        student.projector.weight,
        student.blocks[2].qkv.weight,
    ):
        assert float(table.std()) == pytest.approx(512**-0.5, rel=0.02)
    assert float(student.blocks[2].out.weight.std()) == pytest.approx((512 * 12) ** -0.5, rel=0.02)
    assert float(student.blocks[0].mixer_conv.weight.std()) == pytest.approx(11**-0.5, rel=0.03)
    assert student.blocks[0].mixer_scale.unique().tolist() == pytest.approx([0.1])
    assert student.blocks[0].mixer_norm.running_var.unique().tolist() == [1.0]
    assert student.blocks[0].mixer_norm.num_batches_tracked == 0
    assert student.projector.bias.abs().max() == 0
    values = student(random_ids(4, 16, 49_408), torch.ones(4, 16, dtype=torch.bool))
    assert 0.5 < float(values.std()) < 2


def test_a_folded_student_is_not_built_at_random() -> None:
    with pytest.raises(OptionError, match="folded"):
        build_student(replace(EncoderConfig.of("tiny", padding="masked"), folded=True), generator())


def test_any_iterable_of_texts() -> None:
    encoder = StudentEncoder(tiny_student("masked", vocabulary=49_408), "tiny")
    assert encoder.encode(text for text in ["dog", "a cat"]).values.equal(encoder.encode(["dog", "a cat"]).values)
    for odd in ([None], [3], 3, iter(())):
        with pytest.raises(OptionError):
            encoder.encode(odd)  # type: ignore[arg-type]
