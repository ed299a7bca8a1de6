"""An output that cannot be written, or that would replace what is read, is refused before the work."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.cli import run
from litetext.cli._output import check_ours, check_target
from litetext.errors import OutputError
from litetext.storage import only_writer
from tests.cli.helpers import failure

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]

# What each command reads is not there: an error that names the output came before the work.
FILES = {
    "bank": ["bank", "{phrases}", "--text-encoder", "no/such-model", "-o"],
    "convert": ["convert", "no/such-model", "--to", "litetext", "-o"],
    "compress": ["compress", "no/such-model", "{phrases}", "-o"],
    "phrases": ["micro", "phrases", "--count", "10000000", "-o"],
    "scene": ["micro", "scene", "-o"],
}
FOLDERS = {
    "audit": ["audit", "{phrases}", "--text-encoder", "no/such-model", "-o"],
    "convert": ["convert", "no/such-model", "--to", "huggingface", "-o"],
    "export": ["export", "no/such-model", "{phrases}", "--to", "onnx", "-o"],
    "distill": ["distill", "--features", "{folder}/missing", "-o"],
    "embed": ["embed", "{phrases}", "--teacher", "no/such-model", "-o"],
    "bench": ["bench", "no/such-model", "--prompts", "{phrases}", "-o"],
    "demo": ["demo", "--model", "no/such-model", "-o"],
    "world": ["micro", "world", "--pairs", "10000000", "-o"],
    "segment": ["segment", "{picture}", "-p", "dog", "--model", "no/such-model", "-o"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "phrases.txt").write_text("dog\ncat\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "there.png").mkdir()
    return tmp_path


def filled(arguments: list[str], folder: Path) -> list[str]:
    names = {"folder": folder, "phrases": folder / "phrases.txt", "picture": folder / "picture.png"}
    return [argument.format(**names) for argument in arguments]


@pytest.mark.parametrize("command", FILES)
def test_a_folder_where_a_file_is_to_be(command: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    output = folder / "there.png"
    told = failure(capsys, *filled(FILES[command], folder), str(output))
    assert f"a folder where a file is to be written, {output};" in told
    assert not list(output.iterdir())


@pytest.mark.parametrize("command", FOLDERS)
def test_a_file_where_a_folder_is_to_be(command: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    output = folder / "phrases.txt"
    told = failure(capsys, *filled(FOLDERS[command], folder), str(output))
    assert f"a file where a folder is to be written, {output};" in told
    assert output.read_text() == "dog\ncat\n"


@pytest.mark.parametrize("command", ["bank", "compress"])
def test_the_phrases_are_not_replaced(command: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    output = folder / "phrases.txt"
    assert "the output is an input" in failure(capsys, *filled(FILES[command], folder), str(output))
    assert output.read_text() == "dog\ncat\n"


@pytest.mark.parametrize("spec", ["{folder}", "{folder}/model.npz#name", "{folder}/*.npz", "{folder}/link.npz"])
def test_inputs_are_known_under_every_name(spec: str, tmp_path: Path) -> None:
    target = tmp_path / "model.npz"
    check_target(target, models=[spec.format(folder=tmp_path), None, "", "hub/name"])
    target.write_text("mine")
    os.link(target, tmp_path / "link.npz")
    with pytest.raises(OutputError, match=r"input|folder that is read"):
        check_target(target, models=[spec.format(folder=tmp_path)])
    with pytest.raises(OutputError, match="input"):
        check_target(tmp_path, models=[tmp_path / "."], folder=True)


def test_a_device_is_not_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # as /dev/stdout, or /dev/null
    told = failure(capsys, "micro", "phrases", "--count", "5", "-o", str(tmp_path / "pipe"))
    assert "neither a file nor a folder" in told
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("arguments", "name", "ours"),
    [
        (["audit", "--text-encoder", "no/such-model"], "report.html", "<title>LiteText audit</title>"),
        (["demo", "--model", "no/such-model"], "index.html", "<title>LiteText demo</title>"),
        (["bench", "no/such-model", "--batches", "1"], "bench.json", '{"machine": {}}'),
    ],
)
def test_pages_of_the_user_are_not_replaced(
    arguments: list[str], name: str, ours: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    out = folder / "out"
    out.mkdir()
    (out / name).write_text("mine")
    assert name in failure(capsys, *filled(arguments, folder), "-o", str(out))
    assert (out / name).read_text() == "mine"
    (out / name).write_text(ours)
    check_ours(out / name, ours[:12])
    assert "no/such-model" in failure(capsys, *filled(arguments, folder), "-o", str(out))


def test_a_world_replaces_a_world_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "world"
    arguments = ["micro", "world", "--pairs", "6", "-o", str(out)]
    assert run([*arguments, "--seed", "3"]) == 0
    assert run(arguments) == 0
    first = json.loads((out / "gold.json").read_text())
    assert len(list((out / "images").iterdir())) == len({image["file_name"] for image in first["images"]})
    (out / "found.json").write_text("mine")
    capsys.readouterr()
    assert "something else is there" in failure(capsys, *arguments)
    assert (out / "found.json").read_text() == "mine"
    assert "without a name" in failure(capsys, *arguments[:-1], "..")


def test_a_second_writer_is_refused_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["demo", "--model", "no/such-model"]
    with only_writer(tmp_path / "out", "it"):
        assert "another process" in failure(capsys, *arguments, "-o", str(tmp_path / "out"))


def test_a_source_with_options_is_an_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("id,what\n1,white dog\n")
    typed = ("bank", f"{table}:column=what", "-o", str(table), "--text-encoder", "micro")
    assert "the output is an input" in failure(capsys, *typed)
    assert table.read_text().startswith("id")
