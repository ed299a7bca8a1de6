"""Readers: what the decoder of a segmenter makes of text features, and how far a student's is from its teacher's.

The decoder reads features by the keys and values of its cross-attentions, and by one pooled vector for its scores. A
large difference of features may be small there, and a small one large: these losses weigh it as the decoder's frozen
layers do.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from litetext.distillation.alignment import Alignment
from litetext.errors import EncoderError
from litetext.features.protocol import TextFeatures

Kind = Literal["keys", "values", "scoring"]
KINDS: tuple[Kind, ...] = get_args(Kind)
POOLED: Kind = "scoring"
TINY = 1e-12  # the least mean square that an error is divided by: a layer that gives nothing says nothing


@dataclass(frozen=True, eq=False)
class Reading:
    """What a decoder makes of the features of B texts, by layer; a kind that was not asked for is empty.

    Attributes:
        keys: [B, L, K] of each cross-attention; what stands at padding means nothing.
        values: [B, L, K] of each cross-attention, likewise.
        scoring: [B, K] of each pooled vector, over the valid tokens.
    """

    keys: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Tensor] = field(default_factory=dict)
    scoring: Mapping[str, Tensor] = field(default_factory=dict)

    def of(self, kind: Kind) -> Mapping[str, Tensor]:
        """The outputs of one kind."""
        return {"keys": self.keys, "values": self.values, "scoring": self.scoring}[kind]


class TextReader(Protocol):
    """The layers of a decoder that read text. They are frozen: a gradient goes through them, none into them."""

    def __call__(self, features: TextFeatures, kinds: Collection[Kind]) -> Reading:
        """What they make of features; only the kinds that are asked for are computed."""


def reader_loss(
    reader: TextReader, student: TextFeatures, teacher: TextFeatures, kinds: Collection[Kind] = KINDS
) -> dict[Kind, Tensor]:
    """Relative squared error of what a decoder makes of a student's features: for each kind the mean over its layers.

    Of each layer the squared error is divided by the mean square of the teacher's output, so that layers weigh alike.
    Tokens are those that `Alignment` pairs; the pooled vectors are of all that either has read.

    Args:
        reader: the decoder's layers.
        student: gets the gradient.
        teacher: of the same texts; gets none.
        kinds: those wanted.

    Raises:
        EncoderError: features of different numbers of texts or different width, or nothing of a kind in the reader.
    """
    check_pair(student, teacher)
    wanted: list[Kind] = [kind for kind in KINDS if kind in kinds]
    alignment = Alignment.of(student.mask, teacher.mask)
    read = reader(student, wanted)
    with torch.no_grad():
        target = reader(teacher, wanted)
    return {kind: _error(kind, read, target, alignment) for kind in wanted}


def check_pair(student: TextFeatures, teacher: TextFeatures) -> None:
    """Raise an `EncoderError` unless these are features of as many texts and of one width."""
    ours, theirs = student.values.shape, teacher.values.shape
    if (ours[0], ours[2]) != (theirs[0], theirs[2]):
        raise EncoderError(
            f"features {list(ours)} of a student and {list(theirs)} of its teacher",
            hint="give the same texts, and a student of the teacher's width",
        )


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the mean square of the teacher's, of any shape: 0 for equals, 1 for zeros."""
    difference = (student.float() - teacher.float()).square().mean()
    return difference / teacher.float().square().mean().clamp_min(TINY)


def _error(kind: Kind, read: Reading, target: Reading, alignment: Alignment) -> Tensor:
    ours, theirs = read.of(kind), target.of(kind)
    if not ours or ours.keys() != theirs.keys():
        raise EncoderError(f"no {kind} in what the decoder's layers make of the text", hint="set their weight to 0")
    if kind == POOLED:
        errors = [relative_error(ours[name], theirs[name]) for name in ours]
    else:
        errors = [relative_error(alignment.of_student(ours[name]), alignment.of_teacher(theirs[name])) for name in ours]
    return torch.stack(errors).mean()
