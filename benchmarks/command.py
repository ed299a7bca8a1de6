"""What `python -m benchmarks.NAME` has in common: numbers by their place, `--help`, figures as JSON."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path


def run(measure: Callable[..., dict[str, object]], description: str | None, *counts: str) -> None:
    """Measure, and print what was found.

    Args:
        measure: takes as many whole numbers as are given.
        description: the benchmark's own docstring, which is its help.
        counts: names of the numbers; each may be left out, with those after it.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {Path(sys.argv[0]).stem}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for count in counts:
        parser.add_argument(count, type=int, nargs="?")
    given = [number for number in vars(parser.parse_args()).values() if number is not None]
    print(json.dumps(measure(*given), indent=2))
