"""Predictions for the pairs of SA-Co Gold and VEval: each picture is seen once, and what is finished stays.

Beside the predictions ``P.json`` stands ``P.json.journal`` while they are made, a `ResumeLog` with a line for each
finished picture or video. In the end it becomes ``P.json``; ``P.json.run`` holds the run and a fingerprint of the file.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from litetext.errors import EvaluationError, ImageError, OptionError, OutputError
from litetext.evaluation.cgf1 import SCORE_THRESHOLD, Progress
from litetext.evaluation.coco import Truth, read_annotations
from litetext.evaluation.coco_json import Entry, PairId
from litetext.records import parse_json
from litetext.resume_log import ResumeLog
from litetext.sam3.images import read_image
from litetext.sam3.segmenter import Segmenter, SegmentOptions
from litetext.storage import atomic_file, fingerprint, inside, only_writer, to_json, write_text

TOOL = "litetext predictions"
_CATEGORY = 1
_RESULT = ("category_id", "segmentation", "score", "bbox")
_HINT = "resume with the options of that run, give another --pred, or move the file away"


@dataclass(frozen=True)
class Picture:
    """A picture and the phrases to find in it."""

    name: str  # ``file_name`` of its pairs
    file: Path
    size: tuple[int, int] | None  # height and width in pixels, if the annotations have them
    phrases: Mapping[PairId, str]

    def read(self) -> Image.Image:
        """Read the picture; an `ImageError` if it has another size than the annotations give."""
        image = read_image(self.file)
        if self.size not in (None, (image.height, image.width)):
            height, width = self.size or (0, 0)
            message = f"{image.width} x {image.height} pixels where the annotations have {width} x {height}"
            where = f"{self.file}, pair {next(iter(self.phrases))!r}"
            raise ImageError(message, where=where, hint="give the picture that was annotated")
        return image


@dataclass(frozen=True)
class PredictionPlan:
    """What is left to predict."""

    output: Path
    pictures: tuple[Any, ...]  # or clips, with their names and phrases; none where the predictions are complete
    finished: int  # how many of them are in the log
    log: ResumeLog
    is_complete: bool


def options_for(threshold: float) -> SegmentOptions:
    """How to segment so that predictions of the threshold's score or better are kept, as cgF1 counts them.

    `SegmentOptions` keeps what is above its threshold; a score of exactly 0.5 counts. cgF1 needs no lower threshold,
    average precision does.
    """
    if not 0 <= threshold <= SCORE_THRESHOLD:
        raise OptionError(f"a threshold of {threshold}", hint=f"give 0 to {SCORE_THRESHOLD}: cgF1 reads all above that")
    return SegmentOptions(threshold=float(np.nextafter(np.float32(threshold), np.float32(0))))


def read_pictures(truth: Truth, images: Sequence[Path]) -> tuple[Picture, ...]:
    """The pictures of an annotator's ground truth."""
    return find_pictures(read_annotations(truth).pairs, images)


