"""Calibrations: by how much a model's scores are shifted with a text encoder, kept in a file beside that encoder.

SAM3's score of a mask is that of its class times that of the presence of the phrase; either may be shifted.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from litetext.checkpoints.hub import name_source
from litetext.errors import EncoderError, LiteTextError
from litetext.records import read_json, record
from litetext.storage import to_json, write_text

SUFFIX = ".calibration.json"
MOST = 50  # logits


@dataclass(frozen=True)
class Calibration:
    """What `litetext evaluate calibrate` found for a text encoder in a model, both as `name_source` has them."""

    shift: float  # added to the logit of every class score: ranks within a phrase stay
    model: str
    text_encoder: str
    positions: str = "auto"  # how the encoder was loaded
    context_length: int | None = None
    presence: float | None = None  # added to the logit of presence; None, in older files: the shift is of the product

    def __post_init__(self) -> None:
        """Refuse what no float32 holds as a factor of odds."""
        if max(abs(self.shift), abs(self.presence or 0)) > MOST:
            raise EncoderError(f"a shift of {self}", hint=f"{MOST} logits are the most")

    def __str__(self) -> str:
        """What is shifted, in words."""
        if self.presence is None:
            return f"scores {self.shift:+.2f} logits"
        return f"class {self.shift:+.2f}, presence {self.presence:+.2f} logits"

    def apply(self, classes: Any, presence: Any) -> tuple[Any, Any]:
        """Scores of class and of presence, whose product is the score of a mask, shifted."""
        if self.presence is None:
            return shift_scores(classes * presence, self.shift), 1.0
        return shift_scores(classes, self.shift), shift_scores(presence, self.presence)

    @classmethod
    def of(cls, shift: float, model: str | Path, text_encoder: str | Path | None, **loaded: Any) -> Self:
        """Of a model and an encoder as a user names them; None: the model's own."""
        return cls(shift, name_source(str(model)), name_source(str(text_encoder or model)), **loaded)

    def write(self, path: Path) -> None:
        """Write the file, or replace it."""
        write_text(path, to_json(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote; an `EncoderError` if it is not that."""
        try:
            return record(cls, read_json(path))
        except (ValueError, LiteTextError) as error:
            hint = "move it away, or make it again: litetext evaluate calibrate"
            raise EncoderError(f"not a calibration ({error})", where=str(path), hint=hint) from error


def shift_scores(scores: Any, shift: Any) -> Any:
    """Scores, from 0 to 1, with a shift added to their logits; an array or tensor, of the same dtype for one shift."""
    if isinstance(shift, np.ndarray):
        factor: Any = np.exp(shift)  # of the odds
    elif shift:
        factor = math.exp(shift)
    else:
        return scores
    return scores * factor / (1 - scores + scores * factor)


def calibration_file(model: str | Path, text_encoder: str | Path | None = None) -> Path | None:
    """Where the calibration of an encoder, or of a model's own, is kept: beside its file or folder, whatever that is.

    None for what is known by a name only: a model of this package or of the hub.
    """
    path = Path(text_encoder or model).expanduser().resolve()
    return path.with_name(path.name + SUFFIX) if path.exists() else None


def find_calibration(
    model: str | Path, text_encoder: str | Path | None, tell: Callable[[str], None], **loaded: Any
) -> Calibration | None:
    """The calibration that is kept of an encoder in a model; one that was made for others is told, and not used."""
    path = calibration_file(model, text_encoder)
    if path is None or not path.is_file():
        return None
    found = Calibration.read(path)
    asked = Calibration.of(found.shift, model, text_encoder, presence=found.presence, **loaded)
    if found == asked:
        return found
    here, there = (f"{one.text_encoder} in {one.model}" for one in (asked, found))
    tell(f"warning: {path.name} is not used: it was made for {there}, not for {here}")
    return None
