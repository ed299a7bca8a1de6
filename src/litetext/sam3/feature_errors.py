"""A student's error inside a SAM3 host: injected beside noise of its size, and followed to the masks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from litetext.auditing.attenuation import MAX_PAIRS, AttenuationStats, trace_errors
from litetext.distillation.losses import Alignment
from litetext.errors import OptionError
from litetext.features.encode import valid_rows
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.sam3.host import text_attentions
from litetext.sam3.images import ImageSource
from litetext.sam3.segmenter import ImageEmbedding, Segmenter, check_prompts, check_width

Progress = Callable[[str, float], None]
Question = tuple[ImageSource, Sequence[str]]
"""An image and the phrases that are asked of it."""

_BATCH = 64  # phrases encoded at once


def measure_attenuation(
    segmenter: Segmenter,
    student: TextEncoder,
    images: Sequence[ImageSource | Question],
    texts: Sequence[str] = (),
    *,
    pairs: int = MAX_PAIRS,
    seed: int = 0,
    progress: Progress | None = None,
) -> AttenuationStats:
    """Inject a student's error into the text features of a host, and see what becomes of it layer by layer.

    Of each phrase and image the host runs at once with its own encoder's features, with the student's, and with noise:
    at each token an error of the student's size in a random direction. Phrases that the student truncates are asked
    with its tokens and the teacher's features at their places.

    Args:
        segmenter: the host, with its own text encoder as the teacher.
        student: whose error it is.
        images: of which all texts are asked, or as many as ``pairs`` allows, the same number for each image; or tuples
            of an image and phrases of its own.
        texts: phrases for the images without their own.
        pairs: the most (image, phrase) pairs.
        seed: of the choice of phrases, the noise, and the bootstrap.
        progress: called with the stage and the share done, 0..1.
    """
    check_width(segmenter.host_engine.width, student)
    questions = share_out(images, texts, pairs, seed)
    if not questions or not all(prompts for _, prompts in questions):
        raise OptionError("no images, or one without a phrase", hint="give an image and a phrase")
    asked = list(dict.fromkeys(text for _, prompts in questions for text in prompts))
    check_prompts(asked)
    aligned = dict(zip(asked, align_phrases(segmenter.encoder, student, asked), strict=True))
    generator = torch.Generator().manual_seed(seed)
    errors, sizes, cosines, owners = [], [], [], []
    for number, (image, prompts) in enumerate(questions):
        embedding = segmenter.embed(image)
        for text in prompts:
            teacher, wrong, _ = aligned[text]
            values = torch.stack([teacher, wrong, teacher + _noise_like(wrong - teacher, generator)])
            error, size = _squares(segmenter, embedding, values)
            errors.append(error)
            sizes.append(size)
            cosines.append(cosine_similarity(values[1:], values[0], dim=-1).numpy())
            owners.append(number)
        if progress is not None:
            progress("attenuation", (number + 1) / len(questions))
    mean_cosines = np.concatenate(cosines, axis=1).mean(axis=1)
    layers = list(text_attentions(segmenter.detector))
    paths = trace_errors(
        layers, np.stack(errors), np.stack(sizes), cosines=mean_cosines, images=np.array(owners), seed=seed
    )
    truncated = sum(phrase[2] for phrase in aligned.values())
    return AttenuationStats(
        segmenter.encoder.name, student.name, len(questions), len(owners), len(asked), truncated, seed, paths
    )


def _noise_like(error: Tensor, generator: torch.Generator) -> Tensor:
    """Random directions with the size of an error [n, D] at each token."""
    directions: Tensor = normalize(torch.randn(error.shape, generator=generator), dim=1)
    return directions.mul_(torch.linalg.vector_norm(error, dim=1, keepdim=True))


def share_out(images: Sequence[ImageSource | Question], texts: Sequence[str], most: int, seed: int) -> list[Question]:
    """Ask each image the same number of texts: all of them, or as many as the most pairs allow, drawn for each image.

    Where there are more images than pairs, the last images are left out. Images with phrases of their own keep them.
    """
    if most < 1:
        raise OptionError(f"{most} pairs", where="pairs", hint="ask for 1 or more")
    rng = np.random.default_rng(seed)
    questions: list[Question] = []
    for number, image in enumerate(images):
        if isinstance(image, tuple):
            questions.append(image)
            continue
        count = min(len(texts), most // len(images) + (number < most % len(images)))
        rows = np.sort(rng.choice(len(texts), count, replace=False)).tolist() if count else []
        questions.append((image, tuple(texts[row] for row in rows)))
    return questions[:most]


def align_phrases(
    teacher: TextEncoder, student: TextEncoder, texts: Sequence[str]
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Features of each text by teacher and student, float32 [n, D] on the CPU, and whether the student truncates it.

    They are those of the tokens that `Alignment` pairs: all of them, unless one of the two truncates the text.
    """
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        for theirs, ours in zip(valid_rows(teacher, batch), valid_rows(student, batch), strict=True):
            pairs = Alignment.of(*(torch.ones(1, len(row), dtype=torch.bool) for row in (ours, theirs)))
            yield (
                pairs.of_teacher(theirs[None].float().cpu()),
                pairs.of_student(ours[None].float().cpu()),
                len(ours) < len(theirs),
            )


