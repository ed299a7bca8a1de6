import colorsys
from importlib.resources import files

import numpy as np
import pytest

from litetext.micro.concepts import concepts, held_out_nouns, invariable_nouns, pluralise, with_article
from litetext.micro.glyphs import COLOURS, SIDE, glyph, make_background


def test_enough_concepts_and_colours() -> None:
    assert len(concepts()) >= 150
    assert len({concept.code for concept in concepts()}) == len(concepts())
    assert len({concept.names[0] for concept in concepts()}) == len(concepts())
    assert len(COLOURS) >= 6
    assert sum(concept.tintable for concept in concepts()) > 50


def test_the_data_is_small_and_has_its_licence() -> None:
    data = files("litetext.micro").joinpath("data")
    assert sum(len(entry.read_bytes()) for entry in data.iterdir()) < 3_000_000
    assert len(data.joinpath("backgrounds.jpg").read_bytes()) < 400_000
    assert "SIL OPEN FONT LICENSE Version 1.1" in data.joinpath("OFL.txt").read_text("utf-8")


def test_nouns_are_clean() -> None:
    for concept in concepts():
        assert concept.names
        assert not set(concept.vague) & set(concept.nouns), concept
        assert set(concept.invariable) <= set(concept.nouns)
        assert len(concept.nouns) == len(set(concept.nouns)), concept
        assert all(noun == noun.strip() and 1 <= len(noun.split()) <= 4 for noun in concept.nouns)


def test_a_name_that_two_things_share_is_held_out_for_neither() -> None:
    assert len(held_out_nouns()) >= 40
    for noun in held_out_nouns():
        assert sum(noun in concept.nouns or noun in concept.vague for concept in concepts()) == 1
    for concept in concepts():
        assert concept.names[0] not in concept.held_out


def test_no_plural_is_another_things_noun_or_held_out() -> None:
    nouns = {noun for concept in concepts() for noun in concept.nouns}
    plurals = {pluralise(noun) for noun in nouns - invariable_nouns()}
    assert not plurals & nouns
    assert not plurals & held_out_nouns()


def test_every_family_has_relatives() -> None:
    sizes = {concept.family: 0 for concept in concepts()}
    for concept in concepts():
        sizes[concept.family] += 1
    assert min(sizes.values()) >= 5


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("dog", "dogs"),
        ("mouse", "mice"),
        ("cup with straw", "cups with straw"),
        ("glass of wine", "glasses of wine"),
        ("ladybug", "ladybugs"),
        ("cherry blossom", "cherry blossoms"),
        ("wrench", "wrenches"),
        ("juice box", "juice boxes"),
        ("ladder", "ladders"),
        ("key", "keys"),
        ("factory", "factories"),
        ("maple leaf", "maple leaves"),
        ("game die", "game dice"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert pluralise(one) == many


def test_articles() -> None:
    assert with_article("dog") == "a dog"
    assert [with_article(word) for word in ("apple", "hourglass", "SUV")] == ["an apple", "an hourglass", "an SUV"]
    assert [with_article(word) for word in ("ewe", "UFO", "one-piece swimsuit")] == [
        "a ewe",
        "a UFO",
        "a one-piece swimsuit",
    ]


def test_glyphs_have_exact_alpha() -> None:
    for concept in concepts():
        alpha = np.asarray(glyph(concept.index, None, 0))[..., 3]
        assert alpha.shape == (SIDE, SIDE)
        assert not alpha[0].any()
        assert 0.05 < (alpha >= 128).mean() < 0.98, concept.cldr


@pytest.mark.parametrize("name", COLOURS)
def test_a_tint_is_what_it_says(name: str) -> None:
    """The mean hue of every tinted glyph is nearest to its own colour's, and far from grey."""
    hues = {key: colorsys.rgb_to_hsv(*(value / 255 for value in rgb))[0] for key, rgb in COLOURS.items()}
    for concept in concepts():
        if concept.tintable:
            pixels = np.asarray(glyph(concept.index, name, 0))
            mean = pixels[pixels[..., 3] >= 128][:, :3].mean(axis=0) / 255
            hue, saturation, value = colorsys.rgb_to_hsv(*mean.tolist())
            away = {key: min(abs(hue - other), 1 - abs(hue - other)) for key, other in hues.items()}
            assert min(away, key=away.__getitem__) == name, concept.cldr
            assert saturation > 0.3, concept.cldr
            assert value > 0.3, concept.cldr


def test_backgrounds() -> None:
    pictures = [make_background(np.random.default_rng(seed), 50) for seed in range(40)]
    assert {picture.shape for picture in pictures} == {(50, 50, 3)}
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}
    assert all(picture.flags.writeable for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 40
