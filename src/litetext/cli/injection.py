"""The options of `litetext audit --attenuation`: whose error goes into which host, and what is asked of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.auditing.attenuation import AttenuationStats
    from litetext.prompts.corpus import PromptCorpus
    from litetext.sam3.attenuation import Question

MICRO = "micro"  # as a host, and as images; a folder of the user's that is called so is given as ./micro
MOST_PAIRS = 300


@dataclass(frozen=True)
class Injection:
    """A student, a host and images, as the command line names them.

    Attributes:
        student: whose error; None: nothing is injected, and nothing else may be said.
        host: a folder, a hub name, or the micro host.
        images: paths, or the micro world's scenes, which are the micro host's own.
        pairs: the most (image, phrase) pairs; None: `MOST_PAIRS`.
        positions: of the student's position table: auto, slice, interpolate or keep.
        context_length: tokens that the student reads; None: as many as its table has.

    Raises:
        OptionError: an option without the others that it needs, or no pairs.
    """

    student: str | None
    host: str | None = None
    images: tuple[str, ...] = ()
    pairs: int | None = None
    positions: str = "auto"
    context_length: int | None = None

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.student is None:
            if any((self.host, self.images, self.pairs is not None, self.positions != "auto", self.context_length)):
                raise OptionError("options of --attenuation without a student", hint="give --attenuation STUDENT")
        elif self.host is None:
            raise OptionError("--attenuation without a host", hint="give --host micro, a folder or a hub name")
        elif not self.images and self.host != MICRO:
            raise OptionError("--attenuation without images", where=self.host, hint="give --images DIR, or micro")
        if self.pairs is not None and self.pairs < 1:
            raise OptionError(f"{self.pairs} pairs", where="--pairs", hint="ask for 1 or more")

    def measure(
        self, corpus: "PromptCorpus", device: str, seed: int, progress: Callable[[str, float], None]
    ) -> "AttenuationStats | None":
        """Load host and student and follow the error, if there is one to be followed.

        Args:
            corpus: prompts that are asked of images.
            device: where to compute.
            seed: of scenes, of the choice of prompts, and of the errors that are drawn.
            progress: called with the stage and the share done, 0..1.

        Raises:
            EncoderError: host or student cannot be loaded, or their widths differ.
            ImageError: no images, or one that cannot be read.
            OptionError: no such device or positions.
            MissingExtraError: PyTorch or `transformers` is not installed.
        """
        if self.student is None or self.host is None:
            return None
        try:
            from litetext.sam3.attenuation import measure_attenuation, share_out
            from litetext.sam3.images import find_images
            from litetext.sam3.segmenter import Segmenter
        except ImportError as error:
            raise MissingExtraError("a segmenter", "sam3") from error
        from litetext.cli.models import open_encoder

        most = MOST_PAIRS if self.pairs is None else self.pairs
        with_scenes = self.images in ((), (MICRO,))
        questions = [] if with_scenes else share_out(find_images(self.images), corpus.texts, most, seed)
        student = open_encoder(self.student, self.positions, self.context_length, device)
        segmenter = Segmenter.load(self.host, device=device)
        if with_scenes:
            questions = _scenes(most, seed, segmenter.processor.size["height"])
        stats = measure_attenuation(segmenter, student, questions, seed, progress)
        return replace(stats, host=self.host, student=self.student)


def _scenes(pairs: int, seed: int, size: int) -> "list[Question]":
    """Scenes of the micro world that training never saw, with phrases of their own, half of which name nothing."""
    from itertools import groupby

    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions
    from litetext.sam3.attenuation import Question

    groups = groupby(make_pairs(seed, pairs, SceneOptions(size=size, split="test")), key=lambda pair: pair.picture)
    scenes = [list(group) for _, group in groups]
    return [Question(some[0].scene.pixels, tuple(pair.phrase.text for pair in some)) for some in scenes]
