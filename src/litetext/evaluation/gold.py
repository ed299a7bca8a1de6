"""The seven subsets of SA-Co Gold in one table, as the papers print it, and the scores of a segmenter on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from litetext.errors import EvaluationError
from litetext.evaluation.average_precision import evaluate_ap
from litetext.evaluation.cgf1 import SCORE_THRESHOLD, CgF1, Progress, evaluate_gold
from litetext.evaluation.coco import Truth, read_annotations
from litetext.evaluation.predict import options_for, plan_predictions, predict
from litetext.sam3.segmenter import Segmenter

ANNOTATORS = 3
# By name, as in ``NAME.json`` of predictions, in the order of the papers' tables: the title there and STEM of the files
# ``gold_STEM_merged_a_release_test.json``, and so for the annotators b and c: those of the data set facebook/SACo-Gold
# as `scripts/eval/gold/eval_sam3.py` of facebookresearch/sam3 names them (earlier ones without "release").
SUBSETS = {
    "metaclip": ("MetaCLIP", "metaclip"),
    "sa1b": ("SA-1B", "sa1b"),
    "crowded": ("Crowded", "crowded"),
    "food": ("Food", "fg_food"),
    "sport": ("Sport", "fg_sports_equipment"),
    "attributes": ("Attributes", "attributes"),
    "wiki": ("Wiki", "wiki_common"),
}


@dataclass(frozen=True)
class GoldSet:
    """Ground truth and predictions that belong together."""

    title: str  # empty for the only one
    truths: tuple[Truth, ...]  # of its annotators, at least one
    predictions: Path  # COCO results

    def named(self, progress: Progress) -> Progress:
        """A progress that names the set in its stages."""
        return lambda stage, share: progress(f"{self.title}: {stage}" if self.title else stage, share)


@dataclass(frozen=True)
class SubsetScores:
    """The scores of several subsets by name, in the order of the table; at least one.

    cgF1 and the others are the plain averages of the subsets, as in the papers' tables.
    """

    scores: Mapping[str, CgF1]

    def __repr__(self) -> str:
        """One line."""
        return f"SubsetScores({', '.join(f'{name}: cgf1 {one.cgf1:.4g}' for name, one in self.scores.items())})"

    @property
    def headline(self) -> dict[str, float]:
        """The three official scores by name."""
        listed = [result.headline for result in self.scores.values()]
        return {name: sum(scores[name] for scores in listed) / len(listed) for name in listed[0]}

    @property
    def cgf1(self) -> float:
        """From -100 to 100."""
        return self.headline["cgf1"]

    @property
    def ap(self) -> dict[str, float] | None:
        """Averages of the subsets where they are defined, -1 where none is; None if not asked for."""
        listed = [result.ap for result in self.scores.values() if result.ap is not None]
        if not listed:
            return None
        defined = {name: [scores[name] for scores in listed if scores[name] >= 0] for name in listed[0]}
        return {name: sum(values) / len(values) if values else -1.0 for name, values in defined.items()}

    @property
    def missing(self) -> list[str]:
        """The subsets that are not in the average."""
        return [name for name in SUBSETS if name not in self.scores]

    def to_json(self) -> dict[str, Any]:
        """The averages, the scores of each subset, and the names of those that are missing."""
        return {
            **self.headline,
            **({} if self.ap is None else {"ap": self.ap}),
            "subsets": {name: result.to_json() for name, result in self.scores.items()},
            "missing": self.missing,
        }


def evaluate(
    predictions: Segmenter | str | Path,
    gold: str | Path | Sequence[str | Path],
    images: str | Path | Sequence[str | Path] = (),
    progress: Progress = lambda _stage, _share: None,
    *,
    exhaustive: bool | None = None,
) -> CgF1 | SubsetScores:
    """Score a segmenter, or what was predicted before, on SA-Co Gold, as the official evaluator does.

    Args:
        predictions: a segmenter, whose threshold is set to 0.5, as cgF1 wants it; or COCO results, of a folder of
            subsets the folder with ``SUBSET.json``. A segmenter's predictions are not kept: for those that resume, use
            `plan_predictions` and `predict`.
        gold: a folder with the files of subsets, or the ground truth of one set, a file of each annotator; or a plain
            COCO or LVIS file.
        images: with a segmenter, the folder or folders that the pictures' ``file_name`` starts in.
        progress: called with the stage and the share done, 0..1.
        exhaustive: of plain COCO, see `read_annotations`.
    """
    paths = [Path(path) for path in ([gold] if isinstance(gold, str | Path) else gold)]
    folders = [Path(path) for path in ([images] if isinstance(images, str | Path) else images)]
    with TemporaryDirectory() as folder:
        target = Path(folder) if isinstance(predictions, Segmenter) else Path(predictions)
        if len(paths) == 1 and paths[0].is_dir():
            sets = find_subsets(paths[0], target)
        else:
            truths = tuple(read_annotations(path, exhaustive) for path in paths)
            sets = {"": GoldSet("", truths, target / "gold.json" if target.is_dir() else target)}
        if isinstance(predictions, Segmenter):
            options = replace(predictions.options, threshold=options_for(SCORE_THRESHOLD).threshold)
            for one_set in sets.values():
                plan = plan_predictions(one_set.truths[0], folders, one_set.predictions, {})
                predict(plan, predictions.with_options(options), one_set.named(progress))
        scores = {name: score_set(one_set, progress) for name, one_set in sets.items() if one_set.predictions.is_file()}
    if not scores:
        raise EvaluationError(
            "no predictions", where=str(target), hint="give a file, a folder with SUBSET.json, or a Segmenter"
        )
    return scores[""] if "" in scores else SubsetScores(scores)


def score_set(gold_set: GoldSet, progress: Progress, *, with_ap: bool = False) -> CgF1:
    """Score a set, on demand with average precision against the first annotator."""
    named = gold_set.named(progress)
    result = evaluate_gold(gold_set.truths, gold_set.predictions, named)
    return replace(result, ap=evaluate_ap(gold_set.truths[0], gold_set.predictions, named)) if with_ap else result


def find_subsets(folder: Path, predictions: Path) -> dict[str, GoldSet]:
    """The subsets of which a folder holds ground truth under the names of the release, in the order of the table.

    Their predictions are, or will be, ``NAME.json`` in the other folder.
    """
    sets = {}
    for name, (title, stem) in SUBSETS.items():
        files = sorted(folder.glob(f"gold_{stem}_merged_?_*test.json"))
        annotators = {file.name.removeprefix(f"gold_{stem}_merged_")[0] for file in files}
        if len(annotators) != len(files):
            listed = ", ".join(file.name for file in files)
            raise EvaluationError(f"two files of one annotator: {listed}", where=str(folder), hint="keep one of them")
        if files:
            sets[name] = GoldSet(title, tuple(files), predictions / f"{name}.json")
    if not sets:
        hint = "its files are named like gold_metaclip_merged_a_release_test.json"
        raise EvaluationError("no annotations of SA-Co Gold", where=str(folder), hint=hint)
    return sets
