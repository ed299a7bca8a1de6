"""Phrases are parted by their hash, and every batch of every epoch follows from the seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from litetext.distillation.data import epoch_batches, split_phrases  # noqa: E402
from litetext.distillation.recipe import DistillRecipe  # noqa: E402
from litetext.distillation.validation import retrieval  # noqa: E402
from litetext.errors import CacheError, OptionError  # noqa: E402
from litetext.features.store import FeatureStore  # noqa: E402
from tests.distillation.runs import PHRASES, make_cache  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore.open(make_cache(tmp_path_factory.mktemp("cache") / "features"))


def test_a_phrase_stays_in_its_part(cache: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("\n".join(PHRASES[:12]).upper())
    recipe = DistillRecipe(validation_fraction=0.3)
    whole = split_phrases(cache, recipe)
    some = split_phrases(cache, replace(recipe, sources=(str(tmp_path / "some.txt"),)))
    assert sorted([*whole.train, *whole.validation]) == sorted(PHRASES)
    assert set(some.train) == set(whole.train) & set(PHRASES[:12])
    assert set(some.validation) == set(whole.validation) & set(PHRASES[:12])
    assert set(split_phrases(cache, replace(recipe, seed=1)).validation) != set(whole.validation)


def test_nothing_left_or_missing_is_said(cache: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("\n".join(PHRASES))
    (tmp_path / "more.txt").write_text("dog\nunicorn")
    with pytest.raises(OptionError, match="0 phrases to train on and 0 to validate with"):
        split_phrases(cache, DistillRecipe(hold_out=(str(tmp_path / "all.txt"),)))
    with pytest.raises(CacheError, match="no features of 1 phrases, the first is 'unicorn'"):
        split_phrases(cache, DistillRecipe(sources=(str(tmp_path / "more.txt"),)))


@given(st.lists(st.integers(2, 16), min_size=1, max_size=300), st.integers(1, 20), st.integers(0, 3))
def test_an_epoch_has_each_row_once_in_even_batches(lengths: list[int], batch: int, epoch: int) -> None:
    batches = epoch_batches(np.array(lengths), batch, 7, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch)
    sizes = {len(rows) for rows in batches}
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
    again = epoch_batches(np.array(lengths), batch, 7, epoch)
    assert all(np.array_equal(first, second) for first, second in zip(batches, again, strict=True))


def test_lengths_are_alike_in_a_batch_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).integers(2, 17, 640)
    batches = epoch_batches(lengths, 10, 0, 0)
    assert np.mean([np.ptp(lengths[rows]) for rows in batches]) < 3
    assert not np.array_equal(batches[0], epoch_batches(lengths, 10, 0, 1)[0])


def test_retrieval_by_hand() -> None:
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    student = torch.tensor([[3.0, 0.1], [5.0, 0.1], [1.0, 0.9], [1.0, 1.1]])
    assert retrieval(student, teacher) == 0.75
