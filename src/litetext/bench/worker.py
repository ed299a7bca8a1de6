"""One job in a process of its own: ``python -m litetext.bench.worker JOB``, JSON in, one line of JSON out.

Nothing that another row needs is imported here, so that memory and "without PyTorch" are what they would be for a user.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from litetext.bench.exactness import Encode, compare, write_reference
from litetext.bench.jobs import MISTAKE, Job
from litetext.bench.memory import give_back, resident_bytes
from litetext.bench.openers import OPENERS
from litetext.bench.rows import Row, find_row
from litetext.bench.timing import deal, time_batches
from litetext.bench.work import Work
from litetext.errors import LiteTextError


def do(job: Job) -> dict[str, Any]:
    """Do a job, and say what came of it.

    Raises:
        LiteTextError: it cannot be done.
        ImportError: a package is missing.
    """
    if job.kind == "peak":
        from litetext.bench.machine import matrix_speed

        return matrix_speed(job.threads)
    work, row = Work(Path(job.folder)), find_row(job.row)
    if job.kind == "prepare":
        from litetext.bench.flops import row_cost
        from litetext.bench.steps import prepare

        return prepare(work, row) | row_cost(work, row)
    texts = row.known(work.texts())
    if job.kind == "reference":
        encode = OPENERS[row.opener].open(work.file(row), job.threads)
        write_reference(encode, texts[: job.phrases], work.reference(row.name))
        return {}
    return _measure(job, work, row, texts)


def _measure(job: Job, work: Work, row: Row, texts: list[str]) -> dict[str, Any]:
    """Import, load, first phrase, batches: seconds, resident bytes since the imports, and features compared."""
    opener = OPENERS[row.opener]
    streams = deal(texts, job.batches, job.seed)
    import_seconds = _seconds(lambda: [import_module(name) for name in opener.imports])
    give_back()
    before = resident_bytes()
    opened: list[Encode] = []
    load_seconds = _seconds(lambda: opened.append(opener.open(work.file(row), job.threads)))
    encode, loaded = opened[0], resident_bytes()
    first_seconds = _seconds(lambda: encode([texts[0]]))
    first = resident_bytes()
    speeds = [time_batches(encode, stream, job.seconds) for stream in streams]
    sizes = {"load": loaded, "first": first, "batches": resident_bytes()}
    return {
        "import_seconds": import_seconds,
        "load_seconds": load_seconds,
        "first_seconds": first_seconds,
        "resident": {name: None if size is None or before is None else size - before for name, size in sizes.items()},
        "process": first,
        "torch": "torch" in sys.modules,
        "speeds": [speed.to_json() for speed in speeds],
        "cosine": _exactness(job, work, row, encode),
    }


def _exactness(job: Job, work: Work, row: Row, encode: Encode) -> dict[str, Any] | None:
    """The features against those of the reference; None where there is none, or nothing was asked for."""
    if row.reference is None or not job.phrases or not work.reference(row.reference).is_file():
        return None
    if work.weights(row) != work.weights(find_row(row.reference)):
        return None
    found = compare(encode, row.known(work.texts())[: job.phrases], work.reference(row.reference))
    return None if found is None else found.to_json()


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Do the job on the command line; a mistake that has a name is one line on standard error and exit status 1."""
    try:
        found = do(Job.from_json(sys.argv[1]))
    except (LiteTextError, ImportError, OSError) as error:
        sys.exit(f"{MISTAKE}{' '.join(str(error).split())}")
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
