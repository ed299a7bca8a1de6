"""A job on a Ray cluster: parts in, files out, each part computed once, whatever is killed meanwhile.

Ray schedules, retries and moves data. What is here: a part is a piece of the input that follows from the input alone,
never from the number of workers; the actor that computes it writes its file in one step, and answers with a receipt,
which has the checksum of that file. Receipts are kept in ``_parts.journal``, a `ResumeLog`, and in the end become the
manifest ``_parts.json``. The next submission computes the parts that have no receipt, or whose file is not as it says.
The folder has to be on storage that every node sees.
"""

import logging
import os
import pickle
import re
import socket
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

from litetext.device import usable_cores
from litetext.errors import LiteTextError, MissingExtraError, OptionError, OutputError, first_line
from litetext.records import read_json
from litetext.resume_log import ResumeLog
from litetext.storage import checksum, fingerprint, to_json, write_text

# Readers of a folder of Parquet pass over what begins so.
JOURNAL, MANIFEST = "_parts.journal", "_parts.json"
LOCAL = "local"
_HINT = "give another folder, or move its files away"
_ADDRESS = re.compile(r"(?:ray://)?([\w.-]+|\[[\da-fA-F:]+\]):(\d+)")
_WAIT = 5.0  # seconds for a cluster to answer; Ray itself would try for minutes
_OBJECTS = 2**30  # bytes of shared memory of a local cluster: what is beyond it is spilled to disk

Receipt = dict[str, Any]
"""What an actor says of a part: ``part`` (its name), ``key``, ``rows``, ``failures`` (row and reason), ``checksum`` of
its file, ``began``, ``seconds``, ``worker``; and what else its work says, under ``note``."""
Progress = Callable[[str, float], None]
Work = Callable[[Any, Path], Receipt]
"""Computes a part from what it holds into a file; gives ``rows``, ``failures`` and, if there is one, a ``note``."""


class Part(NamedTuple):
    """A piece of the input."""

    name: str  # of its file
    key: str  # a fingerprint of what it is computed from
    payload: Any  # what it is computed from, small


class Cluster:
    """A connection to Ray, made when the first part is to be computed, and how much of Ray a job may use."""

    def __init__(self, address: str, workers: int | None, device: str) -> None:
        self.address, self.workers, self.device = address, workers, device
        self.gpus = 0.0  # of each worker
        self.start_seconds = 0.0
        self.is_ours = False  # to leave in the end

    def start(self) -> None:
        """Connect, or start a cluster on this machine; one that is connected to already is used and stays."""
        import ray.data

        if self.start_seconds:
            return
        began = time.perf_counter()
        if not ray.is_initialized():
            _start(self.address, self.workers)
            self.is_ours = True
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # The tasks of other shuffles hold a CPU while they wait for their pieces: when a node is lost, those on
        # the last one would wait for ever for what only a task without a CPU could compute again.
        context.shuffle_strategy = ray.data.context.ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
        context.execution_no_progress_timeout_s = -1  # a long clip is one part, and Ray sees no progress for hours
        for name in ("ray.data", "ray"):
            logging.getLogger(name).setLevel(logging.ERROR)
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = 0 if self.device == "cpu" else int(total.get("GPU", 0))
        self.workers, self.gpus = self.workers or gpus or max(1, int(total.get("CPU", 1))), 1.0 if gpus else 0.0
        self.start_seconds = time.perf_counter() - began

    def resources(self) -> dict[str, Any]:
        """The options of `map_batches` for the actors: one CPU each, so that PyTorch takes one thread."""
        import ray.data

        compute = ray.data.ActorPoolStrategy(size=self.workers)
        return {"compute": compute, "num_cpus": 1, **({"num_gpus": self.gpus} if self.gpus else {})}


