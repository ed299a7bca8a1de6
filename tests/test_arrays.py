import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from litetext import arrays
from litetext.arrays import load_matrix
from litetext.errors import ArrayError

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


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


def npy(header: bytes, data: bytes = MATRIX.tobytes()) -> bytes:
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }"[:-20] + b"\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, ' \\\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -3), }\n",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 12), }\n"[:-3],
        b"{'descr': '|O', 'fortran_order': False, 'shape': (4, 3), }\n",
        b"{'descr': [], 'fortran_order': False, 'shape': (4, 3), }\n",
        b"(" * 5000,
        b"\0\xff\n",
    ],
)
def test_headers_that_lie(tmp_path: Path, header: bytes) -> None:
    """NumPy parses a header as Python, and raises what Python's tokenizer does."""
    (tmp_path / "a.npy").write_bytes(npy(header))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy(header))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ArrayError, match=name) as caught:
            load_matrix(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_every_changed_byte_of_a_packed_array(tmp_path: Path) -> None:
    """The same array or an error; at 7dbcd79 some were zlib.error."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=MATRIX)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            np.testing.assert_array_equal(load_matrix(str(path)), MATRIX)
        except ArrayError as error:
            assert "a.npz" in str(error)  # noqa: PT017


def test_a_small_file_unpacks_to_little(tmp_path: Path) -> None:
    """400 MB of zeros in 2 MB: refused by what it declares, and not unpacked."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (400, 1000000), }\n"
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as file,
    ):
        file.write(npy(header, b""))
        for _ in range(400):
            file.write(bytes(1_000_000))
    tracemalloc.start()  # the most that the process ever held may be another test's
    with pytest.raises(ArrayError, match=f"400,000,0.* more than {arrays.MOST_UNPACKED:,}"):
        load_matrix(str(tmp_path / "bomb.npz"))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50_000_000


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
        ("words.npy", "is not numeric"),
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
