"""A folder of pictures, and `segment_files` with a segmenter that needs no model; as a program it dies on the way.

    python -m tests.sam3.segmenting FOLDER STEP

It is killed, as by ``kill -9``, before step number STEP that makes something of the output durable.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from litetext.resume_log import ResumeLog
from litetext.sam3.masks import Masks
from litetext.sam3.segment_files import SegmentRun

MAKER = {"model": "fake", "threshold": "0.5"}
PHRASES = ("dog", "white dog")
KINDS = ("masks", "yolo")


class FakeSegmenter:
    """One mask for each phrase that depends on the pixels; ``fail`` is called at the n-th picture."""

    def __init__(self, fail_at: int = -1, fail: Callable[[], None] = lambda: None) -> None:
        self.fail_at, self.fail, self.seen = fail_at, fail, 0

    def embed(self, image: Image.Image) -> Image.Image:
        return image

    def segment_embedding(self, image: Image.Image, prompts: Sequence[str]) -> list[Masks]:
        if self.seen == self.fail_at:
            self.fail()
        self.seen += 1
        grey = np.asarray(image.convert("L"))
        limits = (grey.mean() + 10 * number for number in range(len(prompts)))
        boxes, scores = np.zeros((1, 4), np.float32), np.array([grey.mean() / 300], np.float32)
        return [Masks(grey[None] > limit, boxes, scores, prompt) for prompt, limit in zip(prompts, limits, strict=True)]


def write_pictures(folder: Path, count: int = 4) -> list[Path]:
    """Pictures of noise: 0.png, 1.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.png" for number in range(count)]
    for seed, file in enumerate(files):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(file)
    return files


def run(files: Sequence[Path], output: Path, segmenter: Any = None, **changes: Any) -> tuple[SegmentRun, Any]:
    """Segment into a folder, and resume where an earlier run stopped: the run and its COCO data."""
    phrases, maker, kinds = (changes.get(*given) for given in (("phrases", PHRASES), ("maker", MAKER), ("kinds", ())))
    job = SegmentRun(files, phrases, maker, output, kinds)
    with job.locked():
        return job, job.segment(segmenter or FakeSegmenter())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def die_before(step: int) -> None:
    """Kill this process before a rename, or a line of the journal: once before each with steps 0, 1, 2, ..."""
    left = [step]

    def deadly(do: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return do(*arguments)

        return act

    Path.replace = deadly(Path.replace)  # type: ignore[method-assign]
    ResumeLog.append = deadly(ResumeLog.append)  # type: ignore[method-assign]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    die_before(int(sys.argv[2]))
    run(sorted((place / "in").glob("*.png")), place / "out", kinds=KINDS)
