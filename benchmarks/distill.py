"""Phrases per second of `litetext distill`'s loop at S0 against a reference loop, on features that are cached.

    python -m benchmarks.distill [ROUNDS [PHRASES [BATCH]]]

Both train an S0 (width 512, context 16, random weights) in float32 with the losses mse and cosine and a consistency of
weight 0.1, and are timed from phrases to moved weights: tokens, features, permutation, forward, backward, optimizer.
Checkpoints and validations are in neither's seconds. Features are random numbers of the true shape, since nothing here
depends on their values; each round is one epoch of the same phrases, first the one loop, then the other.

- The reference does what the facts about SAM3-LiteText's training say: every batch is padded to 16 tokens, padding is
  attended and counts in the losses; the words of every phrase are shuffled and read in a second padded pass, whose
  gradient and batch statistics count; consistency pools padding too; AdamW moves all parameters with weight decay, the
  whole token table of 49,408 x 512 included, as PyTorch does it by default. Its features lie in memory as one float32
  array by row number. It neither clips gradients nor averages weights. Its layers are ours: what makes a layer fast
  makes it fast for both.
- Ours is `Trainer.take_step` as `litetext distill` runs it: batches of similar length, whose padding is masked and not
  computed; features from a `FeatureStore` on disk (fp16); a second pass only for phrases that have a permutation; the
  token table is pruned to the corpus; gradients are clipped and weights averaged.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from benchmarks.command import run
from benchmarks.machine import saco_prompts
from litetext.distillation.data import PhraseSplit, count_batches, epoch_batches
from litetext.distillation.recipe import DistillRecipe
from litetext.distillation.train import Trainer
from litetext.encoders.config import OUTPUT_WIDTH, EncoderConfig
from litetext.encoders.student import TextStudent, build_student
from litetext.features.encode import token_lengths
from litetext.features.store import FeatureStore, Teacher, distinct_phrases, write_shard
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.bpe import TokenBatch

ROUNDS, PHRASES, BATCH = 3, 2048, 256
CONTEXT, TEACHER_CONTEXT = 16, 32
CONSISTENCY = 0.1
RATE, WEIGHT_DECAY = 1e-3, 0.05


@dataclass(eq=False)
class Reference:
    """The reference loop: dense, padded, each phrase read twice."""

    texts: Sequence[str]
    batch: int
    features: Tensor
    student: TextStudent
    optimizer: torch.optim.Optimizer
    chance: np.random.Generator

    @classmethod
    def of(cls, texts: Sequence[str], batch: int) -> "Reference":
        config = EncoderConfig.of("s0", CONTEXT, padding="attended")
        student = build_student(config, torch.Generator().manual_seed(0))
        features = torch.randn(len(texts), CONTEXT, OUTPUT_WIDTH, generator=torch.Generator().manual_seed(1))
        optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        return cls(texts, batch, features, student, optimizer, np.random.default_rng(0))

    def run_epoch(self) -> None:
        count = count_batches(len(self.texts), self.batch)
        for rows in np.array_split(self.chance.permutation(len(self.texts)), count):
            self.take_step([self.texts[row] for row in rows], self.features[torch.from_numpy(rows)])

    def take_step(self, texts: list[str], teacher: Tensor) -> float:
        self.optimizer.zero_grad()
        student, shuffled = self.read(texts), self.read([self.shuffle(text) for text in texts])
        consistency = 1 - cosine_similarity(student.mean(dim=1), shuffled.mean(dim=1), dim=1).mean()
        loss = mse_loss(student, teacher) + (1 - cosine_similarity(student, teacher, dim=2).mean())
        loss = loss + CONSISTENCY * consistency
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def read(self, texts: list[str]) -> Tensor:
        batch = TokenBatch.of_texts(texts, CONTEXT)
        return self.student(torch.from_numpy(batch.ids), torch.from_numpy(batch.mask))

    def shuffle(self, text: str) -> str:
        words = text.split()
        return " ".join(words[place] for place in self.chance.permutation(len(words)))


@dataclass(eq=False)
class Ours:
    """The loop of `litetext distill`, without its validations and checkpoints."""

    trainer: Trainer
    epoch: int = 0
    permuted: int = 0

    @classmethod
    def of(cls, texts: Sequence[str], batch: int, folder: Path) -> "Ours":
        recipe = DistillRecipe.of(
            {
                "preset": "s0",
                "context_length": CONTEXT,
                "losses": {"consistency": CONSISTENCY},
                "batch_size": batch,
                "lr": RATE,
                "weight_decay": WEIGHT_DECAY,
            }
        )
        store = write_features(texts, folder / "features")
        split = PhraseSplit(tuple(texts), ())  # all phrases are trained on, and none is validated with
        return cls(Trainer(recipe, folder / "run", store, split, device=torch.device("cpu")))

    def run_epoch(self) -> None:
        trainer, recipe = self.trainer, self.trainer.recipe
        for number, rows in enumerate(epoch_batches(trainer.lengths, recipe.batch_size, recipe.seed, self.epoch)):
            texts = [trainer.split.train[row] for row in rows]
            permuted = trainer.permute(texts, self.epoch, number)
            trainer.state.progress.add(trainer.take_step(texts, permuted))
            self.permuted += sum(other is not None for other in permuted)
        self.epoch += 1


def write_features(texts: Sequence[str], path: Path) -> FeatureStore:
    """A store of random features of the teacher's true shape, one row for each token."""
    teacher = Teacher("random", "0" * 64, "0" * 64, TEACHER_CONTEXT, OUTPUT_WIDTH)
    generator = np.random.default_rng(1)
    lengths = token_lengths(texts, TEACHER_CONTEXT)
    rows = [generator.standard_normal((length, OUTPUT_WIDTH), dtype=np.float32) for length in lengths]
    write_shard(path, teacher, "fp16", distinct_phrases(texts), [(range(len(texts)), rows)])
    store = FeatureStore.open(path)
    store.verify()
    return store


def timed(loop: Reference | Ours) -> float:
    """Phrases per second of one epoch."""
    start = time.perf_counter()
    loop.run_epoch()
    count = len(loop.texts if isinstance(loop, Reference) else loop.trainer.split.train)
    return count / (time.perf_counter() - start)


def measure(rounds: int = ROUNDS, phrases: int = PHRASES, batch: int = BATCH) -> dict[str, object]:
    source, prompts = saco_prompts()
    chosen = np.random.default_rng(0).permutation(len(prompts))[:phrases]
    texts = PromptCorpus.build(Prompt(prompts[row]) for row in chosen).texts
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        reference, loop = Reference.of(texts, batch), Ours.of(texts, batch, Path(folder))
        reference.take_step(list(texts[:8]), reference.features[:8])  # warm
        loop.trainer.take_step(texts[:8], [None] * 8)
        for _ in range(rounds):
            theirs.append(timed(reference))
            ours.append(timed(loop))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "phrases": len(texts),
        "source": source,
        "tokens_per_phrase": float(loop.trainer.lengths.mean()),
        "permuted": loop.permuted / (rounds * len(texts)),
        "student": f"s0, width 512, context {CONTEXT}, random weights; features random, of the true shape",
        "consistency": CONSISTENCY,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "reference_phrases_per_second": statistics.median(theirs),
        "litetext_phrases_per_second": statistics.median(ours),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


if __name__ == "__main__":
    run(measure, __doc__, "rounds", "phrases", "batch")
