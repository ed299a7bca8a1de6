"""Banks as they are asked and made: unknown phrases, and neither PyTorch nor memory for what is not read."""

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.errors import CacheError, EncoderError, OptionError
from litetext.features import bank as module
from litetext.features import store as store_module
from litetext.features.bank import PromptBank, check_bank, make_bank
from litetext.features.store import Teacher, distinct_phrases, is_bank, write_shard
from litetext.prompts.corpus import bundled_corpus
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE
from tests.features.banks import CONTEXT, PHRASES, TEACHER, WIDTH, WordArrays, make, rows_of, stored, write

TEXTS = list(bundled_corpus().texts[:300])


@pytest.fixture
def bank(tmp_path: Path) -> PromptBank:
    return make(tmp_path / "bank.safetensors")


def check(bank: PromptBank, texts: list[str]) -> None:
    """Every text has its own features."""
    for text, values, valid in zip(texts, *bank.encode(texts), strict=True):
        assert np.array_equal(values[valid], stored(text))


def test_it_answers_as_its_store(bank: PromptBank, tmp_path: Path) -> None:
    assert (len(bank), bank.context_length, bank.width, bank.teacher) == (5, CONTEXT, WIDTH, TEACHER)
    assert bank.name == str(tmp_path / "bank.safetensors")
    assert is_bank(bank.name)
    assert list(bank.phrases) == PHRASES
    assert " White \n DOG" in bank
    assert "white dogs" not in bank
    check(bank, [*PHRASES, "CAFÉ AU LAIT"])
    assert np.array_equal(bank.encode(text for text in PHRASES)[0], bank.encode(PHRASES)[0])
    assert np.array_equal(bank.encode("tree")[0], bank.encode(["tree"])[0])
    for odd in ([], ["tree", 7], 3, iter(())):
        with pytest.raises(OptionError):
            bank.encode(odd)  # type: ignore[arg-type]


def test_an_unknown_phrase_is_refused_with_the_nearest(bank: PromptBank) -> None:
    for ask in (bank.encode, bank.check):
        with pytest.raises(EncoderError) as caught:
            ask(["tree", "Whte dgo", "boat"])
        for fact in ("'Whte dgo' is not in the bank, nor are 1 others", "'white dog'", bank.name, "--fallback"):
            assert fact in str(caught.value)
    bank.check([*PHRASES, "TREE"])
    with pytest.raises(EncoderError, match="'red car'"):
        bank.encode(["red \ud800 cars"])  # a lone surrogate, which cannot be printed


def test_other_phrases_are_left_to_another_encoder(tmp_path: Path) -> None:
    make(tmp_path / "bank.safetensors")
    other = WordArrays(salt="other ", context_length=2 * CONTEXT)
    bank = PromptBank.open(tmp_path / "bank.safetensors", other)
    texts = ["a big cat", "tree", "A  big cat", "lake"]
    features, mask = bank.encode(texts)
    assert other.batches == [["a big cat", "lake"]]  # alike to a tokenizer: once
    assert not features[~mask].any()
    assert np.array_equal(features[1][mask[1]], stored("tree"))
    for row in (0, 2, 3):
        assert np.array_equal(features[row][mask[row]], rows_of(texts[row], "other "))
    assert bank.context_length == 2 * CONTEXT
    bank.check(texts)
    assert "lake" not in bank
    bank.encode(PHRASES)
    assert len(other.batches) == 1
    with pytest.raises(EncoderError, match=f"width 5 .* width {WIDTH}"):
        PromptBank.open(tmp_path / "bank.safetensors", WordArrays(width=5))


def test_many_may_read_at_once(bank: PromptBank) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: check(bank, PHRASES[number % 5 :]), range(64)))


