"""Features on disk: the right ones for each phrase, little memory, and damage named before anything is read of it."""

import hashlib
import json
import random
import shutil
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import save_file

from litetext.errors import CacheError, EncoderError, OptionError
from litetext.features import store as module
from litetext.features.encode import encode
from litetext.features.store import (
    DTYPES,
    FeatureStore,
    Teacher,
    distinct_phrases,
    is_bank,
    narrow,
    phrase_bytes,
    phrase_key,
    widen,
    write_manifest,
    write_shard,
)
from litetext.records import sealed, unsealed
from litetext.tokenizer.clean import clean
from tests.features.banks import CONTEXT, PHRASES, TEACHER, WIDTH, WordArrays, header_of, reseal, rows_of, stored, write

SHARDS = [PHRASES[:2], PHRASES[2:]]


def write_store(folder: Path, groups: list[list[str]], dtype: str = "fp16") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"shard-{number:05d}.safetensors" for number in range(len(groups))]
    shards = {name: write(folder / name, group, dtype) for name, group in zip(names, groups, strict=True)}
    write_manifest(folder, TEACHER, dtype, shards)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store", SHARDS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "bank.safetensors")
    return tmp_path / "bank.safetensors"


def check(store: FeatureStore, texts: list[str]) -> None:
    """Every text has its own features, alone and with the others."""
    values, mask = store.encode(texts)
    assert (values.dtype, mask.dtype) == (np.float32, np.bool_)
    assert not values[~mask].any()
    for text, row, valid in zip(texts, values, mask, strict=True):
        assert np.array_equal(row[valid], stored(text, store.dtype))
        assert np.array_equal(store.encode([text])[0][0], stored(text, store.dtype))
        assert not valid[len(rows_of(text)) :].any()


# What is stored


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("groups", [SHARDS, None])
def test_what_was_stored_comes_back(tmp_path: Path, dtype: str, groups: list[list[str]] | None) -> None:
    if groups is None:
        write(tmp_path / "one", dtype=dtype)
    else:
        write_store(tmp_path / "one", groups, dtype)
    store = FeatureStore.open(tmp_path / "one")
    assert (len(store), store.width, store.context_length, store.dtype) == (5, WIDTH, CONTEXT, dtype)
    assert (store.teacher, store.tokens) == (TEACHER, sum(len(rows_of(text)) for text in PHRASES))
    assert list(store.phrases) == PHRASES
    assert store.to_json()["bytes"] == sum(
        path.stat().st_size for path in tmp_path.rglob("*") if path.suffix != ".json" and path.is_file()
    )
    check(store, PHRASES)
    check(store, [*reversed(PHRASES), *PHRASES, " White \n DOG", "caf&eacute; au lait"])
    store.verify()


def test_a_phrase_is_what_the_tokenizer_sees(folder: Path) -> None:
    store = FeatureStore.open(folder)
    assert "White   Dog" in store
    assert "whitedog" not in store
    assert 7 not in store
    assert store.missing(["tree", "bird", "Tree ", "a"]) == ["bird", "a"]
    with pytest.raises(CacheError, match="'blue bird'"):
        store.encode(["tree", "blue bird"])


def test_a_phrase_that_cleaning_would_change_twice_is_found(tmp_path: Path) -> None:
    text = "<i> &amp;amp;amp;lt;b dog"
    assert clean(clean(text)) != clean(text)
    store = FeatureStore.open(write_store(tmp_path, [[text]]))
    assert text in store
    assert clean(text) not in store  # that is another phrase
    assert list(store.phrases) == [text]


words = st.text(st.characters(), max_size=12)


@settings(max_examples=25)
@given(
    st.lists(words, min_size=1, max_size=30),
    st.integers(1, 5),
    st.sampled_from(list(DTYPES)),
    st.randoms(use_true_random=False),
)
def test_any_texts_in_any_order_and_any_shards(texts: list[str], size: int, dtype: str, chance: random.Random) -> None:
    texts = list(distinct_phrases(texts).values())
    with tempfile.TemporaryDirectory() as name:
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
        store = FeatureStore.open(write_store(Path(name), groups, dtype))
        check(store, chance.choices(texts, k=2 * len(texts)))
        assert all((text in store) == (clean(text) in set(map(clean, texts))) for text in [*texts, "never"])
        assert list(map(clean, store.phrases)) == list(map(clean, texts))
        store.verify()
        del store


