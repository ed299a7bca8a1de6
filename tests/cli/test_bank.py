"""`litetext bank`, and banks where the other commands take a text encoder."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.cli import run
from litetext.micro.model import SIZE
from litetext.micro.phrases import make_pairs
from litetext.micro.saco import write_saco
from litetext.micro.scenes import SceneOptions
from tests.cli.helpers import failure

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen pairs of the micro world as files, and their phrases."""
    folder = tmp_path_factory.mktemp("world")
    pairs = list(make_pairs(0, 18, SceneOptions(size=SIZE, split="test")))
    write_saco(iter(pairs), folder)
    (folder / "phrases.txt").write_text("\n".join(pair.phrase.text for pair in pairs), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bank(world: Path) -> Path:
    """Of the micro student."""
    path = world / "bank.safetensors"
    assert run(["bank", str(world / "phrases.txt"), "-o", str(path), "--text-encoder", "micro-student"]) == 0
    return path


def segment(world: Path, text: str, *more: str) -> list[str]:
    pictures = sorted(str(path) for path in world.rglob("*.png"))
    phrases = (world / "phrases.txt").read_text(encoding="utf-8").splitlines()
    prompts = [word for phrase in dict.fromkeys(phrases) for word in ("-p", phrase)]
    return [
        "segment",
        *pictures,
        *prompts,
        "--model",
        "micro",
        "--text-encoder",
        text,
        "--device",
        "cpu",
        "--json",
        *more,
    ]


def test_it_says_what_it_wrote(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    assert (
        run(["bank", str(world / "phrases.txt"), "-o", str(path), "--text-encoder", "micro", "--store-dtype", "int8"])
        == 0
    )
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: ")
    assert "tokens in int8" in out
    assert "cosine with the features as computed: mean 0.9999" in out
    assert run(["bank", str(world / "phrases.txt"), "-o", str(path), "--teacher", "micro", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"] == path.stat().st_size
    assert found["checked"] == found["phrases"]
    assert (found["dtype"], found["teacher"]["width"], found["teacher"]["context_length"]) == ("fp16", 64, 32)
    assert run(["inspect", str(path)]) == 0
    assert f"{path}: {found['phrases']} phrases, {found['tokens']} tokens in fp16" in capsys.readouterr().out
    assert run(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out).items() <= found.items()


def test_masks_are_those_of_the_encoder(capsys: pytest.CaptureFixture[str], world: Path, bank: Path) -> None:
    assert run(segment(world, str(bank))) == 0
    ours = json.loads(capsys.readouterr().out)
    assert run(segment(world, "micro-student")) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert [image["file_name"] for image in ours["images"]] == [image["file_name"] for image in theirs["images"]]
    assert len(ours["annotations"]) == len(theirs["annotations"]) > 0
    for one, other in zip(ours["annotations"], theirs["annotations"], strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=0.01)
        assert one["area"] == pytest.approx(other["area"], rel=0.02, abs=3)


def test_without_a_phrase_all_of_the_bank_are_looked_for(
    capsys: pytest.CaptureFixture[str], world: Path, bank: Path
) -> None:
    pictures = ["segment", str(next(world.rglob("*.png"))), "--model", "micro", "--device", "cpu", "--json"]
    assert run([*pictures, "--text-encoder", str(bank)]) == 0
    told = capsys.readouterr()
    listed = (world / "phrases.txt").read_text(encoding="utf-8").splitlines()
    asked = [category["name"] for category in json.loads(told.out)["categories"]]
    assert sorted(asked) == sorted(set(listed))
    assert f"all {len(asked)} of {bank}" in told.err
    assert "--prompts" in failure(capsys, *pictures[:-1], status=2)


def test_other_phrases(capsys: pytest.CaptureFixture[str], world: Path, bank: Path) -> None:
    phrase = (world / "phrases.txt").read_text(encoding="utf-8").splitlines()[0]
    assert f"nearest that are: '{phrase}'" in failure(capsys, *segment(world, str(bank), "-p", f"{phrase}x"))
    lost = [
        "segment",
        str(next(world.rglob("*.png"))),
        "-p",
        f"{phrase}x",
        "--model",
        "no/such",
        "--text-encoder",
        str(bank),
    ]
    assert "nearest that are" in failure(capsys, *lost)  # before the model is looked for
    more = ["-p", f"{phrase}x", "--fallback", "micro-student", "--context-length", "16"]
    assert run(segment(world, str(bank), *more)) == 0
    assert json.loads(capsys.readouterr().out)["categories"][-1]["name"] == f"{phrase}x"


def test_gold_and_retention_take_a_bank(
    capsys: pytest.CaptureFixture[str], world: Path, bank: Path, tmp_path: Path
) -> None:
    (truth,) = world.glob("*.json")
    images = next(path.parent for path in world.rglob("*.png"))
    images = images if (images / json.loads(truth.read_text())["images"][0]["file_name"]).is_file() else world
    common = ["--gt", str(truth), "--images", str(images), "--device", "cpu", "--json"]
    gold = ["evaluate", "gold", *common, "--pred", str(tmp_path / "pred.json"), "--model", "micro"]
    assert run([*gold, "--text-encoder", str(bank), "--fallback", "micro-student"]) == 0
    assert "cgf1" in json.loads(capsys.readouterr().out)
    (tmp_path / "one.txt").write_text("lake", encoding="utf-8")
    assert (
        run(["bank", str(tmp_path / "one.txt"), "-o", str(tmp_path / "one.safetensors"), "--text-encoder", "micro"])
        == 0
    )
    gold[-3] = str(tmp_path / "other.json")
    assert run([*gold, "--text-encoder", str(tmp_path / "one.safetensors")]) == 1
    assert "is not in the bank, nor are" in capsys.readouterr().err.splitlines()[-1]
    assert run(["evaluate", "retention", *common, "--model", "micro", "--student", str(bank)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["parameters"]["student"], found["bytes"]["student"]) == (0, bank.stat().st_size)
    assert found["parameters"]["reduction"] == 100


def test_a_bank_of_a_cache(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    cache, path = str(tmp_path / "cache"), str(tmp_path / "bank.safetensors")
    assert run(["embed", str(world / "phrases.txt"), "-o", cache, "--teacher", "micro-student"]) == 0
    capsys.readouterr()
    assert run(["bank", "-o", path, "--features", cache, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["phrases"] == len(set((world / "phrases.txt").read_text(encoding="utf-8").splitlines()))


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], world: Path, bank: Path, tmp_path: Path) -> None:
    phrases, target = str(world / "phrases.txt"), str(tmp_path / "new.safetensors")
    made = ["bank", phrases, "-o", target]
    assert "give either --text-encoder or --features" in failure(capsys, *made)
    assert "give either" in failure(capsys, *made, "--text-encoder", "micro", "--features", str(world))
    assert "int4" in failure(capsys, *made, "--text-encoder", "micro", "--store-dtype", "int4", status=2)
    assert "nowhere.txt" in failure(capsys, "bank", "nowhere.txt", "-o", target, "--text-encoder", "micro")
    assert "no cache of features" in failure(capsys, *made, "--features", str(world))
    assert "leave them out" in failure(capsys, *made, "--features", str(world), "--context-length", "16")
    assert "a bank of a bank" in failure(capsys, *made, "--text-encoder", str(bank))
    assert "nowhere.pt" in failure(capsys, *made, "--text-encoder", "nowhere.pt")
    assert not Path(target).exists()
    assert "for what has its own" in failure(capsys, *segment(world, str(bank), "--context-length", "16"))
    assert "--fallback for what is no prompt bank" in failure(
        capsys, *segment(world, "micro-student", "--fallback", "micro-student")
    )
    (tmp_path / "half.safetensors").write_bytes(bank.read_bytes()[:-100])
    assert "damaged" in failure(capsys, *segment(world, str(tmp_path / "half.safetensors")))
    picture = str(next(world.rglob("*.png")))
    alone = ["segment", picture, "-p", "dog", "--model", "micro", "--fallback", "micro-student"]
    assert "--fallback without a prompt bank" in failure(capsys, *alone)


def test_a_host_of_another_width(capsys: pytest.CaptureFixture[str], world: Path, tmp_path: Path) -> None:
    from tests.features.banks import make

    phrases = (world / "phrases.txt").read_text(encoding="utf-8").splitlines()
    make(tmp_path / "bank.safetensors", phrases)
    message = failure(capsys, *segment(world, str(tmp_path / "bank.safetensors")))
    assert "features of width 12 where the model reads 64" in message
