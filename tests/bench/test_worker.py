"""The jobs of a run, on a student that is tiny."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from litetext.bench.jobs import Job, run_job
from litetext.bench.rows import find_row
from litetext.bench.steps import prepare
from litetext.bench.work import Inputs, Work
from litetext.bench.worker import do
from litetext.errors import LiteTextError
from litetext.prompts.bundled import bundled_corpus

pytestmark = pytest.mark.torch
TEXTS = list(bundled_corpus().texts[:200])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    work = Work(tmp_path_factory.mktemp("work"))
    work.begin(Inputs.of(prompts=("a list", TEXTS), preset="tiny"), TEXTS)
    return work


def job(kind: str, work: Work, row: str, **changes: object) -> Job:
    return Job(kind, str(work.folder), row, **{"batches": (1, 8), "seconds": 0.001} | changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reference(work: Work) -> Path:
    do(job("prepare", work, "torch"))
    do(job("reference", work, "torch", phrases=100))
    return work.reference("torch")


def test_preparing_says_what_there_is(work: Work) -> None:
    facts = do(job("prepare", work, "masked-folded"))
    file = work.made(("masked", "fold"))
    assert facts["weights"] == "random"
    assert facts["bytes"] == file.stat().st_size
    assert facts["length"] is None
    attended = do(job("prepare", work, "folded"))
    assert attended["length"] == 16
    assert facts["flops"] < attended["flops"]


def test_what_is_there_is_not_made_again(work: Work) -> None:
    prepare(work, find_row("folded"))
    before = work.file(find_row("folded")).stat().st_mtime_ns
    prepare(work, find_row("folded"))
    assert work.file(find_row("folded")).stat().st_mtime_ns == before


def test_a_step_that_failed_leaves_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    from litetext.bench import steps

    def fail(making: steps.Making) -> None:
        making.target.write_bytes(b"half")
        raise LiteTextError("broken")

    monkeypatch.setitem(steps.STEPS, "bf16", fail)
    with pytest.raises(LiteTextError, match="broken"):
        prepare(work, find_row("bf16"))
    assert not work.file(find_row("bf16")).exists()
    monkeypatch.undo()
    assert prepare(work, find_row("bf16"))["weights"] == "random"  # what was left is in nobody's way


@pytest.mark.parametrize(
    ("row", "least"), [("torch", 0.999999), ("folded", 0.999999), ("bf16", 0.99), ("bank", 0.9999)]
)
def test_a_row_is_measured(work: Work, reference: Path, row: str, least: float) -> None:
    do(job("prepare", work, row))
    found = do(job("measure", work, row, phrases=100))
    assert [speed["batch"] for speed in found["speeds"]] == [1, 8]
    assert all(speed["rate"] > 0 and speed["p50_ms"] <= speed["p99_ms"] for speed in found["speeds"])
    assert found["cosine"]["phrases"] == 100
    assert found["cosine"]["least"] >= least
    assert found["load_seconds"] > 0
    assert found["torch"]


def test_other_weights_are_not_compared(work: Work, reference: Path) -> None:
    do(job("prepare", work, "folded"))
    facts = work.facts(find_row("folded").chain)
    text = facts.read_text()
    facts.write_text(text.replace('"random"', '"random, of the same size"'))
    assert do(job("measure", work, "folded", phrases=100))["cosine"] is None
    facts.write_text(text)
    assert do(job("measure", work, "folded"))["cosine"] is None  # nothing was asked for


def test_memory_is_that_of_a_fresh_process(work: Work) -> None:
    do(job("prepare", work, "torch"))
    found = run_job(job("measure", work, "torch"))
    if not sys.platform.startswith("linux"):
        assert found["resident"]["load"] is None
        return
    size = work.file(find_row("torch")).stat().st_size
    assert size < found["resident"]["load"] < size + 40e6
    assert found["process"] > found["resident"]["first"]
