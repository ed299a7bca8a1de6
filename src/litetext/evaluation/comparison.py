"""A teacher and a student on the same pairs: both read the phrases for one host, which sees each picture once."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from litetext.errors import EvaluationError
from litetext.evaluation.cgf1 import Progress, Tally
from litetext.evaluation.coco import encode_masks, overlap
from litetext.evaluation.labeled_pairs import Code, LabeledPair
from litetext.evaluation.matching import choose_best, count_pair, match
from litetext.sam3.segmenter import ImageEmbedding, Segmenter


@dataclass(frozen=True, eq=False)
class Answers:
    """What teacher and student found on one pair.

    Attributes:
        pair: what was asked.
        teacher: its masks.
        student: its masks.
        agreement: of the two, from 0 to 1.
    """

    pair: LabeledPair
    teacher: tuple[Code, ...]
    student: tuple[Code, ...]
    agreement: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was counted on the same pairs with a teacher and with a student.

    Attributes:
        teacher: counts of each picture.
        student: counts of each picture, in the same order.
        agreements: float64 [N], of each pair.
        found: int64 [N, 2], masks of the teacher and of the student.
        worst: the pairs of the lowest agreement below 1, the lowest first.
    """

    teacher: tuple[Tally, ...]
    student: tuple[Tally, ...]
    agreements: npt.NDArray[np.float64]
    found: npt.NDArray[np.int64]
    worst: tuple[Answers, ...]


def compare(
    teacher: Segmenter,
    student: Segmenter,
    pairs: Iterable[LabeledPair],
    worst: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Segment each pair with both and count.

    Args:
        teacher: the host with its own text encoder; it embeds each picture, for both.
        student: the same host with another text encoder.
        pairs: at least one, those of a picture one after another.
        worst: how many of the worst disagreements to keep, with their pictures.
        progress: told the stage and the number of pairs done.

    Raises:
        EvaluationError: no pairs.
        ImageError: a picture cannot be read.
        EncoderError: an encoder fails.
    """
    tallies: list[tuple[Tally, Tally]] = []
    agreements: list[float] = []
    found: list[tuple[int, int]] = []
    kept: list[Answers] = []
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        answers = _ask_both(teacher, student, list(group))
        tallies.append(
            (tally((one.pair, one.teacher) for one in answers), tally((one.pair, one.student) for one in answers))
        )
        agreements += [one.agreement for one in answers]
        found += [(len(one.teacher), len(one.student)) for one in answers]
        kept = heapq.nsmallest(worst, [*kept, *(one for one in answers if one.agreement < 1)], key=_by_agreement)
        if progress is not None:
            progress("segmenting", float(len(agreements)))
    if not tallies:
        raise EvaluationError("no pairs", hint="give one or more")
    of_teacher, of_student = zip(*tallies, strict=True)
    return Comparison(of_teacher, of_student, np.array(agreements), np.array(found), tuple(kept))


def agree(ious: npt.NDArray[np.float64]) -> float:
    """Agreement of two sets of masks: the IoUs of the best one-to-one matching, over the size of the larger set.

    A mask without a partner counts 0. Two empty sets agree: 1.

    Args:
        ious: [P, Q]; either may be 0.
    """
    return float(match(ious).sum() / max(ious.shape)) if max(ious.shape) else 1.0


def _ask_both(teacher: Segmenter, student: Segmenter, pairs: Sequence[LabeledPair]) -> list[Answers]:
    """What both find on the pairs of one picture."""
    embedding, phrases = teacher.embed(pairs[0].image), [pair.phrase for pair in pairs]
    both = zip(pairs, ask(teacher, embedding, phrases), ask(student, embedding, phrases), strict=True)
    return [Answers(pair, theirs, ours, agree(_overlap(theirs, ours))) for pair, theirs, ours in both]


def ask(segmenter: Segmenter, embedding: ImageEmbedding, phrases: Sequence[str]) -> list[tuple[Code, ...]]:
    """The masks of each phrase, in batches: those of all phrases of a large picture would fill the memory."""
    step = segmenter.options.prompt_batch
    return [
        tuple(encode_masks(masks.masks))
        for start in range(0, len(phrases), step)
        for masks in segmenter.segment_embedding(embedding, phrases[start : start + step])
    ]


def _overlap(theirs: Sequence[Code], ours: Sequence[Code]) -> npt.NDArray[np.float64]:
    """IoU [P, Q]; two masks without a pixel are the same mask, which pycocotools does not know."""
    ious = overlap(theirs, ours)
    if ious.size:
        ious[np.outer(coco_mask.area(list(theirs)) == 0, coco_mask.area(list(ours)) == 0)] = 1.0
    return ious


def tally(found: Iterable[tuple[LabeledPair, Sequence[Code]]]) -> Tally:
    """The counts of pairs, each against the annotator that is kindest."""
    return Tally.of(choose_best([count_pair(overlap(masks, true)) for true in pair.truths]) for pair, masks in found)


def _by_agreement(answers: Answers) -> float:
    return answers.agreement
