"""Tensors are described before they are read, read exactly, and every broken file is one clear line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from litetext.checkpoints.tensors import TensorEntry, listed, open_tensors
from litetext.errors import EncoderError, MissingExtraError

torch = pytest.importorskip("torch")
from tests.encoders.synthetic import save_pt, save_safetensors, save_shards, save_sparse  # noqa: E402

pytestmark = pytest.mark.torch

STATE = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "b.weight": torch.arange(4.0).to(torch.bfloat16),
    "c": torch.arange(5.0).half(),
    "d.num_batches_tracked": torch.tensor(7),
}
ENTRIES = {
    "a.weight": TensorEntry((2, 3), "float32"),
    "b.weight": TensorEntry((4,), "bfloat16"),
    "c": TensorEntry((5,), "float16"),
    "d.num_batches_tracked": TensorEntry((), "int64"),
}


def complaint(path: Path) -> str:
    with pytest.raises(EncoderError) as caught:
        open_tensors(path)
    message = str(caught.value)
    assert str(path.parent) in message
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_safetensors_file(tmp_path: Path) -> None:
    path = save_safetensors(STATE, tmp_path / "any.name", {"litetext": "1"})
    source = open_tensors(path)
    assert source.entries == ENTRIES
    assert source.metadata == {"litetext": "1"}
    assert source.size == path.stat().st_size
    assert {name: value.tolist() for name, value in source.read(STATE)} == {k: v.tolist() for k, v in STATE.items()}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_torch_save(tmp_path: Path, legacy: bool) -> None:
    content = {"model": STATE, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "arguments": ["x"]}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    source = open_tensors(tmp_path / "x.pt")
    assert {name: source.entries[f"model.{name}"] for name in STATE} == ENTRIES
    assert source.entries.keys() - {f"model.{name}" for name in STATE} == {"optimizer.state.0.exp_avg"}
    assert source.metadata == {}
    for name, value in source.read(f"model.{name}" for name in STATE):
        assert torch.equal(value, STATE[name.removeprefix("model.")])


def test_shards_are_one_source(tmp_path: Path) -> None:
    folder = save_shards(STATE, tmp_path / "model")
    source = open_tensors(folder)
    assert source.entries == ENTRIES
    assert source.size == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    for name, value in source.read(STATE):
        assert torch.equal(value, STATE[name])


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    save_safetensors(STATE, tmp_path / "model.safetensors")
    assert open_tensors(tmp_path).entries == ENTRIES


@pytest.mark.parametrize("save", [save_pt, save_safetensors])
def test_what_is_read_does_not_hang_on_the_file(tmp_path: Path, save: Any) -> None:
    path = save(STATE, tmp_path / "x")
    name = "a.weight" if save is save_safetensors else "model.a.weight"
    ((_, value),) = open_tensors(path).read([name])
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert torch.equal(value, STATE["a.weight"])


def test_odd_strides_are_read_in_order(tmp_path: Path) -> None:
    turned = torch.arange(6.0).view(2, 3).T
    source = open_tensors(save_pt({"x": turned, "y": torch.ones(1).expand(3)}, tmp_path / "x.pt", wrapped=False))
    read = dict(source.read(["x", "y"]))
    assert read["x"].is_contiguous()
    assert torch.equal(read["x"], turned)
    assert read["y"].untyped_storage().nbytes() == 12


@pytest.mark.parametrize("save", [save_pt, save_safetensors])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_file_is_one_line(tmp_path: Path, save: Any, share: float) -> None:
    path = save({**STATE, "big": torch.ones(5000)}, tmp_path / "x")
    os.truncate(path, int(path.stat().st_size * share))
    assert "get the file again" in complaint(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "safetensors"),
        (b"<!DOCTYPE html><html>", "safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\x80\x02garbage" * 50, "torch.save"),
        (b"PK\x03\x04" + b"\0" * 200, "truncated"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "safetensors"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    assert word in complaint(path)


def test_a_git_lfs_pointer_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in complaint(tmp_path)


class Malice:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.victim,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"model": STATE, "x": Malice(tmp_path / "victim")}, tmp_path / "x.pt")
    assert "more than tensors" in complaint(tmp_path / "x.pt")
    assert not (tmp_path / "victim").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    assert "save the tensors only" in complaint(tmp_path / "x.pt")


def test_no_file_and_an_empty_folder(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "x.pt")
    assert "model.safetensors.index.json" in complaint(tmp_path)


def break_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")


def lose_shard(folder: Path) -> None:
    next(folder.glob("*-00002-*")).unlink()


def promise_more(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    text = json.loads(index.read_text())
    text["weight_map"]["ghost"] = "model-00001-of-00003.safetensors"
    index.write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("harm", "word"), [(break_index, "index"), (lose_shard, "1 of 3 shards"), (promise_more, "ghost")]
)
def test_broken_shards_are_one_line(tmp_path: Path, harm: Any, word: str) -> None:
    folder = save_shards(STATE, tmp_path / "model")
    harm(folder)
    assert word in complaint(folder)


def test_an_index_leads_nowhere_else(tmp_path: Path) -> None:
    folder = save_shards(STATE, tmp_path / "model")
    index = folder / "model.safetensors.index.json"
    save_safetensors(STATE, tmp_path / "secret.safetensors")
    for name in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "x/../../secret.safetensors", "", 7):
        index.write_text(json.dumps({"weight_map": {"a.weight": name}}))
        assert "not an index of safetensors files" in complaint(folder)


def test_weights_that_transformers_reads_are_read(tmp_path: Path) -> None:
    """A stale index beside them changes nothing, and what config.json names comes before all others."""
    folder = save_shards(STATE, tmp_path / "model")
    save_safetensors({"new": STATE["a.weight"]}, folder / "model.safetensors")
    assert set(open_tensors(folder).entries) == {"new"}
    (folder / "model.safetensors.index.json").write_text("stale")
    assert set(open_tensors(folder).entries) == {"new"}
    save_safetensors({"named": STATE["a.weight"]}, folder / "other.safetensors")
    (folder / "config.json").write_text('{"transformers_weights": "other.safetensors"}')
    assert set(open_tensors(folder).entries) == {"named"}
    for name in ("../other.safetensors", "other.bin", 7):
        (folder / "config.json").write_text(json.dumps({"transformers_weights": name}))
        assert "not a configuration of transformers" in complaint(folder)
    (folder / "config.json").write_text('{"transformers_weights": "gone.safetensors"}')
    assert "gone.safetensors" in complaint(folder)


def test_names_of_tensors_do_not_reach_the_terminal(tmp_path: Path) -> None:
    odd = "\x1b]0;title\x07" + "x" * 5000
    folder = save_shards(STATE, tmp_path / "model")
    homes = {odd: "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    message = complaint(folder)
    assert "\x1b" not in message
    assert len(message) < 1500


def test_a_sparse_file_is_described_at_once(tmp_path: Path) -> None:
    source = open_tensors(save_sparse({"x": (1_000_000, 1000)}, tmp_path / "x.safetensors"))
    assert source.entries == {"x": TensorEntry((1_000_000, 1000), "float32")}
    assert source.size > 4_000_000_000


def test_safetensors_are_described_without_torch(tmp_path: Path) -> None:
    path = save_safetensors(STATE, tmp_path / "x.safetensors")
    code = (
        "import sys; from pathlib import Path; from litetext.checkpoints.tensors import open_tensors;"
        "print(len(open_tensors(Path(sys.argv[1])).entries), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "4 False\n"


def test_without_torch_a_pt_file_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_pt(STATE, tmp_path / "x.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="litetext\\[sam3\\]"):
        open_tensors(path)


def test_long_lists_are_cut() -> None:
    assert listed("dcba") == "a, b, c, d"
    assert listed(map(str, range(10)), 3) == "0, 1, 2 and 7 more"


@pytest.mark.parametrize("length", [0x80, 0x280])
def test_a_header_whose_length_looks_like_another_format(tmp_path: Path, length: int) -> None:
    """A safetensors file begins with a length: 128 bytes look like a pickle."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header.ljust(length) + b"\0" * 4)
    assert open_tensors(tmp_path / "x").entries == {"a": TensorEntry((1,), "float32")}
