"""Optimizers: AdamW for what every batch uses, and an Adam of its own for each row of the token table."""

from typing import Any

import torch
from torch import Tensor, nn

from litetext.distillation.recipe import TrainingOptions
from litetext.distillation.schedule import cosine_rate
from litetext.encoders.student import TextStudent

BETAS = (0.9, 0.98)
EPSILON = 1e-8
TABLES = ("token_table", "positions")
ROWS = "token_table.weight"
GROWTH = 2000  # steps without an overflow until the scale of a loss is doubled


def rate_at(step: int, steps: int, options: TrainingOptions) -> float:
    """The learning rate of a step, from 0: linear warm-up, then half a cosine."""
    warm_up = round(options.warm_up * steps)
    return cosine_rate(step, steps, warm_up=warm_up, rate=options.rate, floor=options.floor)


def make_optimizer(student: TextStudent, weight_decay: float) -> torch.optim.AdamW:
    """AdamW for all but the rows of the token table: matrices and convolutions decay; norms, biases, tables do not."""
    sorts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in student.named_parameters():
        if name != ROWS:
            sorts[parameter.ndim > 1 and not name.startswith(TABLES)].append(parameter)
    groups = [{"params": some, "weight_decay": weight_decay * decays} for decays, some in sorts.items() if some]
    # Fused: one pass over the weights instead of ten, a quarter of the time on a CPU.
    return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, fused=True)


class RowAdam:
    """Adam for the rows of a table: a row that does not occur is neither read nor written.

    Each row counts its own steps, so that the first gradient of a rare word moves it as far as it moved a frequent word
    in its first step. There is no weight decay.

    Args:
        table: [V, C], changed in place.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.first, self.second = torch.zeros_like(table), torch.zeros_like(table)
        self.counts = torch.zeros(len(table), dtype=torch.int64, device=table.device)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move some rows.

        Args:
            rows: int64 [U], distinct.
            gradient: [U, C].
            rate: learning rate.
        """
        first = self.first[rows].lerp_(gradient, 1 - BETAS[0])
        second = self.second[rows].lerp_(gradient.square(), 1 - BETAS[1])
        counts = self.counts[rows] + 1
        self.first[rows], self.second[rows], self.counts[rows] = first, second, counts
        steps = counts.to(first.dtype)[:, None]
        mean, spread = first / (1 - BETAS[0] ** steps), second / (1 - BETAS[1] ** steps)
        self.table[rows] = self.table[rows] - rate * mean / (spread.sqrt() + EPSILON)

    def state_dict(self) -> dict[str, Tensor]:
        """What the next step depends on: the rows that have moved, and how."""
        rows = self.counts.nonzero().flatten()
        return {"rows": rows, "counts": self.counts[rows], "first": self.first[rows], "second": self.second[rows]}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        state = {name: tensor.to(self.table.device) for name, tensor in state.items()}
        rows = state["rows"]
        for kept, name in ((self.counts, "counts"), (self.first, "first"), (self.second, "second")):
            kept.zero_()
            kept[rows] = state[name]


class LossScale:
    """What a loss is multiplied with, so that gradients in float16 neither vanish nor overflow.

    It is halved where a gradient overflows, whose step is left out, and doubled after a long time without. In other
    number types it is 1, and a gradient that is not finite is an error.

    Args:
        dtype: what the layers compute in.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.moves = dtype is torch.float16
        self.value = 2.0**16 if self.moves else 1.0
        self.good = 0

    def may_skip(self) -> bool:
        """After an overflow: whether a smaller scale may help; it is taken."""
        self.good = 0
        self.value /= 2
        return self.moves and self.value >= 1

    def count(self) -> None:
        """After a good step."""
        self.good += 1
        if self.moves and self.good % GROWTH == 0:
            self.value *= 2

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on."""
        return {"value": self.value, "good": self.good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.value, self.good = float(state["value"]), int(state["good"])
