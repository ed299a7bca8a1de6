"""A recipe of distillation: what a TOML file says where it differs from the defaults, checked at birth."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from litetext.checkpoints.load import Positions
from litetext.device import DTYPES
from litetext.distillation.losses import LossWeights
from litetext.encoders.config import Padding, StudentConfig
from litetext.errors import OptionError

Best = Literal["cosine", "end_cosine", "retrieval", "loss", "cgf1"]
NUMBERS = ("fp32", "bf16", "fp16")
Table = Mapping[str, Any]
Section = TypeVar("Section", "StudentOptions", "DataOptions", LossWeights, "TrainingOptions", "ValidationOptions")


@dataclass(frozen=True)
class StudentOptions:
    """What is trained.

    Attributes:
        preset: a name in `PRESETS`. The width of the features is that of the teacher's, whatever the preset says.
        context_length: tokens that it reads, from the first step on; 0 for the preset's own.
        padding: "masked" or "attended".
        width: channels of a token, a multiple of the preset's heads; 0 for the preset's own.
        rank: rank of the token table, at most the width: 0 for a whole one, -1 for the preset's own.
        init: a file, folder or hub name of a LiteText student or a MobileCLIP to start from; "" for random weights.
        positions: how its position table comes to ``context`` rows, as `load_encoder` takes it; with "auto" the table
            of a MobileCLIP is sliced, since each of its rows was trained for its own place.

    Raises:
        OptionError: a value makes no sense.
    """

    preset: str = "s0"
    context_length: int = 0
    padding: Padding = "masked"
    width: int = 0
    rank: int = -1
    init: str = ""
    positions: Positions = "auto"

    def __post_init__(self) -> None:
        """Check each value."""
        check_least(0, context_length=self.context_length, width=self.width)
        check_least(-1, rank=self.rank)
        if self.positions not in get_args(Positions):
            raise OptionError(f"positions '{self.positions}'", hint=f"give {', '.join(get_args(Positions))}")
        self.config(1)

    def config(self, output: int) -> StudentConfig:
        """The student's configuration for features of a width."""
        said = asdict(StudentConfig.of(self.preset, self.context_length or None, padding=self.padding)) | {
            "output": output
        }
        if self.width:
            said["width"] = self.width
        if self.rank >= 0:
            said["rank"] = self.rank or None
        return StudentConfig(**said)


@dataclass(frozen=True)
class DataOptions:
    """What it learns from.

    Attributes:
        cache: the folder that `litetext embed` wrote.
        sources: prompts to train on, as `litetext audit` reads them; none for all phrases of the cache.
        hold_out: prompts of evaluation sets, of which none may be trained on or validated with.
        validation: share of the phrases to validate with, above 0 and below 1.
        host: a SAM3 model whose decoder the losses ask, for ``keys``, ``values`` and ``scoring``; "" for none.

    Raises:
        OptionError: a value makes no sense.
    """

    cache: str = "features"
    sources: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()
    validation: float = 0.05
    host: str = ""

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 < self.validation < 1:
            raise OptionError(f"a share of {self.validation} for validation", hint="give more than 0, less than 1")


@dataclass(frozen=True)
class TrainingOptions:
    """How it learns.

    Attributes:
        epochs: how often each phrase is seen.
        batch: phrases of a step, of all processes together.
        accumulate: parts that a batch is computed in, one after another, where memory is short.
        rate: the highest learning rate.
        floor: the last learning rate, as a share of it.
        warm_up: share of all steps until the rate is reached.
        weight_decay: of matrices and convolutions; norms, biases, token and position tables have none.
        most_norm: gradients are scaled down to this norm, those of the token table's rows included.
        ema: decay of the average of the weights, which is what is validated and kept; 0 for the weights themselves.
        dtype: "fp32", "bf16" or "fp16", what the student's layers compute in; weights and losses are float32.
        seed: of the weights, the split, the order and the permutations.
        save_every: steps between two checkpoints; there is one after each epoch besides.

    Raises:
        OptionError: a value makes no sense.
    """

    epochs: int = 20
    batch: int = 256
    accumulate: int = 1
    rate: float = 1e-3
    floor: float = 0.01
    warm_up: float = 0.05
    weight_decay: float = 0.05
    most_norm: float = 1.0
    ema: float = 0.999
    dtype: str = "fp32"
    seed: int = 0
    save_every: int = 500

    def __post_init__(self) -> None:
        """Check each value."""
        check_least(1, epochs=self.epochs, batch=self.batch, accumulate=self.accumulate, save_every=self.save_every)
        check_least(0, seed=self.seed)
        if self.accumulate > self.batch:
            raise OptionError(f"a batch of {self.batch} in {self.accumulate} parts", hint="give fewer parts")
        for name, most in (("floor", 1.0), ("warm_up", 1.0), ("ema", 0.99999)):
            if not 0 <= getattr(self, name) <= most:
                raise OptionError(f"{name} is {getattr(self, name)}", hint=f"give 0 to {most:g}")
        for name in ("rate", "most_norm", "weight_decay"):
            value = getattr(self, name)
            if not isfinite(value) or value < 0 or (value == 0 and name != "weight_decay"):
                raise OptionError(f"{name} is {value}", hint="give a positive number")
        if self.dtype not in NUMBERS:
            raise OptionError(f"no number type is called '{self.dtype}'", hint=f"give {', '.join(NUMBERS)}")

    @property
    def number(self) -> str:
        """The number type in PyTorch's words."""
        return DTYPES[self.dtype]


