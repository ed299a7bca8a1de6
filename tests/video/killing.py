"""Tracks a real clip with the micro model in forks of this process, kills them, and prints one JSON object.

    python -m tests.video.killing FOLDER METHOD

Each run is killed with SIGKILL just before its n-th step that makes a file durable or moves one; then it runs again,
and is killed once more; then to the end.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import Sam3VideoModel

from litetext.checkpoints.load import load_encoder
from litetext.micro.clips import make_clip
from litetext.micro.tracker_model import join_tracker, micro_video_config
from litetext.sam3.host import load_host, load_processor
from litetext.sam3.segmenter import Segmenter
from litetext.video.frames import open_clip
from litetext.video.methods import make_tracker
from litetext.video.overlay import VideoWriter
from litetext.video.track_files import TrackRun

POINTS = (1, 8, 15, 21)


def make_segmenter(method: str) -> Segmenter:
    """The micro model; for "tracker" with random weights that never lose a thing."""
    host: Any = load_host("micro", text_tower=False, device="cpu")
    if method == "tracker":
        torch.manual_seed(0)
        model = Sam3VideoModel(micro_video_config())
        tensors = {f"tracker_model.{name}": tensor for name, tensor in model.tracker_model.state_dict().items()}
        tensors["tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias"] += 50.0
        host = join_tracker(host, tensors)
    return Segmenter(host, load_encoder("micro-student", device="cpu"), load_processor("micro", host))


def write_clip(path: Path) -> list[str]:
    clip = make_clip(3, "ordinary", length=8)
    with VideoWriter(path, 12, (160, 160)) as writer:
        for index, (pixels, _) in enumerate(clip):
            writer.add(Image.fromarray(pixels), index / 12)
    return [phrase.text for phrase in clip.phrases]


def deadly(step: Callable[..., Any], countdown: list[int]) -> Callable[..., Any]:
    """The step, or death in its place when the countdown is over."""

    def do(*arguments: Any) -> Any:
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        countdown[0] -= 1
        return step(*arguments)

    return do


def track(segmenter: Segmenter, method: str, clip: tuple[Path, list[str]], folder: Path, steps: int | None) -> int:
    """Fork, track, and die at a step; the status as `os.waitpid` gives it."""
    (source, phrases), child = clip, os.fork()
    if child == 0:
        if steps is not None:
            countdown = [steps]
            os.fsync, Path.replace = deadly(os.fsync, countdown), deadly(Path.replace, countdown)
        run = TrackRun(str(source), phrases, {"method": method}, folder, overlays=("mp4", "webp"), snapshot_seconds=0)
        with open_clip(source) as frames, run.locked():
            run.track(frames, lambda: make_tracker(segmenter, phrases, method))
        os._exit(0)
    return os.waitpid(child, 0)[1]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main() -> None:
    root, method = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    segmenter, source = make_segmenter(method), root / "clip.mp4"
    clip = source, write_clip(source)
    assert track(segmenter, method, clip, root / "whole", None) == 0
    whole = content(root / "whole")
    told = []
    for point in POINTS:
        folder = root / str(point)
        killed = [os.WIFSIGNALED(track(segmenter, method, clip, folder, steps)) for steps in (point, 3)]
        left = sorted(content(folder))
        status = track(segmenter, method, clip, folder, None)
        told.append({"killed": killed, "left": left, "status": status, "same": content(folder) == whole})
    masklets = json.loads(whole["masklets.json"])["annotations"]
    sys.stdout.write(json.dumps({"files": sorted(whole), "masklets": len(masklets), "runs": told}))


if __name__ == "__main__":
    main()
