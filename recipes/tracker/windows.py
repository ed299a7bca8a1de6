"""What the tracker is trained on: windows of clips, and a thing to follow from the first frame of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation, binary_erosion  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import Dataset

from litetext.micro.clips import MIN_PIXELS, Clip, Plot, make_clip
from litetext.micro.scenes import Mask, Split

# How often a plot is drawn: where things meet, hide and leave, a tracker has something to learn.
SHARES: dict[Plot, float] = {"ordinary": 0.35, "crossing": 0.25, "hidden": 0.2, "returning": 0.1, "shaky": 0.1}


@dataclass(frozen=True)
class WindowOptions:
    """A batch: so many frames in a row of so many things, and how the masks are damaged that tracking begins with."""

    frames: int
    things: int
    damaged: float = 0.0  # share of the first masks that are as wrong at their edge as a detector's
    strides: tuple[int, ...] = (1,)
    plot: Plot | None = None  # None: a mixture, as `SHARES` has it


@dataclass(frozen=True, eq=False)
class Windows:
    """O things in windows of T frames.

    Attributes:
        pixels: uint8 [F, H, W, 3]; frames are shared by the things of a clip.
        frame: int64 [T, O], which of them a thing's frame is.
        masks: uint8 [T, O, H, W], the truth, 0 or 1.
        prompts: uint8 [T, O, H, W]: the truth as a detector would see it.
    """

    pixels: Tensor
    frame: Tensor
    masks: Tensor
    prompts: Tensor


class WindowStream(Dataset[Windows]):
    """The batch of each step: the same seed and step give the same one."""

    def __init__(self, seed: int, options: WindowOptions, split: Split = "train") -> None:
        self.seed, self.options, self.split = seed, options, split

    def __getitem__(self, step: int) -> Windows:
        """The batch of a step, from 0."""
        rng = np.random.default_rng([self.seed, step])
        one = self.options.plot
        shares = SHARES if one is None else {one: 1.0}
        plots = tuple(shares)
        found: list[tuple[list[npt.NDArray[np.uint8]], list[list[Mask]]]] = []
        left = self.options.things
        while left:
            plot = plots[rng.choice(len(plots), p=list(shares.values()))]
            clip = make_clip(int(rng.integers(2**62)), plot, split=self.split)
            window = _window(rng, clip, self.options, left)
            if window is not None:
                found.append(window)
                left -= len(window[1][0])
        return _join(rng, found, self.options)


def _window(
    rng: np.random.Generator, clip: Clip, options: WindowOptions, most: int
) -> tuple[list[npt.NDArray[np.uint8]], list[list[Mask]]] | None:
    """Frames, and the masks in each of the things that are seen in the first one; None if there are none."""
    stride = int(rng.choice(options.strides))
    span = (options.frames - 1) * stride + 1
    if span > len(clip):
        return None
    begin = int(rng.integers(len(clip) - span + 1))
    frames = [clip.draw(begin + place * stride) for place in range(options.frames)]
    if rng.random() < 0.5:
        frames.reverse()
    seen = [index for index, mask in enumerate(frames[0][1]) if mask.sum() >= MIN_PIXELS]
    chosen = rng.permutation(seen)[: min(most, 3)].tolist()
    if not chosen:
        return None
    return [pixels for pixels, _ in frames], [[masks[index] for index in chosen] for _, masks in frames]


def _join(
    rng: np.random.Generator,
    windows: list[tuple[list[npt.NDArray[np.uint8]], list[list[Mask]]]],
    options: WindowOptions,
) -> Windows:
    pixels: list[npt.NDArray[np.uint8]] = []
    frame: list[npt.NDArray[np.int64]] = []
    masks: list[npt.NDArray[np.bool_]] = []
    for some, truth in windows:
        first = len(pixels)
        pixels += some
        frame += [np.arange(first, first + len(some))] * len(truth[0])
        masks += list(np.array(truth).swapaxes(0, 1))  # by thing: [T, H, W]
    truth_masks = np.stack(masks, axis=1).astype(np.uint8)
    prompts = truth_masks.copy()
    for index in range(prompts.shape[1]):
        if rng.random() < options.damaged:
            prompts[:, index] = list(damage(rng, truth_masks[:, index].astype(np.bool_)))
    return Windows(*map(torch.from_numpy, (np.stack(pixels), np.stack(frame, axis=1), truth_masks, prompts)))


def damage(rng: np.random.Generator, masks: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks [T, H, W] grown or shrunk by up to two pixels and moved by up to two; one that would be empty stays."""
    for mask in masks:
        steps = int(rng.integers(-2, 3))
        changed = mask
        if steps:
            changed = (binary_dilation if steps > 0 else binary_erosion)(mask, iterations=abs(steps))
        changed = np.roll(changed, tuple(rng.integers(-2, 3, 2).tolist()), axis=(0, 1))
        yield changed if changed.any() else mask
