"""Batches: dense scenes, the truth of the bank, the phrases, and that a step always gives the same batch."""

import dataclasses

import numpy as np
import pytest
import torch
from recipes.micro.batches import (
    ROWS,
    BatchOptions,
    BatchStream,
    ask,
    assemble,
    make_bank,
    make_dense_scene,
    noun_truth,
    spoken_nouns,
    truth_of,
)

from litetext.errors import OptionError
from litetext.micro.concepts import concepts, held_out_nouns
from litetext.micro.glyphs import COLOURS
from litetext.micro.model import FINE, GRID, SIZE
from litetext.micro.phrases import (
    Query,
    is_true,
    named,
    out_of_domain,
)
from litetext.micro.scenes import SceneOptions, make_scene


def test_a_sheet_is_full_and_exact() -> None:
    options = SceneOptions(size=160)
    sheets = [make_dense_scene(seed, options) for seed in range(8)]
    for sheet in sheets:
        assert sheet.pixels.shape == (160, 160, 3)
        assert ROWS * ROWS - 3 <= len(sheet.instances) <= ROWS * ROWS
        assert np.sum([one.mask for one in sheet.instances], axis=0).max() == 1  # disjoint
    concepts = {one.concept.index for sheet in sheets for one in sheet.instances}
    assert len(concepts) > 80
    assert any(one.colour for sheet in sheets for one in sheet.instances)


def test_the_seed_decides() -> None:
    options = SceneOptions(size=64)
    assert np.array_equal(make_dense_scene(4, options).pixels, make_dense_scene(4, options).pixels)
    assert not np.array_equal(make_dense_scene(4, options).pixels, make_dense_scene(5, options).pixels)
    assert not np.array_equal(
        make_dense_scene(4, options).pixels, make_dense_scene(4, SceneOptions(size=64, split="test")).pixels
    )


OPTIONS = BatchOptions(pictures=3, phrases=4, nouns=30, coloured=4, strange=3)
SCENES = [make_scene(seed) for seed in range(12)]


def test_a_step_gives_the_same_batch_each_time() -> None:
    one, same, other = BatchStream(5, OPTIONS)[7], BatchStream(5, OPTIONS)[7], BatchStream(5, OPTIONS)[8]
    for field in dataclasses.fields(one):
        assert torch.equal(getattr(one, field.name), getattr(same, field.name)), field.name
    assert not torch.equal(one.pixels, other.pixels)
    assert not torch.equal(one.pixels, BatchStream(6, OPTIONS)[7].pixels)


def test_shapes_and_what_they_mean() -> None:
    batch = BatchStream(0, OPTIONS)[0]
    count = len(batch.owner)
    assert batch.pixels.shape == (3, 3, SIZE, SIZE)
    assert batch.cover.shape == (count, GRID * GRID)
    assert batch.masks.shape == (count, FINE, FINE)
    assert batch.named.shape == (12, count)
    assert batch.picture.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # A phrase names instances of its own picture only, and half of the phrases name something.
    assert bool(
        (batch.owner.expand(12, -1)[batch.named] == batch.picture[:, None].expand(-1, count)[batch.named]).all()
    )
    assert batch.named.any(1).reshape(3, 4).sum(1).tolist() == [2, 2, 2]
    # The box holds the mask: nothing of it is outside.
    area = batch.cover.mean(1)
    assert bool((area <= batch.boxes[:, 2:].prod(1) + 1e-6).all())
    assert area.tolist() == pytest.approx(batch.masks.mean((1, 2)).tolist(), rel=0.1, abs=2e-3)
    assert torch.equal(batch.mask, batch.mask.cumsum(1).eq(torch.arange(1, batch.mask.shape[1] + 1)) & batch.mask)


