"""Alignment: which token of a student is compared with which of its teacher, where one of them reads less of a text."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from litetext.errors import EncoderError


@dataclass(frozen=True, eq=False)
class Alignment:
    """T pairs of valid tokens of B texts; padding is in none, so that it can change neither a loss nor a gradient.

    Attributes:
        text: int64 [T], the row of the batch.
        student: int64 [T], the student's token.
        teacher: int64 [T], the teacher's token.
    """

    text: Tensor
    student: Tensor
    teacher: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor) -> Self:
        """Pair the valid tokens of each text from the first on, and the last with the last.

        Where both have n valid tokens these are n pairs. Where one truncates a text to its shorter context, its n
        tokens are the first n - 1 of the text and the end token: they are paired with the other's first n - 1 and its
        end token, and what was not read is left out.

        Args:
            student: bool [B, L], True at valid tokens, wherever in the row they stand.
            teacher: bool [B, M], likewise.

        Raises:
            EncoderError: other shapes or types, no texts or different numbers, or a text without a valid token.
        """
        _check(student, teacher)
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


def _valid_first(mask: Tensor) -> Tensor:
    """PackedTokens [B, L] of the tokens of each text in their order, the valid ones before the others."""
    return (~mask).int().argsort(dim=1, stable=True)


def _check(student: Tensor, teacher: Tensor) -> None:
    for mask in (student, teacher):
        if mask.ndim != 2 or mask.dtype != torch.bool:
            raise EncoderError(f"a mask is {mask.dtype} {list(mask.shape)}, not bool [B, L]")
        if not bool(mask.any(dim=1).all()):
            raise EncoderError("a text without a valid token", hint="drop empty texts")
    if len(student) != len(teacher) or not len(student):
        raise EncoderError(f"a student of {len(student)} texts and a teacher of {len(teacher)}", hint="give the same")
