"""Blocks: exact norms and attention, padding that nobody sees, and a fold that changes nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from litetext.encoders.layers import EncoderBlock, FloatLayerNorm, FoldedMixerBlock, MixerBlock, PackedTokens  # noqa: E402
from tests.encoders.students import disturb, generator, prefix_mask  # noqa: E402

pytestmark = pytest.mark.torch
WIDTH = 16


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    """Tensors this small gain nothing from threads, and on a busy machine they wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mixer(seed: int = 0) -> MixerBlock:
    torch.manual_seed(seed)
    return disturb(MixerBlock(WIDTH), seed).eval()


def tokens(batch: int, length: int, seed: int = 0) -> Any:
    return torch.randn(batch, length, WIDTH, generator=generator(seed))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_norm_computes_in_float32(dtype: Any) -> None:
    norm = disturb(FloatLayerNorm(WIDTH)).to(dtype)
    x = (100 * tokens(3, 5) + 1000).to(dtype)
    want = nn.functional.layer_norm(x.float(), (WIDTH,), norm.weight.float(), norm.bias.float(), 1e-5)
    assert norm(x).dtype is dtype
    assert torch.equal(norm(x), want.to(dtype))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_the_formula(masked: bool) -> None:
    block = disturb(EncoderBlock(WIDTH, 4))
    x, mask = tokens(2, 6), prefix_mask([6, 3], 6) if masked else None
    heads = [part.view(2, 6, 4, 4).transpose(1, 2) for part in block.qkv(block.attention_norm(x)).split(WIDTH, dim=-1)]
    logits = heads[0] @ heads[1].transpose(-1, -2) * 4**-0.5
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None, :], -torch.inf)
    mixed = (logits.softmax(-1) @ heads[2]).transpose(1, 2).reshape(2, 6, WIDTH)
    want = x + block.out(mixed)
    inner = block.fc1(block.ffn_norm(want))
    want = want + block.fc2(inner * 0.5 * (1 + torch.erf(inner / 2**0.5)))
    torch.testing.assert_close(block(x, mask), want, atol=1e-5, rtol=0)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), masked=st.booleans())
def test_folding_changes_nothing(seed: int, lengths: list[int], masked: bool) -> None:
    block, longest = mixer(seed), max(lengths)
    mask = prefix_mask(lengths, longest) if masked else None
    x = tokens(len(lengths), longest, seed)
    with torch.no_grad():
        got, want = block.fold()(x, mask), block(x, mask)
    valid = prefix_mask(lengths, longest) if masked else slice(None)
    torch.testing.assert_close(got[valid], want[valid], atol=1e-5, rtol=0)


def test_a_folded_block_has_no_batch_norm_and_only_these_parameters() -> None:
    block = mixer()
    before = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    folded = block.train().fold()
    assert sorted(folded.state_dict()) == sorted(
        [f"{name}.{leaf}" for name in ("mixer_folded", "ffn_folded", "fc1", "fc2") for leaf in ("weight", "bias")]
        + ["ffn_scale"]
    )
    assert not folded.training
    assert block.training
    assert all(torch.equal(before[name], tensor) for name, tensor in block.state_dict().items())
    assert all(parameter.requires_grad for parameter in folded.parameters())
    own = {tensor.data_ptr() for tensor in block.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in folded.state_dict().values()}


def test_folding_is_exact_in_float64() -> None:
    block, x = mixer().double(), tokens(2, 9).double()
    torch.testing.assert_close(block.fold()(x, None), block(x, None), atol=1e-12, rtol=0)


def test_a_folded_block_keeps_the_number_type() -> None:
    folded = mixer().bfloat16().fold()
    assert {tensor.dtype for tensor in folded.state_dict().values()} == {torch.bfloat16}


def blocks() -> list[Any]:
    return [disturb(EncoderBlock(WIDTH, 4)).eval(), mixer(), mixer().fold()]


@pytest.mark.parametrize("which", range(3))
def test_padding_and_its_length_are_seen_by_nothing(which: int) -> None:
    block = blocks()[which]
    x = tokens(3, 20)
    mask = prefix_mask([4, 1, 7], 20)
    want = [block(x[row : row + 1, :length], None) for row, length in enumerate([4, 1, 7])]
    for length in (7, 8, 12, 20):
        for filling in (0.0, 50.0, -3.0):
            filled = torch.where(mask[..., None], x, filling)[:, :length]
            got = block(filled, mask[:, :length])
            for row, alone in enumerate(want):
                torch.testing.assert_close(got[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("which", range(3))
def test_without_a_mask_padding_is_seen(which: int) -> None:
    block, x = blocks()[which], tokens(1, 8)
    assert (block(x, None)[:, :4] - block(x[:, :4], None)).abs().max() > 1e-2


def test_batch_statistics_are_those_of_valid_tokens() -> None:
    """In training a batch norm that saw padding would make a student depend on how its batches were padded."""
    results = []
    for length, filling in ((5, 0.0), (9, 7.0), (20, -30.0)):
        block = mixer().train()
        mask = prefix_mask([5, 2, 3], length)
        x = torch.full((3, length, WIDTH), filling)
        x[mask] = tokens(1, 10)[0]
        y = block(x, mask)[mask]
        (y**2).sum().backward()
        gradients = [parameter.grad for parameter in block.parameters()]
        results.append([y, *gradients, block.mixer_skip.running_mean, block.ffn_conv_norm.running_var])
    for other in results[1:]:
        for want, got in zip(results[0], other, strict=True):
            torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lengths", [[4, 1, 7], [7, 7, 7]])
def test_rows_of_valid_tokens_are_the_batch_without_its_padding(lengths: list[int]) -> None:
    mask = prefix_mask(lengths, 7)
    places, x = PackedTokens.of(mask), tokens(3, 7)
    assert torch.equal(places.rows(x), x[mask])
    assert torch.equal(places.batch(x[mask]), torch.where(mask[..., None], x, 0.0))
    results = []
    for train in (False, True):
        torch.manual_seed(0)
        block = disturb(EncoderBlock(WIDTH, 4))
        given = x.clone().requires_grad_()
        rows = block.forward_rows(places.rows(given), places) if train else block(given, mask)[mask]
        rows.pow(2).sum().backward()
        results.append([rows, given.grad, *(parameter.grad for parameter in block.parameters())])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_valid_tokens_everywhere_are_no_mask_at_all_even_in_training() -> None:
    x, whole = tokens(3, 6), torch.ones(3, 6, dtype=torch.bool)
    torch.testing.assert_close(mixer().train()(x, whole), mixer().train()(x, None))


@pytest.mark.parametrize("block", [EncoderBlock(WIDTH, 4), MixerBlock(WIDTH), FoldedMixerBlock(WIDTH)])
@pytest.mark.parametrize("masked", [False, True])
def test_every_parameter_is_used(block: Any, masked: bool) -> None:
    block.zero_grad()
    mask = prefix_mask([6, 4], 6)
    disturb(block).train()(tokens(2, 6), mask if masked else None)[mask].pow(3).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
