"""HOTA, masklet IoU, video cgF1 and CPU seconds a frame of a way of tracking on clips of the micro world.

python -m benchmarks.video [--method METHOD] [--encoder ENCODER] [--plots PLOT ...] [--clips N] [--seed FIRST]
python -m benchmarks.video --stream 10000     resident memory and CPU seconds a frame along one long clip
"""

import argparse
import gc
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import litetext as lt
from litetext.evaluation.cgf1 import Tally, score
from litetext.evaluation.hota import combine_hota
from litetext.evaluation.veval import compare_masks, count_masks
from litetext.evaluation.veval_files import Masklet
from litetext.micro.clips import PLOTS, Clip, Plot, make_clip
from litetext.micro.scenes import Split
from litetext.sam3.masks import encode_masks
from litetext.sam3.segmenter import Segmenter
from litetext.video.methods import METHODS, make_tracker
from litetext.video.tracking import Frame, TrackedFrame

RESAMPLES = 400
PHRASES = 3  # CPU seconds are those of clips with as many
SHOWN = ("hota", "deta", "assa", "detre", "detpr", "loca")


def measure_plot(
    segmenter: Segmenter, method: str, plot: Plot, seeds: Iterable[int], *, split: Split = "test"
) -> dict[str, Any]:
    """The scores of a plot with their 95 % intervals over its clips; each (clip, phrase) is a video of its own."""
    clips, seconds = [], []
    for seed in seeds:
        clip = make_clip(seed, plot, split=split)
        texts = [phrase.text for phrase in clip.phrases]
        tracker = make_tracker(segmenter, texts, method)
        found: list[TrackedFrame] = []
        truths: list[defaultdict[int, dict[int, Any]]] = [defaultdict(dict) for _ in texts]
        spent = 0.0
        for index, (pixels, masks) in enumerate(clip):
            start = time.process_time()
            found += tracker.step(Frame(index, index / 10, pixels))
            spent += time.process_time() - start
            for phrase, true in zip(clip.phrases, truths, strict=True):
                for thing, mask in clip.true_masks(phrase, index, masks).items():
                    true[thing][index] = mask
        found += tracker.finish()
        seconds += [spent / len(clip)] if len(texts) == PHRASES else []
        clips.append(count_clip(clip, truths, found))
    whole = combine(clips)
    rng = np.random.default_rng(0)
    samples = [combine([clips[one] for one in rng.integers(0, len(clips), len(clips))]) for _ in range(RESAMPLES)]
    scores: dict[str, Any] = {
        name: {"value": round(value, 4), "interval": interval([sample[name] for sample in samples])}
        for name, value in whole.items()
    }
    return {
        "clips": len(clips),
        **scores,
        "cpu_seconds_a_frame": round(float(np.mean(seconds)), 4) if seconds else None,
    }


def count_clip(
    clip: Clip, truths: Sequence[Mapping[int, Mapping[int, Any]]], found: Sequence[TrackedFrame]
) -> list[tuple[Any, list[float]]]:
    """What each phrase of a clip counts, and the IoU of each of its true masklets with the best one found."""
    counted = []
    for phrase, true in zip(clip.phrases, truths, strict=True):
        tracks: defaultdict[int, dict[int, Any]] = defaultdict(dict)
        scores: defaultdict[int, list[float]] = defaultdict(list)
        for place, frame in enumerate(found):
            things = zip(frame.ids.tolist(), frame.prompts, frame.scores.tolist(), frame.masks, strict=True)
            for number, prompt, value, mask in things:
                if prompt == phrase.text:
                    tracks[number][place] = mask
                    scores[number].append(value)
        true_ones = [masklet(masks, len(clip)) for masks in true.values()]
        ones = [masklet(masks, len(clip), float(np.mean(scores[number]))) for number, masks in tracks.items()]
        best = [0.0] * len(true_ones)
        if true_ones and ones:
            best = compare_masks(true_ones, ones)[0].max(axis=0).tolist()
        counted.append((count_masks(true_ones, ones), best))
    return counted


def masklet(masks: Mapping[int, Any], length: int, value: float = 1.0) -> Masklet:
    codes = dict(zip(masks, encode_masks(np.stack(list(masks.values()))), strict=True))
    return Masklet.of([codes.get(place) for place in range(length)], value)


def combine(clips: Sequence[Sequence[tuple[Any, list[float]]]]) -> dict[str, float]:
    """The scores of all clips together."""
    pairs = [pair for clip in clips for pair, _ in clip]
    ious = [iou for clip in clips for _, best in clip for iou in best]
    hota = combine_hota([pair.hota for pair in pairs if pair.hota is not None])
    cgf1 = score(Tally.of(pair.counts for pair in pairs)).headline["cgf1"]
    return {
        **{name: hota[name] for name in SHOWN},
        "masklet_iou": float(np.mean(ious)) if ious else 0.0,
        "cgf1": cgf1,
    }


def interval(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(values, (0.025, 0.975))]


def measure_stream(segmenter: Segmenter, method: str, length: int, seed: int) -> dict[str, Any]:
    """Resident memory and CPU seconds a frame along a clip with four things and three phrases, each 200 frames."""
    while True:
        clip = make_clip(seed, "ordinary", length=length, split="test")
        if len(clip.things) == 4 and len(clip.phrases) == PHRASES:
            break
        seed += 1
    tracker = make_tracker(segmenter, [phrase.text for phrase in clip.phrases], method)
    rows, spent, last = [], 0.0, 0
    for index in range(length):
        pixels, _ = clip.draw(index)
        start = time.process_time()
        for frame in tracker.step(Frame(index, index / 10, pixels)):
            last = max(last, *frame.ids.tolist(), 0)
        spent += time.process_time() - start
        if (index + 1) % 200 == 0:
            gc.collect()
            rows.append({"frame": index + 1, "resident_mb": resident(), "seconds": spent / 200, "last_id": last})
            spent = 0.0
            if (index + 1) % 1000 == 0:
                print(rows[-1], file=sys.stderr, flush=True)
    half = max(1, len(rows) // 10)
    times = [float(np.median([row["seconds"] for row in some])) for some in (rows[1 : 1 + half], rows[-half:])]
    return {
        "seed": seed,
        "frames": length,
        "resident_mb_after_200": rows[0]["resident_mb"],
        "resident_mb_at_the_end": rows[-1]["resident_mb"],
        "seconds_a_frame_early": round(times[0], 4),
        "seconds_a_frame_late": round(times[1], 4),
        "last_id": last,
    }


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, default="association")
    parser.add_argument("--encoder", default="micro-student")
    parser.add_argument("--plots", nargs="+", choices=PLOTS, default=PLOTS)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=10000)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--stream", type=int, metavar="FRAMES")
    given = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = lt.Segmenter.from_pretrained("micro", given.encoder, video=given.method == "tracker", device="cpu")
    what = {"method": given.method, "encoder": given.encoder}
    if given.stream:
        print(
            json.dumps({**what, "stream": measure_stream(segmenter, given.method, given.stream, given.seed)}, indent=2)
        )
        return
    seeds = range(given.seed, given.seed + given.clips)
    plots = {plot: measure_plot(segmenter, given.method, plot, seeds, split=given.split) for plot in given.plots}
    print(json.dumps({**what, "split": given.split, "seed": given.seed, "plots": plots}, indent=2))


if __name__ == "__main__":
    main()