@contextmanager
def connect(address: str, workers: int | None = None, device: str = "cpu") -> Iterator[Cluster]:
    """A cluster for a job, which starts it if there is something to compute.

    Args:
        address: "local", "auto" (the cluster that this machine is part of), HOST:PORT, or ray://HOST:PORT.
        workers: actors; None: as many as there are GPUs or, without any, CPUs.
        device: with any but "cpu" each actor gets a GPU, where the cluster has some.

    Raises:
        OptionError: no cluster answers there, or a number below 1.
        MissingExtraError: Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise OptionError(f"{workers} workers", where="--workers", hint="give 1 or more")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what Ray's core says goes to its own files
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import pyarrow  # noqa: F401 - Ray Data has it
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("--ray", "ray") from error
    if address != LOCAL:
        _check_address(address)
    cluster = Cluster(address, workers, device)
    # Ray prints to stdout that a node was lost, which is no part of a result.
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.")  # such as on an input of one file
        try:
            yield cluster
        except ray.exceptions.RayError as error:
            reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            what = f"the job failed on the cluster ({reason})"
            raise LiteTextError(what, hint="the same command resumes") from error
        finally:
            if cluster.is_ours:
                ray.shutdown()


def _start(address: str, workers: int | None) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
    if address == LOCAL:
        cores = max(workers or 0, usable_cores())
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECTS}
    try:
        with _without_stderr():  # where Ray's core says which log level it was given
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = "give local, auto, or HOST:PORT of a running cluster (ray start --head)"
        raise OptionError(f"no cluster ({first_line(error)})", where=f"--ray {address}", hint=hint) from error


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Nothing on stderr, of C++ neither; what is raised is raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens."""
    found = _ADDRESS.fullmatch(address)
    hint = "give local, auto, or HOST:PORT of a running cluster (ray start --head)"
    if found is None:
        if address != "auto":
            raise OptionError("no address of a cluster", where=f"--ray {address}", hint=hint)
        return
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), _WAIT).close()
    except (OSError, OverflowError) as error:
        what = f"no cluster answers ({getattr(error, 'strerror', None) or error})"
        raise OptionError(what.lower(), where=f"--ray {address}", hint=hint) from error


class Job:
    """Parts that become files of a folder. Whoever runs it keeps other processes off the folder (`only_writer`).

    Args:
        folder: for the files, which every node sees.
        tool: what the job is, such as "litetext embed --ray".
        settings: what the results depend on, name by name, beside the parts themselves.
    """

    def __init__(self, folder: Path, tool: str, settings: Mapping[str, Any]) -> None:
        self.folder, self.tool, self.settings = folder, tool, dict(settings)
        self.receipts: dict[str, Receipt] = {}
        self.computed: list[Receipt] = []  # by this run
        self.others: list[dict[str, str]] = []  # failures that belong to no part
        self.seconds = self.start_seconds = 0.0  # of work, and before it: actors start and load the model
        self._log = ResumeLog(folder / JOURNAL, tool, self.settings, _HINT)

    def recover(self) -> None:
        """Read the receipts of earlier runs; those of another job are an `OutputError`."""
        path = self.folder / MANIFEST
        listed: list[Receipt] = []
        if path.exists():
            try:
                made = read_json(path)
                run, listed = made[self.tool], [dict(one) for one in made["parts"]]
            except (ValueError, LookupError, TypeError) as error:
                raise OutputError(f"not of `{self.tool}`", where=str(path), hint=_HINT) from error
            self._log.compare(run, path)
        self.receipts = {receipt["part"]: receipt for receipt in listed}

        def accept(item: Any) -> bool:
            self.receipts[item["part"]] = item
            return True

        self._log.recover(accept)

    def is_finished(self, part: Part) -> bool:
        """Whether a part was computed from the same, without a failure, and its file is whole."""
        receipt = self.receipts.get(part.name)
        if receipt is None or receipt["key"] != part.key or receipt["failures"]:
            return False
        try:
            return bool(receipt["checksum"] == checksum(self.folder, [part.name]))
        except OSError:
            return False

    def run(
        self,
        cluster: Cluster,
        parts: Sequence[Part],
        start: Callable[[], Work],
        progress: Callable[[str, float], None] = lambda _stage, _share: None,
    ) -> list[Receipt]:
        """Compute the parts that are not finished; the receipts of all, in their order.

        ``start`` is called once in each actor, where it loads the model.
        """
        todo = [part for part in parts if not self.is_finished(part)]
        self.receipts = {name: one for name, one in self.receipts.items() if name in {part.name for part in parts}}
        if todo:
            cluster.start()
        began = time.time()
        for receipt in run_parts(cluster, todo, Worker, (start, str(self.folder.absolute()), str(Path.cwd()))):
            self.keep(receipt)
            progress("parts", len(self.computed) / len(todo))
        self.start_seconds = max(0.0, min((one["began"] for one in self.computed), default=began) - began)
        self.seconds = time.time() - began - self.start_seconds
        return [self.receipts[part.name] for part in parts]

    def keep(self, receipt: Receipt) -> None:
        """Note a part that was computed."""
        self._log.append(receipt)
        self.receipts[receipt["part"]] = receipt
        self.computed.append(receipt)

    def finish(self, *, manifest: bool = True) -> None:
        """Write the manifest, the last file of all, unless another file is it, and remove the journal."""
        if not manifest:
            (self.folder / MANIFEST).unlink(missing_ok=True)
        else:
            parts = [self.receipts[name] for name in sorted(self.receipts)]
            write_text(self.folder / MANIFEST, to_json({self.tool: self.settings, "parts": parts}))
        self._log.path.unlink(missing_ok=True)

    @property
    def failures(self) -> list[dict[str, str]]:
        """Rows that failed, with the reason, in the order of the parts."""
        found = (failure for name in sorted(self.receipts) for failure in self.receipts[name]["failures"])
        return [*self.others, *found]

    def report(self, cluster: Cluster) -> dict[str, Any]:
        """What was done: rows, failures, seconds, rows a second of each actor at work, bytes of the largest."""
        busy: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        for receipt in self.computed:
            busy[receipt["worker"]][0] += receipt["rows"]
            busy[receipt["worker"]][1] += receipt["seconds"]
        rates = {worker: rows / max(seconds, 1e-9) for worker, (rows, seconds) in sorted(busy.items()) if rows}
        rows = sum(receipt["rows"] for receipt in self.computed)
        return {
            "workers": cluster.workers,
            "parts": len(self.receipts),
            "computed_parts": len(self.computed),
            "rows": rows,
            "failures": self.failures,
            "start_seconds": cluster.start_seconds + self.start_seconds,
            "seconds": self.seconds,
            "rows_per_second": rows / self.seconds if self.computed and self.seconds else None,
            "rows_per_second_of_actor": rates,
            "peak_memory": max((receipt["memory"] for receipt in self.computed), default=None),
        }


