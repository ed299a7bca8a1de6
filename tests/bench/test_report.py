"""Medians over rounds, tables and pictures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from litetext.bench.plots import write_plots
from litetext.bench.run import BenchOptions
from litetext.bench.tables import figure, to_markdown
from litetext.errors import OptionError
from litetext.storage import to_json
from tests.bench.made import MACHINE, report, result


def test_medians_by_hand() -> None:
    found = result("onnx-fp32", 100, 400, 300, cosine=(0.9999, 0.999)).to_json(MACHINE["gflops"])
    assert found["prompts_per_second"] == {"1": 30, "32": 300}
    assert found["rounds"]["prompts_per_second"]["32"] == [100, 400, 300]
    assert found["latency_one_thread_ms"] == {
        "p50": pytest.approx(1000 / 30),
        "p99": pytest.approx(2000 / 30),
        "calls": 30,
    }
    assert found["gflops"]["32"] == 300
    assert found["share_of_peak"]["32"] == 3
    assert found["resident_mb"] == {"load": 50, "first": 50, "batches": 50}
    assert found["file_mb"] == 2
    assert found["cosine"]["least"] == 0.999


def test_bf16_is_held_against_its_own_peak() -> None:
    assert result("bf16", 100).to_json(MACHINE["gflops"])["share_of_peak"]["32"] == 0.25
    assert result("bf16", 100).to_json({"fp32": 100.0, "bf16": None})["share_of_peak"]["32"] is None


def test_where_the_system_does_not_say_memory() -> None:
    one = result("onnx-fp32", 100)
    unknown = dict.fromkeys(("load", "first", "batches"))
    rounds = tuple((pair[0] | {"resident": unknown, "process": None}, pair[1]) for pair in one.rounds)
    found = replace(one, rounds=rounds).to_json({})
    assert found["resident_mb"] == unknown
    assert found["process_mb"] is None
    json.loads(to_json(report(replace(one, rounds=rounds)).to_json()))


def test_markdown_has_every_row_and_every_reason() -> None:
    text = to_markdown(report(result("torch", 80), result("onnx-fp32", 300), result("bank", reason="no | bank")))
    assert "| S0, ONNX Runtime | random | 30 | 300 | 33.3 / 66.7 | 33.3 / 66.7 | 300 (300%) |" in text
    assert "| bank | S0, a bank of phrases | no / bank |" in text
    assert "the reference" in text
    assert "a processor (avx2), 2 of 4 cores, 2 threads, load 0.5 before the run" in text
    assert "100 in fp32 and 400 in bf16" in text


def test_pictures_show_what_was_measured(tmp_path: Path) -> None:
    paths = write_plots(report(result("torch", 80), result("bank", 300), result("folded", reason="lost")), tmp_path)
    assert [path.name for path in paths] == ["throughput.png", "latency.png", "memory.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert len(set(picture.convert("RGB").resize((200, 60)).get_flattened_data())) > 20


def test_figures_for_people() -> None:
    assert [figure(value) for value in (None, 0.12345, 12.345, 12345.6)] == ["", "0.123", "12.3", "12,346"]


@pytest.mark.parametrize(
    "changes",
    [{"rounds": 0}, {"seconds": 0.0}, {"phrases": 0}, {"threads": 0}, {"batches": (8, 32)}, {"batches": (1, 0)}],
)
def test_options_that_make_no_sense(changes: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        BenchOptions(**changes)  # type: ignore[arg-type]