def plan_predictions(
    truth: Truth,
    images: Sequence[Path],
    output: Path,
    made_by: Mapping[str, str],
    held: ExitStack | None = None,
    *,
    read: Callable[[Any, Sequence[Path]], tuple[Any, ...]] = read_pictures,
) -> PredictionPlan:
    """What is left to do; everything that can be wrong without a model is found here, before hours of work.

    Args:
        truth: the ground truth. All its pairs are predicted.
        images: folders that ``file_name`` starts in; the first that has the picture.
        output: where the predictions go, COCO results.
        made_by: what makes them, name by name (model, text encoder, threshold): those of another are never mixed in.
        held: keeps other processes off these predictions until it is closed; None: nothing does.
        read: what is asked in the ground truth, and where it is in the folders.

    Raises:
        OutputError: what stands at the output is of another run, another process makes these predictions, or their
            place is not writable.
    """
    path = truth if isinstance(truth, Path) else Path(truth.name)
    if not path.is_file():
        raise EvaluationError("no such file", where=str(path), hint="check the path")
    if output.is_dir():
        raise OutputError("a folder where predictions are to be written", where=str(output), hint="give a file")
    folders = ", ".join(str(folder.resolve()) for folder in images)
    run = {"annotations": _fingerprint(path)[:16], "images": folders, **made_by}
    if not isinstance(truth, Path) and truth.rule:  # which pairs are asked depends on an option
        run["pairs"] = str(len(truth.pairs))
    log = ResumeLog(output.with_name(f"{output.name}.journal"), TOOL, run, _HINT)
    if _is_complete(output, log):
        return PredictionPlan(output, (), 0, log, is_complete=True)
    pictures = read(truth, images)
    if held is not None:
        held.enter_context(_locked(log))
    names = (picture.name for picture in pictures)
    finished = log.recover(lambda item: _results(item, next(names, None)) is not None)
    return PredictionPlan(output, pictures, finished, log, is_complete=False)


def predict(
    plan: PredictionPlan,
    segmenter: Segmenter,
    progress: Progress | None = None,
    find: Callable[[Segmenter, Any], list[dict[str, Any]]] | None = None,
) -> None:
    """Do what is left of a plan and write the predictions; stopped at any point, it loses the picture under way.

    To resume, make the plan again. The segmenter's options have the lowest score to keep (`options_for`). With an
    encoder that encodes texts in batches, scores of a run that was stopped may differ in their last bits. ``find``
    gives the predictions of a picture of the plan; None: `find_instances`.
    """
    if plan.is_complete:
        return
    look: Callable[[Segmenter, Any], list[dict[str, Any]]] = find or find_instances
    for number in range(plan.finished, len(plan.pictures)):
        if progress is not None:
            progress("predicting", number / len(plan.pictures))
        picture = plan.pictures[number]
        plan.log.append({"picture": picture.name, "predictions": look(segmenter, picture)})
    finish_predictions(plan)
    if progress is not None:
        progress("predicting", 1.0)


def find_instances(segmenter: Segmenter, picture: Picture) -> list[dict[str, Any]]:
    """The COCO results of a picture; ``bbox`` is x, y, width, height in pixels.

    ``image_id`` is the pair, of plain COCO the picture.
    """
    embedding = segmenter.embed(picture.read())
    found = segmenter.segment_embedding(embedding, list(picture.phrases.values()))
    return [
        {"image_id": image, **{key: annotation[key] for key in _RESULT}}
        for (image, category), masks in zip(map(_ids, picture.phrases), found, strict=True)
        for annotation in masks.to_coco(0, category)
    ]


def _ids(pair: PairId) -> tuple[int | str, int]:
    """``image_id`` and ``category_id`` of the results for a pair."""
    return pair if isinstance(pair, tuple) else (pair, _CATEGORY)


def finish_predictions(plan: PredictionPlan) -> None:
    """Make the predictions of the log, one a line, and remove it; an `OutputError` if it was written to meanwhile."""
    items = plan.log.items()
    hint = "run one process at a time, then run again"
    changed = OutputError("the log was changed meanwhile", where=str(plan.log.path), hint=hint)
    with atomic_file(plan.output) as file:
        before = b"[\n"
        for picture in plan.pictures:
            results = _results(next(items, None), picture.name)
            if results is None:
                raise changed
            for result in results:
                file.write(before + json.dumps(result, ensure_ascii=False).encode())
                before = b",\n"
        if list(items):
            raise changed
        file.write(b"[]\n" if before == b"[\n" else b"\n]\n")
    made = {"run": dict(plan.log.run), "predictions": _fingerprint(plan.output)}
    write_text(plan.output.with_name(f"{plan.output.name}.run"), to_json(made))
    plan.log.path.unlink(missing_ok=True)


