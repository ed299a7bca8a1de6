"""Tokens of a student meet the teacher's of the same place, and its end token the teacher's."""

import pytest

torch = pytest.importorskip("torch")

from litetext.distillation.alignment import Alignment  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from tests.encoders.students import prefix_mask  # noqa: E402

pytestmark = pytest.mark.torch


def pairs(student: torch.Tensor, teacher: torch.Tensor) -> list[tuple[int, int, int]]:
    found = Alignment.of(student, teacher)
    return list(zip(found.text.tolist(), found.student.tolist(), found.teacher.tolist(), strict=True))


def test_as_many_tokens_are_paired_in_order() -> None:
    assert pairs(prefix_mask([3, 1], 4), prefix_mask([3, 1], 7)) == [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 0)]


def test_the_end_token_of_a_truncated_text_meets_the_end_token() -> None:
    assert pairs(prefix_mask([3, 2], 3), prefix_mask([6, 2], 8)) == [
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 5),
        (1, 0, 0),
        (1, 1, 1),
    ]
    assert pairs(prefix_mask([4], 4), prefix_mask([2], 2)) == [(0, 0, 0), (0, 3, 1)]


def test_valid_tokens_may_stand_anywhere() -> None:
    scattered = torch.tensor([[False, True, False, True, True]])
    assert pairs(scattered, prefix_mask([3], 3)) == [(0, 1, 0), (0, 3, 1), (0, 4, 2)]


def test_rows_are_those_of_the_pairs() -> None:
    alignment = Alignment.of(prefix_mask([2], 3), prefix_mask([3], 4))
    student, teacher = torch.arange(3.0)[None, :, None], torch.arange(4.0)[None]
    assert alignment.of_student(student).tolist() == [[0.0], [1.0]]
    assert alignment.of_teacher(teacher).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("student", "teacher", "complaint"),
    [
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), "torch.float32"),
        (torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool), r"\[3\], not bool \[B, L\]"),
        (prefix_mask([1, 2], 2), prefix_mask([1], 2), "a student of 2 texts and a teacher of 1"),
        (prefix_mask([], 2)[:0].reshape(0, 2), prefix_mask([], 2)[:0].reshape(0, 2), "a student of 0 texts"),
        (prefix_mask([1, 0], 2), prefix_mask([1, 2], 2), "without a valid token"),
    ],
)
def test_masks_that_do_not_fit_are_refused(student: torch.Tensor, teacher: torch.Tensor, complaint: str) -> None:
    with pytest.raises(EncoderError, match=complaint):
        Alignment.of(student, teacher)
