"""Prompts that SAM3 hardly honors: it was trained to find simple noun phrases. Told by the rules in semantics.toml."""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from litetext.prompts.corpus import PromptCorpus
from litetext.prompts.words import RELATIONS, TRANSITIVE_VERBS

_READ = 30_000  # of larger sets that many distinct prompts are read, which takes about half a second
_EXAMPLES = 3
_LONGEST = 300  # letters of a prompt that are read: more than SAM3's 32 tokens hold, and patterns stay fast
_SCRIPT = re.compile(  # letters that are not Latin
    "[\u0370-\u1cff\u1f00-\u1fff\u3041-\ud7ff\uf900-\ufdff\ufe70-\ufefc\uff66-\uffdc\U00020000-\U0003ffff]"
)
_LETTER = re.compile("[åßøłşğıęąśźżćńěřůőűțșãõ]")  # Latin letters that English does not borrow
_MARKS = str.maketrans({mark: f" {mark} " for mark in ",.;:!?()/&-'’\"“”"})


class _Rules(NamedTuple):
    instead: Mapping[str, str]  # what to do instead, by class
    patterns: Mapping[str, re.Pattern[str]]
    hints: Mapping[str, tuple[str, ...]]  # the classes whose patterns are tried where a word or a mark stands
    names: re.Pattern[str]
    foreign: frozenset[str]
    borrowed: frozenset[str]


@cache
def load_rules() -> _Rules:
    """The rules, compiled."""
    raw = tomllib.loads(files("litetext.auditing").joinpath("semantics.toml").read_text("utf-8"))
    given = {
        "relations": [
            "_".join(words)
            for words in RELATIONS
            if words[0] not in ("inside", "outside", "front") and "side" not in words
        ],
        "verbs": [verb for verb in TRANSITIVE_VERBS if not verb.startswith(("wear", "us"))],
        "digits": list(map(str, range(2, 100))),
    }
    for name, text in raw["lists"].items():
        given[name] = _words(text, given)
    lists = {name: f"(?:{_alternatives(words)})" for name, words in given.items()}

    def pattern(texts: list[str]) -> re.Pattern[str]:
        return re.compile("|".join(re.sub(r"<([a-z_]+)>", lambda found: lists[found[1]], text) for text in texts))

    hints: dict[str, tuple[str, ...]] = {}
    for name, kind in raw["classes"].items():
        for word in set(" ".join(_words(kind["hints"], given)).replace("_", " ").split()):
            hints[word] = (*hints.get(word, ()), name)
    classes = raw["classes"].items()
    return _Rules(
        instead={name: kind["instead"] for name, kind in classes},
        patterns={name: pattern(kind["patterns"]) for name, kind in classes if kind["patterns"]},
        hints=hints,
        names=pattern(raw["names"]),
        foreign=frozenset(given["foreign"]),
        borrowed=frozenset(given["borrowed"]),
    )


def _alternatives(words: list[str]) -> str:
    """The longest first, so that "next to" is found before "next"."""
    return "|".join(re.escape(word.replace("_", " ")) for word in sorted(words, key=lambda word: (-len(word), word)))


def _words(text: str, lists: Mapping[str, list[str]]) -> list[str]:
    """The words of a text, a list in the place of its name."""
    return [word for part in text.split() for word in (lists[part[1:-1]] if part[0] == "<" else [part])]


def classify(text: str) -> tuple[str, ...]:
    """Classes of a prompt, in the order of semantics.toml; none for a simple noun phrase.

    The rules are for English; of a prompt in another language the language is all that is said.
    """
    rules, text = load_rules(), text[:_LONGEST].lower()
    words = text.translate(_MARKS).split()
    if not text.isascii() and (_SCRIPT.search(text) or _LETTER.search(text)):
        return ("language",)
    if not rules.foreign.isdisjoint(words) or len(rules.borrowed.intersection(text.split())) > 1:
        return ("language",)
    hinted = {name for word in words if word in rules.hints for name in rules.hints[word]}
    if not hinted:
        return ()
    plain = rules.names.sub(" ", text)
    return tuple(name for name, rule in rules.patterns.items() if name in hinted and rule.search(plain))


def measure_semantics(corpus: PromptCorpus, seed: int = 0) -> dict[str, Any]:
    """Count the prompts of each class; every number is weighted by occurrence, unless its name says distinct.

    Of more than 30,000 distinct prompts the most frequent 15,000 are read and as many of the others, drawn by ``seed``,
    which stand for the rest.

    Returns:
        ``read``, distinct prompts that were read; ``share`` of the prompts in any class; ``classes``, by name
        ``count``, ``share``, ``distinct``, ``instead`` and ``examples``, the most frequent; ``sources``, their counts.
    """
    rows, weights = _draw(corpus.occurrences, seed)
    instead = load_rules().instead
    member = np.zeros((len(rows), len(instead)), dtype=np.bool_)
    column = {name: place for place, name in enumerate(instead)}
    for place, row in enumerate(rows):
        for name in classify(corpus.texts[row]):
            member[place, column[name]] = True
    counts = (corpus.counts[:, rows] * weights) @ member  # [S, 9]
    order = np.argsort(-corpus.occurrences[rows], kind="stable")
    classes = {
        name: {
            "count": round(float(counts[:, place].sum())),
            "share": float(counts[:, place].sum()) / corpus.total,
            "distinct": round(float(weights @ member[:, place])),
            "instead": advice,
            "examples": [corpus.texts[row] for row in rows[order[member[order, place]][:_EXAMPLES]]],
        }
        for place, (name, advice) in enumerate(instead.items())
    }
    return {
        "read": len(rows),
        "share": float((corpus.occurrences[rows] * weights) @ member.any(axis=1)) / corpus.total,
        "classes": classes,
        "sources": {
            source: dict(zip(instead, np.rint(row).astype(int).tolist(), strict=True))
            for source, row in zip(corpus.sources, counts, strict=True)
        },
    }


def _draw(occurrences: npt.NDArray[np.int64], seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The rows that are read, ascending, and for how many prompts each stands."""
    count = len(occurrences)
    if count <= _READ:
        return np.arange(count), np.ones(count)
    order = np.argsort(-occurrences, kind="stable")
    half = _READ // 2
    drawn = np.random.default_rng(seed).choice(order[half:], half, replace=False)
    weights = np.ones(count)
    weights[drawn] = (count - half) / half
    rows = np.sort(np.concatenate((order[:half], drawn)))
    return rows, weights[rows]
