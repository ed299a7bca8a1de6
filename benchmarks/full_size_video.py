"""A video model of SAM3's real configuration, of random weights: loaded without its text tower, it tracks two frames.

    python -m benchmarks.full_size_video [--detector sam3_lite_text] [--dtype bfloat16] [--side 1008]

The checkpoint is written to a temporary folder (1.7 GB in bfloat16) by another process, so that the peak of the
resident memory is that of loading and tracking (Linux only).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from litetext.features.protocol import TextFeatures
from litetext.sam3.host import load_host
from litetext.sam3.segmenter import Segmenter
from litetext.video.tracker import ModelTracker, TrackerOptions
from litetext.video.tracking import Frame


class Noise:
    """Stands in for a text encoder of SAM3's width."""

    name, context_length, width = "noise", 32, 256

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        values = torch.randn(len(texts), 6, self.width, generator=torch.Generator().manual_seed(len(texts[0])))
        return TextFeatures(values, torch.ones(len(texts), 6, dtype=torch.bool))


def write(folder: str, detector: str, side: str) -> None:
    """Save a checkpoint of random weights in bfloat16."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    for name in ("trunc_normal_", "normal_", "kaiming_uniform_", "xavier_uniform_", "uniform_"):
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)  # they are drawn below, once
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(0)
    config = Sam3VideoConfig(detector_config={"model_type": detector})
    config.image_size, config.low_res_mask_size = int(side), int(side) // 14 * 4
    model = Sam3VideoModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.02)
    model.save_pretrained(folder)


def measure(detector: str, dtype: str, side: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.full_size_video", "--write", folder, detector, str(side)]
        subprocess.run(command, check=True)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        began = time.process_time()
        host = load_host(folder, video=True, text_tower=False, device="cpu", dtype=dtype)
        loaded = {"cpu_s": round(time.process_time() - began, 1), "peak_mb": peak_mb()}
    # Whatever it finds is followed, two things at most.
    options = TrackerOptions(threshold=0.0, new_threshold=0.0, most_things=2)
    tracker = ModelTracker(Segmenter(host, Noise()), ["one phrase", "another"], options)
    frames = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
        began = time.process_time()
        tracked = tracker.step(Frame(number, number / 25, pixels))[0]
        seconds = round(time.process_time() - began, 1)
        frames.append({"cpu_s": seconds, "shown": len(tracked), "followed": len(tracker.state()["obj_ids"])})
    return {
        "detector": detector,
        "dtype": dtype,
        "side": side,
        "parameters": sum(parameter.numel() for parameter in host.parameters()),
        "checkpoint_mb": size // 10**6,
        "loaded": loaded,
        "frames": frames,
        "peak_mb": peak_mb(),
        "threads": torch.get_num_threads(),
    }


def peak_mb() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"VmHWM:\s*(\d+)", status)
    return int(found[1]) * 1024 // 10**6 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", choices=["sam3", "sam3_lite_text"], default="sam3")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--side", type=int, default=1008, help="pixels of a frame as the model sees it, for a quick look"
    )
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write(*given.write)
    else:
        print(json.dumps(measure(given.detector, given.dtype, given.side), indent=2))
