"""Losses: how far a student's features are from its teacher's. Pure functions; padding counts in none of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Literal, Self, get_args

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextFeatures

Kind = Literal["keys", "values", "scoring"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Projected = Mapping[Kind, Mapping[str, Tensor]]
"""What a decoder makes of B texts, by kind and layer: ``keys`` and ``values`` of its cross-attentions, [B, L, K], where
padding means nothing; ``scoring`` [B, K], pooled over the valid tokens."""
Projections = Callable[[TextFeatures, Collection[Kind]], Projected]
"""The frozen layers of a decoder that read text; only the kinds that are asked for are computed."""
TINY = 1e-12  # the least mean square that an error is divided by, for a layer that gives zeros


@dataclass(frozen=True)
class LossWeights:
    """The weight of each loss; one of weight 0 is not computed."""

    mse: float = 1.0  # mean squared error of the features
    cosine: float = 1.0  # 1 - cosine of the features, token by token
    # 1 - cosine of the pooled features of a phrase and of a permutation of it. The default is what the experiment chose
    # (docs/explanation/experiments.md, b).
    consistency: float = 0.3
    keys: float = 0.0  # relative error of the keys of the decoder's cross-attentions
    values: float = 0.0  # relative error of their values
    scoring: float = 0.0  # relative error of the pooled vector that the decoder scores with

    def __post_init__(self) -> None:
        """Check each weight, and that some loss compares the student with its teacher."""
        weights = asdict(self)
        for name, weight in weights.items():
            if type(weight) not in {int, float} or not isfinite(weight) or weight < 0:
                raise OptionError(f"the weight {name} is {weight!r}", hint="give a number of at least 0")
        del weights["consistency"]  # a student whose features are all the same is consistent too
        if not any(weights.values()):
            hint = f"give a weight above 0 to one of {', '.join(weights)}"
            raise OptionError("no loss compares the student with its teacher", hint=hint)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What of the decoder is needed."""
        return tuple(kind for kind in KINDS if getattr(self, kind))

    def check_projections(self, projections: Projections | None) -> None:
        """Raise an `OptionError` where a weight needs a decoder, but there is none."""
        if self.kinds and projections is None:
            what = f"weights for {', '.join(self.kinds)}, but no decoder"
            raise OptionError(what, hint="give a SAM3 model, or weight 0")


@dataclass(frozen=True, eq=False)
class Alignment:
    """T pairs of valid tokens of B texts, a student's and its teacher's; padding is in none."""

    text: Tensor  # int64 [T], the row of the batch
    student: Tensor  # int64 [T], the student's token
    teacher: Tensor  # int64 [T], the teacher's token

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor) -> Self:
        """Pair the valid tokens of each text from the first on, and the last with the last.

        Where both have n valid tokens these are n pairs. Where one truncates a text to its shorter context, its n
        tokens are the first n - 1 of the text and the end token: they are paired with the other's first n - 1 and its
        end token, and what was not read is left out. The masks are bool [B, L] and [B, M], True at valid tokens.
        """
        for mask in (student, teacher):
            if mask.ndim != 2 or mask.dtype != torch.bool:
                raise EncoderError(f"a mask is {mask.dtype} {list(mask.shape)}, not bool [B, L]")
            if not bool(mask.any(dim=1).all()):
                raise EncoderError("a text without a valid token", hint="drop empty texts")
        if len(student) != len(teacher) or not len(student):
            raise EncoderError(f"masks of {len(student)} and {len(teacher)} texts", hint="give the same texts")
        lengths = torch.stack([student.sum(dim=1), teacher.sum(dim=1)])  # [2, B]
        fewest = lengths.amin(dim=0)
        place = torch.arange(int(fewest.max()), device=student.device)  # [N]
        text, pair = (place < fewest[:, None]).nonzero(as_tuple=True)
        last = pair == fewest[text] - 1
        sides = (
            _valid_first(mask)[text, torch.where(last, length[text] - 1, pair)]
            for mask, length in zip((student, teacher), lengths, strict=True)
        )
        return cls(text, *sides)

    def of_student(self, values: Tensor) -> Tensor:
        """Rows [T, ...] of what the student has for each token, [B, L, ...]."""
        return values[self.text, self.student]

    def of_teacher(self, values: Tensor) -> Tensor:
        """Rows [T, ...] of what the teacher has for each token, [B, M, ...]."""
        return values[self.text, self.teacher]


