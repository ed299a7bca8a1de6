"""`litetext embed`: what a user types, what is written and printed, what fails and how."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
from litetext.checkpoints.load import load_encoder
from litetext.checkpoints.writer import save_student
from litetext.cli import run
from litetext.features.store import FeatureStore
from litetext.prompts.corpus import bundled_corpus
from tests.checkpoints.test_huggingface import clip_text, letters_tokenizer, save
from tests.cli.helpers import failure
from tests.distillation.corpora import files_of, letters
from tests.encoders.students import tiny_student
from tests.encoders.synthetic import HF_IMAGE, TINY_TEACHER, Teacher, save_safetensors

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]
SMALL = {"vocabulary": 49_408, "width": 16, "output": 8, "encoder_blocks": 1, "mixer_blocks": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "s.safetensors"
    save_student(tiny_student("masked", **SMALL), path)
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join([*letters(30), "DOG  0"]), encoding="utf-8")
    return str(path)


def embed_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert run(["embed", *arguments, "--device", "cpu", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_from_a_file_to_features(capsys: pytest.CaptureFixture[str], model: str, source: str, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    found = embed_json(
        capsys, source, "-o", str(out), "--teacher", model, "--batch-tokens", "40", "--shard-tokens", "50"
    )
    encoder = load_encoder(model, device="cpu")
    cache = FeatureStore.open(out)
    assert (found["corpus"], found["embedded"], found["phrases"], len(cache)) == (30, 30, 30, 30)
    assert found["tokens"] == int(encoder.encode(letters(30)).mask.sum())
    assert found["bytes"] == sum(path.stat().st_size for path in out.glob("shard-*"))
    assert found["shards"] == len(list(out.glob("shard-*"))) > 1
    assert found["prompts_per_second"] > 0
    assert found["dtype"] == "fp16"
    assert (found["teacher"]["name"], found["teacher"]["context_length"], found["teacher"]["width"]) == (model, 16, 8)
    expected = encoder.encode(["dog cat 1"])
    assert cache.encode(["dog cat 1"])[0][0] == pytest.approx(expected.values[0].numpy(), abs=1e-3, rel=1e-3)


def test_a_second_run_says_so_and_does_nothing(
    capsys: pytest.CaptureFixture[str], model: str, source: str, tmp_path: Path
) -> None:
    command = ["embed", source, "-o", str(tmp_path / "cache"), "--teacher", model, "--device", "cpu"]
    assert run(command) == 0
    assert "30 phrases embedded" in capsys.readouterr().out
    before = files_of(tmp_path / "cache")
    assert run(command) == 0
    assert "complete already (30 phrases" in capsys.readouterr().out
    assert run([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["embedded"], again["prompts_per_second"]) == (0, None)
    assert files_of(tmp_path / "cache") == before


def test_no_source_is_the_bundled_corpus(capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path) -> None:
    found = embed_json(capsys, "-o", str(tmp_path / "cache"), "--teacher", model, "--store-dtype", "bf16")
    assert found["phrases"] == len(bundled_corpus())
    assert found["dtype"] == "bf16"


def test_standard_input_and_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, tmp_path: Path
) -> None:
    class Stdin:
        buffer = io.BytesIO(b"id,what\n1,white dog\n2,cat\n")

    monkeypatch.setattr(sys, "stdin", Stdin())
    out = str(tmp_path / "cache")
    embed_json(capsys, "-", "--format", "csv", "--column", "what", "-o", out, "--teacher", model)
    assert sorted(FeatureStore.open(out).phrases) == ["cat", "white dog"]


def test_the_text_tower_of_a_sam3_folder(capsys: pytest.CaptureFixture[str], source: str, tmp_path: Path) -> None:
    host = tmp_path / "sam3"
    host.mkdir()
    save_safetensors({**HF_IMAGE, **Teacher.make(TINY_TEACHER).huggingface()}, host / "model.safetensors")
    config = {"model_type": "sam3_video", "detector_config": {"text_config": TINY_TEACHER.text_config}}
    (host / "config.json").write_text(json.dumps(config))
    found = embed_json(capsys, source, "-o", str(tmp_path / "cache"), "--teacher", str(host))
    expected = load_encoder(host, device="cpu").encode(["dog 0"])
    rows = FeatureStore.open(tmp_path / "cache").encode(["dog 0"])[0][0]
    assert found["teacher"]["width"] == rows.shape[1]
    assert rows == pytest.approx(expected.values[0].numpy(), abs=1e-3, rel=1e-3)


def test_another_hugging_face_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its own tokenizer cuts phrases into more tokens than CLIP's, and its own lengths are what is stored."""
    folder = save(clip_text("CLIPTextModel"), letters_tokenizer(), tmp_path / "clip")
    (tmp_path / "p.txt").write_text("ab c\nz\nabcdefghijklmnop\n", encoding="utf-8")
    found = embed_json(
        capsys,
        str(tmp_path / "p.txt"),
        "-o",
        str(tmp_path / "cache"),
        "--teacher",
        str(folder),
        "--context-length",
        "9",
    )
    cache = FeatureStore.open(tmp_path / "cache")
    assert found["teacher"]["context_length"] == 9
    assert cache.features(["ab c", "z", "abcdefghijklmnop"]).mask.sum(dim=1).tolist() == [5, 3, 9]


