"""The API over HTTP, and what it refuses; many clients at once."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio_client")

import litetext as lt
from litetext.cli import run
from litetext.sam3.masks import decode_masks
from tests.app.conftest import ASKED
from tests.app.pages import call, file_of, segment, served, upload

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder=folder) as (address, _):
        yield address, folder
    assert not list(folder.glob("litetext-app-*"))  # all that was uploaded and given out is gone


@pytest.fixture(scope="module")
def address(server: tuple[str, Path]) -> str:
    return server[0]


@pytest.fixture(scope="module")
def given(address: str, scene: Path) -> str:
    return upload(address, "scene.png", scene.read_bytes()).json()[0]


def test_segment_by_hand(address: str, given: str, scene: Path) -> None:
    kind, (answer, files) = segment(address, given, ASKED)
    assert kind == "complete"
    for name, encoder in (("micro", None), ("micro-student", "micro-student")):
        masks = lt.Segmenter.from_pretrained("micro", encoder, threads=1)(scene, ASKED.splitlines())
        codes = [one["segmentation"] for one in answer["found"][name]["annotations"]]
        assert np.array_equal(decode_masks(codes, (160, 160)), np.concatenate([one.masks for one in masks]))
    overlay = httpx.get(files[0]["url"]).content
    masks = lt.Segmenter.from_pretrained("micro", threads=1)(scene, ASKED.splitlines())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(overlay))), np.asarray(masks.draw()))


def test_the_client_and_the_schema(address: str, scene: Path) -> None:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    answer, files = client.predict(handle_file(scene), "red car", "", 0.5, 0.5, api_name="/segment")
    assert len(answer["found"]["micro"]["annotations"]) == 1
    assert [Path(file).suffix for file in files] == [".png", ".json", ".png", ".json", ".zip"]
    report = client.predict("red car\nwhite dog\nbird", None, "micro", api_name="/audit")
    assert report["prompts"]["total"] == 3
    found = client.predict("red car\nwhite dog", api_name="/compare")
    assert [one["name"] for one in found["encoders"]] == ["micro", "micro-student"]
    named = httpx.get(f"{address}/gradio_api/info").json()["named_endpoints"]
    assert set(named) == {"/segment", "/track", "/audit", "/compare"}
    assert all(one["description"] for one in named.values())


def test_only_uploads_are_read(server: tuple[str, Path], given: str) -> None:
    address, folder = server
    secret = folder / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    out = f"{Path(given).parent}/../../secret.png"
    for path in (str(secret), out, "/etc/passwd", "../../../etc/passwd", "http://127.0.0.1:9/x.png", "https://x.org/"):
        for file in (file_of(path), {"path": path}, {"path": None, "url": path}, path):
            kind, message = call(address, "segment", file, "red car", "", 0.5, 0.5)
            assert kind == "error", (path, file)
            assert "root:" not in json.dumps(message)
    for path in (str(secret), "/etc/passwd", "..%2f..%2fetc/passwd", str(folder / "log.txt"), "/proc/self/environ"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)
    placed = upload(address, "../../../evil.png", secret.read_bytes()).json()[0]
    assert Path(placed).name == "evil.png"
    assert Path(placed).resolve().is_relative_to(Path(given).parents[1].resolve())
    assert httpx.get(f"{address}/gradio_api/proxy=https://x.org/").status_code >= 400


@pytest.mark.parametrize(
    ("phrases", "rest", "fact"),
    [
        ("", ("", 0.5, 0.5), "no phrase"),
        ("\n".join(map(str, range(500))), ("", 0.5, 0.5), "500"),
        ("red car", ("1,2,3", 0.5, 0.5), "box"),
        ("red car", ("", 7, 0.5), "7"),
    ],
)
def test_mistakes_are_messages(address: str, given: str, phrases: str, rest: Any, fact: str) -> None:
    kind, message = segment(address, given, phrases, *rest)
    assert kind == "error"
    assert fact in message["error"]
    assert "Traceback" not in message["error"]


def test_limits(address: str, given: str) -> None:
    assert upload(address, "large.bin", bytes(34 * 2**20)).status_code == 413
    large = b'{"data": ["' + b"a" * (34 * 2**20) + b'"]}'
    headers = {"content-type": "application/json"}
    assert httpx.post(f"{address}/gradio_api/call/segment", content=large, headers=headers).status_code == 413
    pieces = (large[start : start + 2**20] for start in range(0, len(large), 2**20))  # without a length
    with suppress(httpx.HTTPError):  # cut off
        assert httpx.post(f"{address}/gradio_api/call/segment", content=pieces, headers=headers).status_code >= 400
    Image.new("1", (10_000, 10_001)).save(file := io.BytesIO(), "PNG")
    path = upload(address, "huge.png", file.getvalue()).json()[0]
    assert "10,000 x 10,001" in segment(address, path, "red car")[1]["error"]
    assert segment(address, given, "red car")[0] == "complete"
    assert "'self'" in httpx.get(address).headers["content-security-policy"]


def test_files_are_removed_after_a_while(tmp_path: Path, scene: Path) -> None:
    program = (
        "import sys, litetext.app.server as server; server.SWEEP_SECONDS, server.KEPT_SECONDS = 1, 2; "
        "from litetext.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    with served(folder=tmp_path, start=("-c", program)) as (address, _):
        path = upload(address, "scene.png", scene.read_bytes()).json()[0]
        kind, (_, files) = segment(address, path, "red car")
        assert kind == "complete"
        assert all(Path(file["path"]).is_file() for file in files)
        for _ in range(100):
            if not any(Path(place).exists() for place in (path, *(file["path"] for file in files))):
                break
            time.sleep(0.1)
        assert not [file for file in tmp_path.glob("litetext-app-*/**/*") if file.is_file()]
        kind, message = segment(address, path, "red car")
        assert (kind, "not kept" in message["error"]) == ("error", True)


def test_with_a_password(tmp_path: Path) -> None:
    with served("--auth", "me:secret", folder=tmp_path) as (address, _):
        assert httpx.get(f"{address}/gradio_api/info").status_code == 401
        login = httpx.post(f"{address}/login", data={"username": "me", "password": "secret"})
        assert httpx.get(f"{address}/gradio_api/info", cookies=login.cookies).status_code == 200
        assert httpx.post(f"{address}/login", data={"username": "me", "password": "x"}).status_code == 400


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["litetext", "app"])
    twice = ["--text-encoder", "micro", "--text-encoder", "micro"]
    for options, fact in ((["--auth", "me"], "USER:PASSWORD"), (twice, "twice"), (["--model", "gone"], "gone")):
        assert run(["app", *options]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert fact in error


def test_a_number_that_is_no_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["app", "--port", "99999"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "65535" in error


def test_a_port_in_use_is_said_in_a_line(address: str) -> None:
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "litetext", "app", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: port {port}")
    assert "Traceback" not in done.stderr


def test_many_clients_at_once(tmp_path: Path) -> None:
    from benchmarks.app import load

    with served(folder=tmp_path) as (address, process):
        found = load(address, process.pid, 16, 20)
    assert (found["wrong"], found["errors"], found["faults"]) == (0, 0, [])
    assert found["answers"] > 16
    assert found["growth"] < 1.2
