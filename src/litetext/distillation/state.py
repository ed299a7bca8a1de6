"""The state of a training between two steps: what the next step depends on, kept in one file."""

import copy
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from litetext.checkpoints.load import CHOICES, read_student_tensors, resize_positions
from litetext.checkpoints.tensors import listed
from litetext.distillation.recipe import DistillRecipe
from litetext.encoders.encoder import prepare_rows
from litetext.encoders.layers import factorize_table
from litetext.encoders.student import TextStudent, build_student
from litetext.errors import EncoderError, TrainingError
from litetext.features.store import FeatureStore
from litetext.records import record
from litetext.storage import atomic_file
from litetext.tokenizer.pruned import KeptTokens, kept_tokens

CHECKPOINT = "last.ckpt"
BETAS, EPSILON = (0.9, 0.98), 1e-8
MOST_TEXTS, BATCH = 100_000, 512  # that the first rows of the token table are made from, and at once
TABLE, UP, POSITIONS = "token_table.weight", "token_table.up.weight", "positions"
_HINT = "remove it to begin again"


def start_student(recipe: DistillRecipe, output: int) -> TextStudent:
    """The student before the first step, of features of width ``output``, on the CPU in float32.

    Every weight of a checkpoint is used and none is made up, but the projector of a MobileCLIP, which has none, and
    the factors of a token table, which are those nearest to the whole table of the file.
    """
    config = recipe.student_config(output)
    student = build_student(config, torch.Generator().manual_seed(recipe.seed))
    if not recipe.init:
        return student
    source, tensors = read_student_tensors(recipe.init)
    is_mobileclip = "projector.weight" not in tensors
    expected = student.state_dict()
    given = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    given[POSITIONS] = _positions(given[POSITIONS], config.context_length, recipe, is_mobileclip=is_mobileclip)
    if config.rank is not None and UP not in given and given[TABLE].shape[1] == config.width:
        given[TABLE], given[UP] = factorize_table(given[TABLE], config.rank)
    if is_mobileclip:
        given |= {name: tensor for name, tensor in expected.items() if name.startswith("projector.")}
    faults = sorted(given.keys() ^ expected.keys())
    faults += [name for name in sorted(given.keys() & expected.keys()) if given[name].shape != expected[name].shape]
    if faults:
        what = f"a student of {source.name} cannot start one of {config.name} (tensors do not fit: {listed(faults)})"
        raise EncoderError(what, where=recipe.init, hint="give its preset and rank, or leave out init")
    bad = [name for name, tensor in given.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise EncoderError(f"NaN or infinity in {listed(bad)}", where=recipe.init, hint="give another checkpoint")
    student.load_state_dict(given)
    return student


def _positions(table: Tensor, rows: int, recipe: DistillRecipe, *, is_mobileclip: bool) -> Tensor:
    if recipe.positions != "auto":
        return resize_positions(table, rows, recipe.positions)
    if len(table) != rows and not is_mobileclip:
        what = f"a position table of {len(table)} rows for a context of {rows}"
        raise EncoderError(what, where=recipe.init, hint=CHOICES)
    return resize_positions(table, rows, "slice")


@torch.no_grad()
def start_tokens(student: TextStudent, cache: FeatureStore, texts: Sequence[str]) -> None:
    """Start each token of some texts from what the teacher makes of it: words that mean the same begin side by side.

    A row of the token table is the mean of the teacher's features at its token, in their principal components, scaled
    to the spread of random rows. Tokens that no text has keep their random rows.
    """
    width, table = cache.width, student.token_table.weight
    sums = torch.zeros(len(table), width, dtype=torch.float64)
    counts = torch.zeros(len(table), dtype=torch.float64)
    some = texts[:: -(-len(texts) // MOST_TEXTS)]
    for first in range(0, len(some), BATCH):
        batch = list(some[first : first + BATCH])
        tokens, features = prepare_rows(batch, student.config), cache.features(batch)
        length = min(tokens.mask.shape[1], features.mask.shape[1])
        both = torch.from_numpy(tokens.mask[:, :length]) & features.mask[:, :length]
        ids, values = torch.from_numpy(tokens.ids[:, :length])[both], features.values[:, :length][both]
        sums.index_add_(0, ids, values.double())
        counts.index_add_(0, ids, torch.ones(len(ids), dtype=torch.float64))
    (used,), spread = counts.nonzero(as_tuple=True), table.std()
    means = sums[used] / counts[used, None]
    means -= means.mean(dim=0)
    columns = min(table.shape[1], *means.shape)
    parts = means @ torch.linalg.svd(means, full_matrices=False).Vh[:columns].T
    table[used] = 0
    table[used, :columns] = (parts / parts.std().clamp_min(EPSILON) * spread).float()


def prune_table(student: TextStudent, texts: Sequence[str]) -> TextStudent:
    """A copy of a student that has only the rows of the token table that some texts need.

    No other row gets a gradient, so that neither the optimizer nor the average has to pass over it: most of a small
    student is its table. `restore_table` puts the other rows back.
    """
    kept = KeptTokens.of_texts(texts)
    pruned = copy.deepcopy(student)
    pruned.token_table.weight = nn.Parameter(student.token_table.weight.detach()[list(kept.ids)])
    pruned.token_table.num_embeddings = len(kept)
    pruned.config = replace(student.config, vocabulary=len(kept), kept=kept.to_text())
    return pruned


def restore_table(pruned: TextStudent, start: TextStudent) -> TextStudent:
    """A student in eval mode with the trained weights, and the rows of ``start`` that were not trained."""
    weights = dict(pruned.state_dict())
    table = start.token_table.weight.detach().clone()
    table[list(kept_tokens(pruned.config.kept or "").ids)] = weights[TABLE].cpu()
    student = copy.deepcopy(start).eval()
    student.load_state_dict({**weights, TABLE: table})
    return student.to(weights[TABLE].device)


def make_optimizer(student: TextStudent, recipe: DistillRecipe) -> torch.optim.AdamW:
    """AdamW; matrices and convolutions decay, norms, biases and the tables of tokens and positions do not."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in student.named_parameters():
        groups[parameter.ndim > 1 and not name.startswith(("token_table", POSITIONS))].append(parameter)
    options = [{"params": some, "weight_decay": recipe.weight_decay * decays} for decays, some in groups.items()]
    return torch.optim.AdamW(options, lr=recipe.lr, betas=BETAS, eps=EPSILON, fused=True)


def ema_update(decay: float) -> Callable[[Any, Any, Any], None]:
    """The update of an `AveragedModel`; its decay after t steps is at most (1 + t) / (10 + t)."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, steps: Any) -> None:
        if averaged[0].is_floating_point():
            done = int(steps)
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + done) / (10 + done)))
        else:  # counters of batch norms
            torch._foreach_copy_(averaged, current)

    return update


