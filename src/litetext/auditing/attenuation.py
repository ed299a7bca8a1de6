"""Attenuation: what is left of an error of the text features in a segmenter's attention to the text and in its masks.

An error is a relative squared error, |changed - reference|^2 / |reference|^2 with sums over all numbers of all pairs of
image and phrase. The attenuation factor of a layer is the error of the features over that of its attention weights;
that of a host is the geometric mean over its layers. Above 1 the error has shrunk. The paper's own definition (it
reports about 282x) is not known to us. `litetext.sam3.feature_errors` runs the segmenter; here are arrays only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from litetext.auditing.geometry import Estimate

Vector = npt.NDArray[np.float64]

KINDS = ("student", "noise")
"""Whose error: the student's, and noise that has its size at each token."""
MAX_PAIRS = 300
_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class ErrorPath:
    """One kind of error on its way."""

    cosine: float  # of features with and without the error, the mean over the tokens
    features: float  # relative squared error of the text features
    # relative squared error of the attention weights of each layer that reads the text, as they run
    layers: Mapping[str, float]
    masks: float  # relative squared error of the mask logits
    # the attenuation factor with a 95 % bootstrap interval over images (of one image it is empty); None where there
    # is no error at some layer
    factor: Estimate | None
    masks_factor: float | None  # error of the features over that of the mask logits; None where there is none


@dataclass(frozen=True)
class AttenuationStats:
    """What a segmenter leaves of a student's error, and of noise of the same size."""

    host: str  # name of the segmenter
    student: str
    images: int
    pairs: int  # (image, phrase) pairs
    phrases: int  # distinct phrases
    truncated: int  # distinct phrases of which the student reads fewer tokens than the teacher
    seed: int  # of the noise
    errors: Mapping[str, ErrorPath]  # by kind, see `KINDS`


def trace_errors(
    layers: Sequence[str], errors: Vector, sizes: Vector, *, cosines: Vector, images: npt.NDArray[np.int64], seed: int
) -> dict[str, ErrorPath]:
    """Follow each kind of error from the features to the masks, over all pairs together.

    Args:
        layers: names of the S layers that read the text.
        errors: [P, 2 + S, E], sums of squared errors of the P pairs at the features, at the layers and at the masks.
        sizes: [P, 2 + S], sums of squares of the references there.
        cosines: [E], mean over tokens of the cosine between features with and without the error.
        images: [P], number of the image of each pair.
        seed: of the bootstrap over images, the pairs of which go together.
    """
    numbers, owner = np.unique(images, return_inverse=True)
    by_image = np.zeros((len(numbers), *errors.shape[1:]))
    sizes_by_image = np.zeros((len(numbers), sizes.shape[1]))
    np.add.at(by_image, owner, errors)
    np.add.at(sizes_by_image, owner, sizes)

    def relative_errors(weights: Vector) -> Vector:
        return np.asarray(np.tensordot(weights, by_image, 1) / (weights @ sizes_by_image)[..., None])

    count = len(numbers)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    relative = relative_errors(np.ones(count))
    factors, resampled = (attenuation_factors(found) for found in (relative, relative_errors(draws.astype(np.float64))))
    with np.errstate(divide="ignore", invalid="ignore"):
        masks_factors = relative[0] / relative[-1]
    return {
        kind: ErrorPath(
            cosine=float(cosines[index]),
            features=float(relative[0, index]),
            layers=dict(zip(layers, relative[1:-1, index].tolist(), strict=True)),
            masks=float(relative[-1, index]),
            factor=_estimate(factors[index], resampled[:, index]),
            masks_factor=float(masks_factors[index]) if _is_factor(masks_factors[index]) else None,
        )
        for index, kind in enumerate(KINDS)
    }


def attenuation_factors(relative: Vector) -> Vector:
    """Geometric means over layers of feature over weight error: [..., E] from relative errors [..., 2 + S, E]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(relative)
        return np.asarray(np.exp((logs[..., :1, :] - logs[..., 1:-1, :]).mean(axis=-2)))


def _estimate(value: float, resampled: Vector) -> Estimate | None:
    if not _is_factor(value):
        return None
    low, high = np.quantile(resampled[np.isfinite(resampled)], _INTERVAL)
    return Estimate(float(value), float(low), float(high))


def _is_factor(value: float) -> bool:
    """Whether there was an error on both sides of a quotient."""
    return bool(np.isfinite(value) and value > 0)
