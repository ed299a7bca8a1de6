"""A student of the embedded model, taught on the way: what the demonstration trains before the reader's eyes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

from litetext.distillation.losses import LossWeights
from litetext.distillation.recipe import DistillRecipe
from litetext.distillation.train import train_student
from litetext.distillation.training_report import CARD, PICTURE, STUDENT, DistillReport
from litetext.distillation.validation import Host
from litetext.features.embed import embed
from litetext.micro.phrases import sample_phrases
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.sam3.segmenter import Segmenter
from litetext.sam3.text_projections import TextProjections

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Lesson:
    """How a student is taught.

    Attributes:
        preset: its size.
        phrases: of the micro world, that it learns from.
        strange: of these, how many name nothing of it.
        epochs: how often each is seen.
        batch: phrases of a step.
        rate: the highest learning rate.
        seed: of the phrases, the weights and the order.
    """

    preset: str = "micro-s"
    phrases: int = 10_000
    strange: int = 600
    epochs: int = 16
    batch: int = 128
    rate: float = 6e-3
    seed: int = 0

    def recipe(self, cache: Path) -> DistillRecipe:
        """The same as `litetext distill` takes it: what differs from its defaults."""
        return DistillRecipe(
            features=str(cache),
            preset=self.preset,
            model="micro",
            losses=LossWeights(consistency=0.0, keys=1.0, values=1.0, scoring=1.0),  # consistency takes too long here
            epochs=self.epochs,
            batch_size=self.batch,
            lr=self.rate,
            weight_decay=0.0,
            ema_decay=0.98,
            seed=self.seed,
            validation_phrases=400,
            monitor="loss",
            patience=0,
        )


def teach(folder: Path, host: Segmenter, lesson: Lesson, progress: Progress) -> DistillReport:
    """Embed phrases with a host's own text encoder, and distill a student that the host can read.

    Args:
        folder: gets the student, its curve and its model card.
        host: the teacher in its host.
        lesson: how.
        progress: told of each stage.
    """
    corpus = PromptCorpus.build(Prompt(text) for text in sample_phrases(lesson.seed, lesson.phrases, lesson.strange))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        cache, run = Path(name, "features"), Path(name, "run")
        embed(corpus, host.encoder, cache, progress=progress)
        reader = Host("micro", TextProjections(host.detector))
        report = train_student(lesson.recipe(cache), run, reader, progress=progress)
        for file in (STUDENT, PICTURE, CARD):
            copyfile(run / file, folder / file)
    return report
