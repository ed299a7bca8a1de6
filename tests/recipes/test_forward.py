"""The training pass computes what the host computes, and a box that is given sees no other."""

import pytest
import torch
from recipes.micro.batches import Batch, BatchOptions, BatchStream
from recipes.micro.forward import Seen, decode, encode_text, normalize_pixels, refine, see
from recipes.micro.model import make_model

from litetext.features.protocol import TextFeatures
from litetext.tokenizer.vocabulary import END_ID

pytestmark = pytest.mark.torch

MODEL = make_model(0).eval()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return BatchStream(0, BatchOptions(2, 4, 12, 1, 2, guesses=5))[0]


@pytest.fixture(scope="module")
def seen(batch: Batch) -> tuple[Seen, TextFeatures]:
    with torch.no_grad():
        vision = MODEL.vision_encoder(normalize_pixels(batch.pixels))
        text = encode_text(MODEL, batch.ids, batch.mask)
        features, places = vision.fpn_hidden_states[-2], vision.fpn_position_encoding[-2]
        return see(MODEL, features, places, batch.picture, text), text


def test_the_last_layer_is_what_the_host_says(batch: Batch, seen: tuple[Seen, TextFeatures]) -> None:
    with torch.no_grad():
        decoded = decode(MODEL, *seen)
        for row in range(len(batch.ids)):
            mask = batch.mask[row : row + 1]
            host = MODEL(
                pixel_values=normalize_pixels(batch.pixels[batch.picture[row]][None]),
                input_ids=batch.ids[row : row + 1].masked_fill(~mask, END_ID),
                attention_mask=mask.long(),
            )
            assert decoded.logits[-1, row].tolist() == pytest.approx(host.pred_logits[0].tolist(), abs=1e-5)
            assert decoded.presence[-1, row].item() == pytest.approx(host.presence_logits[0].item(), abs=1e-5)
            boxes = decoded.boxes[-1, row]
            corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)
            assert torch.allclose(corners, host.pred_boxes[0], atol=1e-4)


def test_a_given_box_sees_no_other(batch: Batch, seen: tuple[Seen, TextFeatures]) -> None:
    with torch.no_grad():
        every = refine(MODEL, batch.guess_boxes, *seen)
        alone = refine(MODEL, batch.guess_boxes[:, 2:3], *seen)
    assert every.logits.shape == (3, 8, 5)
    assert every.presence.shape == (0, 8)
    assert torch.allclose(every.boxes[:, :, 2], alone.boxes[:, :, 0], atol=1e-6)
    assert torch.allclose(every.queries[:, :, 2], alone.queries[:, :, 0], atol=1e-5)
    assert torch.equal(every.of(torch.tensor([3])).boxes, every.boxes[:, [3]])
