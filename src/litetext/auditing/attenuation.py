"""Attenuation: what is left of an error of the text features on its way through a segmenter's attention to the text.

An error is measured as a relative squared error, |changed - reference|^2 / |reference|^2 with sums over everything that
was compared, and attenuation is a ratio of two of them: above 1 the error shrinks. Arrays only; who runs the segmenter
is no matter here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from litetext.auditing.geometry import Estimate
from litetext.errors import ArrayError

Vector = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Key = tuple[str, str]  # where in the segmenter, and what

FEATURES: Key = ("text", "features")
STAGES = ("logits", "logits_centred", "weights", "weights_centred", "output", "layer_output")  # of an attention
RESULTS = ("masks", "scores", "presence")  # logits that come out
_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far changed arrays are from their references, as sums over all numbers of each array.

    The shape is [E] for E changes of one array, [P, E] for those of P arrays.

    Attributes:
        error: float64, squares of the differences.
        size: float64, squares of the reference.
        changed: float64, squares of the changed array.
        count: float64, numbers.
    """

    error: Vector
    size: Vector
    changed: Vector
    count: Vector

    @classmethod
    def of(cls, reference: Array, changed: Array) -> Self:
        """Compare E changed arrays [E, ...] with one reference [...].

        Raises:
            ArrayError: other shapes.
        """
        if changed.shape[1:] != reference.shape:
            raise ArrayError(f"changed arrays {list(changed.shape)} of a reference {list(reference.shape)}")
        # One after another, and in the arrays' own number type: mask logits of a large model are many.
        error = np.array([_squares(one - reference) for one in changed])
        same = np.ones_like(error)
        squares = np.array([_squares(one) for one in changed])
        return cls(error, _squares(reference) * same, squares, reference.size * same)

    @classmethod
    def stack(cls, rows: Sequence[Self]) -> Self:
        """Comparisons [E] of P arrays as one, [P, E]."""
        return cls(*(np.stack(parts) for parts in zip(*(row._parts for row in rows), strict=True)))

    def take(self, rows: npt.NDArray[np.int64]) -> Self:
        """Some of the P arrays, repeated ones repeatedly."""
        return type(self)(*(part[rows] for part in self._parts))

    @property
    def _parts(self) -> tuple[Vector, Vector, Vector, Vector]:
        return self.error, self.size, self.changed, self.count

    @property
    def relative(self) -> Vector:
        """The relative squared error of all P arrays together, [E]; 0 where nothing changed."""
        return _ratio(self.error.sum(axis=0), self.size.sum(axis=0))

    @property
    def mean_squared(self) -> Vector:
        """The mean squared error, [E], in the square of the arrays' own unit."""
        return _ratio(self.error.sum(axis=0), self.count.sum(axis=0))

    @property
    def cosine_distance(self) -> Vector:
        """1 - cosine of all numbers together, [E]."""
        size, changed = self.size.sum(axis=0), self.changed.sum(axis=0)
        norms = np.sqrt(size * changed)
        # 1 - (size + changed - error) / 2 norms, so written that it is exactly 0 without an error.
        return _ratio(self.error.sum(axis=0) - (np.sqrt(size) - np.sqrt(changed)) ** 2, 2 * norms)


@dataclass(frozen=True, eq=False)
class PairErrors:
    """What became of E errors of one phrase's features on one image.

    Attributes:
        image: number of the image.
        cosines: float64 [E, n], between the features with and without the error, token by token.
        comparisons: [E] by place and stage: `FEATURES`; of each attention its `STAGES`; ("result", one of `RESULTS`).
    """

    image: int
    cosines: Vector
    comparisons: Mapping[Key, Comparison]


@dataclass(frozen=True)
class LayerErrors:
    """One attention to the text.

    Attributes:
        layer: its name.
        errors: relative squared errors of the `STAGES`.
        factor: that of the text features over that of the weights; None where one of them is 0.
    """

    layer: str
    errors: Mapping[str, float]
    factor: float | None


@dataclass(frozen=True)
class ErrorPath:
    """One kind of error on its way.

    Attributes:
        features: relative squared error of the text features.
        cosine: of features with and without the error, the mean over the tokens.
        layers: each attention to the text, in the order in which they run.
        results: relative squared errors of `RESULTS`.
        factor: the attenuation factor: the geometric mean of the layers' factors, with a 95 % percentile bootstrap
            interval over images (of one image it is empty); None where a layer has none.
        definitions: the factor by each of `DEFINITIONS`; None where it is undefined.
    """

    features: float
    cosine: float
    layers: tuple[LayerErrors, ...]
    results: Mapping[str, float]
    factor: Estimate | None
    definitions: Mapping[str, float | None]


