"""Advice: what the measured figures say about the size of a text encoder, each sentence with the figures behind it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from litetext.auditing.attenuation import AttenuationStats
from litetext.auditing.context import smallest_context, use_of_context
from litetext.auditing.geometry import GeometryStats
from litetext.auditing.order import OrderStats
from litetext.auditing.paper import GOLD_CGF1
from litetext.auditing.vocabulary_use import VocabularyUse
from litetext.encoders.config import PRESETS, STUDENTS

RELEASED_CONTEXT = 16
TEACHER_CONTEXT = PRESETS["teacher"].context_length
MEANS_LESS = 0.8  # of two factors of attenuation: below this, or above its inverse, they are called different


@dataclass(frozen=True)
class Advice:
    """One recommendation.

    Attributes:
        topic: context, vocabulary, rank, order, attenuation or student.
        text: a sentence or two for people.
        figures: the figures of the report that it rests on, by their path in the JSON (or a definition).
        saves: what following it saves, by name; counts are parameters, shares are between 0 and 1.
    """

    topic: str
    text: str
    figures: Mapping[str, float]
    saves: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {"topic": self.topic, "text": self.text, "figures": dict(self.figures), "saves": dict(self.saves)}


@dataclass(frozen=True)
class AuditFindings:
    """What advice is drawn from.

    Attributes:
        lengths: int64 [M], prompts (by occurrence) of n tokens at index n.
        limit: the share of prompts that may be truncated.
        vocabulary: use of the vocabulary.
        geometry: of the embeddings, if measured.
        order: sensitivity to word order, if measured.
        attenuation: of a student's error, if measured.
    """

    lengths: npt.NDArray[np.int64]
    limit: float
    vocabulary: VocabularyUse
    geometry: GeometryStats | None = None
    order: OrderStats | None = None
    attenuation: AttenuationStats | None = None


def recommend(evidence: AuditFindings) -> tuple[Advice, ...]:
    """All advice that the evidence supports."""
    return tuple(_each(evidence))


def _each(evidence: AuditFindings) -> Iterator[Advice]:
    yield _context(evidence)
    yield _vocabulary(evidence.vocabulary)
    if evidence.geometry is not None:
        yield _rank(evidence.geometry)
    if evidence.order is not None and evidence.order.sensitivity is not None:
        yield _order(evidence.order.sensitivity)
    if evidence.attenuation is not None:
        yield from _attenuation(evidence.attenuation)
    yield _student(evidence)


def _context(evidence: AuditFindings) -> Advice:
    length = smallest_context(evidence.lengths, evidence.limit)
    use, teacher = (use_of_context(evidence.lengths, value) for value in (length, TEACHER_CONTEXT))
    text = (
        f"Context length {length} is the smallest that truncates at most {_percent(evidence.limit)} of the prompts: it "
        f"truncates {_percent(use.truncated)} and pads {_percent(use.padding)}, where SAM3's {TEACHER_CONTEXT} pads "
        f"{_percent(teacher.padding)}."
    )
    if length < RELEASED_CONTEXT:
        text += (
            f" Released students attend to padding and are exact only at the {RELEASED_CONTEXT} rows that they were "
            f"trained with; a student of your own can be trained at {length}."
        )
    return Advice(
        "context",
        text,
        {
            f"truncated at {length}": use.truncated,
            f"padding at {length}": use.padding,
            f"padding at {TEACHER_CONTEXT}": teacher.padding,
        },
        {"context": length, "tokens_per_prompt": max(0.0, 1 - length / TEACHER_CONTEXT)},
    )


def _vocabulary(use: VocabularyUse) -> Advice:
    saved = use.saves
    parts = ", ".join(
        f"{_millions(saved[preset.name])} of {preset.name.upper()}'s {_millions(preset.parameters())}"
        f" ({_percent(saved[preset.name] / preset.parameters())})"
        for preset in STUDENTS
    )
    text = (
        f"Keep {use.closure:,} of {use.size:,} token rows: the {use.used:,} that the prompts use and what their merges "
        f"and any other text need. Every prompt keeps its tokens; this saves {parts} parameters. "
        f"Of the tokens of further prompts about {_percent(use.unseen)} will be new and fall into smaller pieces. "
        "`litetext prune STUDENT PROMPTS -o FILE` does it."
    )
    figures = {"vocabulary.closure": use.closure, "vocabulary.used": use.used, "vocabulary.unseen": use.unseen}
    return Advice("vocabulary", text, figures, saved)


def _rank(geometry: GeometryStats) -> Advice:
    rank, ambient = round(geometry.rank_99.value), geometry.ambient
    dimension = geometry.twonn.value
    text = (
        f"{rank} of {ambient} directions hold 99 % of the variance of the embeddings: a prompt's feature can be "
        f"kept as {rank} numbers ({_percent(1 - rank / ambient)} fewer), and a student narrower than that cannot hold "
        f"them. Their intrinsic dimension, about {dimension:.0f} (TwoNN), does not say how narrow a student may be."
    )
    figures = {"geometry.rank_99.value": rank, "geometry.ambient": ambient, "geometry.twonn.value": dimension}
    return Advice("rank", text, figures, {"feature_numbers": 1 - rank / ambient})


def _order(sensitivity: float) -> Advice:
    if sensitivity < 0.25:
        verdict = (
            "little: a student may be trained to ignore it (permutation consistency), relations such as 'left of' apart"
        )
    elif sensitivity < 0.75:
        verdict = "somewhat: use a small weight of permutation consistency, if any"
    else:
        verdict = "as much as the words themselves: do not train a student to ignore it"
    text = (
        f"Shuffling the content words moves a prompt {_percent(sensitivity)} of the way to an unrelated one. "
        f"Word order matters {verdict}."
    )
    return Advice("order", text, {"order.sensitivity": sensitivity}, {})


def _attenuation(stats: AttenuationStats) -> Iterator[Advice]:
    """What the way of the student's error to the masks says, beside noise of its size; nothing without an error."""
    student, noise = stats.errors["student"], stats.errors["noise"]
    masks, masks_of_noise = student.definitions["masks"], noise.definitions["masks"]
    if student.factor is None or noise.factor is None or masks is None or masks_of_noise is None:
        return
    share = masks / masks_of_noise
    if share < MEANS_LESS:
        verdict = (
            "the error of its features makes the student look better than it is, so judge it by its masks, and try "
            "the losses of the host (keys, values, scoring) before a larger one"
        )
    elif share > 1 / MEANS_LESS:
        verdict = "the error of its features makes the student look worse than it is, so judge it by its masks"
    else:
        verdict = "the error of its features tells well enough how good the student is"
    text = (
        f"Of the student's relative squared error 1/{student.factor.value:.1f} is left in the attention weights and "
        f"1/{masks:.1f} in the mask logits, of noise of the same size 1/{noise.factor.value:.1f} and "
        f"1/{masks_of_noise:.1f}: {verdict}."
    )
    figures = {
        f"attenuation.errors.{kind}.{name}": value
        for kind, path in stats.errors.items()
        for name, value in (("features", path.features), ("definitions.masks", path.definitions["masks"]))
        if value is not None
    }
    weights = {
        f"attenuation.errors.{kind}.factor.value": path.factor.value
        for kind, path in stats.errors.items()
        if path.factor is not None
    }
    yield Advice("attenuation", text, {**weights, **figures}, {})