def _squares(
    segmenter: Segmenter, embedding: ImageEmbedding, values: Tensor
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Sums of squared errors [2 + S, E] and of squares of the reference [2 + S]: features, weights by layer, masks.

    Values [1 + E, n, D] are features of one phrase, the first without an error.
    """
    finest = embedding.vision.fpn_hidden_states[0]
    text = TextFeatures(values.to(finest), torch.ones(values.shape[:2], dtype=torch.bool, device=finest.device))
    stages = [text.values]
    with torch.inference_mode(), probed(segmenter.detector, text.mask, lambda _, weights: stages.append(weights)):
        stages.append(segmenter.host_engine.run_features(embedding, text).pred_masks)
    arrays = [np.asarray(stage.float().cpu()) for stage in stages]
    errors = [[np.square(row - array[0]).sum(dtype=np.float64) for row in array[1:]] for array in arrays]
    sizes = [np.square(array[0]).sum(dtype=np.float64) for array in arrays]
    return np.array(errors), np.array(sizes)


@contextmanager
def probed(detector: Any, mask: Tensor, visit: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Show ``visit`` the attention weights over the text of each layer while the block runs the host.

    They are computed again from queries and keys, since the kernels that a host computes attention with give none:
    float32 [B, H, Q, K], 0 at padding. The run itself stays as it is.

    Args:
        detector: of a SAM3 host.
        mask: bool [B, K], True at the valid tokens of the text that the host is given.
        visit: called with the layer's name and its weights, once for each of `text_attentions` in each run.
    """
    with ExitStack() as hooks:
        for name, (attention, _) in text_attentions(detector).items():

            def show(module: Any, _: Any, inputs: dict[str, Tensor], __: Any, name: str = name) -> None:
                visit(name, attention_weights(module, inputs["query"], inputs["key"], mask))

            hooks.callback(attention.register_forward_hook(show, with_kwargs=True).remove)
        yield


def attention_weights(attention: Any, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the valid keys of scaled products of queries [B, Q, D] and keys [B, K, D]: float32 [B, H, Q, K]."""
    heads = (attention.num_attention_heads, attention.head_dim)
    queries, keys = (
        projection(x).float().unflatten(-1, heads).transpose(1, 2)
        for projection, x in ((attention.q_proj, query), (attention.k_proj, key))
    )
    logits: Tensor = queries @ keys.transpose(-1, -2) * attention.scaling
    return logits.masked_fill(~mask[:, None, None], float("-inf")).softmax(dim=-1)
