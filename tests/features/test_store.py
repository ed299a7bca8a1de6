"""Reading a cache: the right features for each phrase, little memory, and damage named before it is read."""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
import torch

from litetext.errors import CacheError, OptionError
from litetext.features import shards
from litetext.features.manifest import Manifest, Teacher, read_manifest
from litetext.features.shards import phrase_key, write_shard
from litetext.features.store import FeatureCache
from litetext.records import sealed, unsealed
from litetext.tokenizer.clean import clean

pytestmark = pytest.mark.torch

TEACHER = Teacher("fake", "f" * 64, "7" * 64, 16, 4)
TEXTS = ["white dog", "cat", "a red car", "café", "tree"]


def rows_of(text: str, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """One row for each word; the values are small whole numbers, exact in either number type."""
    return torch.stack([torch.arange(4) + len(word) + 10 * index for index, word in enumerate(text.split())]).to(dtype)


def write_cache(folder: Path, groups: list[list[str]], dtype: str = "float16") -> Path:
    manifest = Manifest(TEACHER, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    for group in groups:
        rows = [rows_of(text, getattr(torch, dtype)) for text in group]
        manifest = manifest.with_shard(write_shard(folder / manifest.next_name(), group, rows, TEACHER.fingerprint))
    manifest.write(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_cache(tmp_path / "cache", [TEXTS[:2], TEXTS[2:]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_known_features(tmp_path: Path, dtype: str) -> None:
    cache = FeatureCache.open(write_cache(tmp_path, [TEXTS[:2], TEXTS[2:]], dtype), TEACHER)
    assert (len(cache), cache.width, cache.context_length, cache.dtype) == (5, 4, 16, getattr(torch, dtype))
    assert cache.teacher == TEACHER
    assert list(cache.phrases) == TEXTS
    features = cache.features(["cat", "white dog"])
    assert features.mask.tolist() == [[True, False], [True, True]]
    assert features.values.dtype is torch.float32
    assert features.values.tolist() == [[[3, 4, 5, 6], [0] * 4], [[5, 6, 7, 8], [13, 14, 15, 16]]]
    rows = cache.rows("a red car")
    assert rows.dtype is cache.dtype
    assert rows.tolist() == [[1, 2, 3, 4], [13, 14, 15, 16], [23, 24, 25, 26]]
    cache.verify()


def test_a_phrase_is_what_the_tokenizer_sees(folder: Path) -> None:
    cache = FeatureCache.open(folder)
    assert "White   Dog" in cache
    assert "whitedog" not in cache
    assert 7 not in cache
    assert cache.rows(" CAFÉ ").tolist() == rows_of("café").tolist()
    assert cache.missing(["cat", "bird", "Tree ", "a"]) == ["bird", "a"]


def test_a_phrase_that_cleaning_would_change_twice_is_found(tmp_path: Path) -> None:
    text = "<i> &amp;amp;amp;lt;b dog"
    assert clean(clean(text)) != clean(text)
    cache = FeatureCache.open(write_cache(tmp_path, [[text]]))
    assert text in cache
    assert clean(text) not in cache  # that is another phrase
    assert list(cache.phrases) == [text]


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.lists(words, min_size=1, max_size=30), st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_order_and_no_sharding_misaligns_anything(found: list[str], size: int, chance: random.Random) -> None:
    texts = list({clean(text): text for text in found if clean(text).split()}.values())
    if not texts:
        return
    with tempfile.TemporaryDirectory() as name:
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        cache = FeatureCache.open(write_cache(Path(name), groups))
        asked = chance.choices(texts, k=2 * len(texts))
        features = cache.features(asked)
        for text, values, mask in zip(asked, features.values, features.mask, strict=True):
            torch.testing.assert_close(values[mask], rows_of(text).float(), rtol=0, atol=0)
            assert not values[~mask].any()
        assert all((text in cache) == (clean(text) in set(map(clean, texts))) for text in [*texts, "never"])


def test_phrases_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("litetext.features.shards.phrase_key", "litetext.features.store.phrase_key"):
        monkeypatch.setattr(place, lambda text: len(text) % 2)
    cache = FeatureCache.open(write_cache(tmp_path, [TEXTS[:3], TEXTS[3:]]))
    for text in TEXTS:
        assert cache.rows(text).tolist() == rows_of(text).tolist()
    assert "bird" not in cache
    cache.verify()


def test_keys_are_stable() -> None:
    """A cache outlives the process: a known answer of BLAKE2b, 64 bits, little endian, signed."""
    expected = np.frombuffer(hashlib.blake2b(b"white dog", digest_size=8).digest(), "<i8")[0]
    assert phrase_key("White  dog") == expected


def test_what_a_reader_changes_stays_with_the_reader(folder: Path) -> None:
    cache = FeatureCache.open(folder)
    cache.rows("cat").zero_()
    cache.features(["cat"]).values.zero_()
    assert cache.rows("cat").tolist() == rows_of("cat").tolist()
    cache.verify()


def test_a_phrase_that_is_not_there_is_named(folder: Path) -> None:
    cache = FeatureCache.open(folder)
    with pytest.raises(CacheError, match=r"no features of 'blue bird', .*cache; embed a corpus that has this phrase"):
        cache.features(["cat", "blue bird"])
    with pytest.raises(CacheError, match="no features of 'blue bird'"):
        cache.rows("blue bird")
    with pytest.raises(OptionError, match="no texts"):
        cache.features([])


def test_a_cache_without_phrases(tmp_path: Path) -> None:
    cache = FeatureCache.open(write_cache(tmp_path, []))
    assert len(cache) == 0
    assert "cat" not in cache
    assert list(cache.phrases) == []
    cache.verify()


def test_the_empty_phrase_is_a_phrase(tmp_path: Path) -> None:
    manifest = Manifest(TEACHER, "float16")
    entry = write_shard(tmp_path / manifest.next_name(), [""], [rows_of("start end")], TEACHER.fingerprint)
    manifest.with_shard(entry).write(tmp_path)
    cache = FeatureCache.open(tmp_path)
    assert cache.rows("  ").tolist() == rows_of("start end").tolist()
    assert list(cache.phrases) == [""]


def test_another_teacher_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    other = replace(TEACHER, name="other", fingerprint="0" * 64)
    with pytest.raises(CacheError, match=r"of another teacher \('fake', context 16, .*; give 'other', context 16"):
        FeatureCache.open(folder, other)
    # A shard that was copied from another cache, and that the manifest was made to list.
    foreign = write_shard(folder / "shard-00002.safetensors", ["bird"], [rows_of("bird")], "0" * 64)
    read_manifest(folder).with_shard(foreign).write(folder)
    with pytest.raises(CacheError, match=r"a shard of another teacher, .*shard-00002\.safetensors"):
        FeatureCache.open(folder)


def test_a_doubled_phrase_is_found(tmp_path: Path) -> None:
    cache = FeatureCache.open(write_cache(tmp_path, [["cat", "dog"], ["tree", "CAT"]]))
    with pytest.raises(CacheError, match="'cat' is there twice"):
        cache.verify()


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("cut", [1, 100, 10**6])
def test_a_truncated_shard_is_refused_when_the_cache_is_opened(folder: Path, cut: int) -> None:
    path = folder / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CacheError, match=r"a damaged shard \(\d+ bytes instead of \d+\), .*shard-00001\.safetensors"):
        FeatureCache.open(folder)


def test_every_flipped_bit_is_refused_at_the_latest_when_it_is_read(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache", [TEXTS[:1]])
    path = folder / "shard-00000.safetensors"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole)
        flip(path, place)
        with pytest.raises(CacheError, match=r"shard-00000\.safetensors"):
            FeatureCache.open(folder).features(TEXTS[:1])
    path.write_bytes(whole)
    assert TEXTS[0] in FeatureCache.open(folder)


def test_damage_is_told_by_verify_and_does_not_reach_other_shards(folder: Path) -> None:
    flip(folder / "shard-00001.safetensors", -1)
    cache = FeatureCache.open(folder)
    assert cache.rows("cat").tolist() == rows_of("cat").tolist()
    for read in (cache.verify, lambda: cache.rows("tree"), lambda: cache.features(["tree"]), lambda: "tree" in cache):
        with pytest.raises(CacheError, match=r"a damaged shard \(its checksum .*\), .*shard-00001.*; delete it"):
            read()


def test_every_flipped_bit_of_the_manifest_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole)
        flip(path, place)
        with pytest.raises(CacheError, match=r"manifest\.json"):
            FeatureCache.open(folder)


def test_a_shard_is_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: hashed.append(file.name) or whole(file, name))
    cache = FeatureCache.open(folder)
    cache.verify()
    cache.features(TEXTS)
    cache.verify()
    assert len(hashed) == len(set(hashed)) == 2


def test_any_texts(folder: Path) -> None:
    cache = FeatureCache.open(folder)
    assert cache.features(text for text in TEXTS).values.equal(cache.features(TEXTS).values)
    for odd in ([None], [3], 3, "cat"):
        with pytest.raises(OptionError):
            cache.features(odd)  # type: ignore[arg-type]


Harm = Callable[[Path], object]


def with_manifest(**changes: object) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(sealed(unsealed(json.loads(path.read_text())) | changes)))

    return harm


def swap(folder: Path) -> None:
    """Two shards of one size under each other's names."""
    for source, target in (("shard-00000", "x"), ("shard-00001", "shard-00000"), ("x", "shard-00001")):
        (folder / f"{source}.safetensors").rename(folder / f"{target}.safetensors")


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (shutil.rmtree, r"no cache of features .*; make it: litetext embed"),
        (lambda folder: (folder / "manifest.json").unlink(), r"no cache of features \(no manifest\.json\)"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "a damaged or unknown manifest"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "a damaged or unknown manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "a damaged or unknown manifest"),
        (with_manifest(format="litetext-features-9"), "not of the format 'litetext-features-2'"),
        (with_manifest(dtype="float64"), "dtype 'float64'"),
        (with_manifest(teacher={"name": "x"}), "a damaged or unknown manifest"),
        (with_manifest(teacher={**TEACHER.__dict__, "width": "4"}), "teacher.width is '4'"),
        (with_manifest(teacher={**TEACHER.__dict__, "width": 5}), "other sizes than in the manifest"),
        (with_manifest(dtype="bfloat16"), "other sizes than in the manifest"),
        (with_manifest(shards=[{"file": "../../etc/passwd"}]), "a damaged or unknown manifest"),
        (lambda folder: (folder / "shard-00000.safetensors").unlink(), r"a shard is missing, .*shard-00000"),
        (swap, r"shard-00000\.safetensors"),
    ],
)
def test_what_is_no_whole_cache_is_one_line(tmp_path: Path, harm: Harm, complaint: str) -> None:
    folder = write_cache(tmp_path / "cache", [["cat", "dog"], ["cow", "pig"]])
    harm(folder)
    with pytest.raises(CacheError, match=complaint) as caught:
        FeatureCache.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_name_that_leaves_the_folder_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    changed = path.read_text().replace("shard-00000.safetensors", "../shard-00000.safetensors")
    path.write_text(json.dumps(sealed({name: one for name, one in json.loads(changed).items() if name != "checksum"})))
    with pytest.raises(CacheError, match="names of shards"):
        FeatureCache.open(folder)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_features_are_mapped_not_held(tmp_path: Path) -> None:
    """64 MB are read through a hundredth of that memory, and no file stays open."""
    rows = torch.ones(50, 1600, dtype=torch.float16)
    manifest = Manifest(replace(TEACHER, width=1600), "float16")
    for number in range(8):
        group = [f"{number} {index}" for index in range(50)]
        name = manifest.next_name()
        manifest = manifest.with_shard(write_shard(tmp_path / name, group, [rows] * 50, TEACHER.fingerprint))
    manifest.write(tmp_path)
    assert manifest.bytes > 64e6
    cache = FeatureCache.open(tmp_path)
    files, before = len(list(Path("/proc/self/fd").iterdir())), anonymous_memory()
    for text in cache.phrases:
        assert cache.features([text]).values[0, 0, 0] == 1
    assert anonymous_memory() - before < 8e6
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def anonymous_memory() -> int:
    """Bytes of this process that are no pages of files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def test_a_shard_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "atomic_file", full)
    with pytest.raises(CacheError, match=r"no space left on device, .*s\.safetensors; fix that and run it again"):
        write_shard(tmp_path / "s.safetensors", ["cat"], [rows_of("cat")], "x")
