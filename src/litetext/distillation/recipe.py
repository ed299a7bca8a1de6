"""A recipe of distillation: the keywords of `distill`, which are the keys of a TOML file, checked once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any, Literal

from litetext.checkpoints.load import Positions
from litetext.distillation.losses import LossWeights
from litetext.encoders.config import PRESETS, EncoderConfig, Padding
from litetext.errors import OptionError, check_names
from litetext.features.store import Teacher
from litetext.records import check_choices

Monitor = Literal["last", "cosine", "end_cosine", "retrieval", "loss", "cgf1"]
Dtype = Literal["fp32", "bf16", "fp16"]

_RANGES: tuple[tuple[str, float, float], ...] = (  # keys, the least and the largest value
    ("context_length width seed patience epochs batch_size", 0, inf),
    ("accumulation_steps save_steps validation_phrases", 1, inf),
    ("rank", -1, inf),
    ("max_grad_norm", 1e-12, 1e6),
    ("lr weight_decay min_delta", 0, 1e6),
    ("min_lr_ratio warmup_ratio", 0, 1),
    ("ema_decay", 0, 0.99999),
    ("validation_fraction", 1e-6, 0.9),
)
# Of each preset: the highest learning rate, phrases of a step, and steps. The rate falls as the width grows; what was
# tried stands in docs/explanation/experiments.md (f). A recipe that says something else is not changed.
TRAINING: dict[str, tuple[float, int, int]] = {
    "s0": (1e-3, 256, 10_000),
    "s1": (7e-4, 256, 10_000),
    "l": (5e-4, 256, 10_000),
    "xs": (2e-3, 256, 6_000),
    "xxs": (4e-3, 256, 6_000),
    "tiny": (1e-2, 128, 3_000),
    "micro-s": (6e-3, 128, 3_000),
    "micro-xs": (1e-2, 128, 4_500),
}
FEWEST_BATCHES, SMALLEST_BATCH = 50, 16  # of an epoch, of phrases: few phrases are read in smaller batches
EPOCHS = (5, 60)  # the fewest and the most that are chosen
FEW_PHRASES = 2_000  # below: a student learns them by heart (docs/explanation/experiments.md, f)


@dataclass(frozen=True)
class DistillRecipe:
    """All that decides what a distillation gives."""

    features: str = "features"  # the folder that `litetext embed` wrote
    # Prompts to train on, as `litetext audit` reads them; none for all phrases of the features.
    sources: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()  # prompts of evaluation sets, of which none may be trained on or validated with
    # Of the student, a name in `PRESETS`; its features have the teacher's width, whatever the preset has. "": the first
    # that is made for that width (s0 for SAM3, micro-s for micro), or s0.
    preset: str = ""
    context_length: int = 0  # tokens that the student reads; 0 for the preset's own
    padding: Padding = "masked"
    width: int = 0  # channels of a token, a multiple of the preset's heads; 0 for the preset's own
    rank: int = -1  # rank of the token table, at most the width: 0 for a whole one, -1 for the preset's own
    # A file, folder or hub name of a LiteText student or a MobileCLIP to start from; "" for random weights.
    init: str = ""
    # Whether each row of a random token table starts from the teacher's features of that token; see `start_tokens`.
    start_tokens: bool = True
    # How its position table gets ``context_length`` rows, as `load_encoder` takes it; with "auto" the table of a
    # MobileCLIP is sliced, since each of its rows was trained for its own place.
    positions: Positions = "auto"
    model: str = ""  # a SAM3 model whose decoder the losses ``keys``, ``values`` and ``scoring`` need; "" for none
    losses: LossWeights = field(default_factory=LossWeights)
    epochs: int = 0  # how often each phrase is seen; 0: what fits the preset and the number of phrases
    batch_size: int = 0  # phrases of a step, of all processes together; 0 likewise
    accumulation_steps: int = 1  # parts that a batch is computed in, one after another, where memory is short
    lr: float = 0.0  # the highest learning rate; 0 for the preset's own
    min_lr_ratio: float = 0.01  # the last learning rate, as a share of the highest
    warmup_ratio: float = 0.05  # share of all steps until the highest learning rate
    weight_decay: float = 0.05  # of matrices and convolutions; norms, biases, token and position tables have none
    max_grad_norm: float = 1.0  # gradients are clipped to this norm
    ema_decay: float = 0.999  # of the average of the weights, which is validated and kept; 0 for the weights themselves
    dtype: Dtype = "fp32"  # "fp32", "bf16" or "fp16", what the layers compute in; weights and losses are float32
    seed: int = 0  # of the weights, the split, the order and the permutations
    save_steps: int = 500  # steps between two checkpoints; there is one after each epoch besides
    validation_fraction: float = 0.05  # share of the phrases to validate with
    validation_phrases: int = 2000  # at most so many of them are used
    # Which student is kept: the "last", or the best by "cosine", "end_cosine", "retrieval", "loss" or "cgf1". Where
    # phrases are few, the best by a figure of other phrases may find no masks at all (experiments, f).
    monitor: Monitor = "last"
    # Epochs without improvement until early stopping; 0 to train to the end, where the learning rate is lowest.
    patience: int = 0
    min_delta: float = 1e-4  # what counts as an improvement
    # Annotations of (picture, phrase) pairs in SA-Co Gold's format, to validate the masks of ``model`` with.
    gold: tuple[str, ...] = ()
    images: tuple[str, ...] = ()  # folders with their pictures

    def __post_init__(self) -> None:
        """Check each value, and those that depend on each other."""
        for names, least, largest in _RANGES:
            for name in names.split():
                if not least <= getattr(self, name) <= largest:
                    hint = f"give {least:g} or more" if largest == inf else f"give {least:g} to {largest:g}"
                    raise OptionError(f"{name} is {getattr(self, name)}", hint=hint)
        check_choices(self)
        if self.accumulation_steps > self.batch_size > 0:
            raise OptionError(f"accumulation_steps is {self.accumulation_steps}", hint="give at most batch_size")
        if self.patience and self.monitor == "last":
            hint = "give monitor: cosine, retrieval, loss or cgf1"
            raise OptionError("early stopping without a figure that says when", hint=hint)
        if bool(self.gold) != bool(self.images):
            raise OptionError("gold and images come together", hint="give the annotations and where their pictures are")
        self.student_config(1)

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "the recipe") -> "DistillRecipe":
        """A recipe from the values that differ from the defaults.

        Raises:
            OptionError: an unknown key (the nearest known one is named), or a value of another type or without sense.
        """
        try:
            losses = values.get("losses", {})
            if isinstance(losses, Mapping):
                _check_keys(losses, LossWeights)
                losses = LossWeights(**losses)
            _check_keys(values, cls)
            defaults = cls()
            typed = {name: _typed(name, value, getattr(defaults, name)) for name, value in values.items()}
            return cls(**{**typed, "losses": losses})
        except OptionError as error:
            raise OptionError(error.what, where=where, hint=error.hint) from error

    def student_config(self, output: int) -> EncoderConfig:
        """The student's configuration for features of a width."""
        name = self.preset or next((row.name for row in PRESETS.values() if row.output == output), "s0")
        preset = EncoderConfig.of(name, self.context_length or None, padding=self.padding)
        rank = preset.rank if self.rank < 0 else self.rank or None
        return replace(preset, output=output, width=self.width or preset.width, rank=rank)

    def fitted(self, teacher: Teacher, phrases: int) -> "DistillRecipe":
        """The recipe for a teacher and a number of phrases to train on: what was left open is chosen.

        Raises:
            OptionError: more tokens than the teacher reads.
        """
        longest, config = teacher.context_length, self.student_config(teacher.width)
        if self.context_length > longest:
            what = f"a student of {self.context_length} tokens for a teacher of {longest}"
            raise OptionError(what, hint=f"give context_length {longest} or less")
        lr, largest, steps = TRAINING[config.name]
        batch_size = self.batch_size or max(min(largest, phrases // FEWEST_BATCHES), SMALLEST_BATCH)
        epochs = min(max(round(steps * batch_size / phrases), EPOCHS[0]), EPOCHS[1])
        return replace(
            self,
            preset=config.name,
            context_length=min(config.context_length, longest),
            lr=self.lr or lr,
            batch_size=max(batch_size, self.accumulation_steps),
            epochs=self.epochs or epochs,
        )

    def remarks(self, left_open: "DistillRecipe", phrases: int) -> list[str]:
        """Lines that say what `fitted` chose, and what its user may not expect of so many phrases."""
        names = [name for name in ("preset", "lr", "batch_size", "epochs") if not getattr(left_open, name)]
        chosen = ", ".join(f"{name} {getattr(self, name)}" for name in names)
        lines = [f"chosen for {phrases:,} phrases: {chosen}"] if names else []
        if phrases < FEW_PHRASES:
            what = f"{phrases:,} phrases are few: the student will not understand others well"
            lines.append(f"warning: {what}; give {FEW_PHRASES:,} or more, also ones that no picture shows")
        return lines


def read_recipe(path: Path | None, changes: Mapping[str, Any] | None = None) -> DistillRecipe:
    """A recipe from a TOML file, or the defaults; its paths are relative to the current folder.

    Each of the ``changes`` that is not None overrides a value of the file.
    """
    try:
        values = {} if path is None else tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OptionError(f"cannot read the recipe ({reason})", where=str(path), hint="check the path") from error
    except ValueError as error:
        raise OptionError(f"not TOML ({error})", where=str(path), hint="see docs/how-to/distill.md") from error
    values |= {name: value for name, value in (changes or {}).items() if value is not None}
    return DistillRecipe.of(values, "the options" if path is None else str(path))


def _check_keys(values: Mapping[str, Any], kind: type[DistillRecipe] | type[LossWeights]) -> None:
    check_names(values, [key.name for key in fields(kind)], "key")


def _typed(name: str, value: Any, default: Any) -> Any:
    """A value as the type of its default; a whole number will do for a fraction."""
    kind = type(default)
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind and not (kind is LossWeights and isinstance(value, Mapping)):
        expected = {tuple: "a list of texts", str: "a text", int: "a whole number", float: "a number"}
        raise OptionError(f"{name} is {value!r}", hint=f"give {expected.get(kind, 'a table')}")
    return value
