"""Jobs in processes of their own."""

import sys
from pathlib import Path

import pytest

from litetext.bench import jobs
from litetext.bench.jobs import Job, JobError, run_job
from litetext.bench.machine import describe_machine, matrix_speed
from litetext.bench.memory import file_bytes, resident_bytes


def script(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Let a module of this text be the worker."""
    (folder / "made_worker.py").write_text(text)
    monkeypatch.setattr(jobs, "WORKER", "made_worker")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_json_there_and_back() -> None:
    job = Job("measure", "work", "torch", 2, (1, 32), 0.5, 3, 100)
    assert Job.from_json(job.to_json()) == job


def test_the_last_line_is_the_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(
        monkeypatch,
        tmp_path,
        "import os\nprint('noise')\nprint('{\"threads\": ' + os.environ['OMP_NUM_THREADS'] + '}')",
    )
    assert run_job(Job("peak", "", threads=3)) == {"threads": 3}


def test_the_reasons_of_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^no row is called 'tpu'; there are"):
        run_job(Job("prepare", str(tmp_path), "tpu"))
    script(monkeypatch, tmp_path, "raise KeyError('lost')")
    with pytest.raises(JobError, match="KeyError: 'lost'"):
        run_job(Job("peak", ""))
    script(monkeypatch, tmp_path, "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(JobError, match="ended by SIGKILL, as the system does when memory runs out"):
        run_job(Job("peak", ""))
    script(monkeypatch, tmp_path, "import sys\nsys.exit(3)")
    with pytest.raises(JobError, match="exit status 3"):
        run_job(Job("peak", ""))
    script(monkeypatch, tmp_path, "import time\ntime.sleep(60)")
    monkeypatch.setattr(jobs, "SLOWEST", 0.1)
    with pytest.raises(JobError, match=r"not done after 0\.1 seconds"):
        run_job(Job("peak", ""))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_resident_memory_grows_by_what_is_touched() -> None:
    before = resident_bytes()
    held = bytearray(b"x") * 50_000_000
    after = resident_bytes()
    assert before is not None
    assert after is not None
    assert 45e6 < after - before < 60e6
    assert len(held) == 50_000_000


def test_bytes_of_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one").write_bytes(b"123")
    (tmp_path / "two").write_bytes(b"12345")
    assert file_bytes(tmp_path) == 8
    assert file_bytes(tmp_path / "two") == 5


def test_the_machine_is_described() -> None:
    found = describe_machine()
    assert found["cpu"]
    assert found["usable_cores"] >= 1
    assert found["packages"]["litetext"]


def test_matrix_products_take_time() -> None:
    found = matrix_speed(1)
    assert 0.1 < found["fp32"] < 1e5
