"""What a distillation learns from: distinct phrases of a cache, split by their hash, in batches of similar length."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.distillation.recipe import DistillRecipe
from litetext.errors import CacheError, OptionError
from litetext.features.store import FeatureStore, phrase_bytes, phrase_key
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.prompts.readers import read_prompts
from litetext.tokenizer.clean import clean

POOL = 16  # batches whose phrases are sorted by length together: similar in a batch, yet not the same each epoch
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PhraseSplit:
    """Distinct phrases to learn from and to validate with, none in both."""

    train: tuple[str, ...]  # in alphabetical order
    validation: tuple[str, ...]  # in the order of their hashes
    # Of each evaluation set its ``name``, number of ``phrases``, and how many of them were ``removed``.
    held_out: tuple[dict[str, Any], ...] = ()
    # Cleaned phrases that training must not read as a permutation either: held out, or of validation.
    excluded: frozenset[str] = frozenset()


def split_phrases(cache: FeatureStore, recipe: DistillRecipe) -> PhraseSplit:
    """Read the phrases, leave out those held out, and split them.

    Which part a phrase is in depends on the phrase and the seed alone: one that is added moves no other.
    """
    corpus = PromptCorpus.build(read_prompts(recipe.sources) if recipe.sources else map(Prompt, cache.phrases))
    missing = cache.missing(corpus.texts) if recipe.sources else []
    if missing:
        what = f"no features of {len(missing)} phrases, the first is '{missing[0]}'"
        raise CacheError(what, where=str(cache.path), hint="embed the same sources first")
    keys = [clean(text) for text in corpus.texts]
    held: set[str] = set()
    held_out = []
    for name in recipe.hold_out:
        phrases = {clean(prompt.text) for prompt in read_prompts([name])}
        removed = len(phrases.intersection(keys))
        held_out.append({"name": Path(name).name, "phrases": len(phrases), "removed": removed})
        held |= phrases
    rows = np.array([row for row, key in enumerate(keys) if key not in held], dtype=np.intp)
    shares = {"train": 1 - recipe.validation_fraction, "validation": recipe.validation_fraction}
    parts = corpus.select(rows).split(shares, recipe.seed)
    train = sorted(parts["train"].texts)
    validation = sorted(parts["validation"].texts, key=lambda text: phrase_key(phrase_bytes(text)))
    if not train or not validation:
        what = f"{len(train)} phrases to train on and {len(validation)} to validate with"
        raise OptionError(what, where=str(cache.path), hint="embed more phrases, or change validation_fraction")
    excluded = frozenset(held.union(clean(text) for text in validation))
    return PhraseSplit(tuple(train), tuple(validation), tuple(held_out), excluded)


def epoch_batches(lengths: Rows, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """The batches of an epoch, of rows of similar length: each row of ``lengths`` [N] once, in a new order each epoch.

    They follow from the arguments alone, so that a run that resumes only needs to know its step. All have
    ``batch_size`` rows at most, and at most one less than another.
    """
    generator = np.random.default_rng([seed, epoch])
    parts = np.array_split(generator.permutation(len(lengths)), count_batches(len(lengths), batch_size))
    batches: list[Rows] = []
    for first in range(0, len(parts), POOL):
        pool = np.concatenate(parts[first : first + POOL])
        ends = np.cumsum([len(part) for part in parts[first : first + POOL]])
        batches += np.split(pool[np.argsort(lengths[pool], kind="stable")], ends[:-1])
    return [batches[place] for place in generator.permutation(len(batches))]


def count_batches(rows: int, batch_size: int) -> int:
    """Batches that so many rows make."""
    return -(-rows // batch_size)
