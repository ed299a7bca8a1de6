"""One step: a batch of phrases to the gradient of its losses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import BatchNorm1d

from litetext.distillation.decoder_losses import TextReader
from litetext.distillation.losses import Comparison, LossWeights, compute_losses
from litetext.distillation.optimizer import ROWS
from litetext.distillation.parallel import World
from litetext.encoders.inputs import prepare_rows
from litetext.encoders.student import TextStudent
from litetext.features.protocol import TextFeatures
from litetext.features.store import FeatureCache
from litetext.tokenizer.batch import TokenBatch


@dataclass(frozen=True, eq=False)
class Part:
    """Phrases that are computed at once.

    Attributes:
        tokens: of B phrases; ids are places in the rows of the batch.
        teacher: features of the same phrases, on the CPU.
        permuted: tokens of permutations of P of them; None where there are none.
        owners: which phrases these are, int64 [P].
    """

    tokens: TokenBatch
    teacher: TextFeatures
    permuted: TokenBatch | None
    owners: npt.NDArray[np.int64]

    @property
    def pairs(self) -> int:
        """Tokens that the losses compare."""
        return int(np.minimum(self.tokens.mask.sum(axis=1), self.teacher.mask.sum(dim=1).numpy()).sum())


@dataclass(frozen=True, eq=False)
class Batch:
    """The phrases of a step.

    Attributes:
        parts: computed one after another.
        rows: int64 [U], ascending, those of the token table that occur.
    """

    parts: tuple[Part, ...]
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StepRunner:
    """What turns phrases into gradients.

    Attributes:
        student: in training mode; of its token table only the rows of a batch are used, apart from the module.
        cache: features of the teacher.
        weights: of the losses.
        reader: the decoder's layers; None where nothing asks for them.
        world: the processes that share a batch.
        dtype: what the student's layers compute in.
    """

    student: TextStudent
    cache: FeatureCache
    weights: LossWeights
    reader: TextReader | None
    world: World
    dtype: torch.dtype

    def assemble(self, texts: Sequence[str], permuted: Sequence[str | None], parts: int) -> Batch:
        """Tokens and features of a batch.

        Args:
            texts: the phrases.
            permuted: a permutation of each; None where there is none.
            parts: how many to compute one after another.

        Raises:
            CacheError: features are missing, damaged or not finite.
        """
        pieces = [self._part(texts, permuted, rows) for rows in np.array_split(np.arange(len(texts)), parts)]
        tokens = [one for part in pieces for one in (part.tokens, part.permuted) if one is not None]
        rows = np.unique(np.concatenate([one.ids[self._seen(one)] for one in tokens]))
        return Batch(tuple(self._with_places(part, rows) for part in pieces), rows)

    def gradients(self, batch: Batch, scale: float) -> tuple[Tensor, dict[str, float]]:
        """Compute all parts, and add to the gradients of the student's parameters.

        Means are over the whole batch, whatever its parts; only the relative errors of the decoder's layers are
        relative to each part's own features, and batch statistics are a part's own.

        Args:
            batch: of `assemble`.
            scale: what the loss is multiplied with before it is differentiated.

        Returns:
            The rows of the token table [U, C] with their gradient, and each loss and their weighted sum, ``loss``.
        """
        table = self.student.token_table.weight
        rows = table.detach()[torch.from_numpy(batch.rows).to(table.device)].requires_grad_()
        pairs = sum(part.pairs for part in batch.parts)
        owners = sum(len(part.owners) for part in batch.parts)
        sums: dict[str, Tensor] = {}
        for part in batch.parts:
            shares = (part.pairs / pairs, len(part.teacher.mask) / _phrases(batch), len(part.owners) / max(1, owners))
            weights = _weigh(self.weights, *shares)
            losses = compute_losses(weights, self._compare(part, rows))
            (losses.total * scale).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.parts.items():
                share = getattr(weights, name) / getattr(self.weights, name)
                sums[name] = sums.get(name, torch.zeros_like(value)) + share * value
            sums["loss"] = sums.get("loss", torch.zeros_like(losses.total)) + losses.total.detach()
        return rows, dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))

    def _compare(self, part: Part, rows: Tensor) -> Comparison:
        device = rows.device
        teacher = TextFeatures(part.teacher.values.to(device), part.teacher.mask.to(device))
        student = self._forward(part.tokens, rows)
        if part.permuted is None:
            return Comparison(student, teacher, reader=self.reader)
        permuted = self._forward_aside(part.permuted, rows)
        return Comparison(student, teacher, permuted, torch.from_numpy(part.owners).to(device), self.reader)

    def _forward(self, tokens: TokenBatch, rows: Tensor) -> TextFeatures:
        """Features of all phrases, with a gradient for those that are this process's."""
        own, device = self.world.own, rows.device
        ids, mask = torch.from_numpy(tokens.ids).to(device), torch.from_numpy(tokens.mask).to(device)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype is not torch.float32):
            values = functional_call(self.student, {ROWS: rows}, (ids[own], mask[own]))
        return TextFeatures(self.world.gather(values.float(), len(ids)), mask)

    def _forward_aside(self, tokens: TokenBatch, rows: Tensor) -> TextFeatures:
        """The same without a trace in the running statistics: permutations are not what the student will be given."""
        norms = [part for part in self.student.modules() if isinstance(part, BatchNorm1d)]
        for norm in norms:
            norm.track_running_stats = False
        try:
            return self._forward(tokens, rows)
        finally:
            for norm in norms:
                norm.track_running_stats = True

    def _part(self, texts: Sequence[str], permuted: Sequence[str | None], rows: npt.NDArray[np.int64]) -> Part:
        chosen = [texts[row] for row in rows]
        others = {place: other for place, row in enumerate(rows) if (other := permuted[row]) is not None}
        return Part(
            self._tokens(chosen),
            self.cache.features(chosen),
            self._tokens(list(others.values())) if others else None,
            np.array(list(others), dtype=np.int64),
        )

    def _tokens(self, texts: list[str]) -> TokenBatch:
        return prepare_rows(texts, self.student.config)

    def _seen(self, tokens: TokenBatch) -> npt.NDArray[np.bool_]:
        """Which ids the student reads."""
        return tokens.mask if self.student.config.padding == "masked" else np.ones_like(tokens.mask)

    def _with_places(self, part: Part, rows: npt.NDArray[np.int64]) -> Part:
        return replace(
            part,
            tokens=self._places(part.tokens, rows),
            permuted=None if part.permuted is None else self._places(part.permuted, rows),
        )

    def _places(self, tokens: TokenBatch, rows: npt.NDArray[np.int64]) -> TokenBatch:
        places = np.where(self._seen(tokens), np.searchsorted(rows, tokens.ids), 0)
        return TokenBatch(places.astype(np.int64), tokens.mask)


def _phrases(batch: Batch) -> int:
    return sum(len(part.teacher.mask) for part in batch.parts)


def _weigh(weights: LossWeights, tokens: float, texts: float, permuted: float) -> LossWeights:
    """Weights of a part's losses, from its shares of the batch's tokens, phrases and permutations."""
    return LossWeights(
        mse=weights.mse * tokens,
        cosine=weights.cosine * tokens,
        consistency=weights.consistency * permuted,
        keys=weights.keys * tokens,
        values=weights.values * tokens,
        scoring=weights.scoring * texts,
    )