@dataclass(frozen=True)
class AttenuationStats:
    """What a segmenter's attention leaves of a student's error, and of others of the same size.

    Attributes:
        host: the segmenter.
        student: the student.
        images: number of images.
        pairs: (image, phrase) pairs.
        phrases: distinct phrases.
        truncated: distinct phrases of which the student reads fewer tokens than the teacher.
        seed: of the errors that were drawn.
        errors: by kind; "student" is the student's own.
    """

    host: str
    student: str
    images: int
    pairs: int
    phrases: int
    truncated: int
    seed: int
    errors: Mapping[str, ErrorPath]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Definition:
    """A way to say by how much an error shrinks: the geometric mean over layers of `measure` before over after.

    Attributes:
        title: for people: from what to what.
        after: a stage of an attention, or one of `RESULTS`.
        measure: of a comparison [P, E]: [E].
        before: a stage of the same attention; None: the text features.
        layers: what the names of the attentions begin with.
    """

    title: str
    after: str
    measure: Callable[[Comparison], Vector] = attrgetter("relative")
    before: str | None = None
    layers: str = ""

    def factors(self, comparisons: Mapping[Key, Comparison]) -> Vector:
        """The factor of each error, [E]; not finite, or 0, where an error is 0 on one of the two sides."""
        places = [key for key in comparisons if key[1] == self.after and key[0].startswith(self.layers)]
        logs = []
        for place in places:
            before = FEATURES if self.before is None else (place[0], self.before)
            factor = attenuation(self.measure(comparisons[before]), self.measure(comparisons[place]))
            with np.errstate(divide="ignore"):
                logs.append(np.log(factor))
        return np.asarray(np.exp(np.mean(logs, axis=0)))


OURS = "weights"
DEFINITIONS = {
    OURS: Definition("features to attention weights", "weights"),
    "weights_decoder": Definition("the same, DETR decoder alone", "weights", layers="decoder."),
    "weights_centred": Definition("features to weights less 1/n", "weights_centred"),
    "softmax": Definition("centred logits to weights", "weights", before="logits_centred"),
    "weights_cosine": Definition("features to weights, 1 - cosine", "weights", attrgetter("cosine_distance")),
    "weights_mean_squared": Definition("features to weights, not relative", "weights", attrgetter("mean_squared")),
    "output": Definition("features to attention output", "output"),
    "layer_output": Definition("features to layer output", "layer_output"),
    "masks": Definition("features to mask logits", "masks"),
}


def attenuation(before: Vector, after: Vector) -> Vector:
    """By how much errors shrink: before over after; NaN or infinite where nothing is left to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(before / after)


def centred(values: Array) -> Array:
    """Values [..., K] less their mean over the K tokens: of logits what a softmax sees."""
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def trace_errors(pairs: Sequence[PairErrors], kinds: Sequence[str], seed: int) -> dict[str, ErrorPath]:
    """Follow each kind of error from the features to the masks, over all pairs together.

    Args:
        pairs: at least one; all with the same places and stages.
        kinds: names of the E errors.
        seed: of the bootstrap.
    """
    found = {key: Comparison.stack([pair.comparisons[key] for pair in pairs]) for key in pairs[0].comparisons}
    images = np.array([pair.image for pair in pairs])
    resampled = _resample(found, images, seed)
    relative = {key: comparison.relative for key, comparison in found.items()}
    factors = {name: definition.factors(found) for name, definition in DEFINITIONS.items()}
    cosines = np.concatenate([pair.cosines for pair in pairs], axis=1).mean(axis=1)
    layers = dict.fromkeys(place for place, stage in found if stage in STAGES)
    return {
        kind: ErrorPath(
            features=float(relative[FEATURES][index]),
            cosine=float(cosines[index]),
            layers=tuple(
                LayerErrors(
                    layer,
                    {stage: float(relative[layer, stage][index]) for stage in STAGES},
                    _finite(attenuation(relative[FEATURES], relative[layer, "weights"])[index]),
                )
                for layer in layers
            ),
            results={name: float(relative["result", name][index]) for name in RESULTS},
            factor=_estimate(factors[OURS][index], resampled[:, index]),
            definitions={name: _finite(values[index]) for name, values in factors.items()},
        )
        for index, kind in enumerate(kinds)
    }


def _resample(found: Mapping[Key, Comparison], images: npt.NDArray[np.int64], seed: int) -> Vector:
    """Factors [R, E] by our definition of bootstrap samples of the images; the pairs of one go together."""
    rng = np.random.default_rng(seed)
    rows_of = [np.flatnonzero(images == image) for image in np.unique(images)]
    needed = {key: comparison for key, comparison in found.items() if key == FEATURES or key[1] == "weights"}
    factors = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([rows_of[index] for index in rng.integers(len(rows_of), size=len(rows_of))])
        factors.append(DEFINITIONS[OURS].factors({key: one.take(rows) for key, one in needed.items()}))
    return np.stack(factors)


def _estimate(value: float, resampled: Vector) -> Estimate | None:
    if _finite(value) is None:
        return None
    low, high = np.quantile(resampled[np.isfinite(resampled)], _INTERVAL)
    return Estimate(float(value), float(low), float(high))


def _finite(value: float) -> float | None:
    """A factor, or None where there was no error on one of its sides."""
    return float(value) if np.isfinite(value) and value > 0 else None


def _squares(values: Array) -> float:
    return float(np.square(values).sum(dtype=np.float64))


def _ratio(above: Vector, below: Vector) -> Vector:
    """A quotient that is 0 where nothing is above, even over 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(above == 0, 0.0, above / below))
