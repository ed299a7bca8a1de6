import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from litetext.auditing.rendering import print_report, write_report
from litetext.auditing.run import audit
from litetext.auditing.semantics import classify, load_rules, measure_semantics
from litetext.prompts.corpus import Prompt, PromptCorpus
from tests.auditing.labeled import judge_rules, read_sample


def sample() -> list[tuple[str, set[str]]]:
    return [(prompt, labels) for prompt, labels, _ in read_sample()]


@pytest.mark.parametrize("name", load_rules().instead)
@pytest.mark.parametrize("part", ["half", "all"])
def test_precision_and_recall(part: str, name: str) -> None:
    judged = judge_rules(Path("none"))[f"sample, {part}"][name]
    assert judged["labeled"] >= 15
    assert judged["right"] / judged["told"] >= 0.95
    assert judged["right"] / judged["labeled"] >= 0.85


@pytest.mark.parametrize("name", ["alternative", "comparison"])
def test_precision_and_recall_on_prompts_drawn_after_the_rules_stood(name: str, data_folder: Path) -> None:
    judged = judge_rules(data_folder / "prompts")["draw 2"][name]
    assert judged["labeled"] >= 70
    assert judged["right"] / judged["told"] >= 0.95
    assert judged["right"] / judged["labeled"] >= 0.85


def test_the_sample_is_what_its_header_says() -> None:
    prompts = sample()
    assert len(prompts) == len({prompt.lower() for prompt, _ in prompts}) == 874
    assert set().union(*(labels for _, labels in prompts)) == set(load_rules().instead)


def test_no_pattern_is_missed_for_want_of_a_hint() -> None:
    rules = load_rules()
    for prompt, _ in sample():
        told = classify(prompt)
        if told != ("language",):
            plain = rules.names.sub(" ", prompt.lower())
            assert told == tuple(name for name, pattern in rules.patterns.items() if pattern.search(plain)), prompt


@pytest.mark.parametrize(
    ("prompt", "classes"),
    [
        ("red car", ()),
        ("forget-me-not", ()),
        ("Second dog from the LEFT", ("place", "comparison")),
        ("two kids without a helmet next to a bus", ("negation", "relation", "count", "clothing")),
        ("what is on the table?", ("relation", "sentence")),
        ("fruit other than apples", ("negation",)),
        ("person taller than the door", ("comparison",)),
        ("most left hat", ("place", "comparison")),
        ("third metacarpal bone", ()),
        ("chairs, tables", ("alternative",)),
        ("pepper, red", ()),  # a heading of a dictionary, as is "floor, right": no list of two
        ("dry and dusty ground", ()),
        ("glass and steel building", ()),
        ("glass and steel", ("alternative",)),
        ("guy in the left/middle chair", ()),
        ("perro rojo", ("language",)),
        ("猫", ("language",)),
        ("", ()),
    ],
)
def test_classes_of_a_prompt(prompt: str, classes: tuple[str, ...]) -> None:
    assert classify(prompt) == classes


def test_an_endless_prompt_takes_no_time() -> None:
    start = time.perf_counter()
    for text in ("a " * 50_000, "with and in " * 10_000, "the dog, " * 10_000, '"' * 50_000):
        classify(text)
    assert time.perf_counter() - start < 1


def test_counts_are_weighted_and_by_source() -> None:
    prompts = [
        Prompt("cat or dog", 5, "a"),
        Prompt("two dogs", 1, "b"),
        Prompt("dog", 4, "b"),
        Prompt("red or blue cup", 1, "b"),
    ]
    found = measure_semantics(PromptCorpus.build(prompts))
    assert found["read"] == 4
    assert found["share"] == pytest.approx(7 / 11)
    either = found["classes"]["alternative"]
    assert (either["count"], either["distinct"], either["examples"]) == (6, 2, ["cat or dog", "red or blue cup"])
    assert either["share"] == pytest.approx(6 / 11)
    assert {name for name, one in found["classes"].items() if one["count"]} == {"alternative", "count"}
    assert [found["sources"][name]["alternative"] for name in "ab"] == [5, 1]


def test_a_large_set_is_estimated_from_the_frequent_and_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litetext.auditing.semantics._READ", 400)
    prompts = [
        Prompt(f"thing {row}" if row % 4 else f"two things {row} or more", 1 + 1000 * (row < 40)) for row in range(4000)
    ]
    found = measure_semantics(PromptCorpus.build(prompts))
    assert found["read"] == 400
    # Exact: 10 frequent ones of 1,001, and of the 3,960 others a quarter.
    assert found["classes"]["alternative"]["count"] == pytest.approx(11_000, rel=0.03)
    assert found["classes"]["alternative"]["distinct"] == pytest.approx(1000, rel=0.2)
    assert found == measure_semantics(PromptCorpus.build(prompts))


def test_advice_names_the_frequent_classes_and_what_to_do() -> None:
    texts = [f"thing {row}" for row in range(197)] + ["cat or dog", "bus or tram", "two cups"]
    advice = {one.topic: one for one in audit(texts).advice}
    assert list(advice["semantics"].figures) == ["semantics.classes.alternative.share"]
    assert np.isclose(advice["semantics"].figures["semantics.classes.alternative.share"], 0.01)
    assert "cat or dog" in advice["semantics"].text
    assert load_rules().instead["alternative"] in advice["semantics"].text
    assert "semantics" not in {one.topic for one in audit(texts[:198]).advice}


def test_examples_are_shown_as_they_are(tmp_path: Path) -> None:
    report = audit(["[bold]cat or dog", "<b>cat or dog", "dog"])
    console = Console(record=True, width=200)
    print_report(report, console)
    assert "[bold]cat or dog | <b>cat or dog" in console.export_text()
    html = write_report(report, tmp_path).read_text(encoding="utf-8")
    assert "&lt;b&gt;cat or dog" in html
    assert "<b>cat or" not in html