def test_neither_pytorch_nor_onnx_runtime_is_needed(bank: PromptBank) -> None:
    code = (
        "import sys\nfrom litetext.features.bank import PromptBank\n"
        "bank = PromptBank.open(sys.argv[1])\nassert bank.encode(['White Dog'])[1].all()\n"
        "print(sorted({'torch', 'onnxruntime', 'transformers', 'polars', 'rapidfuzz'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, bank.name], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def sparse(path: Path, phrases: int, tokens: int, width: int) -> None:
    """A bank of zeros that takes no disk."""
    teacher = Teacher("zeros", "", "", 32, width)
    layout = store_module._layout(teacher, "fp16", (phrases, tokens, 8 * phrases))
    index, end = layout["values"]["data_offsets"]
    parts = (bytes(min(1 << 20, index - at)) for at in range(0, index, 1 << 20))
    checksum = store_module._index_checksum(store_module._metadata(teacher, "fp16"), parts)
    header = store_module._header(teacher, "fp16", checksum, (phrases, tokens, 8 * phrases))
    header = header.ljust(len(header) + -len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    """A million phrases, 3 GB: opened and searched."""
    path = tmp_path / "big.safetensors"
    sparse(path, 1_000_000, 6_000_000, 256)
    assert path.stat().st_size > 3_000_000_000
    code = (
        "import sys, time, resource\nfrom litetext.features.bank import PromptBank\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "before, start = resident(), time.process_time()\nbank = PromptBank.open(sys.argv[1])\n"
        "seconds = time.process_time() - start\nassert len(bank) == 1_000_000 and 'dog' not in bank\n"
        "print(resident() - before, seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    growth, seconds = map(float, done.stdout.split())
    assert growth < 2_000_000
    assert seconds < 0.2, growth


def ask(text: str, phrases: list[str], count: int = 5) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        bank = make(Path(folder) / "bank", phrases)
        return bank.nearest(text, count)


def test_the_nearest_phrases() -> None:
    phrases = ["red car", "white dog", "black dog", "", "a", "dog", "doghouse", "café"]
    assert ask("whit dog", phrases)[0] == ask("whte dgo", phrases)[0] == "white dog"
    assert ask("dogs", phrases, 2) == ["dog", "doghouse"]
    assert ask("cafe", phrases, 1) == ["café"]
    assert ask("zzz", ["dog", "cat"]) == ["dog", "cat"]  # nothing is alike: any
    assert ask("dog", ["cat", "cot"]) == ["cot"]
    assert ask("", phrases, 1) == [""]
    assert ask("x" * 5000, phrases, 1)


@settings(max_examples=25)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=30), st.text(max_size=12), st.integers(1, 8))
def test_pieces_change_nothing_and_a_known_phrase_finds_itself(phrases: list[str], text: str, chunk: int) -> None:
    phrases = [phrase.decode("utf-8", "surrogatepass") for phrase in distinct_phrases(phrases)]
    phrases = [phrase for phrase in phrases if list(distinct_phrases([phrase])) == [phrase.encode()]]
    if not phrases:
        return
    whole = ask(text, phrases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        assert ask(text, phrases) == whole
        assert all(ask(phrase, phrases, 1) == [phrase] for phrase in phrases[:3])
    assert set(whole) <= set(phrases)


def test_the_nearest_of_many(tmp_path: Path) -> None:
    phrases = [f"{colour} thing {number}" for number in range(2000) for colour in ("red", "green", "blue")]
    bank = make(tmp_path / "bank.safetensors", ["white dog", *phrases])
    start = time.perf_counter()
    assert bank.nearest("whte dgo")[0] == "white dog"
    assert bank.nearest("gren thing 1234")[0] == "green thing 1234"
    assert time.perf_counter() - start < 1


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from litetext.cli import run

    path, odd = tmp_path / "bank.safetensors", "tree\x1b]0;title\x07\x9b2J"
    write(path, [odd], teacher=replace(TEACHER, name="\x1b[31m" + "x" * 5000))
    with pytest.raises(EncoderError) as caught:
        PromptBank.open(path).encode(["tree"])
    assert run(["inspect", str(path)]) == run(["inspect", str(path), "--json"]) == 0
    printed = capsys.readouterr()
    for text in (str(caught.value), printed.out, printed.err):
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert len(printed.out.splitlines()[0]) < 500


# Made of an encoder, and of a store


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    make(path)
    before, words = path.read_bytes(), WordArrays()

    def failing() -> object:
        yield [0, 1], [rows_of(text) for text in PHRASES[:2]]
        raise EncoderError("no more")

    with pytest.raises(EncoderError, match="no more"):
        write_shard(path, TEACHER, "fp16", distinct_phrases(PHRASES), failing())  # type: ignore[arg-type]
    assert not words.batches
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_order_of_phrases_changes_no_features(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other", PHRASES[::-1])
    assert list(other.phrases) == PHRASES[::-1]
    assert np.array_equal(one.encode(PHRASES)[0], other.encode(PHRASES)[0])


def test_texts_that_are_seen_alike_are_stored_once(tmp_path: Path) -> None:
    bank = make(tmp_path / "bank.safetensors", ["Dog", "dog ", "cat", "DOG"])
    assert list(bank.phrases) == ["dog", "cat"]
    assert bank.encode(["doG", "dog"])[0].shape == (2, 3, WIDTH)


@pytest.mark.torch
@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_a_bank_of_a_student(tmp_path: Path, padding: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from litetext.encoders.student import StudentEncoder
    from litetext.features.fingerprint import identify
    from tests.encoders.students import tiny_student

    encoder = StudentEncoder(tiny_student(padding, vocabulary=VOCABULARY_SIZE), "tiny")  # type: ignore[arg-type]
    shares: list[float] = []
    made = make_bank(tmp_path / "bank", TEXTS, encoder, dtype, shares.append)
    cosine = made.report["cosine"]
    assert made.report["checked"] == len(made) == 300
    assert cosine["mean"] >= cosine["min"] > (0.999999 if dtype == "fp16" else 0.9995)
    assert (shares[-1], made.teacher) == (1, identify(encoder))
    expected = encoder.encode(TEXTS)
    features, mask = PromptBank.open(tmp_path / "bank").encode(TEXTS)
    length = mask.shape[1]
    assert torch.equal(torch.from_numpy(mask), expected.mask[:, :length])
    assert not expected.mask[:, length:].any()
    values = expected.values[:, :length].numpy()
    assert np.abs(features - values)[mask].max() < np.abs(values[mask]).max() * (1e-3 if dtype == "fp16" else 5e-3)
    assert json.loads(json.dumps(made.to_json()))["tokens"] == int(mask.sum())


def test_a_bank_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "source")
    every = make_bank(tmp_path / "all", None, source)
    assert list(every.phrases) == PHRASES
    assert every.report["cosine"]["min"] == 1  # both are fp16
    assert every.teacher == TEACHER
    monkeypatch.setattr(module, "MOST_CHECKED", 2)
    some = make_bank(tmp_path / "some", iter(PHRASES[:3]), source, "int8")
    assert (list(some.phrases), some.report["checked"]) == (PHRASES[:3], 2)
    with pytest.raises(CacheError, match="'a phrase of nobody'"):
        make_bank(tmp_path / "more", [*PHRASES, "a phrase of nobody"], source)
    for odd in ([], ["tree", 7], "tree"):
        with pytest.raises(OptionError):
            make_bank(tmp_path / "more", odd, source)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="fp8"):
        make_bank(tmp_path / "more", None, source, "fp8")
    assert not (tmp_path / "more").exists()


def test_the_comparison_can_fail(bank: PromptBank) -> None:
    features = {text: rows_of(text) for text in PHRASES}
    assert check_bank(bank, features)["cosine"]["min"] > 0.999999
    features["tree"] = rows_of("tree") * np.float32(1.001)
    with pytest.raises(EncoderError, match="'tree'"):
        check_bank(bank, features)
