"""A poisoned store, whose checksums may all be right: one line that names the shard, before anything is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from litetext.encoders.encoder import ModuleEncoder
from litetext.encoders.teacher import build_teacher
from litetext.errors import CacheError
from litetext.features import store
from litetext.features.embed import embed
from litetext.records import sealed, unsealed
from tests.cli.helpers import failure
from tests.distillation.corpora import corpus_of, files_of
from tests.distillation.runs import PHRASES, RECIPE, make_cache
from tests.encoders.students import generator, teacher_config
from tests.features.banks import header_of, reseal

pytestmark = pytest.mark.torch
SHARD = "shard-00000.safetensors"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make_cache(tmp_path / "features")


@pytest.fixture
def command(cache: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    options = ["--features", str(cache), "--epochs", "1", "--device", "cpu", "-o", str(tmp_path / "run")]
    return ["distill", str(tmp_path / "tiny.toml"), *options]


def lie(cache: Path, **changes: Any) -> None:
    """Change the manifest, with a right checksum."""
    path = cache / "manifest.json"
    path.write_text(json.dumps(sealed(unsealed(json.loads(path.read_text())) | changes)))


def put(name: str, kind: str, value: float) -> Callable[[Path], None]:
    """The last number of an array, and the right checksum of the index."""

    def change(cache: Path) -> None:
        path = cache / SHARD
        data = bytearray(path.read_bytes())
        header, start = header_of(data)
        end = start + header[name]["data_offsets"][1]
        data[end - np.dtype(kind).itemsize : end] = np.array([value], kind).tobytes()
        path.write_bytes(data)
        lie(cache, shards={SHARD: reseal(path)})

    return change


def poison(cache: Path) -> None:
    """A number that is not finite, with right checksums of everything."""
    whole = store.FeatureStore.open(cache)
    texts = store.distinct_phrases(whole.phrases)
    rows = [np.array(whole.row(whole.find(phrase)), np.float32) for phrase in texts]
    rows[list(texts).index(b"old cat")][1, 2] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_check_narrowed", lambda *_: None)
        checksum = store.write_shard(cache / SHARD, whole.teacher, "fp16", texts, [(range(len(texts)), rows)])
    lie(cache, shards={SHARD: checksum})


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (poison, "'old cat' that are not finite"),
        (put("rows", "<i8", 10**6), "damaged"),
        (put("rows", "<i8", 0), "damaged"),
        (put("rows", "<i8", -1), "damaged"),
        (put("text_offsets", "<i8", -5), "damaged"),
        (put("order", "<u4", 10**6), "damaged"),
        (put("checks", "<u4", 0), "damaged"),
        (put("values", "<f2", 0.5), "damaged"),
        (lambda cache: lie(cache, shards={SHARD: "0" * 32}), "checksum"),
        (lambda cache: (cache / SHARD).write_bytes((cache / SHARD).read_bytes()[:-1]), "bytes instead of"),
        (lambda cache: (cache / SHARD).write_bytes((cache / SHARD).read_bytes()[:100]), "damaged"),
    ],
)
def test_a_damaged_shard_is_refused_and_can_be_made_again(
    capsys: pytest.CaptureFixture[str], command: list[str], cache: Path, change: Callable[[Path], Any], fact: str
) -> None:
    whole = files_of(cache)
    change(cache)
    capsys.readouterr()  # what PyTorch says when it is imported
    error = failure(capsys, *command)
    assert fact in error
    assert str(cache / SHARD) in error
    assert not (cache.parent / "run").exists()
    with pytest.raises(CacheError, match=SHARD):
        make_cache(cache)  # as `litetext embed` does, which refuses it in the same way
    (cache / SHARD).unlink()
    make_cache(cache)
    assert files_of(cache) == whole


@pytest.mark.parametrize("lies", [{"context_length": 31}, {"tokenizer": "0" * 64}, {"width": 9}])
def test_a_manifest_that_lies_of_its_teacher(cache: Path, lies: dict[str, Any]) -> None:
    entries = json.loads((cache / "manifest.json").read_text())
    lie(cache, teacher={**entries["teacher"], **lies})
    teacher = ModuleEncoder(build_teacher(teacher_config(16, 2, 1, output=8), generator()), "tiny")
    with pytest.raises(CacheError, match="features of another teacher"):
        embed(corpus_of(PHRASES), teacher, cache)
