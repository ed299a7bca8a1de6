"""The file of a bank: what other programs read of it, and what is not a whole bank is refused by name."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import save_file

from litetext.errors import EncoderError, OptionError
from litetext.features.bank import PromptBank
from litetext.features.bank_file import BankHeader, is_bank, narrow, phrase_key, widen
from tests.export.banks import PHRASES, WIDTH, header, make, reseal, rows_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    make(tmp_path / "bank.safetensors")
    return tmp_path / "bank.safetensors"


@pytest.mark.parametrize("number", ["fp16", "int8"])
def test_docs_tell_enough_to_read_it(tmp_path: Path, number: str) -> None:
    """A reader of its own, by docs/bank.md and the library of safetensors alone."""
    import hashlib

    path = tmp_path / "bank.safetensors"
    make(path, number=number)
    with safe_open(path, "numpy") as bank:
        said, names = bank.metadata(), set(bank.keys())
        tensors = {name: bank.get_tensor(name) for name in names}
    assert names == {"keys", "order", "checks", "rows", "text_offsets", "text", "values"} | (
        {"scales"} if number == "int8" else set()
    )
    assert (said["litetext"], said["kind"], said["encoder"], said["number"]) == ("2", "bank", "words", number)
    assert (said["fingerprint"], said["tokenizer"]) == ("f" * 64, "7" * 64)
    assert (said["context_length"], said["width"]) == ("9", str(WIDTH))
    for phrase in PHRASES:
        key = int.from_bytes(hashlib.blake2b(phrase.encode(), digest_size=8).digest(), "little")
        place = int(np.searchsorted(tensors["keys"], np.uint64(key)))
        assert tensors["keys"][place] == key
        number_of = int(tensors["order"][place])
        begin, end = tensors["text_offsets"][number_of : number_of + 2]
        assert tensors["text"][begin:end].tobytes() == phrase.encode()
        first, stop = tensors["rows"][number_of]
        found = zlib.crc32(tensors["values"][first:stop].tobytes())
        if number == "int8":
            found = zlib.crc32(tensors["scales"][first:stop].tobytes(), found)
        assert tensors["checks"][number_of] == found
        values = tensors["values"][first:stop].astype(np.float32)
        if number == "int8":
            values = values * tensors["scales"][first:stop, None]
        assert np.abs(values - rows_of(phrase)).max() < 0.02
    assert sorted(tensors["keys"]) == list(tensors["keys"])
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(set(said) - {"checksum"}):
        digest.update(f"{name}={said[name]}\0".encode())
    for name in ("keys", "rows", "text_offsets", "order", "checks", "text"):
        digest.update(tensors[name].tobytes())
    assert said["checksum"] == digest.hexdigest()


@given(st.integers(1, 4), st.sampled_from([1, 3, 7]), st.sampled_from(["fp16", "int8"]))
def test_every_array_is_aligned(tmp_path_factory: Any, phrases: int, width: int, number: str) -> None:
    from litetext.features.bank_writing import write_bank

    path = tmp_path_factory.mktemp("odd") / "bank.safetensors"
    texts = ["a" * (one + 1) for one in range(phrases)]

    def encode(some: list[str]) -> tuple[Any, Any]:
        return np.ones((len(some), 3, width), np.float32), np.ones((len(some), 3), bool)

    write_bank(path, texts, encode, BankHeader("x", "", "", 3, width, number))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert len(data) % (8 if number == "fp16" else 4) == length % 8 == 0
    sizes = {"U64": 8, "I64": 8, "U32": 4, "F32": 4, "F16": 2, "I8": 1, "U8": 1}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % sizes[entry["dtype"]] == 0
    assert np.allclose(PromptBank.open(path).encode(texts)[0], 1, atol=0.01)


def test_a_known_key() -> None:
    # printf 'white dog' | b2sum --length 64
    assert phrase_key(b"white dog") == int.from_bytes(bytes.fromhex("e840bbde6fc7402b"), "little")


@given(arrays.arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)))
def test_int8_is_off_by_half_a_step_at_most(values: Any) -> None:
    stored, scales = narrow(values, "int8")
    assert stored.dtype == np.int8
    assert stored.min(initial=0) >= -127
    assert scales is not None
    step = np.abs(values).max(axis=1, keepdims=True) / 127
    assert (np.abs(widen(stored, scales) - values) <= 0.5001 * step + 1e-30).all()


def test_a_bank_is_known_by_its_header(file: Path, tmp_path: Path) -> None:
    assert is_bank(file)
    assert is_bank(str(file))
    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.txt").write_text("white dog", encoding="utf-8")
    (tmp_path / "empty").touch()
    (tmp_path / "list").write_bytes((2).to_bytes(8, "little") + b"[]")
    for name in ("other.safetensors", "text.txt", "empty", "list", "nowhere", "."):
        assert not is_bank(tmp_path / name)
        with pytest.raises(EncoderError, match="no such file" if name in {"nowhere", "."} else "not a prompt bank"):
            PromptBank.open(tmp_path / name)


def test_a_part_of_a_bank_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for size in (len(whole) - 1, len(whole) // 2 + length // 2, 8 + length):
        file.write_bytes(whole[:size])
        assert is_bank(file)
        with pytest.raises(EncoderError, match=rf"a damaged bank \({size:,} bytes instead of {len(whole):,}\), "):
            PromptBank.open(file)
    for size in (8 + length // 2, 5, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(EncoderError, match="not a prompt bank"):
            PromptBank.open(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(EncoderError, match="damaged"):
        PromptBank.open(file)


Head = dict[str, Any]


def break_version(head: Head) -> None:
    head["__metadata__"]["litetext"] = "3"


def break_number(head: Head) -> None:
    head["__metadata__"]["number"] = "fp8"


def break_width(head: Head) -> None:
    head["__metadata__"]["width"] = str(WIDTH + 1)


def break_context(head: Head) -> None:
    head["__metadata__"]["context_length"] = "many"


def lose_metadata(head: Head) -> None:
    del head["__metadata__"]["fingerprint"]


def lose_keys(head: Head) -> None:
    del head["keys"]


def move_values(head: Head) -> None:
    begin, end = head["values"]["data_offsets"]
    head["values"]["data_offsets"] = [begin + 1, end + 1]


def no_shape(head: Head) -> None:
    head["keys"]["shape"] = []


def other_kind(head: Head) -> None:
    head["keys"]["dtype"] = "I64"


def no_entry(head: Head) -> None:
    head["rows"] = 7


def no_phrases(head: Head) -> None:
    head["keys"]["shape"] = [0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_version, "a bank of version 3"),
        (break_number, "damaged bank .*'fp8'"),
        (break_width, "damaged bank .*'values' is F16"),
        (break_context, "damaged bank .*'many'"),
        (lose_metadata, "damaged bank .*fingerprint"),
        (lose_keys, "damaged bank .*keys"),
        (move_values, "damaged bank .*'values'"),
        (no_shape, "damaged bank"),
        (other_kind, "damaged bank .*'keys' is I64"),
        (no_entry, "damaged bank"),
        (no_phrases, "damaged bank .*0 phrases"),
    ],
)
def test_a_header_that_does_not_fit(file: Path, change: Callable[[Head], None], message: str) -> None:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    change(head)
    new = json.dumps(head, separators=(",", ":")).encode().ljust(length)
    file.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
    with pytest.raises(EncoderError, match=message):
        PromptBank.open(file)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("order", 77, r"phrase 77 of 5"),
        ("rows", -3, r"has the rows -3 to -3 of"),
        ("rows", 0, r"has the rows 0 to 0 of"),
        ("text_offsets", 10**12, r"has no text"),
    ],
)
def test_an_index_that_leads_nowhere_is_named(file: Path, name: str, value: int, message: str) -> None:
    """All of the array is overwritten; what it says is checked when it is followed."""
    data = bytearray(file.read_bytes())
    length = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + length])[name]
    begin, end = (8 + length + at for at in entry["data_offsets"])
    filled = np.full((end - begin) // (4 if name == "order" else 8), value, "<u4" if name == "order" else "<i8")
    data[begin:end] = filled.tobytes()
    file.write_bytes(data)
    with pytest.raises(EncoderError, match="its checksum is another"):
        PromptBank.open(file)
    reseal(file)
    bank = PromptBank.open(file)
    with pytest.raises(EncoderError, match=rf"a damaged bank \(.*{message}"):
        bank.encode(["white dog"])
    if name == "text_offsets":
        with pytest.raises(EncoderError, match="a damaged bank"):
            bank.nearest("dog")


def test_the_header_is_checked() -> None:
    assert BankHeader.of_metadata(header("int8").to_metadata()) == header("int8")
    with pytest.raises(OptionError, match="a bank in 'fp8'; give fp16 or int8"):
        BankHeader("x", "", "", 16, 8, "fp8")
    with pytest.raises(OptionError, match="width 0"):
        BankHeader("x", "", "", 16, 0)


@pytest.mark.parametrize("number", ["fp16", "int8"])
def test_every_changed_bit_is_noticed(tmp_path: Path, number: str) -> None:
    """At opening, or when the features are read that it is in; but for spaces and the order of keys in the header."""
    path, answers = tmp_path / "bank.safetensors", make(tmp_path / "whole", number=number).encode(PHRASES)
    make(path, number=number)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for place in range(0, len(whole), 3):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            bank = PromptBank.open(path)
            bank.file.verify()
        except EncoderError:
            continue
        assert place < 8 + length
        assert np.array_equal(bank.encode(PHRASES)[0], answers[0])
        assert bank.header == header(number)


def test_damaged_features_are_refused_when_they_are_read(file: Path) -> None:
    data = bytearray(file.read_bytes())
    length = int.from_bytes(data[:8], "little")
    begin, _ = json.loads(data[8 : 8 + length])["values"]["data_offsets"]
    data[8 + length + begin] ^= 1
    file.write_bytes(data)
    bank = PromptBank.open(file)
    bad = 0
    for phrase in PHRASES:
        try:
            bank.encode([phrase])
        except EncoderError as error:
            assert "another checksum" in str(error)  # noqa: PT017
            bad += 1
    assert bad == 1
    with pytest.raises(EncoderError, match="another checksum"):
        bank.file.verify()
