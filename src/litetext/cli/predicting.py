"""What `litetext evaluate gold --model` does before it scores."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from litetext.cli.app import echo, show_progress
from litetext.cli.models import ModelChoice

if TYPE_CHECKING:
    from litetext.evaluation.subsets import GoldSet

SCORE = 0.5


@dataclass(frozen=True)
class Maker:
    """What makes predictions.

    Attributes:
        choice: the model.
        images: folders that the pictures' ``file_name`` starts in.
        threshold: the lowest score to keep.
    """

    choice: ModelChoice
    images: tuple[Path, ...]
    threshold: float = SCORE

    def predict(self, sets: Sequence["GoldSet"]) -> None:
        """Predict what is not predicted yet; says on standard error where it goes.

        All files are looked at before the model is loaded, which is not loaded where nothing is left to do. Until the
        end no other process can make the same predictions.

        Raises:
            LiteTextError: as `plan_predictions`, `ModelChoice.load` and `predict` raise it.
        """
        from litetext.evaluation.predict import PredictionJob, options_for, plan_predictions, predict
        from litetext.features.one_by_one import OneByOne

        options = options_for(self.threshold)
        made_by = {**self.choice.describe(), "threshold": str(self.threshold)}
        jobs = [PredictionJob(one.truths[0], self.images, one.predictions, made_by) for one in sets]
        with ExitStack() as held:
            plans = [plan_predictions(job, held) for job in jobs]
            for job, plan in zip(jobs, plans, strict=True):
                state = f"going on after {plan.finished} of {len(plan.pictures)} pictures" if plan.finished else ""
                state = "there already" if plan.is_complete else state
                echo(f"Predictions: {job.output}{f' ({state})' if state else ''}", err=True)
            if all(plan.is_complete for plan in plans):
                return
            asked = [phrase for plan in plans for picture in plan.pictures for phrase in picture.phrases.values()]
            segmenter = self.choice.load(options, asked)
            segmenter.encoder = OneByOne(segmenter.encoder)
            with show_progress() as progress:
                for one, plan in zip(sets, plans, strict=True):
                    predict(plan, segmenter, one.tells(progress))
