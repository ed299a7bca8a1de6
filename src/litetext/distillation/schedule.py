"""The learning rate over a training: linear warm-up, then half a cosine."""

import math


def cosine_rate(step: int, steps: int, *, warm_up: int, rate: float, floor: float) -> float:
    """The learning rate of a step.

    Args:
        step: from 0.
        steps: of the whole training.
        warm_up: steps until the highest rate is reached.
        rate: the highest.
        floor: the last one, as a share of it.
    """
    if step < warm_up:
        return rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return rate * (floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2)
