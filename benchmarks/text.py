"""`litetext bench` on SA-Co's phrases; its tables and pictures go to benchmarks/results/text.

python -m benchmarks text
"""

import sys

from benchmarks.machine import DATA, RESULTS
from litetext.cli import run


def main() -> None:
    """Measure and print JSON; what else is given goes to `litetext bench`."""
    file = DATA / "saco_veval_toy_categories.txt"
    sources = [str(file)] if file.is_file() else []
    sys.exit(run(["bench", *sources, "--json", "-o", str(RESULTS / "text"), *sys.argv[1:]]))


if __name__ == "__main__":
    main()
