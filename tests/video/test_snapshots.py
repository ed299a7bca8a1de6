"""Snapshots come back as they were written, bit for bit, and a damaged one is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from litetext.video.snapshots import read_snapshot, write_snapshot

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    arrays(
        st.sampled_from([np.float16, np.float32, np.int64, np.bool_, np.uint8]), array_shapes(min_dims=0, min_side=0)
    ),
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2) | st.integers(0, 9), inner),
    max_leaves=12,
)


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@given(st.dictionaries(st.text("abc", min_size=1), trees, max_size=4))
def test_a_state_comes_back(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "state"
    write_snapshot(path, state)
    assert_same(read_snapshot(path), state)


@pytest.mark.torch
def test_tensors_come_back_in_their_dtype() -> None:
    torch = pytest.importorskip("torch")
    from tempfile import TemporaryDirectory

    given = {
        "a": torch.randn(2, 3).bfloat16(),
        "b": [torch.tensor(4), torch.zeros(0, 2).half()],
        "c": {7: torch.ones(2) > 0},
    }
    with TemporaryDirectory() as folder:
        write_snapshot(Path(folder) / "x", given)
        back = read_snapshot(Path(folder) / "x")
    for one, other in zip([back["a"], *back["b"], back["c"][7]], [given["a"], *given["b"], given["c"][7]], strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("data", [b"", b"no snapshot", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_what_is_no_snapshot_is_empty(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_snapshot(tmp_path / "x") == {}
    assert read_snapshot(tmp_path / "none") == {}
