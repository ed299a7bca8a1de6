"""Writing a cache: what is computed, in which batches, with which results, and what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from litetext.encoders.encoder import ModuleEncoder, encode_batch
from litetext.encoders.student import StudentEncoder
from litetext.encoders.teacher import build_teacher
from litetext.errors import CacheError, EncoderError, OptionError, OutputError
from litetext.features import embed as module
from litetext.features.embed import embed, plan_shards
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.features.store import FeatureStore
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.bpe import TokenBatch, clip_tokenizer
from tests.distillation.corpora import corpus_of, files_of, letters, open_folder
from tests.encoders.students import generator, teacher_config, tiny_student

pytestmark = pytest.mark.torch

SMALL = {"batch_tokens": 40, "shard_tokens": 100}
WORDS = ["a", "dog", "white dog", "a red car", "the man to the left of the woman", "café au lait", "x" * 60]


@pytest.fixture(scope="module")
def teacher() -> ModuleEncoder:
    return ModuleEncoder(build_teacher(teacher_config(16, 2, 2, output=8), generator()), "tiny")


@dataclass(frozen=True)
class Spy:
    """Passes on to an encoder, and keeps what it was asked and how long the batch was."""

    encoder: TextEncoder
    module: torch.nn.Module
    name: str = "spy"
    asked: list[tuple[list[str], int]] = field(default_factory=list)

    @property
    def context_length(self) -> int:
        return self.encoder.context_length

    @property
    def width(self) -> int:
        return self.encoder.width

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        features = self.encoder.encode(texts)
        self.asked.append((list(texts), features.mask.shape[1]))
        return features


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_the_same_features_as_the_naive_loop_padded_to_32(teacher: ModuleEncoder, tmp_path: Path, dtype: str) -> None:
    corpus = corpus_of(WORDS)
    store = embed(corpus, teacher, tmp_path / "cache", dtype=dtype, **SMALL)
    naive = encode_batch(teacher.module, TokenBatch.of_texts(WORDS, teacher.context_length))
    cache = FeatureStore.open(tmp_path / "cache")
    found = cache.features(WORDS)
    lengths = np.minimum(clip_tokenizer().encode(WORDS).lengths, 32)
    assert found.mask.sum(dim=1).tolist() == lengths.tolist()
    assert store.tokens == lengths.sum()
    expected = naive.values[:, : found.mask.shape[1]]
    tolerance = 1e-3 if dtype == "fp16" else 1e-2
    torch.testing.assert_close(found.values[found.mask], expected[found.mask], atol=tolerance, rtol=tolerance)
    assert found.values.abs().max() > 0.1


def test_padding_costs_nothing(teacher: ModuleEncoder, tmp_path: Path) -> None:
    spy = Spy(teacher, teacher.module)
    texts = letters(200)
    embed(corpus_of(texts), spy, tmp_path / "cache", **SMALL)
    batches = spy.asked[1:]  # the first asks what padding costs
    assert sorted(text for batch, _ in batches for text in batch) == sorted(texts)
    read = sum(len(batch) * length for batch, length in batches)
    valid = int(clip_tokenizer().encode(texts).lengths.sum())
    assert read < 1.02 * valid
    assert all(len(batch) * length <= 40 for batch, length in batches)
    size = sum(path.stat().st_size for path in (tmp_path / "cache").glob("shard-*"))
    assert size < valid * 8 * 2 + 200 * 40 + 100 * 600  # features, then phrases, then headers


def test_an_encoder_that_reads_its_padding_is_asked_for_the_whole_context(tmp_path: Path) -> None:
    student = StudentEncoder(tiny_student("attended", vocabulary=49_408), "attended")
    spy = Spy(student, student.module)
    texts = letters(30)
    embed(corpus_of(texts), spy, tmp_path / "cache", batch_tokens=5 * student.context_length)
    assert {len(batch) for batch, _ in spy.asked[1:]} == {5}
    cache = FeatureStore.open(tmp_path / "cache")
    expected = student.encode(texts)
    found = cache.features(texts)
    torch.testing.assert_close(found.values[found.mask], expected.values[expected.mask], atol=2e-3, rtol=2e-3)


def test_the_order_of_the_corpus_changes_no_byte(teacher: ModuleEncoder, tmp_path: Path) -> None:
    texts = letters(60)
    embed(corpus_of(texts), teacher, tmp_path / "a", **SMALL)
    embed(corpus_of(texts[::-1]), teacher, tmp_path / "b", **SMALL)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert len(files_of(tmp_path / "a")) > 4


def test_a_second_time_nothing_is_done(teacher: ModuleEncoder, tmp_path: Path) -> None:
    corpus = corpus_of(WORDS)
    assert embed(corpus, teacher, tmp_path / "cache", **SMALL).report["embedded"] == len(WORDS)
    before = files_of(tmp_path / "cache")
    spy = Spy(teacher, teacher.module)
    again = embed(corpus, teacher, tmp_path / "cache", **SMALL)
    assert (again.report["embedded"], again.report["prompts_per_second"]) == (0, None)
    assert len(again) == len(WORDS)
    assert spy.asked == []
    assert files_of(tmp_path / "cache") == before


def test_a_corpus_that_has_grown_adds_only_what_is_new(teacher: ModuleEncoder, tmp_path: Path) -> None:
    embed(corpus_of(letters(20)), teacher, tmp_path / "cache", **SMALL)
    old = files_of(tmp_path / "cache")
    store = embed(corpus_of(letters(50)), teacher, tmp_path / "cache", **SMALL)
    assert (store.report["corpus"], store.report["embedded"], len(store)) == (50, 30, 50)
    new = files_of(tmp_path / "cache")
    assert all(new[name] == data for name, data in old.items() if name != "manifest.json")
    cache = FeatureStore.open(tmp_path / "cache")
    cache.verify()
    assert sorted(cache.phrases) == sorted(letters(50))


def test_progress_ends_at_one(teacher: ModuleEncoder, tmp_path: Path) -> None:
    shares: list[float] = []
    embed(
        corpus_of(letters(60)), teacher, tmp_path / "cache", **SMALL, progress=lambda stage, share: shares.append(share)
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 2


def test_another_teacher_is_refused(teacher: ModuleEncoder, tmp_path: Path) -> None:
    embed(corpus_of(WORDS[:3]), teacher, tmp_path / "cache", **SMALL)
    before = files_of(tmp_path / "cache")
    other = ModuleEncoder(build_teacher(teacher_config(16, 2, 2, output=8), generator(1)), "other")
    with pytest.raises(CacheError, match=r"'tiny', context 32, .*'other'"):
        embed(corpus_of(WORDS), other, tmp_path / "cache", **SMALL)
    with pytest.raises(CacheError, match="fp16, not bf16"):
        embed(corpus_of(WORDS), teacher, tmp_path / "cache", dtype="bf16")
    assert files_of(tmp_path / "cache") == before


def test_the_same_teacher_by_another_name_goes_on(teacher: ModuleEncoder, tmp_path: Path) -> None:
    embed(corpus_of(WORDS[:3]), teacher, tmp_path / "cache", **SMALL)
    renamed = ModuleEncoder(teacher.module, "renamed")
    assert embed(corpus_of(WORDS), renamed, tmp_path / "cache", **SMALL).report["embedded"] == len(WORDS) - 3


def test_a_folder_with_other_files_is_refused_and_left_alone(teacher: ModuleEncoder, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / ".manifest.json.abc").write_text("")
    with pytest.raises(CacheError, match="other files"):
        embed(corpus_of(WORDS), teacher, tmp_path, **SMALL)
    assert set(files_of(tmp_path)) == {"thesis.txt", ".manifest.json.abc"}
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        embed(corpus_of(WORDS), teacher, tmp_path / "thesis.txt", **SMALL)


def test_leftovers_of_a_kill_are_removed(teacher: ModuleEncoder, tmp_path: Path) -> None:
    embed(corpus_of(letters(60)), teacher, tmp_path, **SMALL)
    whole = files_of(tmp_path)
    for name in (".manifest.json.x1", ".shard-00001.safetensors.y2", "shard-00077.safetensors"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    embed(corpus_of(letters(60)), teacher, tmp_path, **SMALL)
    assert files_of(tmp_path) == whole | {"notes.txt": b"mine"}


def test_a_deleted_shard_is_computed_anew_bit_for_bit(teacher: ModuleEncoder, tmp_path: Path) -> None:
    embed(corpus_of(letters(60)), teacher, tmp_path, **SMALL)
    whole = files_of(tmp_path)
    (tmp_path / "shard-00001.safetensors").unlink()
    with pytest.raises(CacheError, match=r"missing, .*shard-00001\.safetensors"):
        FeatureStore.open(tmp_path)
    assert 0 < embed(corpus_of(letters(60)), teacher, tmp_path, **SMALL).report["embedded"] < 60
    assert files_of(tmp_path) == whole


def test_a_damaged_shard_is_refused_before_anything_is_added(teacher: ModuleEncoder, tmp_path: Path) -> None:
    embed(corpus_of(letters(60)), teacher, tmp_path, **SMALL)
    path = tmp_path / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    before = files_of(tmp_path)
    with pytest.raises(CacheError, match=r"damaged.*shard-00001\.safetensors; delete it"):
        embed(corpus_of(letters(80)), teacher, tmp_path, **SMALL)
    assert files_of(tmp_path) == before


def test_a_second_writer_is_refused(teacher: ModuleEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    with open_folder(tmp_path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process"):
            embed(corpus_of(WORDS), teacher, tmp_path, **SMALL)
        monkeypatch.setattr(module, "identify", None)  # at once: before gigabytes of weights are read
        with pytest.raises(OutputError, match="another process"):
            embed(corpus_of(WORDS), teacher, tmp_path, **SMALL)
    monkeypatch.undo()
    assert files_of(tmp_path) == {}
    assert embed(corpus_of(WORDS), teacher, tmp_path, **SMALL).report["embedded"] == len(WORDS)


def test_a_file_system_without_locks_does(
    teacher: ModuleEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    assert embed(corpus_of(WORDS), teacher, tmp_path, **SMALL).report["embedded"] == len(WORDS)


def test_a_full_disk_keeps_what_is_done(
    teacher: ModuleEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    embed(corpus_of(letters(60)), teacher, tmp_path / "whole", **SMALL)
    real, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 5:  # the manifest, two shards with theirs, then the disk is full
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr("litetext.storage.os.fsync", fsync)
        with pytest.raises(CacheError, match=r"no space left on device, .*shard-00002"):
            embed(corpus_of(letters(60)), teacher, tmp_path / "cache", **SMALL)
    assert set(files_of(tmp_path / "cache")) == {"manifest.json", "shard-00000.safetensors", "shard-00001.safetensors"}
    assert len(FeatureStore.open(tmp_path / "cache")) > 0
    embed(corpus_of(letters(60)), teacher, tmp_path / "cache", **SMALL)
    assert files_of(tmp_path / "cache") == files_of(tmp_path / "whole")


@dataclass(frozen=True)
class Faulty:
    """An encoder whose features are as told."""

    values: torch.Tensor
    module: torch.nn.Module = field(default_factory=lambda: torch.nn.Linear(1, 1))
    name: str = "faulty"
    context_length: int = 8
    width: int = 2

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        return TextFeatures(self.values, torch.ones(self.values.shape[:2], dtype=torch.bool))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.ones(2, 3, 2), "1 texts"),
        (torch.ones(1, 3, 5), "width 2"),
        (torch.full((1, 3, 2), 1e5), "'dog' are not finite, faulty in fp16; store them as bf16"),
        (torch.full((1, 3, 2), torch.nan), "'dog' are not finite"),
    ],
)
def test_features_that_cannot_be_stored_are_refused(tmp_path: Path, values: torch.Tensor, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        embed(corpus_of(["dog"]), Faulty(values), tmp_path / "cache")
    assert set(files_of(tmp_path / "cache")) == {"manifest.json"}


def test_a_batch_that_does_not_fit_into_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("a screenful of advice")

    encoder = Faulty(torch.ones(1, 3, 2))
    monkeypatch.setattr(
        Faulty,
        "encode",
        lambda self, texts: fail() if texts == ["dog"] else TextFeatures(torch.ones(1, 2, 2), torch.ones(1, 2).bool()),
    )
    with pytest.raises(EncoderError, match="no memory for a batch of 1 texts, faulty"):
        embed(corpus_of(["dog"]), encoder, tmp_path)


def test_large_features_fit_into_bfloat16(tmp_path: Path) -> None:
    embed(corpus_of(["dog"]), Faulty(torch.full((1, 3, 2), 1e5)), tmp_path, dtype="bf16")
    torch.testing.assert_close(
        FeatureStore.open(tmp_path).features(["dog"]).values, torch.full((1, 3, 2), 1e5), rtol=0.01, atol=0
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "fp32"}, "'fp32'.*fp16"),
        ({"batch_tokens": 0}, "a batch of 0 tokens"),
        ({"shard_tokens": -1}, "a shard of -1 tokens"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        embed(corpus_of(["dog"]), Faulty(torch.ones(1, 3, 2)), tmp_path / "cache", **changes)
    assert not (tmp_path / "cache").exists()


def test_prompts_count_once_however_often_they_occur(teacher: ModuleEncoder, tmp_path: Path) -> None:
    corpus = PromptCorpus.build([Prompt("White  Dog", 3, "a"), Prompt("white dog", 1, "b"), Prompt("cat", 1, "a")])
    report = embed(corpus, teacher, tmp_path, **SMALL).report
    assert (report["corpus"], report["embedded"]) == (2, 2)
    assert sorted(FeatureStore.open(tmp_path).phrases) == ["cat", "white dog"]


def test_shards_follow_from_the_texts_whatever_the_encoder_makes_of_them(tmp_path: Path) -> None:
    """An encoder with another tokenizer, such as a pruned one, gives another number of rows than was planned with."""

    class Doubling:
        name, context_length, width = "doubling", 32, 4

        def __init__(self) -> None:
            self.module = torch.nn.Linear(1, 1)

        def encode(self, texts: Sequence[str]) -> TextFeatures:
            lengths = 2 * clip_tokenizer().encode(texts).lengths
            mask = torch.arange(int(lengths.max())) < torch.tensor(lengths)[:, None]
            return TextFeatures(torch.ones(*mask.shape, self.width), mask)

    texts = letters(60)
    found = plan_shards(Doubling(), texts, **SMALL)
    shards = [sorted(texts[place] for batch in shard for place in batch) for shard in found]
    store = embed(corpus_of(texts), Doubling(), tmp_path / "cache", **SMALL)
    written = [FeatureStore.open(tmp_path / "cache" / name).phrases for name in store.shards]
    assert len(shards) > 2
    assert [sorted(phrases) for phrases in written] == shards
