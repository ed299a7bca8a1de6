"""`litetext distill`: what a user types, what is written and printed, what fails and how."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
from litetext.checkpoints.load import load_encoder
from litetext.cli import distill_command, run
from litetext.encoders.config import PRESETS
from tests.cli.helpers import failure
from tests.distillation.runs import make_cache
from tests.sam3.hosts import WIDTH

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]
RECIPE = "preset = 'micro-xs'\nvalidation_fraction = 0.3\nbatch_size = 6\nepochs = 9\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_cache(tmp_path_factory.mktemp("cache") / "features", WIDTH))


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    return "small.toml"


def test_from_a_recipe_and_flags_to_a_student(
    capsys: pytest.CaptureFixture[str], recipe: str, cache: str, host_folder: Path
) -> None:
    Path("gold.txt").write_text("Red dog\n")
    Path("host.toml").write_text(RECIPE + "[losses]\nkeys = 1\nscoring = 0.5\n")
    command = ["distill", "host.toml", "--features", cache, "--epochs", "1", "--device", "cpu", "--context-length", "6"]
    command += ["--hold-out", "gold.txt", "--model", str(host_folder)]
    assert run([*command, "--json"]) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] == ["epoch 0 of 1", "epoch 1 of 1"]
    assert [line for line in lines if re.match(r"warning: \d+ phrases are few", line)]
    found = json.loads(captured.out)
    assert found["recipe"]["epochs"] == 1
    assert found["held_out"] == [{"name": "gold.txt", "phrases": 1, "removed": 1}]
    assert found["last"]["keys"] > 0
    assert found["host"] == str(host_folder)
    encoder = load_encoder(Path("host") / "student.safetensors", device="cpu")
    assert (found["student"], encoder.context_length, encoder.width) == ("host/student.safetensors", 6, WIDTH)
    assert run(command) == 0
    assert "Held out: gold.txt." in capsys.readouterr().out


def test_from_phrases_and_a_teacher_to_a_student_in_one_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distill_command, "KEPT_PAIRS", 6)
    Path("names.csv").write_text("name,prompt\n" + "".join(f"{row},red car {row}\n" for row in range(40)))
    command = ["distill", "names.csv", "--teacher", "micro", "-o", "small", "--epochs", "2", "--device", "cpu"]
    assert run(command) == 0
    captured = capsys.readouterr()
    assert "preset micro-s" in captured.err
    assert "batch_size 16" in captured.err
    assert Path("small/curve.png").exists()
    assert "small/curve.png" in captured.out
    assert "% of micro's cgF1" in captured.out
    following = captured.out.splitlines()[-1].removeprefix("Next: litetext ").split()
    assert run(["micro", "scene", "-o", "scene.png"]) == 0
    places = {"IMAGE": "scene.png", "PHRASE": "car"}
    assert run([places.get(word, word) for word in following]) == 0
    first = Path("small/student.safetensors").read_bytes()
    assert run(command) == 0  # there already: nothing is trained again
    assert Path("small/student.safetensors").read_bytes() == first
    capsys.readouterr()
    assert "2 recipes" in failure(capsys, "distill", "a.toml", "b.toml")
    longer = ["--context-length", "40", "-o", "long"]
    assert run([*command[:4], *longer]) == 1
    assert "40 tokens for a teacher of 32" in capsys.readouterr().err.splitlines()[-1]


def test_help_lists_every_preset() -> None:
    for name, row in PRESETS.items():
        assert row.kind == "teacher" or re.search(rf"\b{name}\b", distill_command.PRESET_HELP)


def test_masks_are_validated_with(
    capsys: pytest.CaptureFixture[str], recipe: str, cache: str, host_folder: Path
) -> None:
    pytest.importorskip("pycocotools")
    assert run(["micro", "world", "-o", "world", "--pairs", "6", "--size", "64", "--split", "validation"]) == 0
    capsys.readouterr()
    command = ["distill", recipe, "--features", cache, "--epochs", "1", "--device", "cpu"]
    asked = ["--gold", "world/gold.json", "--images", "world"]
    assert run([*command, "--model", str(host_folder), *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["best"]["cgf1"] <= 100
    assert {"il_mcc", "pmf1"} <= set(found["last"])
    assert "cgf1" in Path("small/curve.csv").read_text("utf-8").splitlines()[0]
    assert "no model that segments" in failure(capsys, *command, *asked)
    assert "gold and images come together" in failure(capsys, *command, *asked[:2])
    missing = ["--model", str(host_folder), "--gold", "none.json", "--images", "world"]
    assert "none.json" in failure(capsys, *command, *missing)


def test_help_shows_real_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", "--help"]) == 0
    out = capsys.readouterr().out
    assert "litetext distill s0.toml -o s0 --features features --hold-out gold.json" in out
    assert "init = 'mobileclip_s0.pt'" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.toml"], "cannot read the recipe (no such file or directory), missing.toml"),
        ([], "no folder to write; give -o DIR"),
        (["{recipe}", "--features", "nothing"], "no cache of features"),
        (["{recipe}", "--features", "{cache}", "--preset", "s9"], "no student is called 's9'"),
        (["{recipe}", "--features", "{cache}", "--init", "missing.pt"], "missing.pt"),
        (["{recipe}", "--features", "{cache}", "--hold-out", "missing.txt"], "missing.txt"),
        (["decoder.toml", "--features", "{cache}"], "values"),
        (["typo.toml", "--features", "{cache}"], "'batch_size'"),
    ],
)
def test_mistakes_are_one_line_and_train_nothing(
    capsys: pytest.CaptureFixture[str], recipe: str, cache: str, arguments: list[str], message: str
) -> None:
    Path("decoder.toml").write_text(RECIPE + "[losses]\nvalues = 1\n")
    Path("typo.toml").write_text(RECIPE + "bach = 3\n")
    places = {"{recipe}": recipe, "{cache}": cache}
    assert message in failure(capsys, "distill", *(places.get(argument, argument) for argument in arguments))
    assert not list(Path().glob("*/last.ckpt"))
