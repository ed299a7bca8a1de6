"""Timing with an invented clock, the phrases that are dealt out, the ways to run a tiny student, and one real run."""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import islice, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litetext.cli import run
from litetext.device import describe_machine, resident_bytes
from litetext.errors import EncoderError, LiteTextError, OptionError
from litetext.export import benchmark, benchmark_jobs
from litetext.export.benchmark import BenchOptions, figure, run_benchmark, to_markdown
from litetext.export.benchmark_jobs import Row, deal, time_batches
from litetext.prompts.corpus import bundled_corpus
from tests.cli.helpers import failure

TEXTS = list(bundled_corpus().texts[:200])
SHORT = ["--rounds", "1", "--seconds", "0.01", "--phrases", "50", "--threads", "1", "--batches", "16,1,16"]


class Clock:
    """A clock that an encoder moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def encoder(self, *seconds: float) -> Callable[[Sequence[str]], None]:
        """Takes so long at each call, the last time again and again."""
        times = iter([*seconds[:-1], *repeat(seconds[-1], 1000)])

        def encode(texts: Sequence[str]) -> None:
            self.now += next(times)

        return encode


@pytest.mark.parametrize(
    ("seconds", "calls", "p50"),
    [
        ((0.5, 0.25), 4, 250),  # the first call does not count
        ((0.9, 0.9), 3, 900),  # three calls at least
        ((0.5, 4.5), 1, 4500),  # four times the seconds at most
        ((7.0,), 1, 7000),  # a first call longer than the seconds is the only one
    ],
)
def test_how_long_is_timed(seconds: tuple[float, ...], calls: int, p50: float) -> None:
    clock = Clock()
    speed = time_batches(clock.encoder(*seconds), repeat(["a", "b"]), 1.0, clock)
    assert speed["calls"] == calls
    assert speed["p50_ms"] == pytest.approx(p50)
    assert speed["prompts_per_second"] == pytest.approx(2000 / p50)


@given(count=st.integers(8, 60), seed=st.integers(0, 9))
def test_no_phrase_twice_before_it_must(count: int, seed: int) -> None:
    texts = [f"phrase {number}" for number in range(count)]
    streams = deal(texts, (1, 3), seed)
    singles = [batch[0] for batch in islice(streams[0], count // 2)]
    triples = [text for batch in islice(streams[1], count // 2 // 3) for text in batch]
    assert len(set(singles)) == len(singles)
    assert len(set(triples)) == len(triples)
    assert not set(singles) & set(triples)


def test_too_few_phrases_for_every_size_are_shared() -> None:
    texts = [f"phrase {number}" for number in range(10)]
    assert len(set(next(deal(texts, (1, 8), 0)[1]))) == 8
    assert next(deal(texts, (1,), 0)[0]) != next(deal(texts, (1,), 1)[0])


def round_of(rate: float, ms: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What two processes answer."""
    speed = {"prompts_per_second": rate, "p50_ms": ms, "p99_ms": 2 * ms, "calls": 3}
    together = {
        "load_seconds": ms,
        "resident_mb": {"load": 1.0, "first": 2.0, "batches": None},
        "file_mb": 10.0,
        "batches": {"1": speed, "32": speed},
        "cosine": None,
    }
    return together, {"batches": {"1": speed}}


def test_ratios_are_medians_within_rounds() -> None:
    """A slow round slows both sides; medians of each side alone would say 4."""
    row = Row("ours", "s0", "onnx", "/nowhere")
    rounds = {"ours": [(40, 1.0), (9, 4.0), (40, 1.0)], "theirs": [(10, 5.0), (3, 20.0), (20, 5.0)]}
    ours, theirs = (
        benchmark._summarize(row, {"flops": 2e9, "rounds": [round_of(*each) for each in rounds[name]]})
        for name in ("ours", "theirs")
    )
    assert ours["batches"]["32"] | {"calls": 3} == {
        "prompts_per_second": 40, "p50_ms": 1.0, "p99_ms": 2.0, "calls": 3, "gflops": 80,
    }  # fmt: skip
    assert ours["resident_mb"] == {"load": 1.0, "first": 2.0, "batches": None}
    ratios = benchmark._ratios(ours, theirs, "32")
    assert ratios == {"throughput": 3, "latency": 5, "resident": 1, "file": 1}
    assert benchmark._ratios({"reason": "no"}, theirs, "32") == {}


def test_figures_for_people() -> None:
    assert [figure(value) for value in (None, True, 12345.6, 0.998765432, 3, 0.0123)] == [
        "", "True", "12,346", "0.99877", "3", "0.0123",
    ]  # fmt: skip


def test_options_are_checked() -> None:
    assert BenchOptions(batches=(8, 4, 8)).batches == (1, 4, 8)
    for wrong in ({"rounds": 0}, {"seconds": 0.0}, {"threads": -1}, {"batches": (0,)}, {"backends": ("tpu",)}):
        with pytest.raises(OptionError, match=r"0|-1|tpu"):
            BenchOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="2 distinct phrases"):
        run_benchmark(["s0"], ["dog", "cat"], BenchOptions())
    with pytest.raises(OptionError, match="s1/torch"):
        run_benchmark(["s1"], TEXTS, BenchOptions(baseline="s0/torch"))
    with pytest.raises(OptionError, match="nothing to measure"):
        run_benchmark([], TEXTS, BenchOptions())


@pytest.mark.parametrize(
    ("status", "stderr", "fact"),
    [
        (-signal.SIGKILL, "", "SIGKILL, as the system does when memory runs out"),
        (1, "warning: x\nerror: no such student, y", "no such student, y"),
        (3, "", "exit status 3"),
    ],
)
def test_why_a_process_failed(status: int, stderr: str, fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=status, stderr=stderr, stdout="")
    monkeypatch.setattr(
        benchmark_jobs, "subprocess", SimpleNamespace(run=lambda *_, **__: done, TimeoutExpired=OSError)
    )
    with pytest.raises(LiteTextError, match=fact):
        benchmark_jobs.run_job({}, 1)


