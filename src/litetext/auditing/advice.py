"""Advice: what the measured figures say about the size of a text encoder, each sentence with the figures behind it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from litetext.auditing.attenuation import KINDS, AttenuationStats
from litetext.auditing.counting import Counts, VocabularyUse, smallest_context, use_of_context
from litetext.auditing.geometry import GeometryStats
from litetext.auditing.paper import GOLD_CGF1
from litetext.checkpoints.schema import count_parameters
from litetext.encoders.config import PRESETS, STUDENTS
from litetext.errors import shortened

RELEASED_CONTEXT = 16
TEACHER_CONTEXT = PRESETS["teacher"].context_length
LOW_SENSITIVITY, HIGH_SENSITIVITY = 0.25, 0.75  # to word order: below and above them the advice is clear
NOTICED = 0.01  # a class of prompts that SAM3 hardly honors, with at least this share of them, is worth advice
SIMILAR = 0.8  # of two factors of attenuation: below this, or above its inverse, they are called different


@dataclass(frozen=True)
class Advice:
    """One recommendation."""

    topic: str  # context, vocabulary, semantics, rank, order, attenuation or student
    text: str  # a sentence or two for people
    # the figures of the report that it rests on, by their path in the JSON (or a definition)
    figures: Mapping[str, float]
    saves: Mapping[str, float]  # what following it saves, by name; counts are parameters, shares are between 0 and 1


def recommend(
    lengths: Counts,
    limit: float,
    vocabulary: VocabularyUse,
    *,
    semantics: Mapping[str, Any] | None = None,
    geometry: GeometryStats | None = None,
    sensitivity: float | None = None,
    attenuation: AttenuationStats | None = None,
) -> tuple[Advice, ...]:
    """All advice that the measurements support.

    ``lengths`` is a histogram, int64 [M]: prompts (by occurrence) of n tokens at index n. The share ``limit`` of them
    may be truncated; ``semantics`` is as `measure_semantics` gives it, ``sensitivity`` that to word order.
    """
    found = [_context(lengths, limit), _vocabulary(vocabulary)]
    if semantics is not None:
        found += _semantics(semantics["classes"])
    if geometry is not None:
        found.append(_rank(geometry))
    if sensitivity is not None:
        found.append(_order(sensitivity))
    if attenuation is not None:
        found += _attenuation(attenuation)
    return (*found, _student(lengths, limit, vocabulary))


def percent(share: float) -> str:
    """A share as per cent: one decimal, two below one per cent."""
    value = 100 * share
    if 0 < value < 0.01:
        return "less than 0.01 %"
    return f"{value:.2f} %" if 0 < value < 1 else f"{value:.1f} %"


def _context(lengths: Counts, limit: float) -> Advice:
    length = smallest_context(lengths, limit)
    use, teacher = (use_of_context(lengths, value) for value in (length, TEACHER_CONTEXT))
    text = (
        f"Context length {length} is the smallest that truncates at most {percent(limit)} of the prompts: it "
        f"truncates {percent(use.truncated)} and pads {percent(use.padding)}, where SAM3's {TEACHER_CONTEXT} pads "
        f"{percent(teacher.padding)}."
    )
    if length < RELEASED_CONTEXT:
        text += (
            f" Released students attend to padding and are exact only at the {RELEASED_CONTEXT} rows that they were "
            f"trained with; a student of your own can be trained at {length}."
        )
    figures = {
        f"truncated at {length}": use.truncated,
        f"padding at {length}": use.padding,
        f"padding at {TEACHER_CONTEXT}": teacher.padding,
    }
    saves = {"context": length, "tokens_per_prompt": max(0.0, 1 - length / TEACHER_CONTEXT)}
    return Advice("context", text, figures, saves)


def _vocabulary(use: VocabularyUse) -> Advice:
    saved = use.closure_saves
    parts = ", ".join(
        f"{_millions(saved[preset.name])} of {preset.name.upper()}'s {_millions(count_parameters(preset))}"
        f" ({percent(saved[preset.name] / count_parameters(preset))})"
        for preset in STUDENTS
    )
    text = (
        f"Keep {use.closure:,} of {use.size:,} token rows: the {use.used:,} that the prompts use and what their merges "
        f"and any other text need. Every prompt keeps its tokens; this saves {parts} parameters. "
        f"Of the tokens of further prompts about {percent(use.unseen)} will be new and fall into smaller pieces. "
        "`litetext compress STUDENT PROMPTS -o FILE --prune` does it."
    )
    figures = {"vocabulary.closure": use.closure, "vocabulary.used": use.used, "vocabulary.unseen": use.unseen}
    return Advice("vocabulary", text, figures, saved)


def _semantics(classes: Mapping[str, Any]) -> Iterator[Advice]:
    """What to do instead of the three most frequent classes of prompts that SAM3 hardly honors."""
    noticed = [(name, found) for name, found in classes.items() if found["share"] >= NOTICED]
    noticed.sort(key=lambda item: -item[1]["share"])
    if noticed:
        said = "; ".join(
            f"{name} ({percent(found['share'])}, '{shortened(found['examples'][0], 60)}'): {found['instead']}"
            for name, found in noticed[:3]
        )
        more = f" Other classes: {', '.join(name for name, _ in noticed[3:])}." if len(noticed) > 3 else ""
        text = f"SAM3 finds what a simple noun phrase names and hardly honors more: {said}.{more}"
        yield Advice("semantics", text, {f"semantics.classes.{name}.share": one["share"] for name, one in noticed}, {})


def _rank(geometry: GeometryStats) -> Advice:
    rank, ambient, dimension = round(geometry.rank_99.value), geometry.ambient, geometry.twonn.value
    text = (
        f"{rank} of {ambient} directions hold 99 % of the variance of the embeddings: a prompt's feature can be "
        f"kept as {rank} numbers ({percent(1 - rank / ambient)} fewer), and a student narrower than that cannot hold "
        f"them. Their intrinsic dimension, about {dimension:.0f} (TwoNN), does not say how narrow a student may be."
    )
    figures = {"geometry.rank_99.value": rank, "geometry.ambient": ambient, "geometry.twonn.value": dimension}
    return Advice("rank", text, figures, {"feature_numbers": 1 - rank / ambient})


def _order(sensitivity: float) -> Advice:
    verdict = "somewhat: use a small weight of permutation consistency, if any"
    if sensitivity < LOW_SENSITIVITY:
        verdict = (
            "little: a student may be trained to ignore it (permutation consistency), relations such as 'left of' apart"
        )
    elif sensitivity >= HIGH_SENSITIVITY:
        verdict = "as much as the words themselves: do not train a student to ignore it"
    text = (
        f"Shuffling the content words moves a prompt {percent(sensitivity)} of the way to an unrelated one. "
        f"Word order matters {verdict}."
    )
    return Advice("order", text, {"order.sensitivity": sensitivity}, {})


def _attenuation(stats: AttenuationStats) -> Iterator[Advice]:
    """What the student's error leaves in the masks, beside noise of its size; nothing where there is no error."""
    student, noise = (stats.errors[kind] for kind in KINDS)
    if student.factor is None or noise.factor is None or student.masks_factor is None or noise.masks_factor is None:
        return
    share = student.masks_factor / noise.masks_factor
    verdict = "the error of its features tells well enough how good the student is"
    if share < SIMILAR:
        verdict = (
            "the error of its features makes the student look better than it is, so judge it by its masks, and try "
            "the losses of the host (keys, values, scoring) before a larger one"
        )
    elif share > 1 / SIMILAR:
        verdict = "the error of its features makes the student look worse than it is, so judge it by its masks"
    text = (
        f"Of the student's relative squared error 1/{student.factor.value:.1f} is left in the attention weights and "
        f"1/{student.masks_factor:.1f} in the mask logits, of noise of the same size 1/{noise.factor.value:.1f} and "
        f"1/{noise.masks_factor:.1f}: {verdict}."
    )
    figures = {
        "attenuation.errors.student.factor.value": student.factor.value,
        "attenuation.errors.noise.factor.value": noise.factor.value,
        "attenuation.errors.student.features": student.features,
        "attenuation.errors.student.masks_factor": student.masks_factor,
        "attenuation.errors.noise.masks_factor": noise.masks_factor,
    }
    yield Advice("attenuation", text, figures, {})


