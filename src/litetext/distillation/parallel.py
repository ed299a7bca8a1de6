"""Several processes that train as one: the same batches, the same losses, the same weights as a single process has."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from litetext.device import collective_backend
from litetext.errors import TrainingError

PATIENCE = timedelta(hours=6)  # the first process may validate on a host meanwhile


@dataclass(frozen=True)
class World:
    """The processes of a run. Each computes features of every ``size``-th text of a batch, from ``rank`` on.

    Losses are computed by each process on the features of all: what is gathered has the gradient of the own texts only,
    so that the sum of all processes' gradients is that of the loss, whatever the loss.

    Attributes:
        rank: of this process, from 0; process 0 alone writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def own(self) -> slice:
        """Which texts of a batch are this process's."""
        return slice(self.rank, None, self.size)

    def gather(self, values: Tensor, whole: int) -> Tensor:
        """What all processes have computed, [B, ...]; with a gradient for the own rows only.

        Args:
            values: of the own texts, [b, ...].
            whole: B, texts of all processes.
        """
        if self.size == 1:
            return values
        most = -(-whole // self.size)
        padded = values.new_zeros((most, *values.shape[1:]))
        padded[: len(values)] = values.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        places = torch.arange(whole, device=values.device)
        together = torch.stack(parts, dim=1).flatten(0, 1)[:whole]  # row r of process q stands at r * size + q
        return together.index_copy(0, places[self.own], values)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of these tensors by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, said: Sequence[float], device: torch.device) -> list[float]:
        """What process 0 says, in all of them."""
        if self.size == 1:
            return list(said)
        number = torch.float32 if device.type != "cpu" else torch.float64
        values = torch.tensor(said, dtype=number, device=device)
        distributed.broadcast(values, 0)
        return cast("list[float]", values.tolist())

    def wait(self, device: torch.device) -> None:
        """Until process 0 is here."""
        self.agree([0.0], device)


@contextmanager
def all_processes(device: torch.device) -> Iterator[World]:
    """The world that `torchrun` made of this process; without it, a world of one.

    Raises:
        TrainingError: the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    try:
        distributed.init_process_group(collective_backend(device), timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the processes do not find each other ({str(error).splitlines()[0]})", hint="start them with torchrun"
        ) from error
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def local_number() -> int:
    """Number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this is process 0, which alone writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


class _Sum(torch.autograd.Function):
    """The sum over all processes; a gradient is summed in the same way."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm of [T, C] with the statistics of all processes' rows; a process may have none.

    PyTorch's own (`SyncBatchNorm`) runs on graphics cards only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The normalized input, [T, C]."""
        if not self.training:
            return super().forward(x)
        ones = x.new_ones((len(x), 1), dtype=torch.float32)
        rows = torch.cat([x.float(), ones], dim=1)
        sums = _sum(rows.sum(dim=0))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x.float() - mean
        variance = _sum(centred.square().sum(dim=0)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            share = self.momentum or 0.0
            with torch.no_grad():
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / (count - 1), share)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        normal = centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normal.to(x.dtype)


def share_statistics(module: nn.Module, world: World) -> None:
    """Have every batch norm of a module use the statistics of all processes; weights and names stay as they are."""
    if world.size == 1:
        return
    for part in module.modules():
        for name, norm in part.named_children():
            if type(norm) is nn.BatchNorm1d:
                shared = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum)
                shared.load_state_dict(norm.state_dict())
                setattr(part, name, shared.to(norm.weight.device))


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)
    return total
