"""An examination of text encoders: each reads the same phrases for one host, and is scored by the masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from litetext.errors import EncoderError
from litetext.evaluation.cgf1 import CgF1, Tally, score
from litetext.evaluation.comparison import ask, tally
from litetext.evaluation.labeled_pairs import LabeledPair
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.sam3.segmenter import Segmenter
from litetext.tokenizer.batch import TokenBatch


@dataclass(frozen=True)
class NullTextEncoder:
    """What stands for a host's text encoder where only others are asked: a large one is then never loaded.

    Attributes:
        width: of the features that the host reads.
    """

    width: int
    name: str = "no text encoder"
    context_length: int = 2

    def encode(self, texts: Sequence[str] | TokenBatch) -> TextFeatures:
        """Refuse: there is nothing to read with.

        Raises:
            EncoderError: always.
        """
        raise EncoderError(f"{len(texts)} texts for a host without a text encoder", hint="give it one")


@dataclass(frozen=True, eq=False)
class HostEvaluator:
    """The same questions for every encoder.

    Attributes:
        host: what segments; its own text encoder is not asked.
        pairs: to be gone through again and again, those of a picture one after another.
    """

    host: Segmenter
    pairs: Iterable[LabeledPair]

    def score(self, encoder: TextEncoder) -> CgF1:
        """Scores of the host with an encoder in it.

        Raises:
            EncoderError: the encoder's width is not that which the host reads, or it fails.
            ImageError: a picture cannot be read.
        """
        segmenter = self.host.with_encoder(encoder)
        tallies = []
        for _, group in groupby(self.pairs, key=lambda pair: pair.picture):
            some = list(group)
            found = ask(segmenter, segmenter.embed(some[0].image), [pair.phrase for pair in some])
            tallies.append(tally(zip(some, found, strict=True)))
        return score(sum(tallies, Tally.of([])))

    def figures(self, encoder: TextEncoder) -> dict[str, float]:
        """The three scores by name, as the curve of a distillation keeps them."""
        return self.score(encoder).headline
