"""The page served by its command in a process of its own, and what tests ask of it over HTTP."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx


@contextmanager
def served(
    *options: str, folder: Path, start: Sequence[str] = ("-m", "litetext")
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of `litetext app`, and its process; temporary files lie in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", folder / "log.txt"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(folder)}
    command = [sys.executable, *start, "app", "--port", str(port), "--threads", "1", *options]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, text=True)
    try:
        for _ in range(400):
            if process.poll() is not None:
                raise AssertionError(log.read_text())
            try:
                httpx.get(address, timeout=5)
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield address, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def upload(address: str, name: str, data: bytes) -> httpx.Response:
    """Upload a file."""
    return httpx.post(f"{address}/gradio_api/upload", files={"files": (name, data)}, timeout=60)


def file_of(path: str) -> dict[str, Any]:
    """A file as the API takes it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def call(address: str, name: str, *data: Any) -> tuple[str, Any]:
    """What a function of the API answers: "complete" and the values, or "error" and the message."""
    posted = httpx.post(f"{address}/gradio_api/call/{name}", json={"data": data}, timeout=60)
    if posted.status_code != 200:
        return "error", posted.text
    event = posted.json()["event_id"]
    text = httpx.get(f"{address}/gradio_api/call/{name}/{event}", timeout=300).text
    kind, value = re.findall(r"event: (\w+)\ndata: (.*)", text)[-1]
    return kind, json.loads(value)


def segment(address: str, path: str, phrases: str, *rest: Any) -> tuple[str, Any]:
    """Ask the page for phrases on an uploaded picture."""
    return call(address, "segment", file_of(path), phrases, *(rest or ("", 0.5, 0.5)))
