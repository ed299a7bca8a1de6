"""Errors that are known, injected into a tiny host."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.auditing.attenuation import RESULTS, STAGES, AttenuationStats  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.features.protocol import TextEncoder, TextFeatures  # noqa: E402
from litetext.sam3.adapters import valid_rows  # noqa: E402
from litetext.sam3.attenuation import Question, align_phrases, measure_attenuation, share_out  # noqa: E402
from litetext.sam3.probes import attention_logits  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402
from tests.auditing.fakes import FakeEncoder  # noqa: E402
from tests.sam3.hosts import WIDTH  # noqa: E402
from tests.sam3.runs import PHRASES  # noqa: E402

pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Wrong:
    """The teacher's features, scaled; of a text longer than ``most`` tokens only the first ones and the last."""

    teacher: TextEncoder
    scale: float
    most: int = 99
    name: str = "wrong"
    context_length: int = 16
    width: int = WIDTH

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        found = self.teacher.encode(texts)
        values, mask = found.values.clone() * self.scale, found.mask.clone()
        for row, length in enumerate(mask.sum(dim=1).tolist()):
            if length > self.most:
                values[row, self.most - 1] = values[row, length - 1]
                mask[row, self.most :] = False
        return TextFeatures(values, mask)


@pytest.fixture
def segmenter(host: Any) -> Segmenter:
    return Segmenter(host)


@pytest.fixture
def questions(photo: npt.NDArray[np.uint8]) -> list[Question]:
    return [Question(photo, tuple(PHRASES[:2])), Question(photo[::-1], (PHRASES[0],))]


def relative(reference: Any, changed: Any) -> float:
    return float((changed - reference).square().sum() / reference.square().sum())


def test_a_student_that_is_the_teacher_makes_no_error(segmenter: Segmenter, questions: list[Question]) -> None:
    stats = measure_attenuation(segmenter, segmenter.encoder, questions)
    for path in stats.errors.values():
        errors = [error for layer in path.layers for error in layer.errors.values()]
        assert [path.features, *errors, *path.results.values()] == pytest.approx(
            [0.0] * (4 * len(STAGES) + 4), abs=1e-9
        )
        assert path.factor is None
        assert path.cosine == pytest.approx(1)


def test_where_the_error_enters_it_is_what_follows_from_the_weights(
    segmenter: Segmenter, host: Any, photo: npt.NDArray[np.uint8]
) -> None:
    """What the queries of the first attention are does not depend on the text, so that its logits are known."""
    seen: list[Any] = []
    attention = host.detr_encoder.layers[0].cross_attn
    hook = attention.register_forward_hook(lambda _, __, kwargs, ___: seen.append(kwargs["query"]), with_kwargs=True)
    stats = measure_attenuation(segmenter, Wrong(segmenter.encoder, 2.0), [Question(photo, (PHRASES[1],))])
    hook.remove()
    path = stats.errors["student"]
    assert (path.features, path.cosine) == pytest.approx((1.0, 1.0))
    (text,) = valid_rows(segmenter.encoder, [PHRASES[1]])
    with torch.inference_mode():
        logits, changed = (attention_logits(attention, seen[0][:1], values[None]) for values in (text, 2 * text))
    first = path.layers[0]
    assert first.layer == "encoder.0"
    assert first.errors["logits"] == pytest.approx(relative(logits, changed), rel=1e-4)
    weights, changed = logits.softmax(dim=-1), changed.softmax(dim=-1)
    assert first.errors["weights"] == pytest.approx(relative(weights, changed), rel=1e-4)
    uniform = 1 / len(text)
    assert first.errors["weights_centred"] == pytest.approx(relative(weights - uniform, changed - uniform), rel=1e-4)
    assert first.factor == pytest.approx(1 / relative(weights, changed), rel=1e-4)