def _student(evidence: AuditFindings) -> Advice:
    teacher, student = PRESETS["teacher"], PRESETS["s0"]
    contexts = {
        value: use_of_context(evidence.lengths, value).truncated for value in (RELEASED_CONTEXT, TEACHER_CONTEXT)
    }
    fitting = [value for value, truncated in contexts.items() if truncated <= evidence.limit]
    context = fitting[0] if fitting else TEACHER_CONTEXT
    whole, pruned = student.parameters(context), student.parameters(context, vocabulary=evidence.vocabulary.closure)
    text = (
        f"Start from S0 ({student.title}) at context {context}, which truncates {_percent(contexts[context])}: "
        f"{_millions(whole)} parameters against the teacher's {_millions(teacher.parameters())} "
        f"({_percent(1 - whole / teacher.parameters())} fewer), {_millions(pruned)} with the vocabulary pruned. On "
        f"SA-Co Gold its authors measured cgF1 {GOLD_CGF1['s0']} for it, {GOLD_CGF1['teacher']} for SAM3; S1 and L "
        f"gain {GOLD_CGF1['s1'] - GOLD_CGF1['s0']:.2f} and {GOLD_CGF1['l'] - GOLD_CGF1['s0']:.2f}."
    )
    if not fitting:
        text += (
            f" More than {_percent(evidence.limit)} of these prompts are longer than SAM3 itself reads: shorten them."
        )
    return Advice(
        "student",
        text,
        {f"truncated at {context}": contexts[context], "vocabulary.closure": evidence.vocabulary.closure},
        {"parameters": teacher.parameters() - whole, "parameters_pruned": teacher.parameters() - pruned},
    )


def _percent(share: float) -> str:
    """A share as per cent with two significant digits below one per cent."""
    percent = 100 * share
    if 0 < abs(percent) < 0.01:
        return "less than 0.01 %"
    return f"{percent:.2f} %" if abs(percent) < 1 else f"{percent:.1f} %"


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"
