"""`litetext inspect` and `litetext convert` on small files in real formats."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch

from litetext.checkpoints.load import load_encoder
from litetext.cli import run
from tests.cli.helpers import failure
from tests.encoders.synthetic import REAL, TINY, Student, save_pt, uninitialized

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of S0's blocks in small, as its authors save it."""
    return save_pt(Student.make(TINY).upstream(), tmp_path_factory.mktemp("upstream") / "s0_ctx16.pt")


def test_inspect_says_what_it_is(capsys: pytest.CaptureFixture[str], upstream: Path) -> None:
    assert run(["inspect", str(upstream)]) == 0
    out = capsys.readouterr().out
    assert "sam3-litetext" in out
    assert "77 rows" in out


def test_inspect_counts_parameters_to_the_unit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with uninitialized():
        student = Student.make(REAL["s0"])
    path = save_pt(student.upstream(), tmp_path / "any-name.pt")
    assert run(["inspect", str(path), "--json"]) == 0
    path.unlink()
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["variant"], found["rows"]) == ("sam3-litetext", "s0", 77)
    assert found["parameters"] == 42_572_544
    assert found["used_parameters"] == 42_572_544 - 262_144
    assert found["parts"]["token_table"] == 25_296_896


def test_convert_there_and_back(capsys: pytest.CaptureFixture[str], upstream: Path, tmp_path: Path) -> None:
    ours, again = tmp_path / "s0.safetensors", tmp_path / "again.pt"
    assert run(["convert", str(upstream), "-o", str(ours), "--to", "litetext", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 77
    assert run(["convert", str(ours), "-o", str(again), "--to", "upstream"]) == 0
    before, after = (torch.load(path, weights_only=True)["model"] for path in (upstream, again))
    text = {name: value for name, value in before.items() if "language_backbone" in name}
    assert text.keys() == after.keys()
    for name, value in text.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    features = load_encoder(ours, positions="slice", context_length=16, device="cpu").encode(["white dog"])
    assert features.values.shape == (1, 16, 256)
    assert features.mask.sum() == 4


def test_a_guess_is_told(capsys: pytest.CaptureFixture[str], upstream: Path, tmp_path: Path) -> None:
    """Which SAM it is of, told on standard error, where only the file's name says so."""
    named = tmp_path / "efficient_sam3p1_litetext_s0.pt"
    named.write_bytes(upstream.read_bytes())
    assert run(["convert", str(named), "-o", str(tmp_path / "s0.safetensors"), "--to", "litetext", "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["sam_guessed"]
    assert "SAM 3.1, guessed" in out.err
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("white dog\n")
    embed = ["embed", str(prompts), "-o", str(tmp_path / "features"), "--teacher", str(named)]
    assert run([*embed, "--positions", "slice", "--context-length", "16", "--json"]) == 0
    assert "SAM 3.1, guessed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.pt"], "missing.pt"),
        (["inspect", "{text}"], "note.txt"),
        (["inspect", "{cut}"], "cut.pt"),
        (["convert", "{good}", "-o", "{good}", "--to", "litetext"], "the output is an input"),
        (["convert", "missing.pt", "-o", "{out}", "--to", "litetext"], "missing.pt"),
        (["convert", "{good}", "-o", "{out}"], "--host"),
        (["convert", "{good}", "-o", "{out}", "--to", "litetext", "--host"], "--to"),
        (["convert", "{good}", "-o", "{out}", "--host"], "only Meta's SAM3 becomes a host"),
        (["convert", "micro", "-o", "{out}", "--host"], "only Meta's SAM3 becomes a host"),
        (["convert", "{cut}", "-o", "{out}", "--host"], "cut.pt"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], upstream: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "note.txt").write_text("not a checkpoint", encoding="utf-8")
    (tmp_path / "cut.pt").write_bytes(upstream.read_bytes()[:5000])
    paths = {
        "{good}": upstream,
        "{text}": tmp_path / "note.txt",
        "{cut}": tmp_path / "cut.pt",
        "{out}": tmp_path / "out.safetensors",
    }
    assert message in failure(capsys, *(str(paths.get(argument, argument)) for argument in arguments))
    assert not (tmp_path / "out.safetensors").exists()
