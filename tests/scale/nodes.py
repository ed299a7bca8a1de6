"""Two nodes on this machine, of which one is lost in the middle of a job.

    python -m tests.scale.nodes [PROMPTS PHRASES PICTURES]

compares the jobs with one process; each of the numbers may be 0. What was found is printed, an assertion fails where
something differs.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from litetext.scale.jobs import JOURNAL
from tests.scale.conftest import contents

PHRASES = ("bull", "chicken", "flower", "helicopter", "saw")


def write_prompts(folder: Path, count: int, files: int = 8) -> Path:
    """So many prompts in files, most of them more than once; the same in each run."""
    draw = random.Random(0)
    folder.mkdir()
    nouns = ["dog", "cat", "car", "tree", "house", "bird", "chair", "lamp", "boat", "cup"]
    places = ["", " on a table", " near W\u00e4lder"]
    for number in range(files):
        lines = (
            f"{draw.choice(nouns)}{draw.choice(places)} {draw.randrange(max(2, count // 3))}"
            for _ in range(count // files)
        )
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_pictures(folder: Path, count: int) -> Path:
    """So many pictures of the micro world."""
    from litetext.micro.phrases import make_pairs
    from litetext.micro.scenes import SceneOptions

    folder.mkdir()
    seen: set[str] = set()
    for pair in make_pairs(0, 8 * count, SceneOptions(size=128, split="test")):
        if pair.picture not in seen and len(seen) < count:
            seen.add(pair.picture)
            Image.fromarray(pair.scene.pixels).save(folder / f"{len(seen):05d}.png")
    assert len(seen) == count
    return folder


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of a head and another node, of one CPU each."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 400_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
    node = cluster.add_node(num_cpus=1, **memory)
    try:
        yield cluster, node
    finally:
        cluster.shutdown()


def lose_when(ready: Any, cluster: Any, node: Any, lost: list[float]) -> threading.Thread:
    """Kill the node as soon as something is there."""

    def watch() -> None:
        while not ready():
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        lost.append(time.time())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def in_a_process(*arguments: str | Path) -> Any:
    """What a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "litetext", *map(str, arguments), "--json"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"{"), (done.stdout[:500], done.stderr[-2000:])
    return json.loads(done.stdout)


def on_nodes(folder: Path, lines: int, *arguments: str | Path) -> Any:
    """What the command prints with --ray when a node is lost after so many lines of the journal in the folder."""

    def ready() -> bool:
        journal = folder / JOURNAL
        return journal.exists() and journal.read_bytes().count(b"\n") > lines

    lost: list[float] = []
    with two_nodes() as (cluster, node):
        watcher = lose_when(ready, cluster, node, lost)
        found = in_a_process(*arguments, "--ray", cluster.address, "--workers", "2")
        ended = time.time()
        watcher.join(30)
        assert lost, "the job was over before the node was lost"
    found["lost_seconds_before_the_end"] = ended - lost[0]
    return found


def compare_audit(folder: Path, count: int) -> dict[str, Any]:
    prompts = write_prompts(folder / "prompts", count)
    plain = in_a_process("audit", prompts, "-o", folder / "one")
    found = on_nodes(folder / "many" / "counts", 2, "audit", prompts, "-o", folder / "many")
    job, lost = found.pop("ray"), found.pop("lost_seconds_before_the_end")
    assert found == plain
    return {"job": "audit", "lost_seconds_before_the_end": lost, **job}


def compare_embed(folder: Path, count: int) -> dict[str, Any]:
    (path := folder / "phrases.txt").write_text("".join(f"red thing {number} on a table\n" for number in range(count)))
    small = ["--shard-tokens", str(min(16_384, count // 2))]
    in_a_process("embed", path, "-o", folder / "one", "--teacher", "micro", *small)
    found = on_nodes(folder / "many", 3, "embed", path, "-o", folder / "many", "--teacher", "micro", *small)
    assert contents(folder / "many") == contents(folder / "one")
    return {"job": "embed", "lost_seconds_before_the_end": found["lost_seconds_before_the_end"], **found["ray"]}


def compare_segment(folder: Path, count: int) -> dict[str, Any]:
    pictures = write_pictures(folder / "pictures", count)
    asked = ["segment", pictures, "--model", "micro", *(word for phrase in PHRASES for word in ("-p", phrase))]
    in_a_process(*asked, "-o", folder / "one", "--threads", "1")
    found = on_nodes(folder / "many" / "parts", 2, *asked, "-o", folder / "many")
    assert contents(folder / "many", "parts/", "index.html") == contents(folder / "one", "index.html")
    return {"job": "segment", "lost_seconds_before_the_end": found["lost_seconds_before_the_end"], **found["ray"]}


def main(numbers: list[int]) -> None:
    for compare, count in zip((compare_audit, compare_embed, compare_segment), numbers, strict=True):
        if count:
            with tempfile.TemporaryDirectory() as folder:
                sys.stdout.write(json.dumps(compare(Path(folder), count)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or [1_000_000, 50_000, 200])
