"""How good a student is on phrases that it was not trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from litetext.distillation.losses import Alignment, Projections, compute_losses
from litetext.distillation.recipe import DistillRecipe
from litetext.errors import TrainingError
from litetext.features.compare import row_cosines
from litetext.features.encode import pooled_features
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.features.store import FeatureStore
from litetext.prompts.words import permute

BATCH = 256


@dataclass(frozen=True, eq=False)
class Host:
    """A segmenter that a student is distilled for, as far as training needs it."""

    name: str  # what the model card calls it
    projections: Projections | None = None  # the layers of its decoder that read text, on the device of the training
    # Figures of the host with a student in it, ``cgf1`` among them, always on the same pairs.
    evaluate: Callable[[TextEncoder], Mapping[str, float]] | None = None


def validate_student(
    student: TextEncoder,
    cache: FeatureStore,
    texts: Sequence[str],
    recipe: DistillRecipe,
    host: Host | None = None,
) -> dict[str, float]:
    """Figures of a student on phrases of the cache.

    Returns:
        ``val_loss``: the weighted sum of all losses but consistency; ``cosine``: of features with the teacher's, the
        mean over the valid tokens; ``end_cosine``: likewise at the end tokens; ``retrieval``: see `retrieval`;
        ``order``: mean cosine of the pooled features of a phrase and of a permutation with the same meaning (left out
        where no phrase has one); then those of the host.
    """
    projections = None if host is None else host.projections
    sums = {"val_loss": 0.0, "cosine": 0.0, "end_cosine": 0.0}
    tokens, ours, theirs = 0, [], []
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        features = student.encode(batch)
        if not bool(features.values[features.mask].isfinite().all()):
            what = "the student's features of the validation phrases are not finite"
            raise TrainingError(what, where=student.name, hint="give a lower lr")
        features = TextFeatures(features.values.float(), features.mask)
        teacher = to_device(cache.features(batch), features.values.device)
        alignment = Alignment.of(features.mask, teacher.mask)
        pairs = alignment.of_student(features.values), alignment.of_teacher(teacher.values)
        cosines = cosine_similarity(*pairs, dim=1)
        is_end = alignment.text != torch.cat([alignment.text[1:], alignment.text.new_tensor([-1])])
        loss, _ = compute_losses(recipe.losses, features, teacher, projections=projections)
        sums["cosine"] += float(cosines.double().sum())
        sums["end_cosine"] += float(cosines[is_end].double().sum())
        sums["val_loss"] += float(loss) * len(cosines)
        tokens += len(cosines)
        ours.append(features.pooled())
        theirs.append(teacher.pooled())
    pooled = torch.cat(ours)
    figures = {
        "val_loss": sums["val_loss"] / tokens,
        "cosine": sums["cosine"] / tokens,
        "end_cosine": sums["end_cosine"] / len(texts),
        "retrieval": retrieval(pooled, torch.cat(theirs)),
        **_order_invariance(student, texts, pooled, recipe.seed),
    }
    if host is not None and host.evaluate is not None:
        figures |= {name: float(value) for name, value in host.evaluate(student).items()}
    return figures


def retrieval(student: Tensor, teacher: Tensor) -> float:
    """Share of rows of the student [N, D] whose nearest of the teacher's rows [N, D], by cosine, is its own.

    A teacher's row that is equal to the own one, as of phrases that a short context cuts off alike, counts as its own.
    """
    ours, theirs = normalize(student, dim=1), normalize(teacher, dim=1)
    right = 0
    for start in range(0, len(ours), BATCH):
        nearest = theirs[(ours[start : start + BATCH] @ theirs.T).argmax(dim=1)]
        right += int((nearest == theirs[start : start + BATCH]).all(dim=1).sum())
    return right / len(ours)


def to_device(features: TextFeatures, device: torch.device) -> TextFeatures:
    """The same features on another device."""
    return TextFeatures(features.values.to(device), features.mask.to(device))


def _order_invariance(student: TextEncoder, texts: Sequence[str], pooled: Tensor, seed: int) -> dict[str, float]:
    generator = np.random.default_rng(seed)
    permuted = {row: other for row, text in enumerate(texts) if (other := permute(text, generator)) is not None}
    if not permuted:
        return {}
    moved = pooled_features(student, list(permuted.values()))
    return {"order": float(row_cosines(moved, pooled[list(permuted)].cpu().numpy()).mean())}
