"""`make bench`: every benchmark, its figures and the machine's description in benchmarks/results/."""

import json
import subprocess
import sys
from datetime import UTC, datetime

from benchmarks.machine import RESULTS, describe_machine

BENCHMARKS = (
    "tokenizer",
    "audit",
    "geometry",
    "equality",
    "memory",
    "evaluate",
    "embed",
    "distill",
    "bank",
    "text",
    "serving",
)


def main() -> None:
    names = sys.argv[1:] or BENCHMARKS
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        # A fresh process each: Linux hands the peak memory of a parent on to its children.
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True, capture_output=True)
        date = datetime.now(UTC).date().isoformat()
        found = {"benchmark": name, "date": date, "machine": describe_machine(), **json.loads(done.stdout)}
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{path.relative_to(RESULTS.parents[1])}:")
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
