"""Banks as they are asked: the right features, unknown phrases, and neither PyTorch nor memory for what is not read."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litetext.errors import EncoderError, OptionError
from litetext.features import bank_file, bank_writing
from litetext.features.bank import PromptBank
from litetext.features.bank_file import layout, seen
from litetext.tokenizer.clean import clean
from tests.export.banks import CONTEXT, PHRASES, WIDTH, WordArrays, header, make, rows_of, stored

NUMBERS = ["fp16", "int8"]


@pytest.fixture
def bank(tmp_path: Path) -> PromptBank:
    return make(tmp_path / "bank.safetensors")


def check(bank: PromptBank, texts: Sequence[str]) -> None:
    """Every text has its own features, alone and with the others."""
    number = bank.header.number
    features, mask = bank.encode(texts)
    assert features.dtype == np.float32
    assert mask.dtype == np.bool_
    assert features.shape == (len(texts), max(len(rows_of(text)) for text in texts), WIDTH)
    assert mask.shape == features.shape[:2]
    assert not features[~mask].any()
    for text, values, valid in zip(texts, features, mask, strict=True):
        assert np.array_equal(values[valid], stored(text, number))
        assert np.array_equal(bank.encode([text])[0][0], stored(text, number))
        assert not valid[len(rows_of(text)) :].any()


@pytest.mark.parametrize("number", NUMBERS)
def test_what_was_stored_comes_back(tmp_path: Path, number: str) -> None:
    bank = make(tmp_path / "bank.safetensors", number=number)
    assert (len(bank), bank.context_length, bank.width) == (len(PHRASES), CONTEXT, WIDTH)
    assert bank.name == str(tmp_path / "bank.safetensors")
    assert bank.header == header(number)
    assert list(bank.phrases) == PHRASES
    check(bank, PHRASES)
    check(bank, [*reversed(PHRASES), *PHRASES])
    if number == "fp16":
        assert np.array_equal(bank.encode(["tree"])[0][0], rows_of("tree").astype(np.float16))
    else:
        assert np.abs(bank.encode(["tree"])[0][0] - rows_of("tree")).max() < np.abs(rows_of("tree")).max() / 250


def test_case_and_spaces_do_not_count(bank: PromptBank) -> None:
    assert " White \n DOG" in bank
    check(bank, [" White \n DOG", "CAFÉ AU LAIT", "caf&eacute; au lait"])
    for other in ("white dogs", "a white dog", "white", "", 7):
        assert other not in bank


@given(st.lists(st.text(st.characters()), min_size=1, max_size=20), st.text(st.characters()), st.sampled_from(NUMBERS))
@settings(max_examples=60)
def test_any_texts(texts: list[str], other: str, number: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bank = make(Path(folder) / "bank.safetensors", texts, number)
        assert list(bank.phrases) == list(dict.fromkeys(map(clean, texts)))
        check(bank, texts)
        assert (other in bank) == (clean(other) in set(map(clean, texts)))
        if other not in bank:
            with pytest.raises(EncoderError, match="is not in the bank"):
                bank.encode([other])
        del bank


def test_texts_that_are_seen_alike_are_stored_once(tmp_path: Path) -> None:
    bank = make(tmp_path / "bank.safetensors", ["Dog", "dog ", "cat", "DOG"])
    assert list(bank.phrases) == ["dog", "cat"]
    assert bank.encode(["doG", "dog"])[0].shape == (2, 3, WIDTH)


def test_a_key_that_phrases_share_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bank_file, bank_writing):
        monkeypatch.setattr(module, "phrase_key", lambda phrase: (1 << 64) - 1 if len(phrase) % 2 else 5)
    bank = make(tmp_path / "bank.safetensors")
    assert set(bank.file.keys.tolist()) == {5, (1 << 64) - 1}
    check(bank, PHRASES)
    assert "white cow" not in bank
    assert "white cows" not in bank


def test_an_unknown_phrase_is_refused_with_the_nearest(bank: PromptBank) -> None:
    with pytest.raises(EncoderError) as caught:
        bank.encode(["tree", "Whte dgo", "boat"])
    assert str(caught.value) == (
        "'Whte dgo' is not in the bank, nor are 1 others (the nearest that are: 'white dog'), "
        f"{bank.name}; make a bank with it, or give an encoder for such phrases (--fallback)"
    )
    with pytest.raises(EncoderError, match="'Whte dgo' is not in the bank, nor are 1 others"):
        bank.check(["tree", "Whte dgo", "boat"])
    bank.check([*PHRASES, "TREE"])
    assert bank.nearest("tee") == ["tree"]
    assert bank.nearest("white cat")[0] == "white dog"
    with pytest.raises(EncoderError, match="nearest that are: 'red car'"):
        bank.encode(["red \ud800 cars"])  # a lone surrogate, which cannot be printed


def test_other_phrases_are_left_to_another_encoder(tmp_path: Path) -> None:
    make(tmp_path / "bank.safetensors")
    other = WordArrays(salt="other ", context_length=2 * CONTEXT)
    bank = PromptBank.open(tmp_path / "bank.safetensors", other)
    asked = ["a big cat", "tree", "A  big cat", "lake"]
    features, mask = bank.encode(asked)
    assert other.batches == [["a big cat", "lake"]]  # alike to a tokenizer: once
    assert not features[~mask].any()
    assert np.array_equal(features[1][mask[1]], stored("tree"))
    for row in (0, 2, 3):
        assert np.array_equal(features[row][mask[row]], rows_of(asked[row], "other "))
    assert bank.context_length == 2 * CONTEXT
    bank.check(asked)
    assert "lake" not in bank
    bank.encode(PHRASES)
    assert len(other.batches) == 1


def test_many_may_read_at_once(bank: PromptBank) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: check(bank, PHRASES[number % 5 :]), range(64)))


def test_another_encoder_must_have_the_width(tmp_path: Path) -> None:
    make(tmp_path / "bank.safetensors")
    with pytest.raises(EncoderError, match=f"features of width 5 beside a bank of width {WIDTH}, words"):
        PromptBank.open(tmp_path / "bank.safetensors", WordArrays(width=5))


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "no texts to encode"), ("tree", "one string where a list"), (["tree", 7], "int is not a string, text 1")],
)
def test_what_is_no_list_of_texts(bank: PromptBank, texts: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        bank.encode(texts)  # type: ignore[arg-type]


def test_neither_pytorch_nor_a_tokenizer_is_needed(bank: PromptBank) -> None:
    code = (
        "import sys\nfrom litetext.features.bank import PromptBank\n"
        "bank = PromptBank.open(sys.argv[1])\nassert bank.encode(['White Dog'])[1].all()\n"
        "print(sorted({'torch', 'tokenizers', 'onnxruntime', 'transformers', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, bank.name], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def sparse(path: Path, phrases: int, tokens: int, width: int) -> None:
    """A bank of zeros that takes no disk."""
    entries, begin = {}, 0
    big = bank_file.BankHeader("zeros", "", "", 32, width)
    for name, (kind, shape) in layout(big, phrases, tokens, 8 * phrases).items():
        end = begin + int(np.prod(shape)) * np.dtype(bank_file.DTYPES[kind]).itemsize
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    said = big.to_metadata()
    zeros = [bytes(entries[name]["data_offsets"][1] - entries[name]["data_offsets"][0]) for name in bank_file.INDEX]
    said[bank_file.CHECKSUM] = bank_file.index_checksum(said, zeros)
    head = json.dumps({"__metadata__": said, **entries}).encode()
    head = head.ljust(len(head) + -len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + begin)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    """A million phrases, 3 GB: opened and searched."""
    path = tmp_path / "big.safetensors"
    sparse(path, 1_000_000, 6_000_000, 256)
    assert path.stat().st_size > 3_000_000_000
    code = (
        "import sys, time, resource\nfrom litetext.features.bank import PromptBank\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "before, start = resident(), time.perf_counter()\nbank = PromptBank.open(sys.argv[1])\n"
        "seconds = time.perf_counter() - start\nassert len(bank) == 1_000_000 and 'dog' not in bank\n"
        "print(resident() - before, seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    growth, seconds = map(float, done.stdout.split())
    assert growth < 2_000_000
    assert seconds < 0.1


def test_the_nearest_of_many(tmp_path: Path) -> None:
    phrases = [f"{colour} thing {number}" for number in range(2000) for colour in ("red", "green", "blue")]
    bank = make(tmp_path / "bank.safetensors", ["white dog", *phrases])
    start = time.perf_counter()
    assert bank.nearest("whte dgo")[0] == "white dog"
    assert bank.nearest("gren thing 1234")[0] == "green thing 1234"
    assert time.perf_counter() - start < 1
    assert seen("X") == b"x"


def test_any_iterable_of_texts(bank: PromptBank) -> None:
    assert np.array_equal(bank.encode(text for text in PHRASES)[0], bank.encode(PHRASES)[0])
    for odd in ([None], [3], 3, iter(())):
        with pytest.raises(OptionError):
            bank.encode(odd)  # type: ignore[arg-type]


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    from litetext.cli import run

    path, odd = tmp_path / "bank.safetensors", "tree\x1b]0;title\x07\x9b2J"
    owner = replace(header(), name="\x1b[31m" + "x" * 5000)
    bank_writing.write_bank(path, [odd], WordArrays().encode, owner)
    with pytest.raises(EncoderError) as caught:
        PromptBank.open(path).encode(["tree"])
    assert run(["inspect", str(path)]) == run(["inspect", str(path), "--json"]) == 0
    told = capsys.readouterr()
    for text in (str(caught.value), told.out, told.err):
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert len(told.out.splitlines()[0]) < 500
