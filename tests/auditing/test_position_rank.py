"""Position tables with known answers, and finding the table in the files that users have."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from litetext.auditing.position_rank import (
    choose_table,
    load_positions,
    measure_positions,
)
from litetext.errors import ArrayError, EncoderError, MissingExtraError

TABLE = np.arange(1, 13, dtype=np.float32).reshape(4, 3)


def sinusoidal(rows: int, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    angles = np.arange(rows)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def test_orthogonal_rows_share_nothing() -> None:
    stats = measure_positions(np.eye(10, 32, dtype=np.float32))
    np.testing.assert_array_equal(stats.cosine, np.eye(10))
    assert stats.adjacent == 0
    assert stats.blocks == ({"first": 0, "last": 7, "cosine": 0}, {"first": 8, "last": 9, "cosine": 0})
    assert stats.effective_rank == pytest.approx(10)
    np.testing.assert_allclose(stats.energy, 0.1)
    np.testing.assert_allclose(stats.cumulative, np.arange(1, 11) / 10)


def test_identical_rows_are_all_redundant() -> None:
    stats = measure_positions(np.tile(np.float32([3, -4, 0]), (9, 1)))
    np.testing.assert_allclose(stats.cosine, 1)
    assert stats.adjacent == pytest.approx(1)
    assert [block["cosine"] for block in stats.blocks] == [pytest.approx(1), None]
    assert stats.effective_rank == pytest.approx(1)
    assert (stats.rows, stats.width) == (9, 3)


def test_a_sinusoidal_table_depends_on_the_distance_only() -> None:
    frequencies = 10000.0 ** (-np.arange(16) / 16)
    stats = measure_positions(sinusoidal(24, frequencies))
    distance = np.arange(24)[:, None] - np.arange(24)
    np.testing.assert_allclose(stats.cosine, np.cos(distance[..., None] * frequencies).mean(axis=-1), atol=1e-6)
    assert stats.adjacent == pytest.approx(np.cos(frequencies).mean(), abs=1e-6)
    np.testing.assert_allclose(stats.energy, 1 / 24, atol=1e-6)
    redundancies = [block["cosine"] for block in stats.blocks]
    np.testing.assert_allclose(redundancies, redundancies[0], atol=1e-6)


def test_energy_and_blocks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litetext.auditing.position_rank._BLOCK", 3)
    stats = measure_positions(np.float32([[1, 0], [0, 1], [2, 0], [0, 2], [1, 1]]))
    np.testing.assert_allclose(stats.energy, np.array([1, 1, 4, 4, 2]) / 12)
    np.testing.assert_allclose(stats.cumulative, np.array([1, 2, 6, 10, 12]) / 12)
    assert stats.blocks == (
        {"first": 0, "last": 2, "cosine": pytest.approx(1 / 3)},
        {"first": 3, "last": 4, "cosine": pytest.approx(np.sqrt(0.5))},
    )
    # Singular values of columns that are nearly equal in norm: sqrt(6 +- 1).
    shares = np.sqrt([7, 5]) / np.sqrt([7, 5]).sum()
    assert stats.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_rows_of_zeros_have_cosine_zero() -> None:
    table = np.zeros((3, 4))
    table[1] = 2
    stats = measure_positions(table.astype(np.float32))
    np.testing.assert_allclose(stats.cosine, np.diag([0, 1, 0]))
    assert stats.energy == [0, 1, 0]
    json.dumps(asdict(stats), allow_nan=False)


def test_a_single_row_has_no_neighbors() -> None:
    stats = measure_positions(np.ones((1, 4), dtype=np.float32))
    assert stats.adjacent is None
    assert stats.blocks == ({"first": 0, "last": 0, "cosine": None},)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (np.zeros((3, 4)), "all its numbers are 0"),
        (np.zeros((0, 4)), r"shape \[0, 4\]"),
        (np.ones(4), r"shape \[4\]"),
        (np.ones((2, 3, 4)), r"shape \[2, 3, 4\]"),
        (np.full((2, 2), np.nan), "NaN or infinity"),
    ],
)
def test_what_is_no_table_is_refused(table: Any, complaint: str) -> None:
    with pytest.raises(ArrayError, match=complaint):
        measure_positions(table.astype(np.float32))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_files_with_one_array(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    array = TABLE[None]
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, anything=array)
    else:
        save_file({"anything": array}, path)
    np.testing.assert_array_equal(load_positions(str(path)), TABLE)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("detector.backbone.language_backbone.encoder.positional_embedding.pos_embed.pos_embed", (1, 1, 4, 3)),
        ("text_encoder.positional_embedding.pos_embed.pos_embed", (1, 4, 3)),
        ("detector.backbone.language_backbone.encoder.positional_embedding", (4, 3)),
        ("positional_embedding", (4, 3)),
        ("text_encoder.embeddings.position_embedding.position_embedding", (1, 1, 4, 3)),
        ("detector_model.text_encoder.text_model.embeddings.position_embedding.weight", (4, 3)),
        ("embeddings.position_embeddings.weight", (4, 3)),
        ("positions", (4, 3)),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".pt", marks=pytest.mark.torch)])
def test_the_table_is_found_in_a_checkpoint(tmp_path: Path, key: str, shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    other = np.ones((2, 2), dtype=np.float32)
    tensors = {key: TABLE.reshape(shape), "token_embedding.weight": other}
    tensors |= {f"vision_model.{name}": other for name in ("position_embedding.weight", "positional_embedding")}
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch = pytest.importorskip("torch")
        torch.save({"model": {name: torch.from_numpy(array) for name, array in tensors.items()}, "step": 3}, path)
    table = load_positions(str(path))
    np.testing.assert_array_equal(table, TABLE)
    assert table.dtype == np.float32
    full = key if suffix == ".safetensors" else f"model.{key}"
    np.testing.assert_array_equal(load_positions(f"{path}#{full}"), TABLE)


def test_several_tables_or_none_are_an_error_that_lists_names() -> None:
    with pytest.raises(ArrayError, match=r"2 tensors .*a.positional_embedding, b.position_embeddings.weight"):
        choose_table(["a.positional_embedding", "b.position_embeddings.weight", "c"], "", "x.pt")
    with pytest.raises(ArrayError, match=r"no tensors .*k0, .*\.\.\."):
        choose_table([f"k{n}" for n in range(20)], "", "x")


def test_an_image_table_is_taken_only_by_its_name() -> None:
    names = ["visual.positional_embedding", "other"]
    with pytest.raises(ArrayError, match="no tensors"):
        choose_table(names, "", "x")
    assert choose_table(names, "positional_embedding", "x") == names[0]


def test_the_end_of_a_name_is_enough_where_it_is_the_only_one() -> None:
    names = ["a.table", "b.table", "c.row", "xtable", "table.d"]
    assert choose_table(names, "row", "x") == "c.row"
    assert choose_table(names, "a.table", "x") == "a.table"
    assert choose_table(names, "xtable", "x") == "xtable"
    with pytest.raises(ArrayError, match="2 tensors are called 'table'"):
        choose_table(names, "table", "x")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"1234")
    with pytest.raises(EncoderError, match="neither a whole safetensors file"):
        load_positions(str(broken))
    for name in ("none.npy", "none.safetensors", "none.pt"):
        with pytest.raises(ArrayError, match="no such file"):
            load_positions(str(tmp_path / name))


@pytest.mark.torch
def test_torch_files_of_other_kinds(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "table.pth"
    torch.save(torch.nn.Parameter(torch.from_numpy(TABLE).bfloat16()), path)
    np.testing.assert_array_equal(load_positions(str(path)), TABLE)
    torch.save({"a": torch.ones(2), "code": Path}, path)
    with pytest.raises(EncoderError, match="more than tensors") as caught:
        load_positions(str(path))
    assert "\n" not in str(caught.value)
    path.write_text("hello")
    with pytest.raises(EncoderError, match="neither a whole safetensors file"):
        load_positions(str(path))


def test_torch_files_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.pt"
    path.write_bytes(b"PK\x03\x04 and so on")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"torch\.save"):
        load_positions(str(path))
