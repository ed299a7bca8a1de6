import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from litetext.errors import ArrayError
from litetext.storage import atomic_file, fingerprint, load_matrix, to_json, write_text

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "b.txt").stat().st_mode)


def test_json_refuses_nan() -> None:
    assert to_json({"a": "é"}) == '{\n  "a": "é"\n}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": float("nan")})


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprints_differ_where_parts_differ(first: list[str], second: list[str]) -> None:
    assert (fingerprint(first) == fingerprint(second)) == (first == second)


def test_fingerprint_known_answer() -> None:
    assert fingerprint([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert fingerprint(["ab"]) != fingerprint(["a", "b"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_matrices_of_every_format(tmp_path: Path, dtype: type) -> None:
    array = MATRIX.astype(dtype)
    np.save(tmp_path / "a.npy", array[None])
    np.savez(tmp_path / "a.npz", x=array, scale=np.float32(3))
    save_file({"x": array[None, None], "bias": array[0]}, tmp_path / "a.safetensors")
    for name in ("a.npy", "a.npz", "a.npz#x", "a.safetensors", "a.safetensors#x"):
        found = load_matrix(str(tmp_path / name))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, MATRIX)


@pytest.mark.torch
def test_bfloat16_is_widened(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    tensor = torch.randn(5, 3).bfloat16()
    save_torch({"a": torch.zeros(7, 2), "b": tensor}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load_matrix(f"{tmp_path}/a.safetensors#b"), tensor.float().numpy())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npy", "no such file"),
        ("a.txt", "cannot read arrays from '.txt'"),
        ("text.npy", "not a readable .npy file"),
        ("text.npz", "not a readable .npz file"),
        ("text.safetensors", "not a readable .safetensors file"),
        ("pickled.npy", "not a readable .npy file"),
        ("renamed.npz", "not a readable .npz file"),
        ("two.npz", "2 arrays could be meant"),
        ("two.npz#c", "no array 'c'"),
        ("two.safetensors#c", "it has: a, b"),
        ("vector.npy", r"shape \[3\]"),
        ("vector.npy#a", "leave out '#a'"),
        ("nan.npy", "the first is row 2"),
        ("words.npy", "is not a number type"),
        ("empty.npy", r"shape \[0, 3\]"),
    ],
)
def test_bad_arrays(tmp_path: Path, name: str, message: str) -> None:
    for ending in ("txt", "npy", "npz", "safetensors"):
        (tmp_path / f"{'a' if ending == 'txt' else 'text'}.{ending}").write_text("this is not an array")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with (tmp_path / "renamed.npz").open("wb") as file:
        np.save(file, MATRIX)
    np.savez(tmp_path / "two.npz", a=MATRIX, b=MATRIX)
    save_file({"a": MATRIX, "b": MATRIX}, tmp_path / "two.safetensors")
    np.save(tmp_path / "vector.npy", MATRIX[0])
    np.save(tmp_path / "nan.npy", np.where(MATRIX == 7, np.nan, MATRIX))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "empty.npy", MATRIX[:0])
    with pytest.raises(ArrayError, match=message) as caught:
        load_matrix(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert name.partition("#")[0] in str(caught.value)
