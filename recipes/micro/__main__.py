"""Train the micro SAM3 by the recipe of the shipped weights; resumes automatically.

python -m recipes.micro train -o micro-run                  about 4 hours on 2 cores
python -m recipes.micro train -o better --start micro       the last stage alone, from the weights of the package
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from litetext.checkpoints.hub import locate_folder
from litetext.cli._output import show_progress
from litetext.errors import LiteTextError
from litetext.storage import only_writer
from recipes.micro.training import MicroRecipe, train
from recipes.micro.validation import calibrate, calibration_pairs, collect, fold, save_weights


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.micro", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["train"])
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint, validation curve and weights")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the world")
    parser.add_argument("--contrast-steps", type=int, help="steps of the first stage instead of the recipe's")
    parser.add_argument("--set-steps", type=int, help="steps of each later stage instead of the recipe's")
    parser.add_argument("--start", help="micro, or a folder of trained weights: only the last stage is run, from these")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    try:
        report = run(parser.parse_args(arguments))
    except (LiteTextError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, calibrate and save; where everything is, and what calibration did."""
    recipe = MicroRecipe(seed=options.seed, threads=options.threads)
    steps = {"contrast": options.contrast_steps, "set": options.set_steps}
    stages = tuple(replace(stage, steps=steps[stage.losses] or stage.steps) for stage in recipe.stages)
    hint = "give micro, or a folder of weights"
    weights = None if options.start is None else Path(locate_folder(options.start, hint))
    folder: Path = options.output
    with only_writer(folder, "to this run"), show_progress() as progress:
        model = train(folder, replace(recipe, stages=stages), start=weights, progress=progress)
        progress("calibrating", 0)
        calibration = calibrate(collect(model, calibration_pairs()))
        fold(model, calibration)
        size = save_weights(model, folder / "weights")
    paths = {"weights": str(folder / "weights"), "bytes": size, "curve": str(folder / "curve.csv")}
    return {**paths, **asdict(calibration)}


if __name__ == "__main__":
    sys.exit(main())
