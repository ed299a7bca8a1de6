"""`python -m benchmarks`: which benchmarks run, and with what."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks import __main__ as benchmarks
from benchmarks import command, semantics

from litetext.micro.glyphs import COLOURS
from litetext.micro.phrases import Query, named
from litetext.micro.scenes import Scene, SceneOptions, make_scene


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that were run, in place of running them."""
    found: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        found.append(command[1:])
        return subprocess.CompletedProcess(command, 1 if "broken" in command else 0, b'{"seconds": 3}')

    monkeypatch.setattr(benchmarks, "subprocess", SimpleNamespace(run=run, PIPE=subprocess.PIPE))
    results = tmp_path / "benchmarks" / "results"
    results.parent.mkdir()
    monkeypatch.setattr(benchmarks, "RESULTS", results)
    return found


def test_names_run_one_after_the_other(commands: list[list[str]], tmp_path: Path) -> None:
    assert benchmarks.main(["bank", "text"]) == 0
    assert commands == [["-m", "benchmarks.bank"], ["-m", "benchmarks.text"]]
    written = json.loads((tmp_path / "benchmarks" / "results" / "bank.json").read_text())
    assert (written["benchmark"], written["seconds"]) == ("bank", 3)


def test_without_names_all_run(commands: list[list[str]]) -> None:
    assert benchmarks.main([]) == 0
    assert len(commands) == len(benchmarks.BENCHMARKS)


def test_what_follows_one_name_is_for_that_benchmark(commands: list[list[str]]) -> None:
    assert benchmarks.main(["text", "--rows", "bank", "--rounds", "1"]) == 0
    assert commands == [["-m", "benchmarks.text", "--rows", "bank", "--rounds", "1"]]


def test_one_that_fails_writes_nothing(commands: list[list[str]], tmp_path: Path) -> None:
    assert benchmarks.main(["text", "broken"]) == 1
    assert len(commands) == 1
    assert not (tmp_path / "benchmarks" / "results").exists()


def test_one_that_was_killed_is_a_failure(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"bank": -9, "text": 0}
    monkeypatch.setattr(benchmarks, "measure", codes.__getitem__)
    assert benchmarks.main(["bank", "text"]) == -9
    assert not commands


def test_a_benchmark_takes_its_numbers_by_their_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(rounds: int = 3, phrases: int = 40) -> dict[str, object]:
        return {"rounds": rounds, "phrases": phrases}

    for said, found in (([], (3, 40)), (["5"], (5, 40)), (["5", "7"], (5, 7))):
        monkeypatch.setattr(sys, "argv", ["benchmarks/some.py", *said])
        command.run(measure, "What it measures.", "rounds", "phrases")
        assert tuple(json.loads(capsys.readouterr().out).values()) == found
    for wrong in ("many", "--fast"):
        monkeypatch.setattr(sys, "argv", ["benchmarks/some.py", wrong])
        with pytest.raises(SystemExit, match="2"):
            command.run(measure, "What it measures.", "rounds", "phrases")
        assert wrong in capsys.readouterr().err


def test_help_is_shown_and_measures_nothing(commands: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["--help"]) == 0
    assert "serving" in capsys.readouterr().out
    assert not commands
    assert benchmarks.main(["text", "--help"]) == 0
    assert commands == [["-m", "benchmarks.text", "--help"]]


def test_an_unknown_name_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no benchmark is called 'nothing'; give tokenizer, ")
    assert done.stderr.count("\n") == 1


def test_a_perfect_model_that_is_asked_as_the_audit_advises_finds_what_each_phrase_means() -> None:
    seen, rng = set(), np.random.default_rng(0)
    for turn in range(60):
        scene = make_scene(turn, SceneOptions(size=96, split="test"))
        for name, case in semantics.cases(scene, rng, turn):
            answers = []
            for text in case.asked:
                first, _, rest = text.partition(" ")
                query = Query(rest, colour=first) if first in COLOURS else Query(text)
                answers.append(true_masks(scene, named(scene, query) or ()))
            found = {mask.tobytes() for mask in case.instead(*answers)}
            assert found == {mask.tobytes() for mask in true_masks(scene, case.truth)}, (name, case.phrase)
            seen.add((name, bool(case.truth)))
    everything = {(name, present) for name in semantics.CLASSES for present in (True, False)}
    assert seen == everything - {("comparison", False)}


def true_masks(scene: Scene, indices: tuple[int, ...]) -> semantics.Masks:
    masks = [scene.instances[index].mask for index in indices]
    return np.array(masks, dtype=np.bool_).reshape(-1, *scene.pixels.shape[:2])
