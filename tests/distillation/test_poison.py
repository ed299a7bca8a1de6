"""A poisoned cache, whose hashes may all be right: one line that names the shard and the hint, before anything else."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from litetext.cli import run
from litetext.encoders.teacher import TeacherConfig, TeacherEncoder, build_teacher
from litetext.errors import CacheError
from litetext.features.embed import embed
from litetext.features.store import FeatureStore
from litetext.records import sealed, unsealed
from tests.cli.helpers import failure
from tests.distillation.corpora import corpus_of, files_of
from tests.distillation.runs import PHRASES, RECIPE, make_cache
from tests.encoders.students import generator

pytestmark = pytest.mark.torch
SHARD = "shard-00000.safetensors"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make_cache(tmp_path / "features")


@pytest.fixture
def command(cache: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    options = ["--features", str(cache), "--epochs", "1", "--device", "cpu", "-o", str(tmp_path / "run")]
    return ["distill", str(tmp_path / "tiny.toml"), *options]


def rewrite(cache: Path, change: Callable[[Tensors], Any]) -> None:
    """Change what a shard holds, and give it the right hashes."""
    path = cache / SHARD
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # else they are the mapped file
    change(tensors)
    data = save(tensors, metadata)
    path.write_bytes(data)
    sums = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if tensors["keys"].dtype is not torch.bfloat16:
        sums["keys_sha256"] = hashlib.sha256(tensors["keys"].numpy().tobytes()).hexdigest()
    lie(cache, **sums)


def lie(cache: Path, **changes: Any) -> None:
    """Have the manifest say something else of its shard."""
    path = cache / "manifest.json"
    told = unsealed(json.loads(path.read_text()))
    told["shards"][0] |= changes
    path.write_text(json.dumps(sealed(told)))


def put(name: str, place: Any, value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name][place] = value

    return change


def replace(name: str, by: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = by(tensors[name]).clone().contiguous()

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put("values", (3, 5), torch.nan), "that are not finite"),
        (put("values", (-1, -1), torch.inf), "that are not finite"),
        (put("values", 0, -torch.inf), "that are not finite"),
        (put("ends", -1, 10**6), "a damaged shard ('ends' does not part what is there)"),
        (put("ends", 0, 10**6), "a damaged shard ('ends' does not part what is there)"),
        (put("ends", 0, 0), "a damaged shard ('ends' does not part what is there)"),
        (put("text_ends", 1, -5), "a damaged shard ('text_ends' does not part what is there)"),
        (replace("ends", lambda ends: ends[1:]), "a damaged shard ('ends' is torch.int64 [16])"),
        (replace("ends", lambda ends: ends.int()), "a damaged shard ('ends' is torch.int32 [17])"),
        (replace("text", lambda text: text[1:]), "a damaged shard ('text_ends' does not part what is there)"),
        (replace("text", lambda text: text.float()), "a damaged shard (its phrases are no text)"),
        (replace("values", lambda values: values.T), "a damaged shard (other sizes than in the manifest)"),
        (replace("values", lambda values: values.float()), "a damaged shard (other sizes than in the manifest)"),
        (replace("keys", lambda keys: keys.bfloat16()), "a damaged shard (other sizes than in the manifest)"),
        (replace("keys", lambda keys: keys[:, None]), "a damaged shard (other sizes than in the manifest)"),
        (lambda tensors: tensors.pop("ends"), "a damaged shard ("),
        (lambda tensors: tensors.pop("values"), "a damaged shard ("),
    ],
)
def test_what_right_hashes_do_not_say(
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    cache: Path,
    change: Callable[[Tensors], Any],
    complaint: str,
) -> None:
    whole = files_of(cache)
    rewrite(cache, change)
    error = failure(capsys, *command)
    assert complaint in error
    assert f"{cache / SHARD}; delete it and embed again to compute it anew" in error
    assert not (cache.parent / "run").exists()
    with pytest.raises(CacheError, match=SHARD):
        make_cache(cache)  # as `litetext embed` does, which refuses it in the same way
    (cache / SHARD).unlink()
    make_cache(cache)
    assert files_of(cache) == whole


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"sha256": "0" * 64}, "a damaged shard (its checksum is not the manifest's)"),
        ({"keys_sha256": "0" * 64}, "a damaged shard (other phrases than in the manifest)"),
        ({"bytes": 1}, "bytes instead of 1)"),
        ({"phrases": 16}, "a damaged shard (other sizes than in the manifest)"),
        ({"phrases": 0}, "a damaged shard (other sizes than in the manifest)"),
        ({"tokens": 10**6}, "a damaged shard (other sizes than in the manifest)"),
    ],
)
def test_a_manifest_that_lies_of_a_shard(
    capsys: pytest.CaptureFixture[str], command: list[str], cache: Path, told: dict[str, Any], complaint: str
) -> None:
    lie(cache, **told)
    error = failure(capsys, *command)
    assert complaint in error
    assert f"{cache / SHARD}; delete it and embed again" in error


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: data[:100], lambda data: data[:-1] + b"\1"])
def test_truncated_and_changed_bytes(
    capsys: pytest.CaptureFixture[str], command: list[str], cache: Path, harm: Callable[[bytes], bytes]
) -> None:
    whole = files_of(cache)
    (cache / SHARD).write_bytes(harm(whole[SHARD]))
    assert f"{cache / SHARD}; delete it and embed again" in failure(capsys, *command)
    (cache / SHARD).unlink()
    make_cache(cache)
    assert files_of(cache) == whole
    assert run(command) == 0


@pytest.mark.parametrize("told", [{"context_length": 31}, {"tokenizer": "0" * 64}, {"width": 9}])
def test_a_manifest_that_lies_of_its_teacher(cache: Path, told: dict[str, Any]) -> None:
    path = cache / "manifest.json"
    found = unsealed(json.loads(path.read_text()))
    path.write_text(json.dumps(sealed({**found, "teacher": {**found["teacher"], **told}})))
    teacher = TeacherEncoder(build_teacher(TeacherConfig(16, 2, 1, output=8), generator()), "tiny")
    with pytest.raises(CacheError, match="features of another teacher"):
        embed(corpus_of(PHRASES), teacher, cache)


def test_the_phrase_is_named(cache: Path) -> None:
    rows = FeatureStore.open(cache).rows("old cat")  # start, old, cat, end
    place = load_file(cache / SHARD)["values"].eq(rows[2]).all(dim=1).nonzero()[0, 0]
    rewrite(cache, put("values", (place, 2), torch.nan))
    with pytest.raises(CacheError, match=rf"features of 'old cat' that are not finite, .*{SHARD}; delete it"):
        FeatureStore.open(cache).features(["red dog"])
