"""What people could ask in the micro world, without a picture: a corpus to distill students from."""

from collections.abc import Callable

import numpy as np

from litetext.errors import OptionError
from litetext.micro.batches import spoken_nouns
from litetext.micro.out_of_domain import strangers
from litetext.micro.phrases import speak
from litetext.micro.scenes import generator

_TALK = 80  # no other stream of the split begins with it
_STALE = 2000  # phrases in a row that were all there already: the world has no more to say

Progress = Callable[[str, float], None]


def sample_phrases(seed: int, count: int, strange: int | None = None, progress: Progress | None = None) -> list[str]:
    """Different phrases of the training split, in a random order.

    Every noun is among them, phrases that name nothing of this world, and otherwise nouns with and without colours,
    sizes and places, as training asks them. No held-out noun is said.

    Args:
        seed: 0 or more.
        count: how many.
        strange: of these, how many at most name nothing of this world; None for all that there are.
        progress: told of the share that is done.

    Raises:
        OptionError: fewer than the nouns and strange phrases, or more than the world has to say; a negative seed.
    """
    rng = generator(seed, "train", _TALK)
    others = rng.permutation(np.array(strangers("train"), dtype=object))[:strange].tolist()
    found = dict.fromkeys((*spoken_nouns(), *others))
    if count < len(found):
        raise OptionError(f"{count} phrases of the micro world", hint=f"ask for {len(found)} or more")
    stale = 0
    while len(found) < count:
        before = len(found)
        found.setdefault(speak(rng))
        stale = 0 if len(found) > before else stale + 1
        if stale == _STALE:
            raise OptionError(f"{count} phrases of the micro world", hint=f"it has about {before}")
        if progress is not None:
            progress("talking", len(found) / count)
    texts = list(found)
    return [texts[index] for index in rng.permutation(len(texts))]
