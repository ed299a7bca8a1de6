import logging
import subprocess
import sys

import pytest

from litetext import cli
from litetext.cli import run
from litetext.cli._app import CHATTY
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