@pytest.mark.parametrize("groups", [SHARDS, [PHRASES]])
def test_phrases_that_share_a_key_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: list[list[str]]
) -> None:
    monkeypatch.setattr(module, "phrase_key", lambda phrase: (1 << 64) - 1 if len(phrase) % 2 else 5)
    store = FeatureStore.open(write_store(tmp_path, groups))
    check(store, PHRASES)
    assert "white cow" not in store
    assert "white cows" not in store
    store.verify()


def test_a_known_key() -> None:
    # printf 'white dog' | b2sum --length 64
    assert phrase_key(phrase_bytes("White  dog")) == int.from_bytes(bytes.fromhex("e840bbde6fc7402b"), "little")


def test_what_a_reader_changes_stays_with_the_reader(folder: Path) -> None:
    store = FeatureStore.open(folder)
    store.encode(["tree"])[0][:] = 0
    check(store, ["tree"])
    store.verify()


@pytest.mark.torch
def test_as_tensors(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    store = FeatureStore.open(folder)
    features, (values, mask) = store.features(text for text in PHRASES), store.encode(PHRASES)
    assert torch.equal(features.values, torch.from_numpy(values))
    assert torch.equal(features.mask, torch.from_numpy(mask))


def test_no_texts_no_phrases_and_the_empty_phrase(tmp_path: Path) -> None:
    store = FeatureStore.open(write_store(tmp_path / "none", []))
    assert (len(store), list(store.phrases), "tree" in store) == (0, [], False)
    store.verify()
    check(FeatureStore.open(write_store(tmp_path / "empty", [[""]])), ["  "])
    for odd in ([], [None], [3], 3):
        with pytest.raises(OptionError):
            FeatureStore.open(tmp_path / "empty").encode(odd)  # type: ignore[arg-type]


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)))
def test_int8_is_off_by_half_a_step_at_most(values: Any) -> None:
    kept, scales = narrow(values, "int8")
    assert scales is not None
    largest = np.abs(values).max(axis=1)
    assert (np.abs(widen(kept, scales) - values).max(axis=1) <= largest / 127 * 0.501 + 1e-30).all()
    assert narrow(np.zeros((2, 4), np.float32), "int8")[0].tolist() == [[0] * 4] * 2


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(allow_nan=False, width=32)))
def test_bf16_is_rounded_as_pytorch_does(values: Any) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(values).bfloat16()
    kept, _ = narrow(values, "bf16")
    assert np.array_equal(kept.view(np.int16), expected.view(torch.int16).numpy())
    assert np.array_equal(widen(kept, None), expected.float().numpy())


# The file


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_docs_tell_enough_to_read_it(tmp_path: Path, dtype: str) -> None:
    """A reader of its own, by docs/how-to/bank.md and the library of safetensors alone."""
    path = tmp_path / "bank.safetensors"
    write(path, dtype=dtype)
    with safe_open(path, "numpy") as bank:
        metadata = bank.metadata()
        tensors = {name: bank.get_tensor(name) for name in bank.keys()}  # noqa: SIM118
    index = ["keys", "rows", "text_offsets", "order", "checks", "text"]
    assert set(tensors) == {*index, "values"} | ({"scales"} if dtype == "int8" else set())
    assert (metadata["litetext"], metadata["kind"], metadata["encoder"]) == ("3", "features", "words")
    assert (metadata["dtype"], metadata["fingerprint"], metadata["tokenizer"]) == (dtype, "f" * 64, "7" * 64)
    assert (metadata["context_length"], metadata["width"]) == ("9", str(WIDTH))
    for phrase in PHRASES:
        key = int.from_bytes(hashlib.blake2b(phrase.encode(), digest_size=8).digest(), "little")
        place = int(np.searchsorted(tensors["keys"], np.uint64(key)))
        assert tensors["keys"][place] == key
        number = int(tensors["order"][place])
        begin, end = tensors["text_offsets"][number : number + 2]
        assert tensors["text"][begin:end].tobytes() == phrase.encode()
        first, stop = tensors["rows"][number]
        check = zlib.crc32(tensors["values"][first:stop].tobytes())
        values = tensors["values"][first:stop].astype(np.float32)
        if dtype == "int8":
            check = zlib.crc32(tensors["scales"][first:stop].tobytes(), check)
            values = values * tensors["scales"][first:stop, None]
        assert tensors["checks"][number] == check
        assert np.abs(values - rows_of(phrase)).max() < 0.02
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(set(metadata) - {"checksum"}):
        digest.update(f"{name}={metadata[name]}\0".encode())
    for name in index:
        digest.update(tensors[name].tobytes())
    assert metadata["checksum"] == digest.hexdigest()


