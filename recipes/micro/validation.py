"""How good a model is: the validation curve of training, then the calibration of its scores, and its weights as files.

A phrase is answered where presence times score passes 0.5. As they are trained, both may be too low or too high; three
numbers, chosen on pairs of the validation split and folded into the weights, correct that.
"""

import copy
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit  # type: ignore[import-untyped]
from torch.nn.functional import normalize

from litetext.checkpoints.hub import quiet
from litetext.errors import OptionError
from litetext.evaluation.cgf1 import Tally, count_pair, score
from litetext.micro.concepts import spoken_nouns
from litetext.micro.evaluation import evaluate_pairs, overlaps
from litetext.micro.model import SIZE
from litetext.micro.phrases import Pair, make_pairs
from litetext.micro.scenes import Scene, SceneOptions
from litetext.sam3.masks import resize_masks
from litetext.sam3.segmenter import Segmenter
from litetext.storage import atomic_file, write_text
from recipes.micro.batches import Bank, assemble
from recipes.micro.forward import encode_text, normalize_pixels
from recipes.micro.losses import pool_instances

if TYPE_CHECKING:
    from transformers import Sam3Model


VALIDATION_SEED, CALIBRATION_PAIRS = 1, 900


@cache
def validation_pairs(count: int) -> tuple[Pair, ...]:
    """The first pairs of the validation split, always the same."""
    return tuple(make_pairs(VALIDATION_SEED, count, SceneOptions(size=SIZE, split="validation")))


def calibration_pairs() -> tuple[Pair, ...]:
    """Pairs of the validation split that the curve does not look at."""
    return tuple(make_pairs(VALIDATION_SEED + 1, CALIBRATION_PAIRS, SceneOptions(size=SIZE, split="validation")))


def validate(model: "Sam3Model", pairs: Sequence[Pair], *, masks: bool) -> dict[str, float]:
    """Scores of a model, which is left in training mode.

    Args:
        model: what is trained.
        pairs: of the validation split.
        masks: segment too; before the set losses begin there is nothing to be seen.

    Returns:
        ``nouns_right`` (0 to 1), and with masks ``cgf1``, ``pmf1`` (0 to 100) and ``il_mcc`` (-1 to 1).
    """
    model.eval()  # type: ignore[no-untyped-call]
    result = {"nouns_right": nouns_right(model, list({pair.picture: pair.scene for pair in pairs}.values()))}
    if masks:
        result |= evaluate_pairs(Segmenter(model), pairs).overall.headline
    model.train()
    return result


def nouns_right(model: "Sam3Model", scenes: Sequence[Scene]) -> float:
    """Share of instances of which the noun of the highest cosine, of all nouns that training says, is true."""
    count = len(spoken_nouns())
    batch = assemble(scenes, [], Bank(spoken_nouns(), np.arange(count), np.full(count, -1)))
    with torch.inference_mode():
        features = model.vision_encoder(normalize_pixels(batch.pixels)).fpn_hidden_states[-2]
        texts = encode_text(model, batch.bank_ids, batch.bank_mask).pooled()
        instances = pool_instances(features, batch.owner, batch.cover)
        best = (instances @ normalize(texts, dim=1).T).argmax(1)
    return float((batch.truth[torch.arange(len(best)), best] == 1).float().mean())


