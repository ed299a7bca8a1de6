"""The seven subsets of SA-Co Gold in one table, as the papers print it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.errors import EvaluationError
from litetext.evaluation.average_precision import AveragePrecision, evaluate_ap
from litetext.evaluation.cgf1 import CgF1, Progress, evaluate_gold

ANNOTATORS = 3


@dataclass(frozen=True)
class Subset:
    """A subset of SA-Co Gold.

    Attributes:
        name: what its predictions are called (``NAME.json``), and its key in JSON.
        title: what the papers' tables call it.
        stem: how its files are named: ``gold_STEM_merged_a_release_test.json``, and so for the annotators b and c.
    """

    name: str
    title: str
    stem: str


# The files of huggingface.co/datasets/facebook/SACo-Gold, as `scripts/eval/gold/eval_sam3.py` of facebookresearch/sam3
# names them (earlier ones without "release"); the order is that of the papers' tables.
SUBSETS = (
    Subset("metaclip", "MetaCLIP", "metaclip"),
    Subset("sa1b", "SA-1B", "sa1b"),
    Subset("crowded", "Crowded", "crowded"),
    Subset("food", "Food", "fg_food"),
    Subset("sport", "Sport", "fg_sports_equipment"),
    Subset("attributes", "Attributes", "attributes"),
    Subset("wiki", "Wiki", "wiki_common"),
)


@dataclass(frozen=True)
class GoldSet:
    """Ground truth and predictions that belong together.

    Attributes:
        title: what it is called; empty for the only one.
        truths: the files of its annotators, at least one.
        predictions: COCO results.
    """

    title: str
    truths: tuple[Path, ...]
    predictions: Path

    def tells(self, progress: Progress) -> Progress:
        """A progress that names the set in its stages."""
        return lambda stage, share: progress(f"{self.title}: {stage}" if self.title else stage, share)


@dataclass(frozen=True)
class GoldScores:
    """The scores of one set.

    Attributes:
        cgf1: cgF1, pmF1 and IL_MCC with all that they come from.
        ap: average precision against the first annotator, if it was asked for.
    """

    cgf1: CgF1
    ap: AveragePrecision | None = None

    def to_json(self) -> dict[str, Any]:
        """As `CgF1.to_json`, with ``ap`` if it was asked for."""
        return self.cgf1.to_json() | ({} if self.ap is None else {"ap": self.ap.to_json()})


@dataclass(frozen=True)
class SubsetScores:
    """The scores of several subsets.

    Attributes:
        scores: of each subset, in the order of the table; at least one.
    """

    scores: Mapping[Subset, GoldScores]

    @property
    def cgf1(self) -> float:
        """The plain average of the subsets, as in the papers' tables."""
        return self._average(lambda one: one.cgf1.cgf1)

    @property
    def pmf1(self) -> float:
        """The plain average of the subsets."""
        return self._average(lambda one: one.cgf1.pmf1)

    @property
    def il_mcc(self) -> float:
        """The plain average of the subsets."""
        return self._average(lambda one: one.cgf1.il_mcc)

    @property
    def ap(self) -> dict[str, float] | None:
        """The plain averages of the subsets where they are defined, -1 where none is; None if not asked for."""
        listed = [one.ap.to_json() for one in self.scores.values() if one.ap is not None]
        if not listed:
            return None
        defined = {name: [one[name] for one in listed if one[name] >= 0] for name in listed[0]}
        return {name: sum(values) / len(values) if values else -1.0 for name, values in defined.items()}

    @property
    def missing(self) -> tuple[Subset, ...]:
        """The subsets that are not in the average."""
        return tuple(subset for subset in SUBSETS if subset not in self.scores)

    def to_json(self) -> dict[str, Any]:
        """The averages, the scores of each subset, and the names of those that are missing."""
        averages: dict[str, Any] = {"cgf1": self.cgf1, "il_mcc": self.il_mcc, "pmf1": self.pmf1}
        return {
            **averages,
            **({} if self.ap is None else {"ap": self.ap}),
            "subsets": {subset.name: one.to_json() for subset, one in self.scores.items()},
            "missing": [subset.name for subset in self.missing],
        }

    def _average(self, take: Callable[[GoldScores], float]) -> float:
        return sum(map(take, self.scores.values())) / len(self.scores)


def score_set(one: GoldSet, progress: Progress, *, with_ap: bool = False) -> GoldScores:
    """Score a set.

    Args:
        one: the set.
        progress: told the stage and the share done.
        with_ap: average precision too, against the first annotator.

    Raises:
        EvaluationError: a file cannot be read, or the files do not belong together.
    """
    told = one.tells(progress)
    found = evaluate_gold(one.truths, one.predictions, told)
    return GoldScores(found, evaluate_ap(one.truths[0], one.predictions, told) if with_ap else None)


def find_subsets(folder: Path, predictions: Path) -> dict[Subset, GoldSet]:
    """The subsets of which a folder holds ground truth, in the order of the table.

    Args:
        folder: annotations under the names of the release.
        predictions: a folder where those of a subset are ``NAME.json``, or will be.

    Raises:
        EvaluationError: no such files, or two of one annotator.
    """
    found = {}
    for subset in SUBSETS:
        files = sorted(folder.glob(f"gold_{subset.stem}_merged_?_*test.json"))
        start = len(f"gold_{subset.stem}_merged_")
        annotators = [file.name[start] for file in files]
        if len(set(annotators)) != len(annotators):
            listed = ", ".join(file.name for file in files)
            raise EvaluationError(f"two files of one annotator: {listed}", where=str(folder), hint="keep one of them")
        if files:
            found[subset] = GoldSet(subset.title, tuple(files), predictions / f"{subset.name}.json")
    if not found:
        raise EvaluationError(
            "no annotations of SA-Co Gold",
            where=str(folder),
            hint=f"its files are named like gold_{SUBSETS[0].stem}_merged_a_release_test.json",
        )
    return found
