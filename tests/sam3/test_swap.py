"""A swap changes the text and nothing else, and can be undone."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from litetext.errors import EncoderError
from litetext.features.protocol import TextFeatures
from litetext.tokenizer.bpe import TokenBatch
from tests.auditing.fakes import FakeEncoder
from tests.sam3.hosts import SIDE, WIDTH, build

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from litetext.sam3.adapters import AsHostTower, FromHost, encoder_of, swap_text_encoder  # noqa: E402  # noqa: E402
from litetext.sam3.host import load_host  # noqa: E402
from litetext.sam3.segmenter import Segmenter, SegmentOptions  # noqa: E402
from tests.sam3.runs import KINDS, PHRASES, OfLength, as_processor, assert_equal, exact, load_with, run, some_pixels  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]


@pytest.fixture
def host(host_folder: Path) -> Any:
    return exact(host_folder)


@pytest.fixture(params=KINDS, ids=["sam3", "lite", "detector of video", "video"])
def kind(request: pytest.FixtureRequest) -> tuple[str, bool]:
    name, video = request.param
    return str(request.getfixturevalue(name)), video


def run_precomputed(host: Any, values: Any) -> Any:
    pixels = some_pixels(host.dtype)
    with torch.no_grad():
        vision = host.get_vision_features(pixels.expand(len(values), -1, -1, -1))
        return host(vision_embeds=vision, text_embeds=SimpleNamespace(pooler_output=values))


def test_a_swap_with_an_equal_encoder_changes_nothing(kind: tuple[str, bool]) -> None:
    folder, video = kind
    model = exact(folder, video=video)
    batch = as_processor(PHRASES)
    before = run(model, **batch)
    swap_text_encoder(model, encoder_of(model))
    after = run(model, **batch)
    assert_equal(after, before)
    assert torch.equal(after.pred_masks > 0, before.pred_masks > 0)


def test_a_swap_with_another_encoder_changes_the_masks_and_undo_restores_them(
    kind: tuple[str, bool], fake: FakeEncoder
) -> None:
    folder, video = kind
    model = exact(folder, video=video)
    state = list(model.state_dict())
    batch = as_processor(PHRASES)
    before = run(model, **batch)
    with swap_text_encoder(model, fake) as swap:
        during = run(model, **batch)
        assert not torch.equal(during.pred_masks > 0, before.pred_masks > 0)
        assert fake.batches == [PHRASES]
        assert encoder_of(model) is fake
    assert_equal(run(model, **batch), before)
    assert list(model.state_dict()) == state
    swap.undo()
    assert_equal(run(model, **batch), before)


def test_swaps_are_undone_last_first(host: Any, fake: FakeEncoder) -> None:
    batch = as_processor(PHRASES)
    first = swap_text_encoder(host, OfLength(5))
    with_first = run(host, **batch)
    second = swap_text_encoder(host, fake)
    with pytest.raises(EncoderError, match="another swap came after this one; undo the last swap first"):
        first.undo()
    second.undo()
    assert_equal(run(host, **batch), with_first)
    first.undo()
    assert isinstance(encoder_of(host), FromHost)


@pytest.mark.parametrize("length", [1, 7, 16, 32, 77])
def test_any_context_goes_through_the_users_own_code(host: Any, length: int) -> None:
    """The features that the decoder reads are those of the encoder, its own tokens and no others."""
    encoder = OfLength(length)
    features = encoder.encode(PHRASES)
    expected = run_precomputed(host, features.values[:, :length].double())
    swap_text_encoder(host, encoder)
    assert_equal(run(host, **as_processor(PHRASES)), expected)
    assert_equal(run(host, **as_processor(PHRASES, width=77)), expected)
    mask = as_processor(PHRASES)["attention_mask"]
    embeds = host.get_text_features(**as_processor(PHRASES))
    assert embeds.pooler_output.shape == (3, max(32, length), WIDTH)
    vision = host.get_vision_features(torch.zeros(3, 3, SIDE, SIDE, dtype=torch.float64))
    with torch.no_grad():
        one = host(vision_embeds=vision, text_embeds=embeds, attention_mask=mask)
        other = host(None, vision, None, mask, embeds)
    assert_equal(one, other)


def test_own_code_with_gradients_on(host: Any, fake: FakeEncoder) -> None:
    """The encoder computes under `inference_mode`; its features still go into a host that records gradients."""
    swap_text_encoder(host, encoder_of(host))
    output = host(pixel_values=some_pixels(host.dtype), **as_processor(["white dog"]))
    output.pred_masks.sum().backward()
    assert host.mask_decoder.instance_projection.weight.grad is not None


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_features_take_the_hosts_number_type(host_folder: Path, name: str, fake: FakeEncoder) -> None:
    model = load_with(host_folder, fake, dtype=name)
    dtype = getattr(torch, name)
    assert model.dtype is dtype
    assert model.get_text_features(**as_processor(PHRASES)).pooler_output.dtype is dtype
    found = Segmenter(model, options=SegmentOptions(threshold=0.0))(np.zeros((9, 9), np.uint8), PHRASES)
    assert all(np.isfinite(masks.scores).all() for masks in found)
    assert model.float().get_text_features(**as_processor(PHRASES)).pooler_output.dtype is torch.float32


def test_an_encoder_that_is_a_module_stays_its_owners(host: Any) -> None:
    class Module(torch.nn.Module):
        name, context_length, width = "module", 4, WIDTH

        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(3, WIDTH)

        def encode(self, texts: Any) -> TextFeatures:
            values = self.table.weight.detach().expand(len(texts), -1, -1)
            return TextFeatures(values, torch.ones(len(texts), 3, dtype=torch.bool))

    encoder = Module()
    swap_text_encoder(host, encoder)
    assert not any("table" in name for name, _ in host.named_parameters())
    host.half()
    assert encoder.table.weight.dtype is torch.float32
    assert host.get_text_features(**as_processor(["x"])).pooler_output.dtype is torch.float16


def test_the_video_model_detects_a_frame_with_another_encoder(video_folder: Path, fake: FakeEncoder) -> None:
    model = load_with(video_folder, fake, video=True)
    model.score_threshold_detection = 0.0
    model.det_nms_thresh = 0.0
    # The student reads fewer tokens than the session marks as valid.
    prompts = dict(enumerate(PHRASES))
    batches = {index: as_processor([phrase]) for index, phrase in prompts.items()}
    session = SimpleNamespace(
        prompts=prompts,
        prompt_embeddings={},
        prompt_input_ids={index: batch["input_ids"] for index, batch in batches.items()},
        prompt_attention_masks={index: batch["attention_mask"] for index, batch in batches.items()},
    )
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    segmenter = Segmenter(model, options=SegmentOptions(threshold=0.0))
    embedding = segmenter.embed(picture)
    with torch.no_grad():
        detections = model.run_detection(session, embedding.vision)
    for index, masks in enumerate(segmenter.segment_embedding(embedding, PHRASES)):
        scores = detections[index]["scores"].sort(descending=True).values
        np.testing.assert_allclose(scores.numpy(), masks.scores, atol=1e-5)


def test_a_whole_video_session_runs(video_folder: Path, fake: FakeEncoder) -> None:
    model = load_with(video_folder, fake, video=True)
    model.score_threshold_detection = model.new_det_thresh = 0.2
    module = sys.modules[type(model).__mro__[1].__module__]
    frames = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    session = module.Sam3VideoInferenceSession(frames, SIDE, SIDE, dtype=torch.float32)
    batch = as_processor(["white dog"])
    index = session.add_prompt("white dog")
    session.prompt_input_ids[index] = batch["input_ids"]
    session.prompt_attention_masks[index] = batch["attention_mask"]
    with torch.inference_mode():
        outputs = [model(inference_session=session, frame_idx=frame) for frame in range(3)]
    assert len(outputs) == 3
    assert fake.batches == [["white dog"]]


@pytest.mark.data
def test_ids_become_the_phrases_that_they_were_made_of(real_lines: list[str]) -> None:
    """Real prompts (every fiftieth: all of them take a minute) come back as phrases with the same ids."""
    from litetext.sam3.adapters import _phrases

    lines = [line for line in dict.fromkeys(real_lines) if line.strip()][::50]
    batch = TokenBatch.of_texts(lines, 77)
    again = TokenBatch.of_texts(_phrases(torch.from_numpy(batch.ids)), 77)
    np.testing.assert_array_equal(again.ids, batch.ids)


def test_foreign_ids_are_refused(host: Any, fake: FakeEncoder) -> None:
    swap_text_encoder(host, fake)
    with pytest.raises(EncoderError, match="ids that CLIP's vocabulary does not have"):
        host.get_text_features(input_ids=torch.tensor([[49406, 60000, 49407]]))


def test_features_that_do_not_fit_are_refused(host: Any) -> None:
    with pytest.raises(EncoderError, match=r"features of width 256 where the model reads 64, L7"):
        swap_text_encoder(host, OfLength(7, width=256))
    broken = FakeEncoder(whole=True, width=WIDTH)
    swap_text_encoder(host, broken)
    object.__setattr__(
        broken,
        "encode",
        lambda texts: TextFeatures(torch.full((1, 2, WIDTH), torch.inf), torch.ones(1, 2, dtype=torch.bool)),
    )
    with pytest.raises(EncoderError, match="the features of 'dog' are not finite"):
        host.get_text_features(**as_processor(["dog"]))
    with pytest.raises(EncoderError, match="2 texts"):
        host.get_text_features(**as_processor(["dog", "cat"]))


def test_only_hosts_are_swapped() -> None:
    bert = transformers.BertModel(transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(EncoderError, match="a 'bert' model is not a SAM3 host"):
        swap_text_encoder(bert, OfLength(7))


def test_the_hosts_tower_is_an_encoder(host: Any) -> None:
    encoder = encoder_of(host)
    assert (encoder.context_length, encoder.width) == (32, WIDTH)
    features = encoder.encode(PHRASES)
    batch = as_processor(PHRASES)
    with torch.no_grad():
        expected = host.get_text_features(**batch).pooler_output
    length = features.values.shape[1]
    assert length == int(batch["attention_mask"].sum(dim=1).max())
    mask = batch["attention_mask"].bool()
    torch.testing.assert_close(features.values[features.mask], expected[mask], atol=1e-5, rtol=0)
    with pytest.raises(EncoderError, match="no texts to encode"):
        encoder.encode([])


def test_the_lite_tower_reads_what_its_processor_pads(lite_folder: Path) -> None:
    host = load_host(str(lite_folder), device="cpu")
    features = encoder_of(host).encode(PHRASES)
    batch = as_processor(PHRASES)
    with torch.no_grad():
        expected = host.get_text_features(**batch).pooler_output
    torch.testing.assert_close(
        features.values[features.mask], expected[batch["attention_mask"].bool()], atol=1e-5, rtol=0
    )


def test_a_fresh_tower_answers_where_the_host_is() -> None:
    tower = AsHostTower(OfLength(3), torch.device("cpu"), torch.float32).to(torch.float64)
    assert tower(input_ids=torch.tensor([[49406, 320, 49407]])).last_hidden_state.dtype is torch.float64
    assert build("sam3").text_encoder is not None
