import numpy as np
import pytest

from litetext.auditing.advice import percent, recommend
from litetext.auditing.counting import VocabularyUse, count_corpus, use_of_vocabulary
from litetext.auditing.geometry import measure_geometry
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE
from tests.auditing.injected import some_attenuation


@pytest.fixture(scope="module")
def vocabulary() -> VocabularyUse:
    return use_of_vocabulary(count_corpus(PromptCorpus.build([Prompt("white dog"), Prompt("red car")]), (16,)))


def lengths(*pairs: tuple[int, int]) -> np.ndarray:
    counts = np.zeros(100, dtype=np.int64)
    for length, count in pairs:
        counts[length] = count
    return counts


def test_short_prompts(vocabulary: VocabularyUse) -> None:
    context, words, student = recommend(lengths((4, 990), (8, 10), (20, 0)), 0.01, vocabulary)
    assert (context.topic, words.topic, student.topic) == ("context", "vocabulary", "student")
    assert "Context length 4 is the smallest that truncates at most 1.0 %" in context.text
    assert context.figures["truncated at 4"] == 0.01
    assert context.saves == {"context": 4, "tokens_per_prompt": 1 - 4 / 32}
    assert "exact only at the 16 rows" in context.text
    assert words.saves["s0"] == (VOCABULARY_SIZE - vocabulary.closure) * 512
    assert words.saves["l"] == (VOCABULARY_SIZE - vocabulary.closure) * 768
    assert "at context 16" in student.text
    assert student.saves["parameters"] == 353_724_672 - 42_541_312
    assert student.saves["parameters_pruned"] == student.saves["parameters"] + words.saves["s0"]


def test_longer_prompts_get_the_students_of_32_rows(vocabulary: VocabularyUse) -> None:
    context, _, student = recommend(lengths((10, 90), (25, 10)), 0.01, vocabulary)
    assert context.saves["context"] == 25
    assert "own can be trained" not in context.text
    assert "at context 32" in student.text
    assert "shorten" not in student.text


def test_prompts_beyond_the_teacher_are_told_so(vocabulary: VocabularyUse) -> None:
    context, _, student = recommend(lengths((10, 90), (60, 10)), 0.01, vocabulary)
    assert context.saves["context"] == 60
    assert context.saves["tokens_per_prompt"] == 0.0
    assert "longer than SAM3 itself reads" in student.text


def test_rank_from_geometry(vocabulary: VocabularyUse) -> None:
    points = np.random.default_rng(0).normal(size=(400, 5)) @ np.random.default_rng(1).normal(size=(5, 40))
    geometry = measure_geometry(points, resamples=20)
    advice = recommend(lengths((4, 1)), 0.01, vocabulary, geometry=geometry)
    rank = next(item for item in advice if item.topic == "rank")
    assert rank.figures["geometry.rank_99.value"] == 5
    assert rank.saves["feature_numbers"] == 1 - 5 / 40
    assert rank.text.startswith("5 of 40 directions")


@pytest.mark.parametrize(
    ("student", "noise", "verdict"),
    [
        (0.02, 0.005, "makes the student look better"),
        (0.005, 0.0051, "tells well enough"),
        (0.005, 0.02, "makes the student look worse"),
    ],
)
def test_a_students_error_beside_noise(vocabulary: VocabularyUse, student: float, noise: float, verdict: str) -> None:
    stats = some_attenuation(student, noise)
    advice = recommend(lengths((4, 1)), 0.01, vocabulary, attenuation=stats)
    found = next(item for item in advice if item.topic == "attenuation")
    assert verdict in found.text
    assert f"1/10.0 is left in the attention weights and 1/{0.1 / student:.1f} in the mask logits" in found.text
    assert found.figures["attenuation.errors.student.factor.value"] == pytest.approx(10)
    assert found.figures["attenuation.errors.noise.masks_factor"] == pytest.approx(0.1 / noise)


def test_no_error_no_advice(vocabulary: VocabularyUse) -> None:
    stats = some_attenuation(student=0.0)
    topics = [item.topic for item in recommend(lengths((4, 1)), 0.01, vocabulary, attenuation=stats)]
    assert topics == ["context", "vocabulary", "student"]


def test_every_sentence_names_its_figures(vocabulary: VocabularyUse) -> None:
    for advice in recommend(lengths((4, 1)), 0.01, vocabulary):
        assert advice.figures


def test_shares_for_people() -> None:
    shares = (0, 0.00001, 0.0012, 0.5, 1)
    assert [percent(share) for share in shares] == ["0.0 %", "less than 0.01 %", "0.12 %", "50.0 %", "100.0 %"]
