"""What a distillation learns from: distinct phrases of a cache, parted by their hash, in batches of one length."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from litetext.distillation.recipe import DataOptions
from litetext.errors import CacheError, OptionError
from litetext.features.shards import phrase_key
from litetext.features.store import FeatureCache
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.prompts.readers import read_prompts
from litetext.tokenizer.bpe import clip_tokenizer
from litetext.tokenizer.clean import clean

POOL = 16  # batches whose phrases are sorted by length together: alike in a batch, and yet not the same each epoch
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HoldOut:
    """Phrases of an evaluation set.

    Attributes:
        name: of the file, folder or pattern that they are from.
        phrases: distinct ones.
        removed: how many of them were in the corpus, and were left out.
    """

    name: str
    phrases: int
    removed: int


@dataclass(frozen=True, eq=False)
class Data:
    """Phrases to learn from and to validate with, none in both.

    Attributes:
        train: distinct phrases in alphabetical order.
        validation: distinct phrases, in the order of their hashes.
        hold_outs: what was left out.
        kept_out: phrases that training must not read as a permutation either, cleaned: those held out and those of
            validation.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    hold_outs: tuple[HoldOut, ...]
    kept_out: frozenset[str]

    @classmethod
    def read(cls, cache: FeatureCache, options: DataOptions, seed: int) -> "Data":
        """Read the phrases, leave out those held out, and part them.

        A phrase's part depends on the phrase and the seed alone: one that is added moves no other.

        Raises:
            PromptError: a source cannot be read.
            CacheError: the cache lacks a phrase of the sources.
            OptionError: nothing is left to train on or to validate with.
        """
        corpus = _corpus(cache, options.sources)
        held: set[str] = set()
        hold_outs = []
        known = {clean(text) for text in corpus.texts}
        for name in options.hold_out:
            phrases = {clean(prompt.text) for prompt in read_prompts([name])}
            hold_outs.append(HoldOut(Path(name).name, len(phrases), len(phrases & known)))
            held |= phrases
        rows = np.array([row for row, text in enumerate(corpus.texts) if clean(text) not in held], dtype=np.intp)
        parts = corpus.select(rows).split({"train": 1 - options.validation, "validation": options.validation}, seed)
        train, validation = sorted(parts["train"].texts), sorted(parts["validation"].texts, key=phrase_key)
        if not train or not validation:
            raise OptionError(
                f"{len(train)} phrases to train on and {len(validation)} to validate with",
                where=str(cache.path),
                hint="embed more phrases, or change [data] validation",
            )
        kept_out = frozenset(held | {clean(text) for text in validation})
        return cls(tuple(train), tuple(validation), tuple(hold_outs), kept_out)


def token_lengths(texts: Sequence[str], context_length: int) -> Rows:
    """Tokens of each text, int64 [N], start and end token counted, at most the context."""
    return np.minimum(clip_tokenizer().encode(texts).lengths, context_length)


def epoch_batches(lengths: Rows, batch: int, seed: int, epoch: int) -> list[Rows]:
    """The batches of an epoch: each row once, rows of nearly one length together, in an order of its own each epoch.

    It follows from the arguments alone, so that a run that goes on needs to know nothing but how far it was.

    Args:
        lengths: int64 [N], tokens of each phrase.
        batch: the most rows of a batch; all have this many or one less, or there is only one.
        seed: of the run.
        epoch: from 0.
    """
    generator = np.random.default_rng([seed, epoch])
    parts = np.array_split(generator.permutation(len(lengths)), batches_of(len(lengths), batch))
    batches: list[Rows] = []
    for first in range(0, len(parts), POOL):
        pool = np.concatenate(parts[first : first + POOL])
        ends = np.cumsum([len(part) for part in parts[first : first + POOL]])
        batches += np.split(pool[np.argsort(lengths[pool], kind="stable")], ends[:-1])
    return [batches[place] for place in generator.permutation(len(batches))]


def batches_of(rows: int, batch: int) -> int:
    """Batches that so many rows make."""
    return -(-rows // batch)


def _corpus(cache: FeatureCache, sources: Sequence[str]) -> PromptCorpus:
    if not sources:
        return PromptCorpus.build(Prompt(text) for text in cache.phrases)
    corpus = PromptCorpus.build(read_prompts(sources))
    missing = cache.missing(corpus.texts)
    if missing:
        raise CacheError(
            f"no features of {len(missing)} phrases, the first is '{missing[0]}'",
            where=str(cache.path),
            hint="embed the same sources first",
        )
    return corpus
