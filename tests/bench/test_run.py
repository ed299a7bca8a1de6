"""A run whose processes are made up: which jobs there are, and what becomes of those that fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litetext.bench import run
from litetext.bench.jobs import Job, JobError
from litetext.bench.rows import choose_rows
from litetext.bench.run import BenchOptions, run_bench
from litetext.bench.work import Inputs, Work
from litetext.errors import LiteTextError, OptionError
from tests.bench.made import found

TEXTS = [f"phrase {number}" for number in range(300)]
OPTIONS = BenchOptions(rounds=3, batches=(1, 32), phrases=200, threads=2)
FACTS = {"weights": "random", "bytes": 1000, "length": 16, "flops": 1e9}
Answer = Callable[[Job], dict[str, Any]]


def answer(job: Job) -> dict[str, Any]:
    """What a process would say."""
    if job.kind == "peak":
        return {"fp32": 100.0 + job.threads, "bf16": None, "by": "numpy.matmul"}
    return {"prepare": FACTS, "reference": {}, "measure": found(100.0 * (job.seed + 1))}[job.kind]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    work = Work(tmp_path)
    work.begin(Inputs.of(prompts=("a list", TEXTS)), TEXTS)
    return work


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs of a run, in order."""
    return watch(monkeypatch, answer)


def watch(monkeypatch: pytest.MonkeyPatch, answers: Answer) -> list[Job]:
    jobs: list[Job] = []

    def run_job(job: Job) -> dict[str, Any]:
        jobs.append(job)
        return answers(job)

    monkeypatch.setattr(run, "run_job", run_job)
    return jobs


def test_ratios_are_of_32_phrases_where_these_are_measured() -> None:
    assert BenchOptions().batches == (1, 8, 32, 128)
    assert BenchOptions().compared == 32
    assert BenchOptions(batches=(1, 4, 8)).compared == 8


def test_rows_take_turns_and_are_compared_once(work: Work, asked: list[Job]) -> None:
    report = run_bench(work, choose_rows(("torch", "onnx-fp32")), OPTIONS)
    measured = [(job.row, job.seed, job.threads, job.batches, job.phrases) for job in asked if job.kind == "measure"]
    assert measured[:4] == [
        ("torch", 0, 2, (1, 32), 200),
        ("torch", 0, 1, (1,), 0),
        ("onnx-fp32", 0, 2, (1, 32), 200),
        ("onnx-fp32", 0, 1, (1,), 0),
    ]
    assert [(row, seed, phrases) for row, seed, _, _, phrases in measured[4::2]] == [
        ("torch", 1, 0),
        ("onnx-fp32", 1, 0),
        ("torch", 2, 0),
        ("onnx-fp32", 2, 0),
    ]
    assert [job.row for job in asked if job.kind == "reference"] == ["torch"]
    assert sum(job.kind == "peak" for job in asked) == 3
    assert report.machine["gflops"] == {"fp32": 102, "bf16": None, "by": "numpy.matmul"}
    assert report.results[1].rates(32) == [100, 200, 300]


def test_a_teacher_is_compared_on_few(work: Work, asked: list[Job]) -> None:
    run_bench(work, choose_rows(("teacher-bf16",)), OPTIONS)
    assert [(job.row, job.phrases) for job in asked if job.kind == "reference"] == [("teacher-fp32", 64)]


def test_what_fails_is_told_and_the_rest_goes_on(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(job: Job) -> dict[str, Any]:
        if job.row == "openvino-fp32" and job.kind == "prepare":
            raise JobError("no openvino")
        if job.row == "bf16" and job.seed == 1:
            raise JobError("ended by SIGKILL")
        if job.kind == "reference":
            raise JobError("no torch")
        return answer(job)

    jobs = watch(monkeypatch, answers)
    report = run_bench(work, choose_rows(("folded", "bf16", "openvino-fp32")), OPTIONS)
    assert {one.row.name: one.reason for one in report.results} == {
        "folded": None,
        "bf16": "ended by SIGKILL",
        "openvino-fp32": "no openvino",
    }
    assert not any(job.row == "openvino-fp32" and job.kind == "measure" for job in jobs)
    assert not any(job.row == "bf16" and job.seed == 2 for job in jobs)
    assert report.to_json()["rows"][2]["reason"] == "no openvino"


def test_nothing_of_a_student_is_the_users_mistake(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(job: Job) -> dict[str, Any]:
        if job.kind == "prepare" and not job.row.startswith("teacher"):
            raise JobError("a position table of 77 rows")
        return answer(job)

    jobs = watch(monkeypatch, answers)
    with pytest.raises(LiteTextError, match="no row can be measured: a position table of 77 rows, the row torch"):
        run_bench(work, choose_rows(("teacher-fp32", "torch", "folded")), OPTIONS)
    assert not any(job.kind == "measure" for job in jobs)


def test_too_few_phrases(work: Work, asked: list[Job]) -> None:
    with pytest.raises(OptionError, match="300 distinct phrases for batches of 512"):
        run_bench(work, choose_rows(("torch",)), BenchOptions(batches=(1, 32, 512)))
    assert not asked


def test_progress_ends_at_one(work: Work, asked: list[Job]) -> None:
    told: dict[str, float] = {}
    run_bench(work, choose_rows(("torch", "folded")), OPTIONS, lambda stage, share: told.update({stage: share}))
    assert told == {"making files": 1, "reference features": 1, "measuring": 1}
