"""A student's error inside a SAM3 host: injected beside others of its size, and followed to the masks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from litetext.auditing.attenuation import (
    FEATURES,
    Array,
    AttenuationStats,
    Comparison,
    Key,
    PairErrors,
    centred,
    trace_errors,
)
from litetext.auditing.order import row_cosines
from litetext.distillation.alignment import Alignment
from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.features.ragged import valid_rows
from litetext.sam3.images import ImageSource
from litetext.sam3.probes import AttentionReading, probed
from litetext.sam3.segmenter import ImageEmbedding, Segmenter, check_prompts

Progress = Callable[[str, float], None]
ERRORS = ("student", "shuffled", "noise")
_BATCH = 64  # phrases encoded at once


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of one image.

    Attributes:
        image: as `read_image` takes it.
        prompts: at least one phrase.
    """

    image: ImageSource
    prompts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class AlignedPhrase:
    """One phrase as teacher and student read it: the tokens that both have, in float32 on the CPU.

    Attributes:
        teacher: [n, D].
        student: [n, D].
        is_truncated: whether the student reads fewer tokens; then these are its own, and the teacher's at their places.
    """

    teacher: Tensor
    student: Tensor
    is_truncated: bool

    @property
    def error(self) -> Tensor:
        """What the student adds, [n, D]."""
        return self.student - self.teacher


def measure_attenuation(
    segmenter: Segmenter,
    student: TextEncoder,
    questions: Sequence[Question],
    seed: int = 0,
    progress: Progress | None = None,
) -> AttenuationStats:
    """Inject a student's error into the text features of a host, and see what becomes of it layer by layer.

    Of each phrase and image the host runs at once with the teacher's features and with those of each of `ERRORS`:

    - student: the student's own features;
    - shuffled: each token's error points where the student's error at a random token of all phrases does;
    - noise: it points anywhere in the D dimensions, each direction as likely as another.

    The last two have the size of the student's error at each token: the same tokens are as wrong, in other directions.

    Args:
        segmenter: the host, with its own text encoder as the teacher.
        student: whose error it is.
        questions: images and phrases; each image is embedded once.
        seed: of the two errors that are drawn, and of the bootstrap.
        progress: called with the stage and the share done, 0..1.

    Raises:
        OptionError: no questions, one without a phrase, or an empty phrase.
        EncoderError: the student's features have another width, or an encoder fails.
        ImageError: an image cannot be read.
    """
    _check(segmenter, student, questions)
    texts = list(dict.fromkeys(text for question in questions for text in question.prompts))
    check_prompts(texts)
    phrases = dict(zip(texts, align_phrases(segmenter.encoder, student, texts), strict=True))
    draw = _Draw(torch.cat([phrase.error for phrase in phrases.values()]), torch.Generator().manual_seed(seed))
    pairs: list[PairErrors] = []
    for number, question in enumerate(questions):
        embedding = segmenter.embed(question.image)
        pairs += [follow(segmenter, embedding, draw.variants(phrases[text]), number) for text in question.prompts]
        if progress is not None:
            progress("attenuation", (number + 1) / len(questions))
    return AttenuationStats(
        host=segmenter.encoder.name,
        student=student.name,
        images=len(questions),
        pairs=len(pairs),
        phrases=len(phrases),
        truncated=sum(phrase.is_truncated for phrase in phrases.values()),
        seed=seed,
        errors=trace_errors(pairs, ERRORS, seed),
    )


def _check(segmenter: Segmenter, student: TextEncoder, questions: Sequence[Question]) -> None:
    if student.width != segmenter.encoder.width:
        raise EncoderError(
            f"features of width {student.width} where the host reads {segmenter.encoder.width}", where=student.name
        )
    if not questions or not all(question.prompts for question in questions):
        raise OptionError("no images, or one without a phrase", hint="give an image and a phrase")