@given(st.integers(1, 4), st.sampled_from([1, 3, 4, 12]), st.sampled_from(list(DTYPES)))
def test_every_array_is_aligned(phrases: int, width: int, dtype: str) -> None:
    texts = distinct_phrases("a" * (number + 1) for number in range(phrases))
    rows = [np.ones((3, width), np.float32)] * phrases
    with tempfile.TemporaryDirectory() as name:
        path, teacher = Path(name, "odd"), Teacher("x", "", "", 3, width)
        if dtype == "int8" and width % 4:
            with pytest.raises(OptionError, match=f"width {width}"):
                write_shard(path, teacher, dtype, texts, [(range(phrases), rows)])
            return
        write_shard(path, teacher, dtype, texts, [(range(phrases), rows)])
        header, start = header_of(path.read_bytes())
        assert start % 8 == 0
        sizes = {"U64": 8, "I64": 8, "U32": 4, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
        for entry in (entry for name, entry in header.items() if name != "__metadata__"):
            assert entry["data_offsets"][0] % sizes[entry["dtype"]] == 0
        store = FeatureStore.open(path)
        assert np.allclose(store.encode(list(texts.values()))[0], 1, atol=0.01)
        del store


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_what_the_dtype_cannot_hold_is_refused(tmp_path: Path, dtype: str) -> None:
    rows = [rows_of(text) for text in PHRASES]
    rows[3][1, 3] = 3.4e38
    with pytest.raises(EncoderError, match=f"'café au lait' are not finite.* in {dtype}.*int8"):
        write_shard(tmp_path / "a", TEACHER, dtype, distinct_phrases(PHRASES), [(range(5), rows)])
    assert not list(tmp_path.iterdir())
    write_shard(tmp_path / "a", TEACHER, "int8", distinct_phrases(PHRASES), [(range(5), rows)])
    assert FeatureStore.open(tmp_path / "a").encode(PHRASES)[0].max() == pytest.approx(3.4e38, rel=0.01)


def test_features_are_not_held_when_they_are_written(tmp_path: Path) -> None:
    """60 MB of them go to the file with a few MB of memory."""
    texts, teacher = distinct_phrases(f"phrase {number}" for number in range(10_000)), Teacher("x", "", "", 3, 1024)
    rows = [np.ones((3, 1024), np.float32)] * 500

    def batches(count: int) -> Any:
        return ((range(start, start + 500), rows) for start in range(0, count, 500))

    write_shard(tmp_path / "warm", teacher, "fp16", dict(list(texts.items())[:1000]), batches(1000))
    tracemalloc.start()  # the most that the process ever held may be another test's
    write_shard(tmp_path / "big", teacher, "fp16", texts, batches(10_000))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "big").stat().st_size > 60_000_000
    assert most < 20_000_000


def anonymous_memory() -> int:
    """Bytes of this process that are no pages of files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_features_are_mapped_not_held_and_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MB are read through a fraction of that memory."""
    monkeypatch.setattr(module, "MOST_MAPPED", 3)
    teacher, rows = Teacher("x", "", "", 50, 1600), [np.ones((50, 1600), np.float32)]
    shards = {}
    for number in range(8):
        name, texts = f"shard-{number:05d}.safetensors", distinct_phrases(f"{number} {index}" for index in range(25))
        shards[name] = write_shard(tmp_path / name, teacher, "fp16", texts, [(range(25), rows * 25)])
    write_manifest(tmp_path, teacher, "fp16", shards)
    files, before = len(list(Path("/proc/self/fd").iterdir())), anonymous_memory()
    store = FeatureStore.open(tmp_path)
    assert store.bytes > 32e6
    for text in store.phrases:
        assert store.encode([text])[0][0, 0, 0] == 1
    assert anonymous_memory() - before < 8e6
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 4


# Damage


def test_what_is_no_file_of_features(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text").write_text("white dog\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "long").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    (tmp_path / "list").write_bytes((2).to_bytes(8, "little") + b"[]")
    for name in ("other.safetensors", "text", "empty", "long", "list", "nowhere"):
        assert not is_bank(tmp_path / name)
        with pytest.raises(CacheError, match=name):
            FeatureStore.open(tmp_path / name)


