"""The jobs of the command line on a local cluster: the files of one machine, and what a second submission computes."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from litetext.errors import EncoderError, LiteTextError
from litetext.scale.jobs import JOURNAL, MANIFEST, Cluster, Job, Part, connect
from tests.cli.helpers import failure
from tests.scale.conftest import contents
from tests.scale.nodes import PHRASES, write_pictures, write_prompts

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray and what it imports, in this process


class TestJob:
    """Parts and receipts, the cluster replaced by this process."""

    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from litetext.scale import jobs

        def run_here(cluster: Any, parts: list[Part], worker: Any, arguments: Any) -> Any:
            made = worker(*arguments)
            for part in reversed(parts):
                yield jobs.timed(
                    part.name, part.key, made.folder, lambda path, part=part: made.work(part.payload, path)
                )

        monkeypatch.setattr(jobs, "run_parts", run_here)
        monkeypatch.setattr(Cluster, "start", lambda cluster: self.started.append(cluster.address))
        self.started: list[str] = []
        self.done: list[str] = []
        return self.done

    def start(self) -> Any:
        def work(payload: str, path: Path) -> dict[str, Any]:
            if payload == "broken":
                raise ZeroDivisionError
            self.done.append(payload)
            path.write_text(payload)
            return {"rows": 1, "failures": [{"file": payload, "reason": "no"}] if payload == "failing" else []}

        return work

    def submit(self, folder: Path, *payloads: str, **settings: str) -> Job:
        job = Job(folder, "test", settings)
        job.recover()
        parts = [Part(f"part-{number}", payload, payload) for number, payload in enumerate(payloads)]
        job.run(Cluster("local", 1, "cpu"), parts, self.start)
        job.finish()
        return job

    def test_a_second_submission_computes_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            self.submit(tmp_path, "broken", "b", "c")
        assert (self.done, (tmp_path / MANIFEST).exists()) == (["c", "b"], False)
        self.submit(tmp_path, "a", "b", "c")
        assert self.done == ["c", "b", "a"]
        assert not (tmp_path / JOURNAL).exists()
        (tmp_path / "part-1").write_text("damaged")
        (tmp_path / "part-2").unlink()
        self.submit(tmp_path, "A", "b", "c")  # another input, a damaged file, one that is gone
        assert self.done[3:] == ["c", "b", "A"]
        self.started.clear()
        job = self.submit(tmp_path, "A", "b", "c")
        assert job.report(Cluster("local", 1, "cpu"))["computed_parts"] == 0
        assert not self.started, "Ray is started to compute nothing"

    def test_failures_are_told_and_tried_again(self, tmp_path: Path) -> None:
        assert self.submit(tmp_path, "a", "failing").failures == [{"file": "failing", "reason": "no"}]
        self.submit(tmp_path, "a", "failing")
        assert self.done == ["failing", "a", "failing"]

    def test_another_job_is_refused(self, tmp_path: Path) -> None:
        from litetext.errors import OutputError

        self.submit(tmp_path, "a", model="one")
        with pytest.raises(OutputError, match="model was one, and is two now"):
            self.submit(tmp_path, "a", model="two")
        (tmp_path / MANIFEST).write_text("[]")
        with pytest.raises(OutputError, match="not of `test`"):
            self.submit(tmp_path, "a", model="one")


def test_audit_with_a_file_that_cannot_be_read(tool: Any, tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "prompts", 3000, 3)
    _, plain, _ = tool("audit", prompts, "-o", tmp_path / "one")
    (prompts / "1b.json").write_bytes(b'["a", "b"')
    status, found, told = tool("audit", prompts, "-o", tmp_path / "many", "--ray", "--workers", "2")
    assert status == 1
    assert "1b.json" in told.splitlines()[-1]
    assert [one["file"] for one in found["ray"]["failures"]] == ["1b.json"]
    (prompts / "1b.json").unlink()
    status, found, _ = tool("audit", prompts, "-o", tmp_path / "many", "--ray")
    assert (status, found.pop("ray")["failures"]) == (0, [])
    assert found == plain
    assert json.loads((tmp_path / "many" / "report.json").read_text()) == plain
    _, found, _ = tool("audit", prompts, "-o", tmp_path / "many", "--ray")
    assert found["ray"]["computed_parts"] == 0


@pytest.mark.torch
def test_embed_writes_the_shards_of_one_machine(tool: Any, tmp_path: Path) -> None:
    (path := tmp_path / "phrases.txt").write_text("".join(f"red thing {n} on a table\n" for n in range(900)))
    asked = ["embed", path, "--teacher", "micro", "--shard-tokens", "2000"]
    tool(*asked, "-o", tmp_path / "one")
    status, found, _ = tool(*asked, "-o", tmp_path / "many", "--ray", "--workers", "2")
    assert (status, found["ray"]["rows"]) == (0, 900)
    assert found["ray"]["parts"] > 2
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_segment_writes_the_folder_of_one_machine(tool: Any, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 18)
    (pictures / "00003b.png").write_bytes(b"no picture")
    asked = ["segment", pictures, "--model", "micro", "--threads", "1", "--masks", "-p", PHRASES[0], "-p", PHRASES[1]]
    tool(*asked, "-o", tmp_path / "one")
    status, found, _ = tool(*asked, "-o", tmp_path / "many", "--ray", "--workers", "2")
    assert status == 1
    assert [Path(one["file"]).name for one in found["failures"]] == ["00003b.png"]
    assert contents(tmp_path / "many", "parts/") == contents(tmp_path / "one")
    (pictures / "00003b.png").unlink()
    import pyarrow.parquet as pq

    status, found, _ = tool(*asked[:6], *asked[7:], "-o", tmp_path / "found.parquet", "--ray")
    rows = pq.read_table(tmp_path / "found.parquet").to_pylist()
    assert (status, len(rows), found["images"]) == (0, 18, 18)
    told = {Path(row["file_name"]).name: len(row["annotations"]) for row in rows}
    data = json.loads((tmp_path / "one" / "annotations.json").read_text())
    assert sum(told.values()) == len(data["annotations"])


def test_segment_reads_images_from_parquet(tool: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = sorted(write_pictures(tmp_path / "pictures", 5).iterdir())
    asked = ["--model", "micro", "--threads", "1", "--ray", "--workers", "2"]
    tool("segment", tmp_path / "pictures", "-p", PHRASES[0], *asked, "-o", tmp_path / "files.parquet")
    expected = [row["annotations"] for row in pq.read_table(tmp_path / "files.parquet").to_pylist()]
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in pictures]
    images[3] = {"bytes": b"no picture", "path": ""}
    phrases = [[PHRASES[0]]] * 4 + [None]
    pq.write_table(
        pa.table({"image": images, "id": range(5), "phrases": phrases}), tmp_path / "in.parquet", row_group_size=2
    )
    asked = ["segment", tmp_path / "in.parquet", *asked, "-o", tmp_path / "out.parquet"]
    status, found, _ = tool(*asked)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert status == 1
    assert [one["file"].rpartition(" ")[2] for one in found["ray"]["failures"]] == ["3", "4"]
    assert [row["id"] for row in rows] == list(range(5))
    assert "image" not in rows[0]
    assert [row["annotations"] for row in rows] == [*expected[:3], None, None]
    status, _, told = tool(*asked[:-1], tmp_path / "folder")
    assert (status, "NAME.parquet" in told) == (1, True)
    assert "--ray" in tool(*asked[:2], "--model", "micro")[2]
    (tmp_path / "in.parquet").write_bytes(b"PAR1 no table")
    assert "not Parquet" in tool(*asked)[2]


def broken_start() -> Any:
    raise EncoderError("no such checkpoint on this node")


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_one_error(ray_cluster: None, tmp_path: Path) -> None:
    job = Job(tmp_path, "test", {})
    with pytest.raises(LiteTextError, match="no such checkpoint on this node"), connect("local", 1) as cluster:
        job.run(cluster, [Part("part-0", "a", "a")], broken_start)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["--ray", "--workers", "0"], "0 workers"),
        (["--workers", "2"], "give --ray"),
        (["--ray", "127.0.0.1:{port}"], "no cluster answers"),
        (["--ray", "nosuch.invalid:6379"], "no cluster answers"),
        (["--ray", "head"], "neither an address"),
        (["--ray", "http://head:1"], "neither an address"),
    ],
)
def test_wrong_options(arguments: list[str], fact: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (path := tmp_path / "a.txt").write_text("dog\n")
    typed = [word.format(port=port) for word in arguments]
    with pytest.MonkeyPatch.context() as patch:
        import ray

        patch.setattr(ray, "is_initialized", lambda: False)
        assert fact in failure(capsys, "audit", str(path), "-o", str(tmp_path / "out"), *typed)
    assert not (tmp_path / "out").exists()


def test_a_place_and_files_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "a.txt").write_text("dog\n")
    assert "-o DIR" in failure(capsys, "audit", str(path), "--ray")
    assert "no sources" in failure(capsys, "audit", "--ray", "-o", str(tmp_path / "out"))


@pytest.mark.parametrize("missing", ["ray", "pyarrow"])
def test_without_ray_one_line_names_the_extra(missing: str, tmp_path: Path) -> None:
    (path := tmp_path / "a.txt").write_text("dog\n")
    code = f"""
