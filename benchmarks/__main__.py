"""Benchmarks: their figures and the machine's description go to benchmarks/results/.

python -m benchmarks                    all of them, as `make bench` says
python -m benchmarks NAME ...           some
python -m benchmarks NAME ARGUMENTS     one, with its own arguments; NAME --help tells what it takes
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.machine import RESULTS, describe_machine

BENCHMARKS = (
    "tokenizer",
    "audit",
    "semantics",
    "geometry",
    "equality",
    "memory",
    "evaluate",
    "veval",
    "embed",
    "distill",
    "bank",
    "text",
    "serving",
    "whole",
    "video",
    "scale",
    "app",
    "edges",
)
HELP = {"-h", "--help"}


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names; the exit status."""
    if HELP & set(arguments[:1]):
        print(f"{__doc__}\nNAME: {', '.join(BENCHMARKS)}")
        return 0
    if set(arguments) <= set(BENCHMARKS):
        failed = [code for name in arguments or BENCHMARKS if (code := measure(name))]
        return failed[0] if failed else 0  # not the greatest: what a signal ended is below 0
    name, *own = arguments
    if name not in BENCHMARKS:
        print(f"error: no benchmark is called '{name}'; give {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    return measure(name, own)


def measure(name: str, own: Sequence[str] = ()) -> int:
    """Run one in a fresh process, since Linux hands the peak memory of a parent on to its children."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *own]
    if HELP & set(own):
        return subprocess.run(command, check=False).returncode
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    date = datetime.now(UTC).date().isoformat()
    found = {"benchmark": name, "date": date, "machine": describe_machine(), **json.loads(done.stdout)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{path.relative_to(RESULTS.parents[1])}:")
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