PRESENCE_SCALES = (0.7, 1.0, 1.5, 2.0)
PRESENCE_SHIFTS = tuple(np.linspace(-1.5, 2.0, 15).tolist())
SCORE_SCALES = (0.7, 1.0, 1.5, 2.0, 3.0)
_THRESHOLD = 0.5

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Everything a model could answer for one pair.

    Attributes:
        presence: logit of the phrase being there at all.
        scores: [Q] logits of the queries, given that it is.
        ious: [Q, G] with the true masks.
    """

    presence: float
    scores: Array
    ious: Array


@dataclass(frozen=True)
class Calibration:
    """What is done to the logits: presence becomes scale x presence + shift, a score becomes scale x score.

    Attributes:
        presence_scale: positive.
        presence_shift: of the presence logit.
        score_scale: positive.
        cgf1: on the pairs that it was found on, 0 to 100.
        before: cgF1 without it on the same pairs.
    """

    presence_scale: float
    presence_shift: float
    score_scale: float
    cgf1: float
    before: float


def collect(model: "Sam3Model", pairs: Sequence[Pair]) -> list[Candidates]:
    """Run a model on pairs, those of a picture one after another, and keep what it says before any threshold."""
    segmenter = Segmenter(model)
    found: list[Candidates] = []
    for _, group in groupby(pairs, key=lambda pair: pair.picture):
        some = list(group)
        embedding = segmenter.embed(some[0].scene.pixels)
        outputs = segmenter.host_engine.run_rows(embedding, segmenter.rows([pair.phrase.text for pair in some]))
        for row, pair in enumerate(some):
            ious = overlaps(resize_masks(outputs.pred_masks[row].numpy(), embedding.size, 0.5), pair)
            scores = outputs.pred_logits[row].double().numpy()
            found.append(Candidates(float(outputs.presence_logits[row]), scores, ious))
    return found


def calibrate(candidates: Sequence[Candidates]) -> Calibration:
    """The best of a grid; of equals the one that changes least comes first."""

    def measure(scale: float, shift: float, score_scale: float) -> float:
        counts = []
        for one in candidates:
            kept = expit(scale * one.presence + shift) * expit(score_scale * one.scores) > _THRESHOLD
            counts.append(count_pair(one.ious[kept]))
        return score(Tally.of(counts)).cgf1

    before = measure(1.0, 0.0, 1.0)
    grid = sorted(
        product(PRESENCE_SCALES, PRESENCE_SHIFTS, SCORE_SCALES),
        key=lambda one: abs(np.log(one[0])) + abs(one[1]) + abs(np.log(one[2])),
    )
    best = max(((*one, measure(*one)) for one in grid), key=lambda one: one[3])
    if best[3] <= before:
        return Calibration(1.0, 0.0, 1.0, before, before)
    return Calibration(*best, before=before)


def fold(model: "Sam3Model", calibration: Calibration) -> None:
    """Change the last layers of a model so that it says what the calibration makes of its logits."""
    presence: Any = model.detr_decoder.presence_head.layer3
    scoring: Any = model.dot_product_scoring.text_proj
    with torch.no_grad():
        presence.weight.mul_(calibration.presence_scale)
        presence.bias.mul_(calibration.presence_scale).add_(calibration.presence_shift)
        scoring.weight.mul_(calibration.score_scale)
        scoring.bias.mul_(calibration.score_scale)


COLUMNS = (
    "step", "minutes", "loss", "contrast", "concept", "presence", "score", "l1", "giou", "mask", "dice",
    "edge", "point_dice", "semantic", "semantic_dice", "guess", "nouns_right", "cgf1", "il_mcc", "pmf1",
)  # fmt: skip
# Title; then column, label and scale: shares are drawn in percent.
_PANELS = (
    ("words: one of 424 nouns for an instance", (("nouns_right", "instances named rightly", 100),)),
    ("masks: validation pairs", (("cgf1", "cgF1", 1), ("pmf1", "pmF1", 1), ("il_mcc", "IL_MCC x 100", 100))),
)

Row = Mapping[str, float]


class Curve:
    """The rows of a run, kept in a folder.

    Args:
        folder: holds ``curve.csv`` and ``curve.png``.
        until: rows of later steps are dropped: the run goes on from there.

    Raises:
        OptionError: the table is not one of these.
    """

    def __init__(self, folder: Path, until: int) -> None:
        self.table, self.picture = folder / "curve.csv", folder / "curve.png"
        self.rows = [row for row in _read(self.table) if row["step"] <= until]

    def add(self, row: Row) -> None:
        """Append a row, and write table and picture anew."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self.rows)
        write_text(self.table, text.getvalue())
        self._draw()

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        for axes, (title, lines) in zip(figure.subplots(1, 2), _PANELS, strict=True):
            for column, label, scale in lines:
                points = [(row["step"], scale * row[column]) for row in self.rows if column in row]
                if points:
                    axes.plot(*zip(*points, strict=True), marker=".", label=label)
            axes.set(title=title, xlabel="step", ylabel="percent", ylim=(0, 100))
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend()
        with atomic_file(self.picture) as file:
            figure.savefig(file, format="png", dpi=110)


def _read(path: Path) -> list[Row]:
    """The rows of a table; none if there is no file."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file, strict=True)
            ]
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise OptionError("not a validation curve", where=str(path), hint="remove it") from error


MOST_BYTES = 20_000_000


def save_weights(model: "Sam3Model", folder: Path) -> int:
    """Write a model in float16 with its configuration and its processor, as `load_host` reads it.

    The model itself stays as it is.

    Returns:
        Bytes of all files.
    """
    from transformers import Sam3ImageProcessor

    folder.mkdir(parents=True, exist_ok=True)
    half: Any = copy.deepcopy(model)
    with quiet():
        half.to(torch.float16).save_pretrained(folder)
    Sam3ImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return sum(file.stat().st_size for file in folder.iterdir())