def test_the_truth_of_a_bank_is_that_of_its_phrases() -> None:
    rng = np.random.default_rng(0)
    bank = make_bank(SCENES, BatchOptions(12, 0, 60, 6, 5), rng)
    truth = truth_of(bank, SCENES)
    names = tuple(COLOURS)
    instances = [instance for scene in SCENES for instance in scene.instances]
    assert truth.shape == (len(instances), len(bank.texts))
    answers = {True: 1, False: 0, None: -1}
    for column, (noun, colour) in enumerate(zip(bank.nouns, bank.colours, strict=True)):
        if noun < 0:
            assert not truth[:, column].any()
            continue
        query = Query(spoken_nouns()[noun], names[colour] if colour >= 0 else None)
        assert truth[:, column].tolist() == [answers[is_true(one, query)] for one in instances], query
    assert {1, 0, -1} >= set(np.unique(truth).tolist()) >= {0, 1}
    assert (truth[:, bank.nouns >= 0] == 1).any(axis=1).all()  # every instance has a name in it


def test_training_never_says_a_held_out_noun() -> None:
    assert not set(spoken_nouns()) & held_out_nouns()
    assert noun_truth().shape == (len(concepts()), len(spoken_nouns()))
    rng = np.random.default_rng(1)
    phrases = [phrase for scene in SCENES for phrase in ask(scene, 6, rng) or ()]
    assert len(phrases) > 30
    assert not any(phrase.held_out for phrase in phrases)
    for scene in SCENES:
        for phrase in ask(scene, 4, rng) or ():
            if phrase.text not in out_of_domain("train"):
                assert named(scene, phrase.query) == phrase.indices


def test_strangers_share_no_word_with_the_glyphs() -> None:
    links = {"a", "and", "in", "of", "on", "the", "to", "up", "with"}
    words = {word for concept in concepts() for noun in concept.nouns for word in noun.lower().split()} - links
    for split in ("train", "test"):
        assert len(out_of_domain(split)) > 300
        assert not any(set(phrase.lower().split()) & words for phrase in out_of_domain(split))
    assert not set(out_of_domain("train")) & set(out_of_domain("test"))


def test_options_that_leave_nothing_to_learn() -> None:
    with pytest.raises(OptionError, match="one phrase"):
        BatchOptions(2, 1, 5, 0, 0)
    with pytest.raises(OptionError, match="without pictures"):
        BatchOptions(0, 0, 5, 0, 0)
    with pytest.raises(OptionError, match="one point"):
        BatchOptions(2, 2, 5, 0, 0, points=1)


def test_guesses_lie_near_instances_of_the_right_picture() -> None:
    batch = BatchStream(0, dataclasses.replace(OPTIONS, guesses=50))[0]
    assert batch.guess_boxes.shape == (12, 50, 4)
    assert batch.guesses == 50
    assert torch.equal(batch.owner[batch.guess_of], batch.picture[:, None].expand(-1, 50))
    true, away = batch.boxes[batch.guess_of], batch.guess_boxes - batch.boxes[batch.guess_of]
    assert bool((away[..., :2].abs() <= 0.91 * true[..., 2:] + 0.01).all())
    assert bool((away[..., :2].abs() < 0.05 * true[..., 2:]).any()), "some lie where the instance does"
    # What a phrase names is chosen more often than what else is there, but that too.
    present = batch.named.any(1)
    right = batch.named[present].gather(1, batch.guess_of[present]).float().mean()
    even = (batch.named[present].sum(1) / (batch.owner[None] == batch.picture[present][:, None]).sum(1)).mean()
    assert float(even) < float(right) < 1


def test_points_say_whose_pixel_it_is() -> None:
    batch = BatchStream(0, dataclasses.replace(OPTIONS, points=40))[0]
    assert batch.points.shape == (len(batch.owner), 40, 2)
    assert batch.inside.shape == (len(batch.owner), 40)
    assert bool((batch.inside.mean(1) > 0).all())
    assert bool((batch.inside.mean(1) < 1).all())
    assert torch.equal(batch.pixels, BatchStream(0, OPTIONS)[0].pixels), "the pictures are the same without them"


def test_no_phrases_and_no_strangers() -> None:
    batch = BatchStream(0, BatchOptions(2, 0, 5, 0, 0))[0]
    assert batch.ids.shape[0] == 0
    assert batch.named.shape == (0, len(batch.owner))
    assert len(batch.bank_ids) == 5
    rng = np.random.default_rng(0)
    scenes = SCENES[:2]
    assert assemble(scenes, [], make_bank(scenes, OPTIONS, rng)).picture.shape == (0,)