def test_a_file_that_is_cut_or_longer(file: Path) -> None:
    whole = file.read_bytes()
    _, start = header_of(whole)
    for size in [*range(0, start, 37), *range(start, len(whole), 61)]:
        file.write_bytes(whole[:size])
        with pytest.raises(CacheError):
            FeatureStore.open(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(CacheError, match="bytes instead of"):
        FeatureStore.open(file)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("__metadata__", "litetext", "4"),
        ("__metadata__", "dtype", "fp8"),
        ("__metadata__", "width", str(WIDTH + 1)),
        ("__metadata__", "context_length", "many"),
        ("__metadata__", "context_length", "-1"),
        ("__metadata__", "fingerprint", None),
        ("__metadata__", "checksum", None),
        ("values", "data_offsets", [0, 1]),
        ("values", "dtype", "BF16"),
        ("keys", "shape", []),
        ("keys", "shape", [0]),
        ("keys", "shape", [-5]),
        ("keys", "shape", [10**30]),
        ("keys", "dtype", "I64"),
        ("rows", "shape", "x"),
    ],
)
def test_a_header_that_does_not_fit(file: Path, name: str, field: str, value: Any) -> None:
    data = file.read_bytes()
    header, start = header_of(data)
    if value is None:
        del header[name][field]
    else:
        header[name][field] = value
    new = json.dumps(header, separators=(",", ":")).encode().ljust(start - 8)
    file.write_bytes(len(new).to_bytes(8, "little") + new + data[start:])
    with pytest.raises(CacheError, match="bank"):
        FeatureStore.open(file)


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("order", "<u4", 77),
        ("rows", "<i8", -3),
        ("rows", "<i8", 0),
        ("rows", "<i8", 10**12),
        ("text_offsets", "<i8", 10**12),
    ],
)
def test_an_index_that_leads_nowhere_is_named(file: Path, name: str, kind: str, value: int) -> None:
    """All of the array is overwritten; with a right checksum, what it says is checked when it is followed."""
    data = bytearray(file.read_bytes())
    header, start = header_of(data)
    begin, end = (start + at for at in header[name]["data_offsets"])
    data[begin:end] = np.full((end - begin) // np.dtype(kind).itemsize, value, kind).tobytes()
    file.write_bytes(data)
    with pytest.raises(CacheError, match="its checksum is another"):
        FeatureStore.open(file)
    reseal(file)
    store = FeatureStore.open(file)
    with pytest.raises(CacheError, match="damaged"):
        store.encode(["white dog"])
    if name == "rows":
        with pytest.raises(CacheError, match="damaged"):
            store.verify()
    if name == "text_offsets":
        for read in (lambda: list(store.texts), lambda: list(store.phrases)):
            with pytest.raises(CacheError, match="damaged"):
                read()


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_every_changed_bit_of_a_file_is_noticed(tmp_path: Path, dtype: str) -> None:
    """At opening, or when the features are read that it is in; but for spaces and the order of keys in the header."""
    path = tmp_path / "bank"
    write(path, dtype=dtype)
    whole = path.read_bytes()
    answers, (_, start) = FeatureStore.open(path).encode(PHRASES), header_of(whole)
    for place in range(0, len(whole), 5):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            store = FeatureStore.open(path)
            store.verify()
        except CacheError:
            continue
        assert place < start
        assert np.array_equal(store.encode(PHRASES)[0], answers[0])
        assert (store.teacher, store.dtype) == (TEACHER, dtype)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_damaged_features_are_refused_when_they_are_read_and_do_not_reach_others(folder: Path) -> None:
    flip(folder / "shard-00001.safetensors", -1)
    store = FeatureStore.open(folder)
    bad = [phrase for phrase in PHRASES if not reads(store, phrase)]
    assert len(bad) == 1
    assert bad[0] in SHARDS[1]
    for read in (store.verify, lambda: store.encode([bad[0]]), lambda: store.features(PHRASES)):
        with pytest.raises(CacheError, match=r"checksum.*shard-00001\.safetensors"):
            read()


def reads(store: FeatureStore, phrase: str) -> bool:
    try:
        store.encode([phrase])
    except CacheError:
        return False
    return True


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_named_whatever_the_checksums_say(
    tmp_path: Path, dtype: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [rows_of(text) for text in PHRASES]
    rows[2][4, 5] = value
    monkeypatch.setattr(module, "_check_narrowed", lambda *_: None)
    with np.errstate(all="ignore"):
        write_shard(tmp_path / "a", TEACHER, dtype, distinct_phrases(PHRASES), [(range(5), rows)])
        store = FeatureStore.open(tmp_path / "a")
        assert reads(store, "tree")
        for read in (store.verify, lambda: store.encode(PHRASES)):
            with pytest.raises(CacheError, match=f"'{PHRASES[2]}' that are not finite"):
                read()


@pytest.mark.parametrize("cut", [1, 100, 10**6])
def test_a_truncated_shard_is_refused_when_the_store_is_opened(folder: Path, cut: int) -> None:
    path = folder / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CacheError, match=r"shard-00001\.safetensors"):
        FeatureStore.open(folder)


def test_every_flipped_bit_of_the_manifest_is_refused(folder: Path) -> None:
    path = folder / "manifest.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole)
        flip(path, place)
        with pytest.raises(CacheError, match=r"manifest\.json"):
            FeatureStore.open(folder)


def test_another_teacher_is_refused_by_name(folder: Path) -> None:
    other = replace(TEACHER, name="other", fingerprint="0" * 64)
    # A shard that was copied from another store, and that the manifest was made to list.
    checksum = write(folder / "shard-00002.safetensors", ["bird"], teacher=other)
    write_manifest(folder, TEACHER, "fp16", {**FeatureStore.open(folder).shards, "shard-00002.safetensors": checksum})
    with pytest.raises(CacheError, match=r"another teacher, .*shard-00002\.safetensors"):
        FeatureStore.open(folder)


def test_a_doubled_phrase_is_found(tmp_path: Path) -> None:
    store = FeatureStore.open(write_store(tmp_path, [["cat", "dog"], ["tree", "CAT"]]))
    with pytest.raises(CacheError, match="'cat' is there twice"):
        store.verify()


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


TEACHER_FIELDS = TEACHER.__dict__


@pytest.mark.parametrize(
    ("harm", "fact"),
    [
        (shutil.rmtree, "litetext embed"),
        (lambda folder: (folder / "manifest.json").unlink(), r"no manifest\.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest"),
        (with_manifest(format="litetext-features-9"), "litetext-features-3"),
        (with_manifest(dtype="float64"), "float64"),
        (with_manifest(dtype=3), "manifest"),
        (with_manifest(teacher={"name": "x"}), "manifest"),
        (with_manifest(teacher={**TEACHER_FIELDS, "width": "4"}), r"teacher\.width"),
        (with_manifest(teacher={**TEACHER_FIELDS, "width": 0}), "manifest"),
        (with_manifest(teacher={**TEACHER_FIELDS, "width": 5}), r"shard-00000\.safetensors"),
        (with_manifest(dtype="bf16"), r"shard-00000\.safetensors"),
        (with_manifest(shards=["shard-00000.safetensors"]), "manifest"),
        (with_manifest(shards={"../shard-00000.safetensors": "0" * 32}), "names of shards"),
        (with_manifest(shards={"shard-00000.safetensors": "0" * 32}), r"checksum.*shard-00000\.safetensors"),
        (with_manifest(shards={"shard-00000.safetensors": 7}), r"shard-00000\.safetensors"),
        (lambda folder: (folder / "shard-00000.safetensors").unlink(), r"missing, .*shard-00000"),
        (lambda folder: shutil.copy(folder / "manifest.json", folder / "shard-00000.safetensors"), "shard-00000"),
        (swap, r"shard-00000\.safetensors"),
    ],
)
def test_what_is_no_whole_store_is_one_line(tmp_path: Path, harm: Harm, fact: str) -> None:
    folder = write_store(tmp_path / "store", [["cat", "dog"], ["cow", "pig"]])
    harm(folder)
    with pytest.raises(CacheError, match=fact) as caught:
        FeatureStore.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_store_fills_a_file(folder: Path, tmp_path: Path) -> None:
    """A store is an encoder of arrays, and so can be encoded again."""
    store = FeatureStore.open(folder)
    texts = distinct_phrases(PHRASES)
    write_shard(tmp_path / "again", TEACHER, "fp16", texts, encode(store, PHRASES))
    check(FeatureStore.open(tmp_path / "again"), PHRASES)
    assert not WordArrays().batches