def compute_losses(
    weights: LossWeights,
    student: TextFeatures,
    teacher: TextFeatures,
    *,
    permuted: tuple[TextFeatures, Tensor] | None = None,
    projections: Projections | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all losses of weight above 0, a scalar; and each of them before its weight, without gradient.

    The teacher gets no gradient. ``permuted`` are the student's features of permutations of P of the texts, and which
    texts these are, int64 [P]; without them there is no consistency. Its gradient goes into the permuted texts only, so
    that the features of the texts themselves depend on the teacher alone.
    """
    losses: dict[str, Tensor] = {}
    if weights.mse:
        losses["mse"] = masked_mse(student, teacher)
    if weights.cosine:
        losses["cosine"] = masked_cosine(student, teacher)
    if weights.consistency and permuted is not None:
        features, rows = permuted
        losses["consistency"] = consistency(features, TextFeatures(student.values[rows], student.mask[rows]))
    weights.check_projections(projections)
    if projections is not None and weights.kinds:
        losses |= decoder_losses(projections, student, teacher, weights.kinds)
    total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
    return total, {name: loss.detach() for name, loss in losses.items()}


def masked_mse(student: TextFeatures, teacher: TextFeatures) -> Tensor:
    """Squared error, the mean over the D numbers of a token and over all pairs of tokens of `Alignment`."""
    ours, theirs = _pairs(student, teacher)
    return (ours - theirs).square().mean()


def masked_cosine(student: TextFeatures, teacher: TextFeatures) -> Tensor:
    """1 - cosine, the mean over all pairs of tokens of `Alignment`."""
    ours, theirs = _pairs(student, teacher)
    return (1.0 - cosine_similarity(ours, theirs, dim=1)).mean()


def consistency(permuted: TextFeatures, original: TextFeatures) -> Tensor:
    """1 - cosine of the features pooled over the valid tokens, the mean over the texts; no gradient of ``original``."""
    _check_pair(permuted, original)
    return (1.0 - cosine_similarity(permuted.pooled(), original.pooled().detach(), dim=1)).mean()


def decoder_losses(
    projections: Projections, student: TextFeatures, teacher: TextFeatures, kinds: Collection[Kind] = KINDS
) -> dict[str, Tensor]:
    """Relative squared error of what a decoder makes of a student's features: for each kind the mean over its layers.

    A large difference of features may be small for the decoder, and a small one large: it reads them by the keys and
    values of its cross-attentions, and by a pooled vector for its scores. Of each layer the squared error is divided by
    the mean square of the teacher's output, so that all layers count the same. Tokens are those that `Alignment` pairs;
    the pooled vectors are of all that either has read.
    """
    _check_pair(student, teacher)
    alignment = Alignment.of(student.mask, teacher.mask)
    ours = projections(student, kinds)
    with torch.no_grad():
        theirs = projections(teacher, kinds)
    losses: dict[str, Tensor] = {}
    for kind in (kind for kind in KINDS if kind in kinds):
        if not ours.get(kind):
            raise EncoderError(f"no {kind} in what the decoder's layers make of the text", hint="set their weight to 0")
        pairs = [(value, theirs[kind][name]) for name, value in ours[kind].items()]
        if kind != "scoring":
            pairs = [(alignment.of_student(first), alignment.of_teacher(second)) for first, second in pairs]
        losses[kind] = torch.stack([relative_error(*pair) for pair in pairs]).mean()
    return losses


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the mean square of the teacher's, of any shape: 0 for equals, 1 for zeros."""
    difference = (student.float() - teacher.float()).square().mean()
    return difference / teacher.float().square().mean().clamp_min(TINY)


def _pairs(student: TextFeatures, teacher: TextFeatures) -> tuple[Tensor, Tensor]:
    """Float32 [T, D] of the student and of the teacher, of each pair of tokens."""
    _check_pair(student, teacher)
    alignment = Alignment.of(student.mask, teacher.mask)
    return alignment.of_student(student.values).float(), alignment.of_teacher(teacher.values).detach().float()


def _check_pair(student: TextFeatures, teacher: TextFeatures) -> None:
    ours, theirs = student.values.shape, teacher.values.shape
    if (ours[0], ours[2]) != (theirs[0], theirs[2]):
        what = f"features {list(ours)} of a student and {list(theirs)} of its teacher"
        raise EncoderError(what, hint="give the same texts, and a student of the teacher's width")


def _valid_first(mask: Tensor) -> Tensor:
    """Places [B, L] of the tokens of each text in their order, the valid ones before the others."""
    return (~mask).int().argsort(dim=1, stable=True)
