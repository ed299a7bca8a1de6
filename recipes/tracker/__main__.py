"""Train the micro tracker by the recipe of the shipped weights; resumes automatically.

python -m recipes.tracker -o tracker-run                  about 90 minutes on one core
"""

import argparse
import json
import sys
from pathlib import Path

from litetext.cli._output import show_progress
from litetext.errors import LiteTextError
from litetext.storage import only_writer
from recipes.tracker.training import TrackerRecipe, save_weights, train


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.tracker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint, validation curve and weights")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the clips")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args(arguments)
    recipe = TrackerRecipe(seed=options.seed, threads=options.threads)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        with only_writer(options.output, "to this run"), show_progress() as progress:
            size = save_weights(train(options.output, recipe, progress), options.output / "weights")
    except (LiteTextError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    told = {"weights": str(options.output / "weights"), "bytes": size, "curve": str(options.output / "curve.csv")}
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
