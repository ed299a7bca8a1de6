"""ExecuTorch: the same features by its own runtime, at any batch, and one line for what is wrong."""

import importlib.util
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# Importing it would warn, and warnings are errors here; the module under test imports it quietly.
for needed in ("executorch", "torchao"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"no package {needed} (pip install 'litetext[executorch]')", allow_module_level=True)

from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.targets import TargetOptions, executorch  # noqa: E402
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE  # noqa: E402
from tests.export.serving import quantized, reference  # noqa: E402
from tests.export.targets.cases import check_features, prompts, pruned_id, student, tokens  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]


# A conversion takes seconds: each at another length and batch. The one that is pruned has masked padding.
OPTIONS: dict[str, Any] = {"attended": {"length": 32}, "pruned": {"length": 20, "batch": 8}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @lru_cache
    def make(kind: str) -> Path:
        made = tmp_path_factory.mktemp(kind)
        file = executorch.write(student(kind), made, TargetOptions(**OPTIONS[kind]))
        assert [path.name for path in made.iterdir()] == [file] == ["text.pte"]
        return made

    return make


@pytest.mark.parametrize("kind", OPTIONS)
def test_features_are_those_of_pytorch(folder: Callable[[str], Path], kind: str) -> None:
    engine = executorch.open_engine(folder(kind) / "text.pte", threads=1)
    length = OPTIONS[kind]["length"]
    batch = tokens(prompts(), length)
    found = engine(batch.ids, batch.mask)
    check_features(found, kind, prompts())
    for row in (0, 13, len(batch.ids) - 1):
        alone = engine(batch.ids[row : row + 1], batch.mask[row : row + 1])
        assert np.allclose(alone[0], found[row], atol=1e-5)
    short = tokens(["a dog"], 7)
    check_features(engine(short.ids, short.mask), kind, ["a dog"])
    with pytest.raises(EncoderError, match=f"40 tokens for a program of {length}"):
        engine(np.zeros((1, 40), np.int64), np.ones((1, 40), np.bool_))


def test_int8_is_smaller_and_near(tmp_path: Path) -> None:
    """Linear layers compute with integers; the table stays packed, two numbers a byte."""
    small = quantized(student("masked"), "float", "int4")
    executorch.write(small, tmp_path, TargetOptions(precision="int8"))
    engine = executorch.open_engine(tmp_path / "text.pte", 1)
    batch = tokens(prompts(), 16)
    found = engine(batch.ids, batch.mask)
    want = reference(small, prompts())[0]
    one, other = (values[:, : want.shape[1]][batch.mask[:, : want.shape[1]]] for values in (found, want))
    cosine = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(one - other).max() > 1e-3
    whole = sum(tensor.nbytes for tensor in student("masked").state_dict().values())
    assert (tmp_path / "text.pte").stat().st_size < 0.2 * whole
    # Each token has its own range, so that other texts of a batch change nothing.
    alone = engine(batch.ids[5:6], batch.mask[5:6])[batch.mask[5:6]]
    assert np.allclose(alone, found[5][batch.mask[5]], atol=1e-5)


def test_an_id_without_a_row(folder: Callable[[str], Path]) -> None:
    engine = executorch.open_engine(folder("pruned") / "text.pte", None)
    batch = tokens(["dog", "dog"], 16)
    for wrong in (pruned_id(), -1, VOCABULARY_SIZE, 2**40):
        ids = batch.ids.copy()
        ids[1, 1] = wrong
        found = engine(ids, batch.mask)
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[0]).all()


def test_callers_do_not_disturb_each_other(folder: Callable[[str], Path]) -> None:
    engine = executorch.open_engine(folder("attended") / "text.pte", None)
    batch = tokens(prompts()[:64], 16)
    want = engine(batch.ids, batch.mask)
    found: dict[int, np.ndarray] = {}

    def call(row: int) -> None:
        found[row] = engine(batch.ids[row : row + 1], batch.mask[row : row + 1])

    callers = [threading.Thread(target=call, args=(row,)) for row in range(64)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert np.allclose(np.concatenate([found[row] for row in range(64)]), want, atol=1e-5)


def test_what_is_wrong_is_said(folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="ExecuTorch in fp16"):
        executorch.write(student("masked"), tmp_path, TargetOptions(precision="fp16"))
    assert not list(tmp_path.iterdir())
    path = tmp_path / "text.pte"
    with pytest.raises(EncoderError, match="no such file"):
        executorch.open_engine(path)
    whole = (folder("attended") / "text.pte").read_bytes()
    for wrong in (whole[:5000], whole[: len(whole) // 2], b"not a program", b""):
        path.write_bytes(wrong)
        with pytest.raises(EncoderError, match="ExecuTorch cannot load it"):
            executorch.open_engine(path)


@pytest.mark.filterwarnings("ignore")
def test_a_foreign_program(tmp_path: Path) -> None:
    from executorch.exir import to_edge

    exported = torch.export.export(torch.nn.ReLU(), (torch.ones(1, 16),))
    to_edge(exported).to_executorch().save(str(tmp_path / "other.pte"))
    with pytest.raises(EncoderError, match="not a text encoder of ours"):
        executorch.open_engine(tmp_path / "other.pte")