def test_the_machine() -> None:
    machine = describe_machine()
    assert machine["usable_cores"] <= machine["cores"]
    assert machine["packages"]["numpy"] == np.__version__
    if sys.platform.startswith("linux"):
        before = resident_bytes(trim=True)
        held = np.ones(20_000_000, dtype=np.uint8)
        assert before is not None
        assert resident_bytes() - before > 0.9 * held.nbytes  # type: ignore[operator]


# With PyTorch.


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    from litetext.checkpoints.writer import save_student
    from litetext.encoders.config import EncoderConfig
    from litetext.encoders.student import build_student

    path = tmp_path_factory.mktemp("student") / "tiny.safetensors"
    config = EncoderConfig.of("tiny", 32, padding="attended")
    save_student(build_student(config, torch.Generator().manual_seed(0)).eval(), path)
    return path


@pytest.fixture(scope="module")
def made(student: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The files of all backends of a student, made in this process."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "prompts.json").write_text(json.dumps(TEXTS))
    how = {"positions": "keep", "context_length": None, "phrases": 40, "threads": 1}
    job = {"folder": str(folder / "0"), "source": str(student), "backends": list(benchmark.BACKENDS), **how}
    return folder / "0", benchmark_jobs.prepare(job)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("backend", "least"),
    [
        ("torch", 1.0),
        ("torch-bf16", 0.99),
        ("torch-int8", 0.9),
        ("onnx", 0.9999),
        ("openvino", 0.9999),
        ("bank", 0.9999),
    ],
)
def test_a_row_is_measured(made: tuple[Path, dict[str, Any]], backend: str, least: float) -> None:
    if backend.startswith("openvino"):
        pytest.importorskip("openvino")
    folder, files = made
    assert "reason" not in files[backend], files[backend]
    row = Row(backend, "tiny", backend, str(folder), files[backend]["path"])
    job = {"batches": (1, 8, 5000), "seconds": 0.001, "seed": 0, "phrases": 40, "threads": 1}
    figures = benchmark_jobs.measure(row, job)
    assert list(figures["batches"]) == ["1", "8"], "more phrases than there are"
    assert all(speed["prompts_per_second"] > 0 for speed in figures["batches"].values())
    assert figures["cosine"]["phrases"] == 40
    assert figures["cosine"]["mean"] >= least
    assert (files[backend]["flops"] is None) == (backend == "bank")


@pytest.mark.torch
def test_hugging_face_runs_the_same_weights(made: tuple[Path, dict[str, Any]], student: Path) -> None:
    """At 32 tokens nothing is interpolated, and a text without padding is read alike by both."""
    from litetext.checkpoints.load import load_encoder

    text = " ".join(["dog"] * 30)
    values, mask = benchmark_jobs._HuggingFace(Path(made[1]["huggingface"]["path"])).encode([text])
    assert mask.all()
    np.testing.assert_allclose(values, load_encoder(student, device="cpu").encode([text]).values.numpy(), atol=1e-5)


@pytest.mark.torch
def test_a_teacher_is_padded_as_hugging_face_does(tmp_path: Path, student: Path) -> None:
    from litetext.checkpoints.writer import convert_checkpoint
    from tests.encoders.synthetic import TINY_TEACHER, Teacher, save_pt

    theirs = save_pt(Teacher.make(TINY_TEACHER).upstream(), tmp_path / "sam3.pt")
    convert_checkpoint(str(theirs), tmp_path / "sam3.safetensors", "litetext", heads=4)
    encoder = benchmark_jobs._open_torch(tmp_path / "sam3.safetensors", "teacher")
    assert encoder.encode(["dog"]).values.shape == (1, 32, 256)  # type: ignore[union-attr]
    with pytest.raises(EncoderError, match="not a teacher"):
        benchmark_jobs._open_torch(student, "teacher")


@pytest.mark.torch
def test_rows_side_by_side(student: Path, made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    exported = made[1]["onnx"]["path"]
    arguments = ["bench", str(student), exported, "--backends", "torch", "--baseline", "onnx", "--positions", "keep"]
    assert run([*arguments, "-o", str(tmp_path), *SHORT]) == 0
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    torch, onnx = report["rows"]
    assert (torch["name"], onnx["name"]) == ("tiny/torch", "onnx")
    assert torch["imports_torch"]
    assert not onnx["imports_torch"], "the runtime needs no PyTorch"
    assert torch["cosine"]["min"] == 1
    assert list(onnx["batches"]) == ["1", "16"]
    assert onnx["ratios"] == {"throughput": 1, "latency": 1, "resident": 1, "file": 1}
    if sys.platform.startswith("linux"):
        assert torch["file_mb"] < torch["process_mb"]
        assert 0 < torch["resident_mb"]["load"] < torch["resident_mb"]["first"] < torch["process_mb"]
    assert to_markdown(report) == (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "| tiny/torch | " in to_markdown(report)


@pytest.mark.torch
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")

    def prepare_here(job: dict[str, Any], _: int) -> dict[str, Any]:  # a process of its own imports PyTorch again
        return benchmark_jobs.prepare(job)

    monkeypatch.setattr(benchmark, "run_job", prepare_here)
    message = failure(capsys, "bench", str(broken), "--backends", "torch", *SHORT)
    assert "no row can be measured" in message
    assert "broken.safetensors" in message
    assert "tpu" in failure(capsys, "bench", "s0", "--backends", "tpu")
    assert "few" in failure(capsys, "bench", "s0", "--batches", "few")
