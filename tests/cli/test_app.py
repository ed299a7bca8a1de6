import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from litetext import cli
from litetext.cli import run
from litetext.cli._app import CHATTY, COMMANDS, STAGES, app
from litetext.cli._options import ComputeDtype, PositionTable, Split, TrackMethod
from tests.cli.helpers import failure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["audit", "--nonsense"], "--nonsense"), (["audti"], "audti"), (["audit", "--sample", "many"], "--sample")],
)
def test_usage_errors_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    error = failure(capsys, *arguments, status=2)
    assert message in error
    assert "litetext --help" in error


def test_debug_shows_the_traceback() -> None:
    command = [sys.executable, "-m", "litetext", "audit", "missing.txt", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "PromptError" in done.stderr


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("litetext 0.")
    assert run(["audit", "--help"]) == 0
    out = capsys.readouterr().out
    assert "litetext audit prompts.txt" in out
    assert "--embeddings" in out


def test_main_exits_with_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["litetext", "audit", "missing.txt"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1


def test_main_hears_only_errors_of_chatty_libraries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["litetext", "--version"])
    loggers = [logging.getLogger(name) for name in CHATTY]
    before = [list(logger.filters) for logger in loggers]
    with pytest.raises(SystemExit):
        cli.main()
    for logger, filters in zip(loggers, before, strict=True):
        logger.warning("Retrying in 8s")
        logger.error("no more")
        logger.filters[:] = filters
    assert [record.message for record in caplog.records] == ["no more"] * len(CHATTY)


def test_help_lists_every_command_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:-1] for line in lines if line[:-1] in STAGES] == list(STAGES)
    commands = [line for line in lines[lines.index("Prompts:") :] if line.startswith("  ")]
    assert {line.split()[0] for line in commands} >= {
        "audit",
        "embed",
        "distill",
        "segment",
        "evaluate",
        "export",
        "demo",
    }
    assert not [line for line in commands if line.endswith("...")]


def test_every_command_shows_an_example_and_its_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embed", "-h"]) == 0
    out = capsys.readouterr().out
    assert "litetext embed prompts.txt" in out
    assert "fp16|bf16" in out
    assert "auto|slice|interpolate|keep" in out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from litetext.cli import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "torch", "polars", "rich", "jinja2", "matplotlib", "tokenizers", "regex", "onnxruntime"}
    assert not heavy & {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_nearest_option_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--text-encoder" in failure(capsys, "segment", "a.png", "-p", "dog", "--text-encod", "x", status=2)
    assert "fp16" in failure(capsys, "embed", "-o", "x", "--teacher", "micro", "--store-dtype", "f16", status=2)


def test_the_shell_completes_choices() -> None:
    environment = os.environ | {
        "_LITETEXT_COMPLETE": "complete_bash", "COMP_WORDS": "litetext embed --store-dtype ", "COMP_CWORD": "3",
    }  # fmt: skip
    command = [sys.executable, "-m", "litetext"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["fp16", "bf16"]


def test_choices_are_those_of_the_functions() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from litetext.checkpoints import load
    from litetext.device import DTYPES
    from litetext.micro import scenes
    from litetext.video.methods import METHODS

    assert get_args(PositionTable) == get_args(load.Positions)
    assert get_args(Split) == get_args(scenes.Split)
    assert get_args(TrackMethod) == ("auto", *METHODS)
    assert set(get_args(ComputeDtype)) - {"auto"} <= set(DTYPES)


def test_text_that_the_terminal_does_not_have_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "кот.txt").write_text("белый кот", encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    for name in ("кот.txt", "пёс.txt"):  # the second is not there
        command = [sys.executable, "-m", "litetext", "audit", str(tmp_path / name), "--json"]
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert b"\\u0442.txt" in done.stdout or b"\\u0441.txt" in done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["predict"], "'segment'"),
        (["quantise", "x"], "'compress --quantize'"),
        (["segmnt"], "'segment'"),
        (["segment", "x", "--conf", "0.3"], "'--threshold'"),
        (["export", "micro", "--format", "onnx"], "'--to'"),
        (["segment", "x", "--encoder", "y"], "'--text-encoder'"),
        (["embed", "x", "--teachr", "y"], "'--teacher'"),
        (["segment", "--source", "x"], "an argument"),
    ],
)
def test_a_word_of_another_tool_or_a_misspelled_one_is_answered_with_ours(
    capsys: pytest.CaptureFixture[str], arguments: list[str], meant: str
) -> None:
    assert meant in failure(capsys, *arguments, status=2)


def test_every_word_of_other_tools_leads_to_a_command_or_an_option() -> None:
    commands = {one.name or one.callback.__name__: one for one in app.registered_commands if one.callback}
    groups = {group.name for group in app.registered_groups}
    assert {name.split()[0] for name in COMMANDS.values() if not name.startswith("--")} <= commands.keys() | groups
    assert not COMMANDS.keys() & (commands.keys() | groups)
