"""The segmenter says what the host says: once an image, any number of phrases, at the image's size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from litetext.errors import EncoderError, OptionError
from litetext.sam3.masks import Masks
from tests.auditing.fakes import FakeEncoder
from tests.sam3.hosts import SIDE, WIDTH
from tests.sam3.runs import FIELDS, OfLength, as_processor, exact

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from litetext.sam3 import masks as masks_module  # noqa: E402
from litetext.sam3 import segmenter as module  # noqa: E402
from litetext.sam3.adapters import encoder_of, swap_text_encoder  # noqa: E402
from litetext.sam3.host import load_host  # noqa: E402
from litetext.sam3.host_engine import to_raw  # noqa: E402
from litetext.sam3.masks import resize_masks, to_masks  # noqa: E402
from litetext.sam3.segmenter import (  # noqa: E402
    Exemplars,
    Segmenter,
    SegmentOptions,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]

PHRASES = ["white dog", "the small red car on the left", "leash", "x"]
LOW = SegmentOptions(threshold=0.1)


@pytest.fixture(scope="module")
def shared(host_folder: Path) -> Any:
    """One host for tests that change nothing of it, in float64: in float32 its wild weights blow up the rounding."""
    return exact(host_folder)


def assert_same(one: Masks, other: Masks, atol: float = 1e-5, pixels: float = 0.0) -> None:
    """The same but for rounding; so many pixels may be at the threshold, of each mask."""
    assert (one.prompt, len(one)) == (other.prompt, len(other))
    np.testing.assert_allclose(one.scores, other.scores, atol=atol, rtol=0)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=atol * max(one.size), rtol=0)
    assert ((one.masks != other.masks).mean(axis=(1, 2)) <= pixels).all()


def raw(model: Any, picture: Image.Image, phrases: list[str]) -> Any:
    processor = transformers.Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"].to(model.dtype)
    with torch.no_grad():
        return model(pixel_values=pixels.expand(len(phrases), -1, -1, -1), **as_processor(phrases))


@pytest.mark.parametrize("size", [(90, 70), (1, 1), (1, 300), (57, 2), (400, 300)])
def test_it_equals_the_hosts_own_pipeline(shared: Any, size: tuple[int, int]) -> None:
    height, width = size
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    processor = transformers.Sam3ImageProcessor(size={"height": SIDE, "width": SIDE})
    outputs = raw(shared, picture, PHRASES)
    outputs = SimpleNamespace(**{name: outputs[name].float() for name in FIELDS})
    expected = processor.post_process_instance_segmentation(
        outputs, threshold=0.02, mask_threshold=0.5, target_sizes=[size] * len(PHRASES)
    )
    found = Segmenter(shared, options=SegmentOptions(threshold=0.02))(picture, PHRASES)
    assert any(len(masks) for masks in found)
    for masks, prompt, wanted in zip(found, PHRASES, expected, strict=True):
        order = wanted["scores"].argsort(descending=True, stable=True)
        boxes, scores = wanted["boxes"][order].numpy(), wanted["scores"][order].numpy()
        # Of no instances `transformers` forgets to resize the masks.
        expected_masks = wanted["masks"][order].bool().numpy() if len(order) else np.zeros((0, *size), np.bool_)
        assert_same(masks, Masks(expected_masks, boxes, scores, prompt), pixels=3e-4)


def test_the_same_outputs_are_read_alike(shared: Any) -> None:
    """Bit for bit, on outputs that are given."""
    generator = torch.Generator().manual_seed(0)
    outputs = SimpleNamespace(
        pred_logits=torch.randn(3, 9, generator=generator),
        presence_logits=torch.randn(3, 1, generator=generator),
        pred_boxes=torch.rand(3, 9, 4, generator=generator),
        pred_masks=torch.randn(3, 9, 32, 32, generator=generator),
    )
    processor = transformers.Sam3ImageProcessor()
    raw = to_raw(outputs)
    for threshold, mask_threshold in [(0.3, 0.5), (0.0, 0.2), (0.99, 0.5)]:
        expected = processor.post_process_instance_segmentation(outputs, threshold, mask_threshold, [(50, 41)] * 3)
        for masks, wanted in zip(
            to_masks(raw, ["a", "b", "c"], (50, 41), threshold, mask_threshold), expected, strict=True
        ):
            order = wanted["scores"].argsort(descending=True, stable=True)
            np.testing.assert_array_equal(masks.scores, wanted["scores"][order])
            np.testing.assert_array_equal(masks.boxes, wanted["boxes"][order])
            if len(masks):
                np.testing.assert_array_equal(masks.masks, wanted["masks"][order].bool())


@pytest.mark.parametrize("most", [1, 50 * 41, 3 * 50 * 41, 10**9])
def test_masks_are_resized_in_pieces(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks_module, "MAX_FLOATS", most)
    logits = torch.randn(7, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(logits[None].sigmoid(), (50, 41), mode="bilinear")[0] > 0.5
    np.testing.assert_array_equal(resize_masks(logits.numpy(), (50, 41), 0.5), whole.numpy())


def test_nothing_above_the_threshold(shared: Any, photo: Any) -> None:
    (found,) = Segmenter(shared, options=SegmentOptions(threshold=0.999))(photo, ["white dog"])
    assert (len(found), found.size, found.boxes.shape) == (0, (90, 70), (0, 4))


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_several_phrases_equal_one_at_a_time(shared: Any, photo: Any, fake: FakeEncoder, batch: int) -> None:
    together = Segmenter(shared, fake, options=SegmentOptions(threshold=0.1, prompt_batch=batch))
    alone = Segmenter(shared, fake, options=LOW)
    for masks, phrase in zip(together(photo, PHRASES), PHRASES, strict=True):
        (single,) = alone(photo, [phrase])
        assert_same(masks, single)


@pytest.mark.parametrize("length", [1, 7, 16, 32, 77])
def test_any_context(shared: Any, photo: Any, length: int) -> None:
    found = Segmenter(shared, OfLength(length), options=LOW)(photo, PHRASES)
    assert [masks.prompt for masks in found] == PHRASES
    assert all(np.isfinite(masks.scores).all() for masks in found)


def test_teacher_and_student_take_the_same_path(host: Any, host_folder: Path, photo: Any, fake: FakeEncoder) -> None:
    host.double()
    own = Segmenter(host, options=LOW)(photo, PHRASES)
    tower = encoder_of(host)
    loaded = load_host(str(host_folder), text_tower=False, device="cpu").double()
    equal = Segmenter(loaded, tower, options=LOW)(photo, PHRASES)
    for one, other in zip(own, equal, strict=True):
        assert_same(one, other)
    given = Segmenter(host, fake, options=LOW)(photo, PHRASES)
    swap_text_encoder(host, fake)
    swapped = Segmenter(host, options=LOW)(photo, PHRASES)
    for one, other, before in zip(given, swapped, own, strict=True):
        assert_same(one, other)
        assert not np.array_equal(one.scores, before.scores)


def test_an_encoder_may_give_arrays(shared: Any, photo: Any) -> None:
    """As a runtime without PyTorch does."""

    class Arrays(OfLength):
        def encode(self, texts: Any) -> Any:
            features = super().encode(texts)
            return features.values.float().numpy(), features.mask.numpy()

    found = Segmenter(shared, Arrays(5), options=LOW)(photo, PHRASES)
    for one, other in zip(found, Segmenter(shared, OfLength(5), options=LOW)(photo, PHRASES), strict=True):
        assert_same(one, other)


def test_phrases_are_encoded_once_and_repeated_ones_found_once(
    shared: Any, photo: Any, fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    handle = shared.detr_decoder.register_forward_hook(lambda *_: calls.append(1))
    segmenter = Segmenter(shared, fake, options=LOW)
    found = segmenter(photo, ["a dog", "leash", "a dog"])
    assert found[0] is found[2]
    segmenter(photo, ["leash", "cat"])
    assert fake.batches == [["a dog", "leash"], ["cat"]]
    assert len(calls) == 2
    monkeypatch.setattr(module, "MAX_CACHED_PHRASES", 2)
    segmenter(photo, ["bird", "leash"])
    segmenter(photo, ["leash", "a dog"])
    assert fake.batches[2:] == [["bird"], ["a dog"]]
    segmenter(photo, ["one", "two", "three", "four"])
    assert len(segmenter._features) == 2
    handle.remove()


def test_an_image_is_embedded_once(shared: Any, photo: Any, fake: FakeEncoder) -> None:
    calls: list[int] = []
    handle = shared.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    segmenter = Segmenter(shared, fake, options=SegmentOptions(threshold=0.1, prompt_batch=1))
    embedding = segmenter.embed(photo)
    batches: list[int] = []
    second = shared.detr_decoder.register_forward_hook(lambda *_: batches.append(1))
    found = segmenter.segment_embedding(embedding, PHRASES)
    first = next(found)
    assert (first.prompt, batches, calls) == (PHRASES[0], [1], [1])  # the masks of the others are not in memory yet
    found = [first, *found]
    second.remove()
    for one, other in zip(found, segmenter(photo, PHRASES), strict=True):
        assert_same(one, other)
    handle.remove()


def test_images_lie_as_a_viewer_shows_them(shared: Any, fake: FakeEncoder, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x.png", exif=exif)
    segmenter = Segmenter(shared, fake, options=LOW)
    (turned,) = segmenter(tmp_path / "x.png", ["dog"])
    (upright,) = segmenter(picture.transpose(Image.Transpose.ROTATE_270), ["dog"])
    assert turned.size == (40, 20)
    assert_same(turned, upright)
    assert turned.draw(tmp_path / "x.png").size == (20, 40)


def test_exemplars_reach_the_host_as_its_processor_would_say_them(shared: Any, photo: Any) -> None:
    boxes, marks = [[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 70.0, 90.0]], [1, 0]
    given = Exemplars(boxes, positive=[True, False])
    shares, labels = given.shares((90, 70))
    corners = torch.tensor([boxes])
    processing = pytest.importorskip("transformers.models.sam3.processing_sam3")
    expected = processing.box_xyxy_to_cxcywh(corners / torch.tensor([70.0, 90.0, 70.0, 90.0]))
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    assert labels.tolist() == [marks]
    segmenter = Segmenter(shared, options=LOW)
    outputs = shared(
        vision_embeds=segmenter.embed(photo).vision,
        input_boxes=expected[:1].to(shared.dtype),
        input_boxes_labels=torch.tensor([marks]),
        **as_processor(["white dog"]),
    )
    wanted = outputs.pred_logits.sigmoid() * outputs.presence_logits.sigmoid()
    (found,) = Segmenter(shared, options=SegmentOptions(threshold=0.0))(photo, ["white dog"], given)
    np.testing.assert_allclose(found.scores, wanted[0].detach().sort(descending=True).values, atol=1e-5)
    (plain,) = Segmenter(shared, options=SegmentOptions(threshold=0.0))(photo, ["white dog"])
    assert not np.allclose(found.scores, plain.scores, atol=1e-4)
    together = segmenter(photo, PHRASES, given)
    for masks, phrase in zip(together, PHRASES, strict=True):
        assert_same(masks, segmenter(photo, [phrase], given)[0])


@pytest.mark.parametrize("kind", ["lite_folder", "video_folder"])
def test_every_host_takes_exemplars_and_half_precision(
    kind: str, request: pytest.FixtureRequest, photo: Any, fake: FakeEncoder
) -> None:
    folder = str(request.getfixturevalue(kind))
    segmenter = Segmenter.from_pretrained(folder, fake, device="cpu", dtype="bf16", options=LOW)
    found = segmenter(photo, PHRASES, Exemplars([[1, 2, 30, 40]]))
    assert [masks.size for masks in found] == [(90, 70)] * 4
    assert all(masks.scores.dtype == masks.boxes.dtype == np.float32 for masks in found)


@pytest.mark.parametrize(
    ("boxes", "positive"),
    [
        ([], None),
        ([1, 2, 3, 4], None),
        ([[1, 2, 3]], None),
        ([[3, 2, 1, 4]], None),
        ([[1, 2, 1, 4]], None),
        ([[1, 2, np.nan, 4]], None),
        ([[1, 2, 3, 4]], [True, False]),
    ],
)
def test_exemplars_that_make_no_sense_are_refused(boxes: Any, positive: Any) -> None:
    with pytest.raises(OptionError, match="exemplar"):
        Exemplars(boxes, positive)


def test_phrases_that_make_no_sense_are_refused(shared: Any, photo: Any) -> None:
    segmenter = Segmenter(shared)
    for prompts in (" ", ["dog", " "]):
        with pytest.raises(OptionError, match="empty"):
            segmenter(photo, prompts)
    assert segmenter(photo, []) == []


@pytest.mark.parametrize(
    "options", [{"threshold": 1.0}, {"threshold": -0.1}, {"mask_threshold": float("nan")}, {"prompt_batch": 0}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        SegmentOptions(**options)


def test_parts_that_do_not_fit_are_refused(shared: Any) -> None:
    with pytest.raises(EncoderError, match=f"features of width 8 where the model reads {WIDTH}"):
        Segmenter(shared, OfLength(7, width=8))
    with pytest.raises(EncoderError, match=r"a processor of \(1008, 1008\) pixels for a model of \(112, 112\)"):
        Segmenter(shared, processor=transformers.Sam3ImageProcessor())


@pytest.mark.data
def test_a_real_photograph(shared: Any, fake: FakeEncoder, coco: dict[str, Any], data_folder: Path) -> None:
    image = coco["images"][0]
    (found,) = Segmenter(shared, fake, options=LOW)(data_folder / "coco33" / "images" / image["file_name"], ["dog"])
    assert found.size == (image["height"], image["width"])


@pytest.mark.parametrize("prompts", [[None], ["dog", 3], [["dog"]], None, 7, [b"dog"]])
def test_what_is_no_list_of_strings_is_refused(shared: Any, photo: Any, prompts: Any) -> None:
    with pytest.raises(OptionError):
        Segmenter(shared)(photo, prompts)


def test_one_phrase_may_be_a_string(shared: Any, photo: Any) -> None:
    segmenter = Segmenter(shared, options=LOW)
    (one,) = segmenter(photo, PHRASES[0])
    assert_same(one, segmenter(photo, PHRASES[:1])[0])
    assert [(score, box.tolist()) for _, box, score in one] == list(zip(one.scores, one.boxes.tolist(), strict=True))


def test_phrases_may_come_from_a_generator(shared: Any, photo: Any) -> None:
    segmenter = Segmenter(shared, options=LOW)
    expected = segmenter(photo, PHRASES)
    found = segmenter(photo, (phrase for phrase in PHRASES))
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["vision_encoder", "detr_encoder", "detr_decoder", "mask_decoder", "text_projection"])
def test_weights_that_are_not_finite_are_an_error(host: Any, photo: Any, part: str, value: float) -> None:
    weight = max(getattr(host, part).parameters(), key=torch.numel)
    with torch.no_grad():
        weight.view(-1)[:] = value
    with pytest.raises(EncoderError, match="not finite"):
        Segmenter(host)(photo, ["dog"])
