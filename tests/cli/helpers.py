"""What the tests of all commands share."""

import pytest

from litetext.cli import run


def failure(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    assert run(list(arguments)) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err
