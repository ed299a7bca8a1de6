"""`make bench`: every benchmark, its figures and the machine's description in benchmarks/results/."""

import json
import sys
from datetime import UTC, datetime
from importlib import import_module

from benchmarks.machine import RESULTS, describe_machine

BENCHMARKS = ("tokenizer", "audit", "geometry")


def main() -> None:
    names = sys.argv[1:] or BENCHMARKS
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        found = {
            "benchmark": name,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": describe_machine(),
            **import_module(f"benchmarks.{name}").measure(),
        }
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{path.relative_to(RESULTS.parents[1])}:")
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
