"""What prompts that SAM3 hardly honors cost the micro model, and what is won by asking in another way.

    python -m benchmarks semantics [PAIRS]

Of each class as many (scene, phrase) pairs of the test split, half of which name nothing where the class allows it.
Each is asked thrice: the plain noun against its own truth; the phrase of the class against that of the phrase; and
plain nouns whose masks are put together as the audit advises, against the truth of the phrase. Truths are those of the
scenes:

negation     "car that is not red": the cars of another color; nothing if all are red.
place        "car on the left": cars whose center is left (beyond 58 %), none may be in the middle.
relation     "car left of the dog": cars whose center is left of that of the only dog by at least 15 % of the picture;
             none may be nearer.
count        "two cars": all cars if there are as many, else nothing.
alternative  "car or dog": all cars and all dogs.
comparison   "biggest car": of two or more the one of most visible pixels, 1.3 times those of the next; never nothing.
sentence     "where is the red car?", "find the red car", "show me the red car", "is there a red car?": as "red car".
language     "coche": as "car", 32 nouns in Spanish.

Clothing cannot be measured: this world has no people in clothes.

Then how right the rules are, on the prompts labeled by hand in tests/auditing/data: of each class how many were told,
labeled, and both (right), in the half of the sample that they were not tuned on, in all of it, and, where
../shared/data/prompts is, in the two draws of real prompts.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tests.auditing.labeled import judge_rules

import litetext as lt
from benchmarks.command import run
from litetext.evaluation.cgf1 import PairCounts, Tally, count_pair, score
from litetext.micro.concepts import concepts, held_out_nouns, invariable_nouns, pluralise, with_article
from litetext.micro.glyphs import COLOURS
from litetext.micro.phrases import Query, named
from litetext.micro.scenes import Instance, Scene, SceneOptions, make_scene
from litetext.sam3.masks import encode_masks, mask_ious

_SPANISH = """
    dog=perro cat=gato horse=caballo cow=vaca pig=cerdo rabbit=conejo tiger=tigre goat=cabra monkey=mono
    elephant=elefante giraffe=jirafa zebra=cebra bird=pájaro fish=pez whale=ballena butterfly=mariposa
    spider=araña bee=abeja rose=rosa tulip=tulipán apple=manzana lemon=limón banana=plátano strawberry=fresa
    cheese=queso egg=huevo car=coche bicycle=bicicleta train=tren key=llave book=libro umbrella=paraguas
"""
SPANISH = dict(pair.split("=") for pair in _SPANISH.split())
CLASSES = ("negation", "place", "relation", "count", "alternative", "comparison", "sentence", "language")
UNUSED = held_out_nouns() | invariable_nouns()
RESAMPLES = 500
Masks = npt.NDArray[np.bool_]  # [P, H, W]


class Case(NamedTuple):
    """A phrase about a scene, and what stands in for it."""

    phrase: str
    truth: tuple[int, ...]
    plain: str  # the noun phrase without what makes the class
    plain_truth: tuple[int, ...]
    asked: tuple[str, ...]  # plain phrases, of whose masks `instead` makes the answer
    instead: Callable[..., Masks]


def x_of(mask: Masks) -> float:
    """The center of a mask's box, a share of the width."""
    columns = np.flatnonzero(mask.any(axis=0))
    return float(columns[0] + columns[-1] + 1) / 2 / mask.shape[1]


def without(masks: Masks, others: Masks) -> Masks:
    """The masks that none of the others covers by an IoU above 0.5."""
    if not len(masks) or not len(others):
        return masks
    return masks[(mask_ious(encode_masks(masks), encode_masks(others)) <= 0.5).all(axis=1)]


def keep_left(masks: Masks, edge: float) -> Masks:
    """The masks whose center is left of an edge, a share of the width."""
    return masks[np.array([x_of(mask) < edge for mask in masks], dtype=np.bool_)]


def left_of(masks: Masks, others: Masks) -> Masks:
    """The masks whose center is left of that of the first of the others; none where there are no others."""
    return keep_left(masks, x_of(others[0]) if len(others) else 0)


def biggest(masks: Masks) -> Masks:
    """The mask of most pixels."""
    return masks[[int(np.argmax(masks.sum(axis=(1, 2))))]] if len(masks) else masks


