"""Errors that are known, injected into a tiny host; weights that are read are those that the host computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.auditing.attenuation import AttenuationStats  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.features.encode import valid_rows  # noqa: E402
from litetext.features.protocol import TextEncoder, TextFeatures  # noqa: E402
from litetext.sam3.feature_errors import align_phrases, attention_weights, probed, share_out  # noqa: E402
from litetext.sam3.host import detector_of, text_attentions  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402
from tests.auditing.fakes import FakeEncoder  # noqa: E402
from tests.sam3.hosts import WIDTH  # noqa: E402
from tests.sam3.runs import KINDS, PHRASES, as_processor, assert_equal, exact, fresh, run  # noqa: E402

pytestmark = pytest.mark.torch
LENGTHS = [4, 9, 3]  # tokens of the phrases, start and end counted


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
def questions(photo: npt.NDArray[np.uint8]) -> list[Any]:
    return [(photo, tuple(PHRASES[:2])), (photo[::-1], (PHRASES[0],))]


def relative(reference: Any, changed: Any) -> float:
    return float((changed - reference).square().sum() / reference.square().sum())


def test_a_student_that_is_the_teacher_makes_no_error(segmenter: Segmenter, questions: list[Any]) -> None:
    for path in segmenter.measure_attenuation(segmenter.encoder, questions).errors.values():
        assert [path.features, *path.layers.values(), path.masks] == pytest.approx([0.0] * 6, abs=1e-9)
        assert path.factor is None
        assert path.cosine == pytest.approx(1)


def test_where_the_error_enters_it_is_what_follows_from_the_weights(
    segmenter: Segmenter, host: Any, photo: npt.NDArray[np.uint8]
) -> None:
    """What the queries of the first attention are does not depend on the text, so that its weights are known."""
    seen: list[Any] = []
    attention = host.detr_encoder.layers[0].cross_attn
    hook = attention.register_forward_hook(lambda _, __, kwargs, ___: seen.append(kwargs["query"]), with_kwargs=True)
    stats = segmenter.measure_attenuation(Wrong(segmenter.encoder, 2.0), [photo], [PHRASES[1]])
    hook.remove()
    path = stats.errors["student"]
    assert (path.features, path.cosine) == pytest.approx((1.0, 1.0))
    assert list(path.layers) == ["encoder.0", "decoder.0", "decoder.1", "masks"]
    (text,) = valid_rows(segmenter.encoder, [PHRASES[1]])
    mask = torch.ones(1, len(text), dtype=torch.bool)
    with torch.inference_mode():
        before, after = (attention_weights(attention, seen[0][:1], values[None], mask) for values in (text, 2 * text))
    assert path.layers["encoder.0"] == pytest.approx(relative(before, after), rel=1e-4)
    assert path.factor is not None
    assert path.factor.value == pytest.approx(float(np.exp(np.mean(-np.log(list(path.layers.values()))))), rel=1e-6)


def test_what_comes_out_is_what_the_segmenter_gives(
    segmenter: Segmenter, host: Any, photo: npt.NDArray[np.uint8]
) -> None:
    student = Wrong(segmenter.encoder, 0.5)
    path = segmenter.measure_attenuation(student, [photo], [PHRASES[1]]).errors["student"]
    before, after = (
        each.host_engine.run_rows(each.embed(photo), each.rows([PHRASES[1]]))
        for each in (segmenter, Segmenter(host, student))
    )
    expected = relative(before["pred_masks"], after["pred_masks"])
    assert path.masks == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-6


def test_noise_has_the_size_of_the_error_in_another_direction(segmenter: Segmenter, questions: list[Any]) -> None:
    stats = segmenter.measure_attenuation(Wrong(segmenter.encoder, 0.5), questions)
    student, noise = stats.errors["student"], stats.errors["noise"]
    assert (student.features, noise.features) == pytest.approx((0.25, 0.25))
    # Along the features; anywhere in 64 dimensions: 1 / sqrt(1 + 1/4).
    assert student.cosine == pytest.approx(1.0)
    assert noise.cosine == pytest.approx(1.25**-0.5, abs=0.03)
    assert student.layers != noise.layers
    assert (stats.images, stats.pairs, stats.phrases, stats.truncated) == (2, 3, 2, 0)


def test_the_seed_says_what_is_drawn_and_nothing_else(segmenter: Segmenter, questions: list[Any]) -> None:
    def measure(seed: int) -> AttenuationStats:
        return segmenter.measure_attenuation(Wrong(segmenter.encoder, 0.5), questions, seed=seed)

    state = torch.get_rng_state()
    first, again, other = measure(1), measure(1), measure(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first.errors["noise"].layers != other.errors["noise"].layers
    assert first.errors["student"].masks == pytest.approx(other.errors["student"].masks, rel=1e-4)


def test_of_a_truncated_phrase_the_tokens_that_both_have_are_compared(
    segmenter: Segmenter, questions: list[Any]
) -> None:
    student = Wrong(segmenter.encoder, 1.0, most=5)
    short, long = align_phrases(segmenter.encoder, student, PHRASES[:2])
    assert (short[2], long[2]) == (False, True)
    rows = valid_rows(segmenter.encoder, [PHRASES[1]])[0]
    assert torch.equal(long[0], rows[[0, 1, 2, 3, -1]])
    assert torch.equal(long[1], long[0])
    stats = segmenter.measure_attenuation(student, questions)
    assert stats.truncated == 1
    assert stats.errors["student"].features == 0


def test_mistakes_are_named(segmenter: Segmenter, photo: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(EncoderError, match=f"width 8 .*{WIDTH}"):
        segmenter.measure_attenuation(FakeEncoder(whole=False, width=8), [photo], ["dog"])
    student = Wrong(segmenter.encoder, 1.0)
    for images, texts in (([], ["dog"]), ([photo], []), ([(photo, ())], ["dog"]), ([(photo, (" ",))], [])):
        with pytest.raises(OptionError):
            segmenter.measure_attenuation(student, images, texts)
    with pytest.raises(OptionError, match="0 pairs"):
        segmenter.measure_attenuation(student, [photo], ["dog"], pairs=0)


def test_prompts_are_shared_out_evenly() -> None:
    images, texts = ["a", "b", "c"], [str(number) for number in range(10)]
    asked = share_out(images, texts, 8, seed=0)
    assert [image for image, _ in asked] == images
    assert [len(prompts) for _, prompts in asked] == [3, 3, 2]
    assert all(len(set(prompts)) == len(prompts) for _, prompts in asked)
    assert len({prompts for _, prompts in asked}) == 3
    assert share_out(images, texts, 8, seed=0) == asked
    assert [prompts for _, prompts in share_out(images, texts, 1000, seed=0)] == [tuple(texts)] * 3
    assert [image for image, _ in share_out(images, texts, 2, seed=0)] == ["a", "b"]


def read_weights(model: Any) -> tuple[dict[str, Any], Any]:
    text, weights = as_processor(PHRASES), {}
    with probed(detector_of(model), text["attention_mask"].bool(), weights.__setitem__):
        output = run(model, **text)
    return weights, output


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(("folder", "video"), KINDS)
def test_the_output_of_an_attention_follows_from_its_weights(
    folder: str, video: bool, kernel: str, request: Any
) -> None:
    model = fresh(request.getfixturevalue(folder), video=video)
    model.set_attn_implementation(kernel)
    values: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    attentions = {name: attention for name, (attention, _) in text_attentions(detector_of(model)).items()}
    for name, attention in attentions.items():
        attention.v_proj.register_forward_hook(lambda _, __, out, name=name: values.__setitem__(name, out))
        attention.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out[0]))
    weights, _ = read_weights(model)
    assert list(weights) == list(attentions)
    for name, attention in attentions.items():
        heads = values[name].unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        output = attention.o_proj((weights[name] @ heads).transpose(1, 2).flatten(2))
        torch.testing.assert_close(outputs[name], output, atol=1e-5, rtol=1e-4)
        for row, length in enumerate(LENGTHS):
            assert not weights[name][row, ..., length:].any()


def test_a_probe_changes_nothing_and_leaves_nothing_behind(host_folder: Path) -> None:
    model = exact(host_folder)
    before = run(model, **as_processor(PHRASES))
    _, during = read_weights(model)
    assert_equal(during, before, atol=0)
    with pytest.raises(KeyError), probed(detector_of(model), torch.ones(3, 32, dtype=torch.bool), print):
        raise KeyError
    assert not [module for module in detector_of(model).modules() if module._forward_hooks]


def test_weights_by_hand() -> None:
    """Two heads of one channel: softmax of each query times each key, times the scale; float32 also in half."""
    attention = torch.nn.Module()
    attention.q_proj = attention.k_proj = torch.nn.Identity()
    attention.num_attention_heads, attention.head_dim, attention.scaling = 2, 1, 0.5
    query, key = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 5.0], [7.0, 11.0], [9.0, 9.0]]])
    for dtype in (torch.float32, torch.bfloat16):
        found = attention_weights(attention, query.to(dtype), key.to(dtype), torch.tensor([[True, True, False]]))
        expected = torch.tensor([[[[1.5, 3.5]], [[5.0, 11.0]]]]).softmax(dim=-1)
        torch.testing.assert_close(found[..., :2], expected)
        assert not found[..., 2].any()
