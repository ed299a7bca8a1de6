"""Errors in a segmenter that was never there: comparisons with chosen sums, and what an audit makes of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from litetext.auditing.attenuation import (
    FEATURES,
    RESULTS,
    STAGES,
    AttenuationStats,
    Comparison,
    Key,
    PairErrors,
    trace_errors,
)

KINDS = ("student", "shuffled", "noise")
LAYERS = ("encoder.0", "decoder.0", "masks")


def of_size(errors: Sequence[float], size: float = 1.0) -> Comparison:
    """Relative squared errors of arrays of four numbers with sums of squares ``size``, changed at right angles."""
    error = size * np.array(errors, dtype=float)
    return Comparison(error, np.full_like(error, size), size + error, np.full_like(error, 4.0))


def pair_of(
    image: int, features: Sequence[float], rest: Mapping[Key, Sequence[float]], size: float = 1.0
) -> PairErrors:
    """A pair with these errors; at places that are not named they are those of the features."""
    keys = [
        FEATURES,
        *((layer, stage) for layer in LAYERS for stage in STAGES),
        *(("result", name) for name in RESULTS),
    ]
    found = {key: of_size(rest.get(key, features), size) for key in keys}
    return PairErrors(image, np.full((len(features), 3), 0.9), found)


def some_attenuation(student: float = 0.02, noise: float = 0.005, student_name: str = "s.pt") -> AttenuationStats:
    """Errors of 0.1 of which a tenth is left in the weights, and in the masks what the arguments say."""
    weights = {(layer, "weights"): [0.01, 0.02, 0.01] for layer in LAYERS}
    rest = {**weights, ("result", "masks"): [student, 0.01, noise]}
    pairs = [pair_of(image, [0.1, 0.1, 0.1], rest) for image in range(3)]
    return AttenuationStats("micro", student_name, 3, 3, 2, 1, 0, trace_errors(pairs, KINDS, seed=0))
