"""The files of a Space, and the notebook that shows the page."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest

pytest.importorskip("gradio_client")
pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_space_is_served(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"PORT": port, "LITETEXT_TEXT_ENCODERS": "micro-student-xs", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(EXAMPLES / "space/app.py")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            told = iter(process.stderr.readline, "")
            assert next(line for line in told if line.startswith("LiteText: "))
            page = httpx.get(f"http://127.0.0.1:{port}")
            assert "LiteText" in page.text
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not list(tmp_path.glob("litetext-app-*"))


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    display = ModuleType("IPython.display")
    display.IFrame = lambda address, **_: address  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    cells = json.loads((EXAMPLES / "notebook/app.ipynb").read_text("utf-8"))["cells"]
    scope: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    assert str(scope["line"]).startswith("LiteText: http://127.0.0.1:7861")
    server = scope["server"]
    assert isinstance(server, subprocess.Popen)
    assert server.returncode == 0
    server.stderr.close()  # type: ignore[union-attr]
