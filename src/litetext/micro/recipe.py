"""The recipe of the micro SAM3: stages; each is a row of numbers."""

from dataclasses import dataclass, replace
from typing import Literal

from litetext.distillation.schedule import cosine_rate
from litetext.errors import OptionError
from litetext.micro.batches import BatchOptions


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        losses: "contrast": names of instances alone; "set": everything.
        steps: how many.
        rate: the highest learning rate.
        eye: the share of it for what sees and reads: vision encoder, text tower and its projection.
        reads: whether the text tower and its projection are trained; where not, students of them stay what they are.
        floor: the last learning rate, as a share of it.
        batch: what is in a batch.
        warm_up: steps until the rate is reached.
    """

    losses: Literal["contrast", "set"]
    steps: int
    rate: float
    floor: float
    batch: BatchOptions
    warm_up: int = 100
    eye: float = 1.0
    reads: bool = True

    def rate_at(self, step: int) -> float:
        """The learning rate of a step of this stage, from 0: linear warm-up, then half a cosine."""
        return cosine_rate(step, self.steps, warm_up=self.warm_up, rate=self.rate, floor=self.floor)


_WORDS = BatchOptions(pictures=40, phrases=0, nouns=1000, coloured=40, strange=40, sheets=0.8)
_SETS = BatchOptions(pictures=16, phrases=6, nouns=160, coloured=12, strange=20)
_GUESSES = replace(_SETS, guesses=12)
_EDGES = replace(_GUESSES, points=256)


@dataclass(frozen=True)
class MicroRecipe:
    """How the micro SAM3 is trained; the defaults made the weights that are shipped.

    Attributes:
        seed: of the weights and of the world.
        stages: one after another.
        weight_decay: of matrices; biases, norms and tables have none.
        most_norm: gradients are scaled down to this norm.
        validate_every: steps between two validations.
        validation_pairs: pairs of the validation split, always the same.
        save_every: steps between two checkpoints.
        threads: of PyTorch.

    Raises:
        OptionError: a number that makes no sense.
    """

    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage("contrast", 1500, 1e-3, 0.1, _WORDS),
        Stage("set", 1150, 8e-4, 0.01, _SETS, eye=0.5),
        Stage("set", 3600, 8e-4, 0.01, _GUESSES, eye=0.6),
        Stage("set", 3800, 6e-4, 0.01, _EDGES, eye=0.8, reads=False),
    )
    weight_decay: float = 0.03
    most_norm: float = 1.0
    validate_every: int = 400
    validation_pairs: int = 300
    save_every: int = 150
    threads: int = 2

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if not self.stages or any(stage.steps < 1 for stage in self.stages):
            raise OptionError("a recipe without steps", hint="give each stage 1 or more")
        for name in ("validate_every", "validation_pairs", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} {getattr(self, name)}", hint="give 1 or more")

    def first_step_of(self, number: int) -> int:
        """The first step of a stage; negative numbers count from the end."""
        return sum(stage.steps for stage in self.stages[:number])

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def locate(self, step: int) -> tuple[int, int]:
        """The number of the stage of a step, and the step's number in it."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise OptionError(f"the recipe ends before step {step}")