def share_out(images: Sequence[ImageSource], texts: Sequence[str], most: int, seed: int) -> list[Question]:
    """Ask each image the same number of texts: all of them, or as many as the most pairs allow, drawn for each image.

    Where there are more images than pairs, the last images are left out.

    Args:
        images: at least one.
        texts: at least one.
        most: pairs, at least 1.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    counts = [min(len(texts), most // len(images) + (number < most % len(images))) for number in range(len(images))]
    rows = [np.sort(rng.choice(len(texts), count, replace=False)) for count in counts]
    asked = [Question(image, tuple(texts[row] for row in some)) for image, some in zip(images, rows, strict=True)]
    return [question for question in asked if question.prompts]


def align_phrases(teacher: TextEncoder, student: TextEncoder, texts: Sequence[str]) -> Iterator[AlignedPhrase]:
    """The features of each text on the tokens that `Alignment` pairs: all of them, unless one of the two truncates it.

    Raises:
        EncoderError: an encoder fails.
    """
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        rows = (valid_rows(encoder, batch) for encoder in (teacher, student))
        for theirs, ours in zip(*rows, strict=True):
            masks = (torch.ones(1, len(row), dtype=torch.bool) for row in (ours, theirs))
            pairs = Alignment.of(*masks)
            yield AlignedPhrase(
                teacher=pairs.of_teacher(theirs[None].float().cpu()),
                student=pairs.of_student(ours[None].float().cpu()),
                is_truncated=len(ours) < len(theirs),
            )


@dataclass(frozen=True, eq=False)
class _Draw:
    """Errors of a student's size in other directions.

    Attributes:
        pool: [T, D], the student's errors at all tokens of all phrases.
        generator: of the directions.
    """

    pool: Tensor
    generator: torch.Generator

    def variants(self, phrase: AlignedPhrase) -> Tensor:
        """The teacher's features, and with each of `ERRORS`: [1 + E, n, D]."""
        error = phrase.error
        rows = torch.randint(len(self.pool), (len(error),), generator=self.generator)
        noise = torch.randn(error.shape, generator=self.generator)
        errors = (error, _resized(self.pool[rows], error), _resized(noise, error))
        return torch.stack([phrase.teacher, *(phrase.teacher + one for one in errors)])


def _resized(directions: Tensor, like: Tensor) -> Tensor:
    """Rows [n, D] of the given directions with the norms of others; a row without a direction stays 0."""
    resized: Tensor = normalize(directions, dim=1) * torch.linalg.vector_norm(like, dim=1, keepdim=True)
    return resized


def follow(segmenter: Segmenter, embedding: ImageEmbedding, values: Tensor, image: int) -> PairErrors:
    """Run the host on features of one phrase with E errors, and compare each run with the one without.

    Args:
        segmenter: the host.
        embedding: of an image.
        values: [1 + E, n, D], the first without an error.
        image: its number.
    """
    found: dict[Key, Comparison] = {}

    def visit(reading: AttentionReading) -> None:
        logits, weights = _to_numpy(reading.logits), _to_numpy(reading.weights)
        stages = {
            "logits": logits,
            "logits_centred": centred(logits),
            "weights": weights,
            "weights_centred": centred(weights),  # their mean is 1/n
            "output": _to_numpy(reading.output),
            "layer_output": _to_numpy(reading.layer_output),
        }
        found.update({(reading.layer, stage): _compare(array) for stage, array in stages.items()})

    finest = embedding.vision.fpn_hidden_states[0]
    text = TextFeatures(values.to(finest), torch.ones(values.shape[:2], dtype=torch.bool, device=finest.device))
    with torch.inference_mode(), probed(segmenter.detector, text.mask, visit):
        output = segmenter.run_features(embedding, text)
    features = _to_numpy(text.values)
    found[FEATURES] = _compare(features)
    results = {"masks": output.pred_masks, "scores": output.pred_logits, "presence": output.presence_logits}
    found |= {("result", name): _compare(_to_numpy(logits)) for name, logits in results.items()}
    cosines = np.stack([row_cosines(features[0], changed) for changed in features[1:]])
    return PairErrors(image, cosines, found)


def _compare(values: Array) -> Comparison:
    return Comparison.of(values[0], values[1:])


def _to_numpy(values: Tensor) -> Array:
    return np.asarray(values.float().cpu())
