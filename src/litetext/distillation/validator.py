"""How good a student is on phrases that it was not trained on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from litetext.distillation.alignment import Alignment
from litetext.distillation.decoder_losses import TextReader
from litetext.distillation.losses import Comparison, LossWeights, compute_losses
from litetext.errors import TrainingError
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.features.store import FeatureCache
from litetext.prompts.permutations import permute

BATCH = 256
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Host:
    """A segmenter that a student is distilled for, as far as training needs it.

    Attributes:
        name: what the model card calls it.
        reader: the layers of its decoder that read text, on the device of the training; None where no loss asks.
        evaluate: figures of the host with a student in it, ``cgf1`` among them, on a slice that is always the same;
            None where there are no pictures to judge by.
    """

    name: str
    reader: TextReader | None = None
    evaluate: Callable[[TextEncoder], Mapping[str, float]] | None = None


@dataclass(frozen=True, eq=False)
class Validator:
    """What students are asked, each the same.

    Attributes:
        cache: features of the teacher.
        texts: phrases of the cache.
        weights: of the losses.
        host: for its losses and figures; None without one.
        seed: of the permutations.
    """

    cache: FeatureCache
    texts: Sequence[str]
    weights: LossWeights
    host: Host | None
    seed: int

    def figures(self, student: TextEncoder) -> dict[str, float]:
        """Figures of a student.

        Returns:
            ``val_loss``: the weighted sum of all losses but consistency; ``cosine``: of features with the teacher's,
            the mean over the valid tokens; ``end_cosine``: likewise at the end tokens; ``retrieval``: share of phrases
            whose pooled features are nearest, by cosine, to the teacher's of the same phrase among all; ``order``: mean
            cosine of the pooled features of a phrase and of a permutation that leaves its meaning (left out where no
            phrase has one); then those of the host.

        Raises:
            TrainingError: the student's features are not finite.
        """
        sums = {"val_loss": 0.0, "cosine": 0.0, "end_cosine": 0.0}
        tokens, ours, theirs = 0, [], []
        for texts in self._batches():
            teacher, found = self._both(student, texts)
            alignment = Alignment.of(found.mask, teacher.mask)
            cosines = cosine_similarity(alignment.of_student(found.values), alignment.of_teacher(teacher.values), dim=1)
            is_end = torch.ones_like(alignment.text, dtype=torch.bool)
            is_end[:-1] = alignment.text[1:] != alignment.text[:-1]
            sums["cosine"] += float(cosines.double().sum())
            sums["end_cosine"] += float(cosines[is_end].double().sum())
            reader = None if self.host is None else self.host.reader
            loss = compute_losses(self.weights, Comparison(found, teacher, reader=reader)).total
            sums["val_loss"] += float(loss) * len(cosines)
            tokens += len(cosines)
            ours.append(found.pooled())
            theirs.append(teacher.pooled())
        pooled = torch.cat(ours)
        figures = {
            "val_loss": sums["val_loss"] / tokens,
            "cosine": sums["cosine"] / tokens,
            "end_cosine": sums["end_cosine"] / len(self.texts),
            "retrieval": retrieval(pooled, torch.cat(theirs)),
            **self._order(student, pooled),
        }
        if self.host is not None and self.host.evaluate is not None:
            figures |= {name: float(value) for name, value in self.host.evaluate(student).items()}
        return figures

    def _batches(self) -> Iterator[list[str]]:
        for start in range(0, len(self.texts), BATCH):
            yield list(self.texts[start : start + BATCH])

    def _both(self, student: TextEncoder, texts: list[str]) -> tuple[TextFeatures, TextFeatures]:
        found = student.encode(texts)
        teacher = self.cache.features(texts)
        if not bool(found.values[found.mask].isfinite().all()):
            raise TrainingError(
                "the student's features of the validation phrases are not finite",
                where=student.name,
                hint="give a lower rate",
            )
        device = found.values.device
        values = TextFeatures(found.values.float(), found.mask)
        return TextFeatures(teacher.values.to(device), teacher.mask.to(device)), values

    def _order(self, student: TextEncoder, pooled: Tensor) -> dict[str, float]:
        generator = np.random.default_rng(self.seed)
        others = {row: other for row, text in enumerate(self.texts) if (other := permute(text, generator)) is not None}
        if not others:
            return {}
        texts = list(others.values())
        moved = [student.encode(texts[start : start + BATCH]).pooled() for start in range(0, len(texts), BATCH)]
        return {"order": float(cosine_similarity(torch.cat(moved), pooled[list(others)], dim=1).mean())}


def retrieval(student: Tensor, teacher: Tensor) -> float:
    """Share of rows of the student [N, D] whose nearest of the teacher's rows [N, D], by cosine, is its own.

    A teacher's row that is equal to the own one, as of phrases that a short context cuts off alike, counts as its own.
    """
    ours, theirs = normalize(student, dim=1), normalize(teacher, dim=1)
    right = 0
    for start in range(0, len(ours), _CHUNK):
        nearest = theirs[(ours[start : start + _CHUNK] @ theirs.T).argmax(dim=1)]
        right += int((nearest == theirs[start : start + _CHUNK]).all(dim=1).sum())
    return right / len(ours)