def test_help_shows_a_real_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embed", "--help"]) == 0
    assert "litetext embed prompts.txt -o features --teacher sam3.pt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.txt", "-o", "{out}", "--teacher", "{model}"], "missing.txt"),
        (["{source}", "-o", "{out}", "--teacher", "missing.pt"], "missing.pt"),
        (["{source}", "-o", "{out}", "--teacher", "{model}", "--batch-tokens", "0"], "a batch of 0 tokens"),
        (["{source}", "-o", "{out}", "--teacher", "{model}", "--device", "abacus"], "abacus"),
        (["{source}", "-o", "{out}", "--teacher", "{model}", "--context-length", "99"], "position table"),
        (["{source}", "-o", "{source}", "--teacher", "{model}"], "prompts.txt"),
        (["{source}", "-o", "{folder}", "--teacher", "{model}"], "a folder with other files"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_cache(
    capsys: pytest.CaptureFixture[str], model: str, source: str, arguments: list[str], message: str
) -> None:
    tmp_path = Path(source).parent
    places = {"{source}": source, "{model}": model, "{out}": str(tmp_path / "cache"), "{folder}": str(tmp_path)}
    assert message in failure(capsys, "embed", *(places.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "cache").exists()
    assert set(files_of(tmp_path)) == {"prompts.txt"}


def test_another_teacher_and_a_damaged_shard_are_refused_by_name(
    capsys: pytest.CaptureFixture[str], model: str, source: str, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    command = [source, "-o", str(out), "--device", "cpu", "--teacher"]
    assert run(["embed", *command, model]) == 0
    capsys.readouterr()
    save_student(tiny_student("masked", seed=1, **SMALL), tmp_path / "other.safetensors")
    error = failure(capsys, "embed", *command, str(tmp_path / "other.safetensors"))
    assert f"features of another teacher ('{model}'" in error
    assert "other.safetensors" in error
    shard = out / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "shard-00000.safetensors" in failure(capsys, "embed", *command, model)
    shutil.rmtree(out)


def test_interruption_leaves_no_half_file(
    capsys: pytest.CaptureFixture[str], model: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt  # not a signal: where CI runs in the background, SIGINT is ignored

    out = tmp_path / "cache"
    command = ["embed", source, "-o", str(out), "--teacher", model, "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("litetext.features.store.atomic_file", interrupt)
        assert run(command) == 130
    assert set(files_of(out)) == {"manifest.json"}
    capsys.readouterr()
    assert run(command) == 0
    FeatureStore.open(out).verify()
