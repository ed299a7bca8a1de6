"""What every exported program does itself: pad ids, long texts, pruned ids, its own length."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.errors import OptionError  # noqa: E402
from litetext.export.targets.program import ServedProgram, export_program  # noqa: E402
from litetext.tokenizer.vocabulary import END_ID, VOCABULARY_SIZE  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.export.targets.cases import CONTEXT, KINDS, LONG, check_features, prompts, pruned_id, student, tokens  # noqa: E402

pytestmark = pytest.mark.torch


def served(kind: str, length: int, texts: list[str], pad: int = END_ID) -> tuple[np.ndarray, np.ndarray]:
    batch = tokens(texts, length, pad)
    with torch.no_grad():
        features, mask = ServedProgram(student(kind), length)(
            torch.from_numpy(batch.ids), torch.from_numpy(batch.mask).long()
        )
    return features.numpy(), mask.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [16, 32])
def test_equals_the_student(kind: str, length: int) -> None:
    features, mask = served(kind, length, prompts())
    assert features.shape == (200, length, 256)
    check_features(features, kind, prompts(), 1e-5)
    assert np.array_equal(mask, tokens(prompts(), length).mask & (np.arange(length) < CONTEXT))
    assert mask[0].sum() == CONTEXT  # the long one was cut


@pytest.mark.parametrize("kind", KINDS)
def test_shorter_than_the_context(kind: str) -> None:
    short = [text for text in prompts() if tokens([text], 32).mask.sum() <= 9]
    assert len(short) > 40
    features, mask = served(kind, 9, short)
    check_features(features, kind, short, 1e-5)
    assert np.array_equal(mask, tokens(short, 9).mask)


@pytest.mark.parametrize("kind", ["attended", "masked"])
def test_padding_may_be_anything(kind: str) -> None:
    one, other, third = (served(kind, 32, prompts()[:50], pad)[0] for pad in (0, END_ID, -7))
    assert np.array_equal(one, other)
    assert np.array_equal(one, third)


@pytest.mark.parametrize(("kind", "wrong"), [("attended", VOCABULARY_SIZE), ("masked", -1), ("pruned", None)])
def test_an_id_without_a_row_spoils_its_text_and_no_other(kind: str, wrong: int | None) -> None:
    batch = tokens(["dog", LONG, "dog"], 16)
    if wrong is None:
        wrong = pruned_id()
    ids = batch.ids.copy()
    ids[1, 3] = wrong
    with torch.no_grad():
        found = ServedProgram(student(kind), 16)(torch.from_numpy(ids), torch.from_numpy(batch.mask).long())[0]
    assert found[1].isnan().all()
    assert torch.equal(found[0], found[2])
    assert found[0].isfinite().all()
    assert found[0].any()


def test_ids_of_32_bits() -> None:
    batch = tokens(prompts()[:20], 32)
    program = ServedProgram(student("pruned"), 32)
    ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask).long()
    with torch.no_grad():
        assert torch.equal(program(ids, mask)[0], program(ids.int(), mask.int())[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_is_the_program(kind: str) -> None:
    batch = tokens(prompts()[:7], 32)
    ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask).long()
    program = ServedProgram(student(kind), 32)
    for size in (7, None):
        graph = export_program(program, size, most=8).module()
        with torch.no_grad():
            for got, want in zip(graph(ids, mask), program(ids, mask), strict=True):
                torch.testing.assert_close(got, want, equal_nan=True)


def test_only_folded_students() -> None:
    with pytest.raises(OptionError, match="not folded"):
        ServedProgram(tiny_student("masked"), 16)
