"""Losses: how far a student's features are from its teacher's. Pure functions; padding counts in none of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from litetext.distillation.alignment import Alignment
from litetext.distillation.decoder_losses import KINDS, Kind, TextReader, check_pair, reader_loss
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextFeatures


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts; one of weight 0 is not computed.

    Attributes:
        mse: mean squared error of the features.
        cosine: 1 - cosine of the features, token by token.
        consistency: 1 - cosine of the pooled features of a phrase and of a permutation of it. The default is what the
            experiment chose (docs/experiments.md, b).
        keys: relative error of the keys of the decoder's cross-attentions.
        values: relative error of their values.
        scoring: relative error of the pooled vector that the decoder scores with.

    Raises:
        OptionError: a weight is negative or not a finite number, or nothing ties the student to its teacher.
    """

    mse: float = 1.0
    cosine: float = 1.0
    consistency: float = 0.3
    keys: float = 0.0
    values: float = 0.0
    scoring: float = 0.0

    def __post_init__(self) -> None:
        """Check each weight, and that they are not all 0."""
        weights = asdict(self)
        for name, weight in weights.items():
            if type(weight) not in {int, float} or not isfinite(weight) or weight < 0:
                raise OptionError(f"the weight {name} is {weight!r}", hint="give a number of at least 0")
        del weights["consistency"]
        if not any(weights.values()):
            raise OptionError(
                "no loss ties the student to its teacher: one that always says the same is consistent too",
                hint=f"give a weight above 0 to one of {', '.join(weights)}",
            )

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What of the decoder is asked for."""
        return tuple(kind for kind in KINDS if getattr(self, kind))


@dataclass(frozen=True, eq=False)
class Comparison:
    """A batch of texts as the losses need it.

    Attributes:
        student: its features of B texts.
        teacher: its features of the same texts.
        permuted: the student's features of permutations of P of these texts; None where there are none.
        rows: int64 [P], which texts these are; None with ``permuted`` only.
        reader: the decoder's layers that read text; None where their weights are 0.

    Raises:
        EncoderError: the parts do not fit each other.
    """

    student: TextFeatures
    teacher: TextFeatures
    permuted: TextFeatures | None = None
    rows: Tensor | None = None
    reader: TextReader | None = None

    def __post_init__(self) -> None:
        """Check what would otherwise compare the wrong texts."""
        check_pair(self.student, self.teacher)
        permuted, rows = self.permuted, self.rows
        if (permuted is None) != (rows is None):
            raise EncoderError("permuted texts and their rows come together")
        if permuted is None or rows is None:
            return
        if rows.shape != permuted.values.shape[:1] or not len(rows):
            raise EncoderError(f"{len(permuted.values)} permuted texts with rows {list(rows.shape)}")
        if not bool(((rows >= 0) & (rows < len(self.student.values))).all()):
            raise EncoderError(f"rows of permuted texts that are not in a batch of {len(self.student.values)}")


@dataclass(frozen=True, eq=False)
class Losses:
    """What a batch costs.

    Attributes:
        total: scalar, the sum of each part times its weight; the one to differentiate.
        parts: scalars by the names of `LossWeights`, without gradient and before the weights; those computed only.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


def compute_losses(weights: LossWeights, batch: Comparison, *, one_branch: bool = True) -> Losses:
    """All losses of weight above 0, and their weighted sum.

    Args:
        weights: what each counts.
        batch: what to compare; without permuted texts consistency is left out.
        one_branch: whether the gradient of consistency goes into the permuted texts only, so that what is said of the
            texts as they are stays the teacher's business; else it goes into both.

    Raises:
        OptionError: a weight asks for a decoder, but none is given.
        EncoderError: the features do not fit each other.
    """
    student, teacher = batch.student, batch.teacher
    parts: dict[str, Tensor] = {}
    if weights.mse:
        parts["mse"] = masked_mse(student, teacher)
    if weights.cosine:
        parts["cosine"] = masked_cosine(student, teacher)
    if weights.consistency and batch.permuted is not None and batch.rows is not None:
        given = TextFeatures(student.values[batch.rows], student.mask[batch.rows])
        parts["consistency"] = consistency(batch.permuted, given, detach_second=one_branch)
    if weights.kinds:
        if batch.reader is None:
            raise OptionError(
                f"weights for {', '.join(weights.kinds)}, but no decoder", hint="give a host, or weight 0"
            )
        parts.update(reader_loss(batch.reader, student, teacher, weights.kinds).items())
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return Losses(total, {name: part.detach() for name, part in parts.items()})


def masked_mse(student: TextFeatures, teacher: TextFeatures, weights: Tensor | None = None) -> Tensor:
    """Squared error, the mean over the D numbers of a token and over all pairs of tokens of `Alignment`.

    Args:
        student: gets the gradient.
        teacher: of the same texts; gets none.
        weights: [B, M], what each of the teacher's tokens counts in the mean; None for all alike.

    Raises:
        EncoderError: features of different numbers of texts or different width, or weights that do not fit.
    """
    alignment, ours, theirs = _pairs(student, teacher)
    return _mean((ours - theirs).square().mean(dim=1), alignment, teacher, weights)


def masked_cosine(student: TextFeatures, teacher: TextFeatures, weights: Tensor | None = None) -> Tensor:
    """1 - cosine, the mean over all pairs of tokens of `Alignment`; arguments and errors as of `masked_mse`."""
    alignment, ours, theirs = _pairs(student, teacher)
    return _mean(1.0 - cosine_similarity(ours, theirs, dim=1), alignment, teacher, weights)


def consistency(first: TextFeatures, second: TextFeatures, *, detach_second: bool) -> Tensor:
    """1 - cosine of the features pooled over the valid tokens, the mean over the texts.

    Args:
        first: of B texts.
        second: of B texts that mean the same.
        detach_second: whether the gradient goes into the first only.

    Raises:
        EncoderError: features of different numbers of texts or different width.
    """
    check_pair(first, second)
    anchor = second.pooled().detach() if detach_second else second.pooled()
    return (1.0 - cosine_similarity(first.pooled(), anchor, dim=1)).mean()


def _pairs(student: TextFeatures, teacher: TextFeatures) -> tuple[Alignment, Tensor, Tensor]:
    """The pairs of tokens, and float32 [T, D] of the student and of the teacher."""
    check_pair(student, teacher)
    alignment = Alignment.of(student.mask, teacher.mask)
    return (
        alignment,
        alignment.of_student(student.values).float(),
        alignment.of_teacher(teacher.values).detach().float(),
    )


def _mean(errors: Tensor, alignment: Alignment, teacher: TextFeatures, weights: Tensor | None) -> Tensor:
    """The weighted mean of errors [T]."""
    if weights is None:
        return errors.mean()
    if weights.shape != teacher.mask.shape:
        raise EncoderError(f"weights {list(weights.shape)} for tokens {list(teacher.mask.shape)} of the teacher")
    shares = alignment.of_teacher(weights).float()
    if not bool((shares >= 0).all() & (shares.sum() > 0)):
        raise EncoderError("weights of tokens are negative, or all of them 0")
    return (shares * errors).sum() / shares.sum()