def run_parts(
    cluster: Cluster, parts: Sequence[Part], worker: type, arguments: tuple[Any, ...], *, ordered: bool = False
) -> Iterator[Any]:
    """What a callable class makes of each part, as it comes or in the order of the parts."""
    if not parts:
        return
    import ray.data
    from ray.cloudpickle import dumps  # payloads may be closures

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = ordered
    with ray.data.DataContext.current(context):
        sent = [bytes(dumps(part.payload)) for part in parts]  # type: ignore[no-untyped-call]
        rows = [{"part": part.name, "key": part.key, "payload": data} for part, data in zip(parts, sent, strict=True)]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            worker, batch_size=1, fn_constructor_args=arguments, **cluster.resources()
        )
        for batch in dataset.iter_batches(
            batch_size=None, prefetch_batches=0
        ):  # else the last answer waits for the next
            for answer in batch["answer"]:
                yield pickle.loads(answer)  # noqa: S301 - what our own actor has just sent


class Worker:
    """An actor that computes parts into files."""

    def __init__(self, start: Callable[[], Work], folder: str, place: str) -> None:
        with suppress(OSError):
            os.chdir(place)  # the names of files are as the user gave them
        self.work, self.folder = start(), Path(folder)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """The receipt of a part."""
        name, payload = str(batch["part"][0]), pickle.loads(batch["payload"][0])  # noqa: S301 - of our own driver
        receipt = timed(name, str(batch["key"][0]), self.folder, lambda path: self.work(payload, path))
        return {"answer": [pickle.dumps(receipt)]}


def timed(name: str, key: str, folder: Path, work: Callable[[Path], Receipt]) -> Receipt:
    """Do the work on a part, and say how long it took and what the file is."""
    began, clock = time.time(), time.perf_counter()
    made = work(folder / name)
    return {
        "part": name,
        "key": key,
        **made,
        "checksum": checksum(folder, [name]) if (folder / name).exists() else "",
        "began": began,
        "seconds": time.perf_counter() - clock,
        "worker": worker_name(),
        "memory": peak_memory(),
    }


def peak_memory() -> int | None:
    """The most bytes that this process has had, without Ray's shared memory; None but on Linux, where it is told."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return None
    told = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return 1024 * (int(told["VmHWM"][0]) - int(told["RssShmem"][0]))


def worker_name() -> str:
    """What reports call this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def write_table(path: Path, table: Any) -> None:
    """Write a Parquet file in one step."""
    import pyarrow.parquet as pq

    from litetext.storage import atomic_file

    with atomic_file(path) as file:
        pq.write_table(table, file)


def key_of(parts: Iterable[str | bytes]) -> str:
    """The fingerprint of what a part is computed from, short."""
    return fingerprint(parts)[:32]
