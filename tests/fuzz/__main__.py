"""Damage valid files of every format that LiteText reads, and see that each command refuses or reads them well.

python -m tests.fuzz                        100 mutations of each kind
python -m tests.fuzz gold banks --count 2000
python -m tests.fuzz --minutes 10           the minutes are shared equally between the kinds

A mutation fails when the command ends with a traceback or a signal, takes too long or more than 1 GB, prints control
codes, or gives another answer on a file that a checksum guards. Failing files are kept for inspection; exit status 1.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.fuzzing import Fuzzer
from tests.fuzz.subjects import SUBJECTS


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of: {', '.join(SUBJECTS)}; none: all")
    parser.add_argument("--count", type=int, default=100, help="mutations of each kind")
    parser.add_argument("--minutes", type=float, help="instead of a count")
    parser.add_argument("--seed", type=int, default=0, help="the first mutation")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where failing files go")
    options = parser.parse_args()
    kinds = options.kinds or list(SUBJECTS)
    if unknown := set(kinds) - set(SUBJECTS):
        parser.error(f"no kind is called '{unknown.pop()}'; give {', '.join(SUBJECTS)}")
    total = 0
    for kind in kinds:
        end = None if options.minutes is None else time.monotonic() + 60 * options.minutes / len(kinds)
        with tempfile.TemporaryDirectory(prefix="litetext-fuzz-") as folder:
            fuzzer = Fuzzer(kind, Path(folder), options.keep)
            counts: Counter[str] = Counter()
            most, seed = 0, options.seed
            while seed < options.seed + options.count if end is None else time.monotonic() < end:
                result = fuzzer.try_one(seed)
                counts["failed" if result.fault else "read" if result.ending.status == 0 else "refused"] += 1
                most = max(most, result.ending.memory)
                if result.fault:
                    print(f"{kind} {seed}: {result.file}: {result.fault}", flush=True)
                seed += 1
        total += counts["failed"]
        found = ", ".join(f"{counts[name]} {name}" for name in ("read", "refused", "failed"))
        print(f"{kind}: {seed - options.seed} mutations, {found}; at most {most / 1e6:.0f} MB", flush=True)
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
