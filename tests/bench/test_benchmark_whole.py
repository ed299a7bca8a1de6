"""Whole segmenters side by side: which rows there are, ratios, a cold command, rows that fail, and one real run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import whole as benchmark
from PIL import Image

from litetext.cli import run
from litetext.errors import EncoderError, LiteTextError, OptionError
from litetext.export import benchmark_whole as whole
from litetext.export.benchmark_whole import WholeOptions, WholeRow, run_whole, whole_markdown
from litetext.prompts.corpus import bundled_corpus
from tests.cli.helpers import failure

TEXTS = list(bundled_corpus().texts[:40])
PICTURE = Image.new("RGB", (160, 160))
WARM_ROUND = {"vision": 10.0, "decoder_1": 4.0, "decoder_8": 8.0, "decoder_32": 32.0, "text": 1.0}
SHORT = ["--rounds", "1", "--seconds", "0.001", "--threads", "1"]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[WholeRow, int]]:
    """The jobs that were given, and their threads; what runs in PyTorch is twice as slow, in OpenVINO not there."""
    given = []

    def run_job(job: dict[str, Any], threads: int, module: str) -> dict[str, float]:
        row, slower = job["row"], 2 if job["row"].in_torch else 1
        given.append((row, threads))
        if row.engine == "openvino":
            raise EncoderError("not installed")
        speed = slower * (1 + job["seed"])  # each round is slower, for all
        if row.threads is None:
            return {"seconds": speed, "peak_mb": 100.0 * slower}
        return {name: value * speed for name, value in WARM_ROUND.items()}

    monkeypatch.setattr(whole, "run_job", run_job)
    return given


def test_rows_take_turns_and_those_that_fail_say_why(jobs: list[tuple[WholeRow, int]]) -> None:
    report = run_whole(["micro"], TEXTS, PICTURE, WholeOptions(threads=(3, 1), rounds=2))
    first = [(row.engine, row.threads) for row, _ in jobs][:11]
    warm = [(engine, threads) for threads in (1, 3) for engine in whole.ENGINES]
    assert first == [*warm, *((engine, None) for engine in ("torch", "onnx", "openvino"))]
    assert len(jobs) == 11 + 8, "a row that failed is not measured again"
    assert [row["reason"] for row in report["warm"]] == [None, None, None, "not installed"] * 2
    onnx = report["warm"][2]
    assert (onnx["name"], onnx["threads"], onnx["figures"]["decoder_8"]) == ("micro/onnx", 1, 12.0)
    assert set(onnx["ratios"].values()) == {2}
    assert report["cold"][1]["ratios"] == {"seconds": 2, "peak_mb": 2}
    assert json.loads(json.dumps(report["warm"])) == report["warm"]


def test_ratios_are_to_the_best_of_pytorch_within_a_round() -> None:
    """A slow round slows all rows; one of the two is better in each round."""
    rows = [WholeRow(engine, "micro", engine, 1) for engine in ("torch", "torch-eager", "onnx")]
    figures = [[2.0, 9.0, 30.0], [3.0, 6.0, 40.0], [1.0, 3.0, 10.0]]
    measured = {row: [{"vision": one} for one in some] for row, some in zip(rows, figures, strict=True)}
    assert whole._summarize(rows[2], measured)["ratios"] == {"vision": 2.0}
    assert whole._summarize(rows[2], {rows[2]: measured[rows[2]]})["ratios"] == {}, "no PyTorch"
    unknown = {row: [{"seconds": 1.0, "peak_mb": None}] for row in rows}
    assert whole._summarize(rows[2], unknown)["ratios"] == {"seconds": 1.0}


def test_tables(jobs: list[tuple[WholeRow, int]]) -> None:
    text = whole_markdown(run_whole(["micro"], TEXTS, PICTURE, WholeOptions(threads=(1, 2), rounds=1)))
    assert "| micro/onnx, 2 threads | 10 | 4 | 8 | 32 | 1 |" in text
    assert "| micro/onnx, 1 thread | 2 | 2 | 2 | 2 | 2 |" in text
    assert "| micro/onnx, cold | 1 | 100 |" in text
    assert "| micro/openvino, cold | not installed |" in text


def test_options_are_checked() -> None:
    assert WholeOptions(threads=(4, 1, 4)).threads == (1, 4)
    assert 1 in (WholeOptions().threads or ())
    for wrong in ({"rounds": 0}, {"seconds": 0.0}, {"threads": (0,)}, {"threads": ()}, {"engines": ("tpu",)}):
        with pytest.raises(OptionError, match=r"0|tpu|threads"):
            WholeOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="2 distinct phrases"):
        run_whole(["micro"], ["dog", "cat"], PICTURE, WholeOptions())
    with pytest.raises(OptionError, match="nothing to measure"):
        run_whole([], TEXTS, PICTURE, WholeOptions())


def test_nothing_measured_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_job(*_: Any) -> dict[str, float]:
        raise EncoderError("no such model")

    monkeypatch.setattr(whole, "run_job", run_job)
    with pytest.raises(LiteTextError, match="no row can be measured: no such model"):
        run_whole(["nowhere"], TEXTS, PICTURE, WholeOptions(threads=(1,)))


def test_a_cold_command(tmp_path: Path) -> None:
    """In a process of its own, whose only child it is, as the report has it."""
    PICTURE.save(tmp_path / whole.PICTURE)
    (tmp_path / whole.PROMPTS).write_text(json.dumps(["dog"]), encoding="utf-8")
    row = WholeRow("micro/onnx", "micro", "onnx", None)
    figures = whole.run_job({"row": row, "folder": str(tmp_path)}, 1, whole.__name__)
    assert figures["seconds"] > 0
    if sys.platform.startswith("linux"):
        assert 60 < figures["peak_mb"] < 250, "and no PyTorch"
    assert sorted(path.name for path in tmp_path.iterdir()) == [whole.PROMPTS, whole.PICTURE]
    with pytest.raises(EncoderError, match="no-such-model"):
        whole.measure_cold(row._replace(model="no-such-model"), tmp_path, "dog")


def test_warm_figures(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "scene.png")
    segmenter = whole.open_whole("micro", "onnx", 1)
    figures = whole.measure_warm(segmenter, tmp_path / "scene.png", TEXTS, 0.001, 0)
    assert list(figures) == list(whole.WARM)
    assert min(figures.values()) > 0
    assert 2 * figures["decoder_1"] < figures["decoder_32"]


def test_without_pytorch_its_rows_say_so() -> None:
    """The micro model is measured all the same."""
    script = (
        "import sys\nsys.modules['torch'] = None\nfrom litetext.export import benchmark_whole as whole\n"
        "row = whole.WholeRow('micro/torch', 'micro', 'torch', 1)\nwhole.open_whole('micro', 'onnx', 1)\n"
        "try:\n    whole.open_whole('micro', 'torch', 1)\nexcept whole.LiteTextError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "needs the extra 'sam3'" in done.stdout


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "beside --whole" in failure(capsys, "bench", "s0", "--whole", "micro")
    assert "tpu" in failure(capsys, "bench", "--whole", "micro", "--backends", "tpu")
    assert "two" in failure(capsys, "bench", "--whole", "micro", "--threads", "two")


@pytest.mark.usefixtures("jobs")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--whole", "micro", "--backends", "onnx", *SHORT, "-o", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in (*report["warm"], *report["cold"])] == ["micro/onnx"] * 2
    assert whole_markdown(report) == (tmp_path / "bench.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("jobs")
def test_the_benchmark(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/whole.py", "--quick"])
    with pytest.raises(SystemExit, match="0"):
        benchmark.main()
    report = json.loads(capsys.readouterr().out)
    assert report["cold"][0]["figures"]["seconds"] > 0


@pytest.mark.slow
@pytest.mark.torch
def test_beside_pytorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--whole", "micro", "--backends", "torch,torch-eager,onnx", *SHORT, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["reason"] for row in (*report["warm"], *report["cold"])] == [None] * 5
    assert report["cold"][1]["ratios"]["peak_mb"] > 3
