"""What refined edges do to masks of photographs that are exact, or off by one or two cells; IoU with the annotation.

python -m benchmarks edges     needs the 33 annotated photographs of COCO beside the project: ../shared/data/coco33
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.ndimage import gaussian_filter, map_coordinates

from litetext.sam3.masks import resize_masks
from litetext.video.edges import make_masks

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco33"
GRIDS, ERRORS = (64, 288), (0, 1, 2)  # cells a side, and cells by which edges are off (one deviation)
LEAST_AREA = 400


def bend(mask: Any, error: float, grid: int, rng: np.random.Generator) -> Any:
    """A mask whose edge wanders by some cells, smoothly over about four."""
    places = np.mgrid[: mask.shape[0], : mask.shape[1]].astype(float)
    for axis, length in enumerate(mask.shape):
        field = gaussian_filter(rng.standard_normal(mask.shape), 4 * length / grid)
        places[axis] += field * (error * length / grid / field.std())
    return map_coordinates(mask.astype(np.float32), places, order=1, mode="nearest") > 0.5


def on_grid(mask: Any, grid: int) -> Any:
    """Logits [1, grid, grid] of how much of each cell is in a mask, a little soft."""
    image = Image.fromarray((mask * 255).astype(np.uint8)).resize((grid, grid), Image.Resampling.BOX)
    shares = gaussian_filter(np.asarray(image, np.float32) / 255, 0.7).clip(1e-4, 1 - 1e-4)
    return np.log(shares / (1 - shares))[None]


def iou(one: Any, other: Any) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def main() -> int:
    if not DATA.is_dir():
        print(f"error: no photographs: {DATA}", file=sys.stderr)
        return 1
    truth, rng = json.loads((DATA / "instances.json").read_text()), np.random.default_rng(0)
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for one in truth["annotations"]:
        if one.get("iscrowd") or one["area"] < LEAST_AREA:
            continue
        pixels = np.asarray(Image.open(DATA / "images" / names[one["image_id"]]).convert("RGB"))
        mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(one["segmentation"], *pixels.shape[:2]))) > 0
        for grid in GRIDS:
            for error in ERRORS:
                logits = on_grid(bend(mask, error, grid, rng) if error else mask, grid)
                plain, refined = resize_masks(logits, mask.shape, 0.5), make_masks(pixels, logits, 0.5, refine=True)
                found.setdefault((grid, error), []).append((iou(plain[0], mask), iou(refined[0], mask)))
    rows = []
    for (grid, error), pairs in sorted(found.items()):
        plain, refined = np.array(pairs).T
        row = {"grid": grid, "error": error, "masks": len(pairs), "plain": plain.mean(), "refined": refined.mean()}
        rows.append({**row, "better": (refined > plain + 0.005).mean(), "worse": (refined < plain - 0.005).mean()})
    print(json.dumps({"edges": rows}, default=lambda value: round(float(value), 4)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
