"""Operations of a prompt: counted by hand, and by PyTorch's own counter."""

import pytest

from litetext.bench.flops import mean_flops, prompt_flops
from litetext.encoders.config import StudentConfig

SMALL = StudentConfig("small", 8, 2, 1, 2, 4, "attended", vocabulary=10, output=3)


def test_by_hand() -> None:
    # Of each of 4 tokens: encoder 4 * 64 + 8 * 64, scores and values 2 * 4 * 8; two mixers of 2 * 11 taps * 8 channels
    # and 8 * 64; projector 8 * 3. Two operations each.
    assert prompt_flops(SMALL, 4) == 2 * 4 * ((256 + 512 + 64) + 2 * (176 + 512) + 24)


def test_a_factorized_table_is_multiplied() -> None:
    factorized = StudentConfig("small", 8, 2, 1, 2, 4, "attended", vocabulary=10, output=3, rank=5)
    assert prompt_flops(factorized, 4) - prompt_flops(SMALL, 4) == 2 * 4 * 5 * 8


def test_s0_is_what_was_measured_before() -> None:
    config = StudentConfig.of("s0", padding="attended")
    assert prompt_flops(config, 16) / 1e9 == pytest.approx(0.55, abs=0.01)


def test_the_mean_cuts_off_at_the_context() -> None:
    assert mean_flops(SMALL, [2, 4, 9]) == (prompt_flops(SMALL, 2) + 2 * prompt_flops(SMALL, 4)) / 3


@pytest.mark.torch
@pytest.mark.parametrize("preset", ["tiny", "xxs"])
def test_as_pytorch_counts(preset: str) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from litetext.encoders.student import build_student

    config = StudentConfig.of(preset, 16, padding="attended", vocabulary=100)
    student = build_student(config, torch.Generator().manual_seed(0)).eval()
    ids, mask = torch.zeros(3, 16, dtype=torch.int64), torch.ones(3, 16, dtype=torch.bool)
    math = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)  # it does not count the fused one
    with torch.no_grad(), math, FlopCounterMode(display=False) as counter:
        student(ids, mask)
    assert counter.get_total_flops() == 3 * prompt_flops(config, 16)
