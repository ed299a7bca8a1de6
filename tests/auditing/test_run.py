import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litetext.auditing.run import audit
from litetext.errors import OptionError, PromptError
from litetext.prompts.corpus import Prompt, PromptCorpus
from tests.auditing.fakes import FakeEncoder
from tests.auditing.injected import some_attenuation

COLOURS, THINGS, PLACES = ("red", "white", "big"), ("dog", "car", "fire engine"), ("left", "road", "table", "hill")
PROMPTS = [
    Prompt(f"{colour} {thing} near the {place}", 1 + index % 3, f"file{index % 2}.txt")
    for index, (colour, thing, place) in enumerate((c, t, p) for c in COLOURS for t in THINGS for p in PLACES)
]


@pytest.fixture(scope="module")
def corpus() -> PromptCorpus:
    return PromptCorpus.build([*PROMPTS, Prompt("Red dog near the LEFT", 1, "file0.txt")])


def test_the_contract_of_the_json(corpus: PromptCorpus) -> None:
    found = audit(corpus).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [
        "prompts", "tokens", "context", "by_distinct", "truncated", "semantics", "vocabulary", "geometry", "positions",
        "order", "attenuation", "advice",
    ]  # fmt: skip
    assert found["prompts"]["total"] == sum(prompt.count for prompt in PROMPTS) + 1
    assert found["prompts"]["distinct"] == len(PROMPTS)
    assert [source["name"] for source in found["prompts"]["sources"]] == ["file0.txt", "file1.txt"]
    assert {"mean", "median", "p95", "max", "counting"} == set(found["tokens"])
    assert [use["length"] for use in found["context"]] == [8, 16, 32, 77]
    assert {"length", "density", "padding", "truncated", "lost_tokens", "wasted_attention"} <= set(found["context"][0])
    assert {"size", "used", "coverage", "top", "closure"} <= set(found["vocabulary"])
    assert 0 < found["vocabulary"]["top"]["100"] <= 1
    assert found["geometry"] is found["positions"] is found["order"] is None
    assert {"topic", "text", "figures", "saves"} == set(found["advice"][0])


def test_occurrences_and_distinct_prompts_are_both_reported() -> None:
    corpus = PromptCorpus.build([Prompt("dog", 9), Prompt("a big white dog", 1)])
    report = audit(corpus)
    assert report.whole.tokens.mean == (9 * 3 + 6) / 10
    assert report.by_distinct.tokens.mean == 4.5


def test_with_encoder_embeddings_and_positions(corpus: PromptCorpus) -> None:
    stages: dict[str, float] = {}
    report = audit(
        corpus,
        encoder=FakeEncoder(whole=True, width=48),
        positions=np.eye(5, 8, dtype=np.float32),
        progress=stages.__setitem__,
    )
    assert report.order is not None
    assert report.order.sensitivity == pytest.approx(1, abs=0.2)
    assert report.positions is not None
    assert report.positions.effective_rank == pytest.approx(5)
    assert report.geometry is not None
    assert report.geometry.points == len(PROMPTS)
    topics = {advice.topic for advice in report.advice}
    assert topics == {"context", "vocabulary", "semantics", "rank", "order", "student"}
    assert set(stages) == {"tokens", "features", "geometry", "word order"}
    assert set(stages.values()) == {1.0}
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))


def test_embeddings_given_win_over_the_encoder(corpus: PromptCorpus) -> None:
    points = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    report = audit(corpus, encoder=FakeEncoder(whole=True, width=48), embeddings=points)
    assert report.geometry is not None
    assert (report.geometry.points, report.geometry.ambient) == (60, 7)


def test_the_sample_is_a_draw_of_the_seed(corpus: PromptCorpus) -> None:
    def measured(seed: int) -> float:
        report = audit(corpus, encoder=FakeEncoder(whole=True, width=48), sample=25, seed=seed)
        assert report.geometry is not None
        assert report.geometry.points == 25
        return report.geometry.effective_rank.value

    assert measured(0) == measured(0) != measured(1)


@pytest.mark.parametrize(
    "options",
    [
        *({"contexts": ()}, {"contexts": (2,)}, {"limit": 1.0}, {"limit": -0.1}, {"sample": 3}),
        *({"discard": 1.0}, {"neighbors": (5, 3)}, {"student": FakeEncoder(whole=True)}, {"images": ["a.png"]}),
    ],
)
def test_options_that_make_no_sense_are_refused(corpus: PromptCorpus, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        audit(corpus, **options)


def test_a_path_paths_strings_or_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("cat\ndog\n", encoding="utf-8")
    totals = [
        audit(source).whole.total
        for source in (
            "a.txt",
            Path("a.txt"),
            "*.txt",
            [Path("a.txt"), Path("b.txt")],
            ["cat"],
            (text for text in "ab"),
        )
    ]
    assert totals == [2, 2, 4, 4, 1, 2]
    assert audit("a.txt").sources[0].read_as == "txt"
    assert audit(["cat"]).sources[0].read_as is None
    for wrong in (None, 3, [None], ["a.txt", "b.txt"], [Path("a.txt"), "cat"]):
        with pytest.raises(OptionError):
            audit(wrong)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="cat"):
        audit("cat")


def test_a_student_is_measured_by_the_model(corpus: PromptCorpus) -> None:
    stats, calls = some_attenuation(), []

    class Model:
        def measure_attenuation(self, *arguments: Any, **options: Any) -> Any:
            calls.append((arguments, options["pairs"], options["seed"]))
            return stats

    student = FakeEncoder(whole=True)
    report = audit(corpus, student=student, model=Model(), images=["a.png"], pairs=7, seed=3)
    assert calls == [((student, ["a.png"], corpus.texts), 7, 3)]
    assert report.attenuation is stats
    assert "attenuation" in {advice.topic for advice in report.advice}
