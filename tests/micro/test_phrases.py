import re
from collections import Counter

import numpy as np
import pytest

from litetext.errors import OptionError
from litetext.micro.concepts import Concept, concepts, held_out_nouns, pluralise
from litetext.micro.phrases import PLACES, Pair, Query, is_true, make_pairs, named, negative, phrases_of, positive, say
from litetext.micro.scenes import Instance, Scene, SceneOptions, make_scene

SMALL_WORLD = SceneOptions(size=96)
TRAIN = list(make_pairs(0, 480, SMALL_WORLD))
TEST = list(make_pairs(0, 480, SceneOptions(size=96, split="test")))


def concept(name: str) -> Concept:
    return next(known for known in concepts() if name in known.names)


def thing(name: str, colour: str | None = None, x: float = 0.5, y: float = 0.5, extent: float = 0.3) -> Instance:
    mask = np.zeros((100, 100), dtype=bool)
    column, row = round(100 * x), round(100 * y)
    mask[row - 5 : row + 5, column - 5 : column + 5] = True
    return Instance(concept(name), colour, mask, (column - 5, row - 5, column + 5, row + 5), extent)


def scene(*things: Instance) -> Scene:
    return Scene(np.zeros((100, 100, 3), dtype=np.uint8), things)


def test_a_red_car_beside_a_blue_one() -> None:
    cars = scene(thing("automobile", "red", 0.2), thing("automobile", "blue", 0.8), thing("police car", x=0.5))
    assert named(cars, Query("automobile", "red")) == (0,)
    assert named(cars, Query("automobile", "green")) == ()
    assert named(cars, Query("automobile", place="left")) == (0,)
    assert named(cars, Query("car")) == (0, 1, 2)
    assert named(cars, Query("car", "red")) is None  # nothing is known of the police car's colour
    assert named(cars, Query("car", place="left")) is None  # it is in the middle
    assert named(cars, Query("dog", "red")) == ()


def test_words_nobody_can_be_sure_of() -> None:
    animals = scene(thing("rat"), thing("mouse", x=0.2))
    assert named(animals, Query("mouse")) is None
    assert named(animals, Query("animal")) == (0, 1)
    assert named(animals, Query("mouse", place="right")) is None
    assert named(scene(thing("rat", x=0.2)), Query("mouse", place="right")) == ()


def test_sizes_and_places() -> None:
    dogs = scene(thing("dog", extent=0.1, y=0.1), thing("dog", extent=0.5, y=0.9))
    assert named(dogs, Query("dog", size="small")) == (0,)
    assert named(dogs, Query("dog", size="large")) == (1,)
    assert named(dogs, Query("dog", place="top")) == (0,)
    assert named(dogs, Query("dog", size="small", place="bottom")) == ()
    assert is_true(thing("dog", extent=0.3), Query("dog", size="large")) is None


def brute_force(pair: Pair) -> tuple[int, ...]:
    """Read the text as a stranger would, and look at the things."""
    found = []
    for index, instance in enumerate(pair.scene.instances):
        forms = {form for noun in instance.concept.nouns for form in (noun, pluralise(noun))}
        if _holds(pair.phrase.text, forms, instance):
            found.append(index)
    return tuple(found)


def _holds(text: str, forms: set[str], instance: Instance) -> bool:
    words = text.removeprefix("the ").removeprefix("an ").removeprefix("a ")
    x = (instance.box[0] + instance.box[2]) / 2 / instance.mask.shape[1]
    y = (instance.box[1] + instance.box[3]) / 2 / instance.mask.shape[0]
    places = {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "upper": y < 0.5, "bottom": y > 0.5, "lower": y > 0.5}
    where = re.search(r" (?:on|at|in) the (left|right|top|upper|bottom|lower).*$", words)
    if where is not None:
        words = words[: where.start()]
        if not places[where[1]]:
            return False
    words = re.sub(r"^(.*) that (?:is|are) (\w+)$", r"\2 \1", words)
    words = re.sub(r"^(\w+) (small|large) ", r"\2 \1 ", words)
    first, _, rest = words.partition(" ")
    if first in {"small", "large"}:
        if (instance.extent < 0.3) != (first == "small"):
            return False
        words, (first, _, rest) = rest, rest.partition(" ")
    if first in {"red", "orange", "yellow", "green", "blue", "purple"}:
        if instance.colour != first:
            return False
        words = rest
    return words in forms