import importlib.util as util, sys
sys.modules[{missing!r}] = None
find = util.find_spec
util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)
from litetext.cli import run
sys.exit(run(["audit", {str(path)!r}, "--ray", "-o", {str(tmp_path / "out")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "litetext[ray]" in done.stderr


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("command", ["embed", "segment"])
def test_a_killed_submission_goes_on_to_the_same_bytes(command: str, tmp_path: Path) -> None:
    if command == "embed":
        (path := tmp_path / "phrases.txt").write_text("".join(f"red thing {n} on a table\n" for n in range(6000)))
        asked = ["embed", str(path), "--teacher", "micro", "--shard-tokens", "2000"]
    else:
        path = write_pictures(tmp_path / "pictures", 60)
        asked = ["segment", str(path), "--model", "micro", "--threads", "1", "--masks", "-p", PHRASES[0]]
    asked = [sys.executable, "-m", "litetext", *asked, "--json"]
    subprocess.run([*asked, "-o", tmp_path / "one"], check=True, capture_output=True)
    more = [*asked, "-o", tmp_path / "many", "--ray", "--workers", "2"]
    journal = tmp_path / "many" / ("." if command == "embed" else "parts") / JOURNAL
    first = subprocess.Popen(more, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.run(more, check=True, capture_output=True)
    assert b".cc:" not in second.stderr  # what Ray's core logs
    done = json.loads(second.stdout)
    assert 0 < done["ray"]["computed_parts"] < done["ray"]["parts"]
    assert contents(tmp_path / "many", "parts/", "index.html") == contents(tmp_path / "one", "index.html")
