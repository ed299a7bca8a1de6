"""A clip of noise and a tracker whose answers depend on every frame before: what resumes wrongly cannot hide."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from litetext.video.tracking import Frame, TrackedFrame


class FakeClip:
    """Frames made when they are asked for; ``on_frame`` is called with the number of each."""

    def __init__(self, count: int = 12, size: tuple[int, int] = (16, 24), *, is_stream: bool = False) -> None:
        self.name, self.fps, self.count, self.size = "clip", 25.0, None if is_stream else count, size
        self.replayable = not is_stream
        self.broken: list[int] = []
        self.warnings: list[str] = []
        self._total = count
        self.on_frame = lambda index: None

    def __enter__(self) -> "FakeClip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        self.broken = []
        for index in range(self._total):
            self.on_frame(index)
            if index == 5:
                self.broken.append(index)
                continue
            pixels = np.random.default_rng(index).integers(0, 256, (*self.size, 3), dtype=np.uint8)
            yield Frame(index, index / 25, pixels)


class FakeTracker:
    """Two things of each phrase, the second in every other frame; scores and places hang on all pixels so far."""

    def __init__(self, prompts: Iterable[str], delay: int = 2) -> None:
        self.prompts, self.delay = list(prompts), delay
        self.memory = 1
        self.seen = 0
        self.held: list[Frame] = []

    def add(self, prompts: Iterable[str]) -> None:
        self.prompts += [prompt for prompt in prompts if prompt not in self.prompts]

    def drop(self, prompts: Iterable[str]) -> None:
        self.prompts = [prompt for prompt in self.prompts if prompt not in set(prompts)]

    def step(self, frame: Frame) -> Sequence[TrackedFrame]:
        self.memory = zlib.crc32(frame.pixels.tobytes(), self.memory)
        self.held.append(frame)
        return [self._answer()] if len(self.held) > self.delay else []

    def finish(self) -> Sequence[TrackedFrame]:
        return [self._answer() for _ in range(len(self.held))]

    def _answer(self) -> TrackedFrame:
        frame = self.held.pop(0)
        rng = np.random.default_rng(self.memory)
        ids, prompts = [], []
        for place, prompt in enumerate(self.prompts):
            for thing in range(1 + self.seen % 2):
                ids.append(1 + place + thing * 100)
                prompts.append(prompt)
        self.seen += 1
        height, width = frame.pixels.shape[:2]
        masks = np.zeros((len(ids), height, width), dtype=np.bool_)
        for mask in masks:
            top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
            mask[top : top + 4, left : left + 3] = True
        scores = rng.uniform(0.5, 1, len(ids)).astype(np.float32)
        return TrackedFrame(frame.index, frame.time, np.array(ids, dtype=np.int64), tuple(prompts), scores, masks)

    def state(self) -> dict[str, Any]:
        import torch

        held = [
            {"index": one.index, "time": one.time, "pixels": torch.from_numpy(one.pixels.copy())} for one in self.held
        ]
        return {"memory": self.memory, "seen": self.seen, "held": held}

    def restore(self, state: dict[str, Any]) -> None:
        self.memory, self.seen = state["memory"], state["seen"]
        self.held = [Frame(one["index"], one["time"], one["pixels"].numpy()) for one in state["held"]]