@pytest.mark.parametrize("pairs", [TRAIN, TEST], ids=["train", "test"])
def test_phrases_are_true_by_brute_force(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert brute_force(pair) == pair.phrase.indices, pair.phrase
        assert bool(pair.phrase.indices) == (pair.phrase.kind == "present")


@pytest.mark.parametrize("pairs", [TRAIN, TEST], ids=["train", "test"])
def test_half_is_absent_and_a_third_of_that_hard(pairs: list[Pair]) -> None:
    assert Counter(pair.phrase.kind for pair in pairs) == {"present": 240, "absent": 160, "hard": 80}
    assert Counter(pair.picture for pair in pairs) == dict.fromkeys(range(80), 6)


def test_hard_pairs_are_near_misses_and_absent_ones_are_not() -> None:
    for pair in TRAIN + TEST:
        families = {instance.concept.family for instance in pair.scene.instances}
        present = {noun for instance in pair.scene.instances for noun in instance.concept.nouns}
        noun = pair.phrase.query.noun
        own = {known.family for known in concepts() if noun in known.nouns}
        if pair.phrase.kind == "hard":
            assert noun in present or own & families
        elif pair.phrase.kind == "absent":
            assert noun not in present


def test_held_out_phrasings_are_never_in_training() -> None:
    assert not any(pair.phrase.held_out for pair in TRAIN)
    said = {pair.phrase.text for pair in make_pairs(7, 480, SMALL_WORLD)}
    forms = {form for noun in held_out_nouns() for form in (noun, pluralise(noun))}
    assert not {text.removeprefix("the ").removeprefix("an ").removeprefix("a ") for text in said} & forms
    kinds = {pair.phrase.kind for pair in TEST if pair.phrase.held_out}
    assert kinds == {"present", "absent", "hard"}
    for pair in TEST:
        assert pair.phrase.held_out == (pair.phrase.query.noun in held_out_nouns())


def test_words_articles_plurals_and_attributes() -> None:
    texts = [pair.phrase.text for pair in TRAIN + TEST]
    lengths = {len(text.split()) for text in texts}
    assert min(lengths) == 1
    assert 8 <= max(lengths) <= 10
    for start in ("the ", "a ", "an ", "red ", "small "):
        assert any(text.startswith(start) for text in texts), start
    for pair in TRAIN + TEST:
        assert len(pair.phrase.text.split()) <= 10
        assert pair.phrase.text == pair.phrase.text.strip()


def test_the_longest_phrase_has_ten_words() -> None:
    rng = np.random.default_rng(0)
    for name in ("bottle with popping cork", "sport utility vehicle", "dog"):
        for place in PLACES:
            query = Query(name, "red", "small", place)
            assert max(len(say(query, rng, several=True).split()) for _ in range(100)) <= 10


def test_pairs_are_the_same_again_and_a_smaller_count_is_a_prefix() -> None:
    again = list(make_pairs(0, 20, SMALL_WORLD))
    assert [pair.phrase for pair in again] == [pair.phrase for pair in TRAIN[:20]]
    assert again[-1].scene.pixels.tobytes() == TRAIN[19].scene.pixels.tobytes()
    assert [pair.phrase for pair in make_pairs(1, 20, SMALL_WORLD)] != [pair.phrase for pair in again]


def test_splits_share_no_scene() -> None:
    assert not {pair.scene.pixels.tobytes() for pair in TRAIN} & {pair.scene.pixels.tobytes() for pair in TEST}


def test_other_numbers_of_pairs_a_scene() -> None:
    pairs = list(make_pairs(0, 24, SceneOptions(size=64, pairs=2)))
    assert Counter(pair.picture for pair in pairs) == dict.fromkeys(range(12), 2)
    assert Counter(pair.phrase.kind for pair in pairs) == {"present": 12, "absent": 8, "hard": 4}


def test_one_scene() -> None:
    drawn = make_scene(4, SMALL_WORLD)
    phrases = phrases_of(drawn, np.random.default_rng(0))
    assert phrases
    assert all(phrases.values())
    rng = np.random.default_rng(0)
    assert positive(drawn, rng) is not None
    assert negative(drawn, rng, hard=True) is not None


def test_a_negative_seed() -> None:
    with pytest.raises(OptionError, match="seed -1"):
        list(make_pairs(-1, 6))