def test_what_comes_out_is_what_the_segmenter_gives(
    segmenter: Segmenter, host: Any, photo: npt.NDArray[np.uint8]
) -> None:
    """The errors of the results, from two plain runs of the host."""
    student = Wrong(segmenter.encoder, 0.5)
    stats = measure_attenuation(segmenter, student, [Question(photo, (PHRASES[1],))])
    before, after = (one.run_host(one.embed(photo), [PHRASES[1]]) for one in (segmenter, Segmenter(host, student)))
    fields = ("pred_masks", "pred_logits", "presence_logits")
    expected = {name: relative(before[field], after[field]) for name, field in zip(RESULTS, fields, strict=True)}
    assert stats.errors["student"].results == pytest.approx(expected, rel=1e-3)
    assert min(expected.values()) > 1e-6


def test_other_errors_have_the_same_size_in_other_directions(segmenter: Segmenter, questions: list[Question]) -> None:
    stats = measure_attenuation(segmenter, Wrong(segmenter.encoder, 0.5), questions)
    assert list(stats.errors) == ["student", "shuffled", "noise"]
    assert [path.features for path in stats.errors.values()] == pytest.approx([0.25] * 3)
    # Along the features; anywhere in 64 dimensions: 1 / sqrt(1 + 1/4).
    assert stats.errors["student"].cosine == pytest.approx(1.0)
    assert stats.errors["noise"].cosine == pytest.approx(1.25**-0.5, abs=0.03)
    weights = [path.layers[0].errors["weights"] for path in stats.errors.values()]
    assert len(set(weights)) == 3
    assert (stats.images, stats.pairs, stats.phrases, stats.truncated) == (2, 3, 2, 0)


def test_the_seed_says_what_is_drawn_and_nothing_else(segmenter: Segmenter, questions: list[Question]) -> None:
    def measure(seed: int) -> AttenuationStats:
        return measure_attenuation(segmenter, Wrong(segmenter.encoder, 0.5), questions, seed)

    state = torch.get_rng_state()
    first, again, other = measure(1), measure(1), measure(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.to_json() == again.to_json()
    assert first.errors["noise"].layers != other.errors["noise"].layers
    assert first.errors["student"].results == pytest.approx(other.errors["student"].results, rel=1e-4)


def test_of_a_truncated_phrase_the_tokens_that_both_have_are_compared(
    segmenter: Segmenter, questions: list[Question]
) -> None:
    student = Wrong(segmenter.encoder, 1.0, most=5)
    short, long = align_phrases(segmenter.encoder, student, PHRASES[:2])
    assert (short.is_truncated, long.is_truncated) == (False, True)
    rows = valid_rows(segmenter.encoder, [PHRASES[1]])[0]
    assert torch.equal(long.teacher, rows[[0, 1, 2, 3, -1]])
    assert torch.equal(long.student, long.teacher)
    stats = measure_attenuation(segmenter, student, questions)
    assert stats.truncated == 1
    assert stats.errors["student"].features == 0


def test_mistakes_are_named(segmenter: Segmenter, questions: list[Question], photo: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(EncoderError, match=f"features of width 8 where the host reads {WIDTH}, fake"):
        measure_attenuation(segmenter, FakeEncoder(whole=False, width=8), questions)
    student = Wrong(segmenter.encoder, 1.0)
    for asked in ([], [Question(photo, ())]):
        with pytest.raises(OptionError, match="no images, or one without a phrase"):
            measure_attenuation(segmenter, student, asked)
    with pytest.raises(OptionError, match="an empty phrase"):
        measure_attenuation(segmenter, student, [Question(photo, (" ",))])


def test_prompts_are_shared_out_evenly() -> None:
    images, texts = ["a", "b", "c"], [str(number) for number in range(10)]
    asked = share_out(images, texts, 8, seed=0)
    assert [question.image for question in asked] == images
    assert [len(question.prompts) for question in asked] == [3, 3, 2]
    assert all(len(set(question.prompts)) == len(question.prompts) for question in asked)
    assert len({question.prompts for question in asked}) == 3
    again = share_out(images, texts, 8, seed=0)
    assert [question.prompts for question in again] == [question.prompts for question in asked]
    everything = share_out(images, texts, 1000, seed=0)
    assert [question.prompts for question in everything] == [tuple(texts)] * 3
    assert [question.image for question in share_out(images, texts, 2, seed=0)] == ["a", "b"]