def find_pictures(pairs: Mapping[PairId, Entry], folders: Sequence[Path]) -> tuple[Picture, ...]:
    """The pictures of the entries of pairs, in the order in which they first stand there, each with all its pairs."""
    asked: dict[str, list[Entry]] = {}
    phrases: dict[str, dict[PairId, str]] = {}
    for pair, entry in pairs.items():
        name, phrase = entry.take("file_name", "text"), entry.take("text_input", "text")
        asked.setdefault(name, []).append(entry)
        phrases.setdefault(name, {})[pair] = phrase
    files = locate(asked, folders)
    return tuple(Picture(name, files[name], _common_size(listed), phrases[name]) for name, listed in asked.items())


def locate(
    asked: Mapping[str, Sequence[Entry]], folders: Sequence[Path], key: str = "file_name", option: str = "--images"
) -> dict[str, Path]:
    """Where the pictures are that entries ask for by a key, in the first folder that has each."""
    if nowhere := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ImageError("no such folder", where=nowhere[0], hint=f"check {option}")
    for name, (entry, *_) in asked.items():
        try:
            inside(Path(), name)
        except ValueError as error:
            raise entry.wrong(key, "give a path within the folder of the pictures") from error
    files = {name: path / name for name in asked for path in reversed(folders) if (path / name).is_file()}
    missing = [name for name in asked if name not in files]
    if missing:
        entry = asked[missing[0]][0]
        owner = f"{'pair' if entry.key == 'images' else 'video'} {entry.take('id', 'id')!r}"
        raise ImageError(
            f"{len(missing)} of {len(asked)} pictures are missing, the first is '{missing[0]}' of the {owner}",
            where=", ".join(map(str, folders)),
            hint=f"{option} is the folder that {key} starts in; give it again for a second folder",
        )
    return files


def _common_size(listed: Sequence[Entry]) -> tuple[int, int] | None:
    """The size in all entries of a picture that have one."""
    sizes: dict[tuple[int, int], Entry] = {}
    for entry in listed:
        if entry.size is not None:
            sizes.setdefault(entry.size, entry)
    if len(sizes) > 1:
        first, other, *_ = sizes.values()
        message = f"the picture '{first.fields['file_name']}' has another size in {first.place}"
        raise EvaluationError(message, where=other.place, hint="fix width and height")
    return next(iter(sizes), None)


def _is_complete(output: Path, log: ResumeLog) -> bool:
    """Whether the predictions are there, made by this very run; others are not overwritten."""
    hint = "give another --pred, move it away, or leave out --model to score it"
    run_file, run, fingerprint_then = output.with_name(f"{output.name}.run"), None, ""
    with suppress(OSError, ValueError, LookupError, TypeError):
        made = parse_json(run_file.read_bytes())
        run, fingerprint_then = dict(made["run"]), made["predictions"]
    if log.is_begun() or not output.exists():
        if run is None and run_file.exists():
            raise OutputError("a file that would be overwritten", where=str(run_file), hint=hint)
        return False
    if run is None:
        raise OutputError("predictions are there already, of an unknown run", where=str(output), hint=hint)
    log.compare(run, output)
    if fingerprint_then != _fingerprint(output):
        raise OutputError("predictions that were changed since", where=str(output), hint=hint)
    return True


@contextmanager
def _locked(log: ResumeLog) -> Iterator[None]:
    """Keep other processes off these predictions while the block runs: a lock on the log."""
    with only_writer(log.path, "these predictions", folder=False):
        try:
            yield
        finally:
            if log.path.exists() and not log.is_begun():
                log.path.unlink()


def _results(item: Any, name: str | None) -> list[dict[str, Any]] | None:
    """The results in an item of the log; None if it is not that of the picture."""
    if not isinstance(item, dict) or name is None or item.get("picture") != name:
        return None
    results = item.get("predictions")
    return results if isinstance(results, list) else None


def _fingerprint(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return fingerprint(iter(lambda: file.read(2**20), b""))
