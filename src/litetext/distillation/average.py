"""The moving average of a student's weights: what is validated and kept."""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from litetext.distillation.optimizer import ROWS
from litetext.encoders.student import TextStudent

LEAST = 1e-12  # stands for a decay of 0, of which there is no logarithm


class Average:
    """Exponential moving average of all floating tensors of a student, running statistics included.

    The decay of step t is at most (1 + t) / (10 + t), so that the first weights are soon forgotten. A row of the token
    table is touched only when it occurs; for the steps between it has stood still, and the average comes nearer to it
    by the product of their decays, which two sums of logarithms give. So it is the average that a pass over the whole
    table in each step would give.

    Args:
        student: what is averaged.
        decay: 0 to below 1.
    """

    def __init__(self, student: TextStudent, decay: float) -> None:
        self.student, self.decay = student, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in student.state_dict().items()}
        self.steps = 0
        self.clock = 0.0  # the sum of the logarithms of all decays
        table = self.tensors[ROWS]
        # Where the clock stood when a row was last touched; on the CPU, since not every device has float64.
        self.seen = torch.zeros(len(table), dtype=torch.float64)

    @torch.no_grad()
    def catch_up(self, rows: Tensor) -> None:
        """Before some rows of the token table move: bring their averages up to now.

        Args:
            rows: int64 [U], distinct, on the table's device.
        """
        self.tensors[ROWS][rows] = self._caught_up(rows)
        self.seen[rows.cpu()] = self.clock

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """After a step that has moved all weights, of the token table some rows only.

        Args:
            rows: those rows, to which `catch_up` was applied before the step.
        """
        self.steps += 1
        decay = max(LEAST, min(self.decay, (1 + self.steps) / (10 + self.steps)))
        now = self.student.state_dict()
        for name, kept in self.tensors.items():
            if name == ROWS:
                kept[rows] = kept[rows].lerp_(now[name][rows], 1 - decay)
            elif kept.is_floating_point():
                kept.lerp_(now[name], 1 - decay)
            else:
                kept.copy_(now[name])
        self.clock += math.log(decay)
        self.seen[rows.cpu()] = self.clock

    @torch.no_grad()
    def averaged(self) -> TextStudent:
        """A copy of the student with the averaged weights, in eval mode."""
        copied = copy.deepcopy(self.student).eval()
        every = torch.arange(len(self.seen), device=self.tensors[ROWS].device)
        copied.load_state_dict({**self.tensors, ROWS: self._caught_up(every)})
        return copied

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on."""
        return {"tensors": self.tensors, "seen": self.seen, "steps": self.steps, "clock": self.clock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, kept in self.tensors.items():
            kept.copy_(state["tensors"][name])
        self.seen.copy_(state["seen"])
        self.steps, self.clock = int(state["steps"]), float(state["clock"])

    def _caught_up(self, rows: Tensor) -> Tensor:
        kept, now = self.tensors[ROWS][rows], self.student.state_dict()[ROWS][rows]
        share = torch.exp(self.clock - self.seen[rows.cpu()]).to(kept)[:, None]
        brought: Tensor = now + share * (kept - now)
        return brought
