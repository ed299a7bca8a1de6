import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from litetext.scale import jobs


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local cluster for all tests of a process: to start it takes seconds."""
    import ray

    jobs._start("local", 2)
    yield
    ray.shutdown()


@pytest.fixture
def tool(ray_cluster: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    """The command line on that cluster: status, what --json printed, and standard error."""
    from litetext.cli import run

    def call(*arguments: str | Path) -> tuple[int, Any, str]:
        status = run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    return call


def contents(folder: Path, *without: str) -> dict[str, bytes]:
    """Every file of a folder by its name, but those whose name begins so."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in named.items() if not name.startswith(without)}
