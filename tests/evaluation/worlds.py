"""A small world for predictions: three pictures whose pairs are not adjacent, and a segmenter without a model."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from litetext.evaluation.predict import PredictionPlan, plan_predictions, predict
from litetext.sam3.masks import Masks
from litetext.sam3.segmenter import ImageEmbedding, SegmentOptions

SIZES = {"a.png": (6, 8), "sub/b.png": (5, 4), "c.png": (3, 7)}
PAIRS = (
    (10, "a.png", "dog"),
    (11, "sub/b.png", "cat"),
    (12, "a.png", "white dog"),
    ("x", "c.png", "dog"),
    (14, "sub/b.png", "né"),
    (15, "a.png", "dog"),
)
MAKER = {"model": "fake", "threshold": "0.5"}


@dataclass(frozen=True)
class Job:
    """What `plan_predictions` takes."""

    truth: Path
    images: tuple[Path, ...]
    output: Path
    maker: dict[str, str] = field(default_factory=lambda: MAKER)

    def plan(self, held: ExitStack | None = None) -> PredictionPlan:
        return plan_predictions(self.truth, self.images, self.output, self.maker, held)


def write_world(folder: Path) -> Job:
    """Pictures in ``images/``, ``gold.json``, and a job whose output is ``found.json``."""
    for seed, (name, size) in enumerate(SIZES.items()):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    images = [
        {
            "id": pair,
            "file_name": name,
            "text_input": phrase,
            "height": SIZES[name][0],
            "width": SIZES[name][1],
            "is_instance_exhaustive": 1,
        }
        for pair, name, phrase in PAIRS
    ]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    (folder / "gold.json").write_text(json.dumps(document), encoding="utf-8")
    return Job(folder / "gold.json", (folder / "images",), folder / "found.json")


class FakeSegmenter:
    """None to two masks that depend on the pixels and the phrase; ``fail`` is called at the n-th picture."""

    def __init__(self, fail_at: int = -1, fail: Callable[[], None] = lambda: None, prompt_batch: int = 2) -> None:
        self.options = SegmentOptions(prompt_batch=prompt_batch)
        self.fail_at, self.fail = fail_at, fail
        self.embedded: list[tuple[int, int]] = []
        self.asked: list[list[str]] = []

    def embed(self, image: Image.Image) -> ImageEmbedding:
        if len(self.embedded) == self.fail_at:
            self.fail()
        self.embedded.append((image.height, image.width))
        return ImageEmbedding((image.height, image.width), image.tobytes())

    def segment_embedding(self, embedding: ImageEmbedding, prompts: Sequence[str]) -> list[Masks]:
        self.asked.append(list(prompts))
        return [self._answer(embedding, prompt) for prompt in prompts]

    def _answer(self, embedding: ImageEmbedding, prompt: str) -> Masks:
        seed = int.from_bytes(hashlib.blake2b(embedding.vision + prompt.encode()).digest()[:8])
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 3))
        boxes = rng.uniform(0, 8, (count, 4)).astype(np.float32)
        scores = rng.uniform(0.5, 1, count).astype(np.float32)
        return Masks(rng.random((count, *embedding.size)) < 0.5, boxes, scores, prompt)


def run(job: Job, segmenter: Any = None) -> FakeSegmenter:
    """Plan and predict, as the command line does it."""
    segmenter = segmenter or FakeSegmenter()
    with ExitStack() as held:
        predict(job.plan(held), segmenter)
    return segmenter


def kill_self() -> None:
    """As ``kill -9``: nothing is tidied up, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":  # of a subprocess that dies: FOLDER, and the picture at which it is killed
    world = write_world(Path(sys.argv[1])) if not (Path(sys.argv[1]) / "gold.json").exists() else None
    folder = Path(sys.argv[1])
    run(
        world or Job(folder / "gold.json", (folder / "images",), folder / "found.json"),
        FakeSegmenter(int(sys.argv[2]), kill_self),
    )
