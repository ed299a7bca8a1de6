import json

import numpy as np
import pytest

from litetext.auditing.order import OrderOptions
from litetext.auditing.run import AuditOptions, Inputs, audit
from litetext.errors import OptionError
from litetext.prompts.corpus import Prompt, PromptCorpus
from tests.auditing.fakes import FakeEncoder

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
        "prompts", "tokens", "context", "by_distinct", "vocabulary", "geometry", "positions", "order",
        "attenuation", "advice",
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
    inputs = Inputs(FakeEncoder(whole=True, width=48), positions=np.eye(5, 8, dtype=np.float32))
    report = audit(corpus, inputs, AuditOptions(order=OrderOptions(sample=20)), stages.__setitem__)
    assert report.order is not None
    assert report.order.sensitivity == pytest.approx(1, abs=0.2)
    assert report.positions is not None
    assert report.positions.effective_rank == pytest.approx(5)
    assert report.geometry is not None
    assert report.geometry.points == len(PROMPTS)
    assert {advice.topic for advice in report.advice} == {"context", "vocabulary", "rank", "order", "student"}
    assert set(stages) == {"tokens", "features", "geometry", "word order"}
    assert set(stages.values()) == {1.0}
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))


def test_embeddings_given_win_over_the_encoder(corpus: PromptCorpus) -> None:
    points = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    report = audit(
        corpus, Inputs(FakeEncoder(whole=True, width=48), embeddings=points), AuditOptions(order=OrderOptions(sample=5))
    )
    assert report.geometry is not None
    assert (report.geometry.points, report.geometry.ambient) == (60, 7)


def test_the_sample_is_a_draw_of_the_seed(corpus: PromptCorpus) -> None:
    def measured(seed: int) -> float:
        options = AuditOptions(sample=25, seed=seed, order=OrderOptions(sample=5))
        report = audit(corpus, Inputs(FakeEncoder(whole=True, width=48)), options)
        assert report.geometry is not None
        assert report.geometry.points == 25
        return report.geometry.effective_rank.value

    assert measured(0) == measured(0) != measured(1)


@pytest.mark.parametrize(
    "options",
    [{"contexts": ()}, {"contexts": (2,)}, {"truncation_limit": 1.0}, {"truncation_limit": -0.1}, {"sample": 3}],
)
def test_options_are_checked_at_birth(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        AuditOptions(**options)  # type: ignore[arg-type]