@dataclass(eq=False)
class Progress:
    """How far a run is. Order and permutations follow from the seed and the step, so that no generator is kept."""

    step: int = 0  # steps done
    seconds: float = 0.0  # spent so far
    sums: dict[str, float] = field(default_factory=dict)  # of each loss since the last validation
    rows: list[dict[str, float]] = field(default_factory=list)  # of the curve, one for each validation
    # Of each validation the figure by which the best student is chosen, the higher the better.
    scores: list[float] = field(default_factory=list)

    def add(self, losses: Mapping[str, float]) -> None:
        """Count a step."""
        self.step += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    @property
    def validated(self) -> int:
        """The step of the last validation; -1 before the first."""
        return int(self.rows[-1]["step"]) if self.rows else -1

    @property
    def best(self) -> int:
        """The number of the best validation, whose student is kept."""
        return int(np.argmax(self.scores))

    def improved(self, min_delta: float) -> int:
        """The number of the last validation that was better by ``min_delta`` than the last one that was."""
        last = 0
        for number, score in enumerate(self.scores):
            if score > self.scores[last] + min_delta:
                last = number
        return last


@dataclass(eq=False)
class TrainingState:
    """A training between two steps."""

    student: TextStudent  # with a pruned token table
    averaged: AveragedModel  # its weights and running statistics
    optimizer: torch.optim.AdamW
    schedule: LambdaLR  # of the learning rate
    scaler: torch.amp.GradScaler  # of the loss, where float16 needs one
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def begin(cls, student: TextStudent, recipe: DistillRecipe, lr_at: Callable[[int], float]) -> Self:
        """The state before the first step; ``lr_at`` gives the share of the highest learning rate at a step, from 0."""
        optimizer = make_optimizer(student, recipe)
        return cls(
            student.train(),
            AveragedModel(student, multi_avg_fn=ema_update(recipe.ema_decay), use_buffers=True),
            optimizer,
            LambdaLR(optimizer, lr_at),
            torch.amp.GradScaler(student.positions.device.type, enabled=recipe.dtype == "fp16"),
        )

    def save(self, folder: Path, identity: Mapping[str, str]) -> None:
        """Write the checkpoint in one step, with what the run depends on, by name."""
        state = {
            "identity": dict(identity),
            **{name: part.state_dict() for name, part in self._parts().items()},
            "progress": vars(self.progress),
        }
        with writing(folder), atomic_file(folder / CHECKPOINT) as file:
            torch.save(state, file)

    def load(self, folder: Path, identity: Mapping[str, str]) -> None:
        """Resume from the checkpoint of a folder; one of another recipe, teacher or corpus is refused."""
        path = folder / CHECKPOINT
        try:
            with zipfile.ZipFile(path) as parts:  # PyTorch writes the CRC-32 of each part, and does not compare it
                is_whole = parts.testzip() is None
            state = torch.load(path, weights_only=True, map_location="cpu") if is_whole else {}
            kept = dict(state["identity"])
        except Exception as error:  # whatever a damaged file makes of it
            raise TrainingError("not a checkpoint", where=str(path), hint=_HINT) from error
        different = [name for name in {**kept, **identity} if kept.get(name) != identity.get(name)]
        if different:
            changes = "; ".join(f"{name} was {kept.get(name)}, is {identity.get(name)}" for name in different[:3])
            what = f"a run of another recipe ({changes})"
            raise TrainingError(what, where=str(folder), hint="give another folder, or the old recipe")
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.progress = record(Progress, state["progress"])
        except Exception as error:
            raise TrainingError("a checkpoint that does not fit", where=str(path), hint=_HINT) from error

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "progress"}


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise a `TrainingError` of one line where the block cannot write a file of a run."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # PyTorch's writer raises a RuntimeError where the file that it writes to raises an OSError.
        cause = error if isinstance(error, OSError) else error.__context__
        reason = cause.strerror if isinstance(cause, OSError) else None
        raise TrainingError(
            (reason or str(error).splitlines()[0]).lower(),
            where=str(folder),
            hint="fix that and run it again: the last checkpoint is whole, and training resumes from it",
        ) from error