@dataclass(frozen=True)
class ValidationOptions:
    """How it is judged, after each epoch.

    Attributes:
        phrases: the most that are used.
        best: the figure that says which student is kept: "cosine", "end_cosine", "retrieval", "cgf1", the higher the
            better, or "loss".
        patience: epochs without a gain after which training stops; 0 to go on to the end.
        gain: what counts as one.
        gold: files of annotators, of (picture, phrase) pairs that the host is asked with the student in it; none for no
            figures of masks.
        images: folders with their pictures.

    Raises:
        OptionError: a value makes no sense.
    """

    phrases: int = 2000
    best: Best = "cosine"
    patience: int = 5
    gain: float = 1e-4
    gold: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check each value."""
        check_least(1, phrases=self.phrases)
        check_least(0, patience=self.patience)
        if self.best not in get_args(Best):
            raise OptionError(f"no figure is called '{self.best}'", hint=f"give {', '.join(get_args(Best))}")
        if not isfinite(self.gain) or self.gain < 0:
            raise OptionError(f"a gain of {self.gain}", hint="give a number of at least 0")
        if bool(self.gold) != bool(self.images):
            raise OptionError("gold and images come together", hint="give the annotations and where their pictures are")


@dataclass(frozen=True)
class DistillRecipe:
    """All that decides what a distillation comes to, but the features; its attributes are the sections of a file."""

    student: StudentOptions = field(default_factory=StudentOptions)
    data: DataOptions = field(default_factory=DataOptions)
    losses: LossWeights = field(default_factory=LossWeights)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)

    @classmethod
    def of(cls, tables: Table, where: str = "the recipe") -> "DistillRecipe":
        """A recipe from tables of what differs from the defaults.

        Raises:
            OptionError: an unknown section or key (the nearest known one is named), a value of another type, or one
                that makes no sense.
        """
        kinds = {one.name: one.type for one in fields(cls)}
        _refuse_unknown("section", tables, kinds, where)
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                raise OptionError(f"{name} is not a section", where=where, hint=f"write [{name}] and its keys below")
        losses = _section(LossWeights, tables.get("losses", {}), f"{where}, [losses]")
        training = _section(TrainingOptions, tables.get("training", {}), f"{where}, [training]")
        validation = _section(ValidationOptions, tables.get("validation", {}), f"{where}, [validation]")
        student = _section(StudentOptions, tables.get("student", {}), f"{where}, [student]")
        data = _section(DataOptions, tables.get("data", {}), f"{where}, [data]")
        return cls(student, data, losses, training, validation)

    def to_json(self) -> dict[str, Any]:
        """Every value, by section."""
        return asdict(self)


def read_recipe(path: Path | None, changes: Mapping[str, Table] | None = None) -> DistillRecipe:
    """A recipe from a TOML file; its paths are as from the current folder.

    Args:
        path: the file; None for the defaults.
        changes: by section, values that come before those of the file; a value of None changes nothing.

    Raises:
        OptionError: the file cannot be read, or what it says makes no sense.
    """
    try:
        tables = {} if path is None else tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        raise OptionError(f"cannot read the recipe ({what})", where=str(path), hint="check the path") from error
    except ValueError as error:
        raise OptionError(f"not TOML ({error})", where=str(path), hint="see docs/distill.md for an example") from error
    for section, values in (changes or {}).items():
        said = {name: value for name, value in values.items() if value is not None}
        found = tables.get(section, {})
        if said and isinstance(found, Mapping):
            tables[section] = {**found, **said}
    return DistillRecipe.of(tables, "the options" if path is None else str(path))


def check_least(least: int, **values: int) -> None:
    """Raise an `OptionError` unless each value is at least ``least``."""
    for name, value in values.items():
        if value < least:
            raise OptionError(f"{name} is {value}", hint=f"give {least} or more")


def _section(kind: type[Section], table: Table, where: str) -> Section:
    defaults = kind()
    _refuse_unknown("key", table, asdict(defaults), where)
    values = {name: _typed(name, value, getattr(defaults, name), where) for name, value in table.items()}
    try:
        return kind(**values)
    except OptionError as error:
        raise OptionError(error.what, where=where, hint=error.hint) from error


def _typed(name: str, value: Any, default: Any, where: str) -> Any:
    """A value as the type of its default; a whole number will do for a fraction."""
    kind = type(default)
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = {tuple: "a list of texts", str: "a text", int: "a whole number", float: "a number"}[kind]
        raise OptionError(f"{name} is {value!r}", where=where, hint=f"give {wanted}")
    return value


def _refuse_unknown(what: str, given: Table, known: Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.0)
            raise OptionError(
                f"no {what} is called '{name}'", where=where, hint=f"did you mean '{near[0]}'? All: {', '.join(known)}"
            )