def _student(lengths: Counts, limit: float, vocabulary: VocabularyUse) -> Advice:
    teacher = count_parameters(PRESETS["teacher"])
    truncated = {value: use_of_context(lengths, value).truncated for value in (RELEASED_CONTEXT, TEACHER_CONTEXT)}
    fitting = [value for value, share in truncated.items() if share <= limit]
    context = fitting[0] if fitting else TEACHER_CONTEXT
    student = replace(PRESETS["s0"], context_length=context)
    whole, pruned = count_parameters(student), count_parameters(replace(student, vocabulary=vocabulary.closure))
    text = (
        f"Start from S0 (MobileCLIP-S0) at context {context}, which truncates {percent(truncated[context])}: "
        f"{_millions(whole)} parameters against the teacher's {_millions(teacher)} "
        f"({percent(1 - whole / teacher)} fewer), {_millions(pruned)} with the vocabulary pruned. On "
        f"SA-Co Gold its authors measured cgF1 {GOLD_CGF1['s0']} for it, {GOLD_CGF1['teacher']} for SAM3; S1 and L "
        f"gain {GOLD_CGF1['s1'] - GOLD_CGF1['s0']:.2f} and {GOLD_CGF1['l'] - GOLD_CGF1['s0']:.2f}."
    )
    if not fitting:
        text += f" More than {percent(limit)} of these prompts are longer than SAM3 itself reads: shorten them."
    figures = {f"truncated at {context}": truncated[context], "vocabulary.closure": vocabulary.closure}
    saves = {"parameters": teacher - whole, "parameters_pruned": teacher - pruned}
    return Advice("student", text, figures, saves)


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"