def cases(scene: Scene, rng: np.random.Generator, turn: int) -> Iterator[tuple[str, Case]]:
    """At most one case of each class about a scene."""
    first = scene.instances[rng.integers(len(scene.instances))]
    noun = first.concept.names[0]
    things = named(scene, Query(noun))
    other = noun_of(scene, first, rng)
    those = named(scene, Query(other))
    if things is None or those is None or noun in UNUSED:
        return
    colors = [scene.instances[index].colour for index in things]
    color = first.colour or ""
    if all(colors):
        colored = tuple(index for index, own in zip(things, colors, strict=True) if own == color)
        rest = tuple(index for index in things if index not in colored)
        yield "negation", Case(f"{noun} that is not {color}", rest, noun, things, (noun, f"{color} {noun}"), without)
    at_left = named(scene, Query(noun, place="left"))
    if at_left is not None:
        yield "place", Case(f"{noun} on the left", at_left, noun, things, (noun,), lambda found: keep_left(found, 0.5))
    if len(those) == 1 and other != noun:
        gaps = {index: x_of(scene.instances[those[0]].mask) - x_of(scene.instances[index].mask) for index in things}
        if all(abs(gap) >= 0.15 for gap in gaps.values()):
            left = tuple(index for index, gap in gaps.items() if gap > 0)
            yield "relation", Case(f"{noun} left of the {other}", left, noun, things, (noun, other), left_of)
    number = 2 if turn % 2 else len(things) if len(things) in (2, 3) else 3
    counted = things if len(things) == number else ()
    phrase = f"{('two', 'three')[number - 2]} {pluralise(noun)}"
    yield (
        "count",
        Case(phrase, counted, noun, things, (noun,), lambda found: found if len(found) == number else found[:0]),
    )
    sizes = sorted((int(scene.instances[index].mask.sum()), index) for index in things)
    if len(sizes) > 1 and sizes[-1][0] >= 1.3 * sizes[-2][0]:
        yield "comparison", Case(f"biggest {noun}", (sizes[-1][1],), noun, things, (noun,), biggest)
    absent = turn % 2 == 1  # of what can be asked of anything
    families = {thing.concept.family for thing in scene.instances}
    strange = sorted({one.names[0] for one in concepts() if one.family not in families} - UNUSED)
    some = [str(word) for word in rng.choice(strange, 2, replace=False)]
    pair = some if absent else [noun, other if other != noun else some[0]]
    truths = [named(scene, Query(word)) for word in pair]
    if None not in truths and (absent or rng.random() < 0.7):
        union = tuple(sorted({index for truth in truths for index in truth or ()}))
        joined = lambda left, right: np.concatenate((left, without(right, left)))  # noqa: E731
        yield "alternative", Case(f"{pair[0]} or {pair[1]}", union, pair[0], truths[0] or (), tuple(pair), joined)
    tint = str(rng.choice([name for name in COLOURS if name not in colors] or [color])) if absent else color
    query = Query(noun, colour=tint or None)
    asked, truth = f"{tint} {noun}".strip(), named(scene, query)
    if truth is not None:
        form = ("where is the {}?", "find the {}", "show me the {}", "is there {}?")[turn // 2 % 4]
        yield (
            "sentence",
            Case(
                form.format(with_article(asked) if "there" in form else asked),
                truth,
                asked,
                truth,
                (asked,),
                lambda found: found,
            ),
        )
    word = str(rng.choice([one for one in SPANISH if one in strange] or [noun])) if absent else noun
    truth = named(scene, Query(word))
    if word in SPANISH and truth is not None:
        yield "language", Case(SPANISH[word], truth, word, truth, (word,), lambda found: found)


def noun_of(scene: Scene, first: Instance, rng: np.random.Generator) -> str:
    """The usual name of something else in the scene, if there is anything else."""
    others = [one.concept.names[0] for one in scene.instances if one.concept is not first.concept]
    return str(rng.choice(others)) if others else first.concept.names[0]


def count(masks: Masks, truth: Sequence[int], scene: Scene) -> PairCounts:
    """Masks against the instances that a phrase names."""
    true = np.array([scene.instances[index].mask for index in truth], dtype=np.bool_)
    true = true.reshape(-1, *scene.pixels.shape[:2])
    return count_pair(mask_ious(encode_masks(masks), encode_masks(true)))


def summarize(counts: Sequence[PairCounts]) -> dict[str, Any]:
    """Scores with 95 % bootstrap intervals over pairs; cgF1 says nothing where something is there in every pair."""
    draws = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    wrong = np.array([(one.predictions > 0) != (one.truths > 0) for one in counts])
    f1 = np.array([one.mean_f1 for one in counts])  # 1 where nothing is there and nothing was found
    scores = [score(Tally.of([counts[row] for row in draw])).cgf1 for draw in draws]
    found = {
        "f1": (f1.mean(), f1[draws].mean(axis=1)),
        "presence_wrong": (wrong.mean(), wrong[draws].mean(axis=1)),
        "cgf1": (score(Tally.of(counts)).cgf1, scores),
    }
    return {
        name: {"value": float(value), "interval": np.quantile(drawn, (0.025, 0.975)).tolist()}
        for name, (value, drawn) in found.items()
    }


def measure(pairs: int = 300) -> dict[str, object]:
    """Ask scene after scene until every class has its pairs."""
    segmenter = lt.SegmentRuntime.from_pretrained("micro")  # ONNX Runtime: the same masks in a tenth of the time
    options = SceneOptions(size=160, split="test")  # as the model was trained
    asked: dict[str, list[tuple[PairCounts, ...]]] = {name: [] for name in CLASSES}
    kinds: Counter[tuple[str, bool]] = Counter()
    rng, start, turn = np.random.default_rng(19), time.monotonic(), 0
    while any(len(found) < pairs for found in asked.values()):
        scene = make_scene(190_000 + turn, options)
        turn += 1
        wanted = []
        for name, case in cases(scene, rng, turn):
            most = pairs if name == "comparison" else pairs // 2
            if kinds[name, bool(case.truth)] < most:
                kinds[name, bool(case.truth)] += 1
                wanted.append((name, case))
        if not wanted:
            continue
        phrases = list(dict.fromkeys(text for _, case in wanted for text in (case.phrase, case.plain, *case.asked)))
        found = {masks.prompt: masks.masks for masks in segmenter(scene.pixels, phrases)}
        for name, case in wanted:
            instead = case.instead(*(found[text] for text in case.asked))
            answers = ((found[case.plain], case.plain_truth), (found[case.phrase], case.truth), (instead, case.truth))
            asked[name].append(tuple(count(masks, truth, scene) for masks, truth in answers))
        if turn % 50 == 0:
            done = {name: len(one) for name, one in asked.items()}
            print(turn, f"{time.monotonic() - start:.0f} s", done, file=sys.stderr)
    classes = {
        name: {"pairs": len(found), "present": kinds[name, True]}
        | dict(zip(("plain", "phrase", "instead"), map(summarize, zip(*found, strict=True)), strict=True))
        for name, found in asked.items()
    }
    return {"model": "micro", "scenes": turn, "classes": classes, "rules": judge_rules()}


if __name__ == "__main__":
    run(measure, __doc__, "pairs")
