"""Running hosts: phrases as the host's processor makes them, exact comparisons in float64."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litetext.features.protocol import TextFeatures
from litetext.tokenizer.bpe import TokenBatch
from tests.auditing.fakes import vector_of
from tests.sam3.hosts import SIDE, WIDTH

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from litetext.sam3.adapters import swap_text_encoder  # noqa: E402
from litetext.sam3.host import detector_of, load_host  # noqa: E402

PHRASES = ["white dog", "the small red car on the left", "leash"]
FIELDS = ("pred_masks", "pred_boxes", "pred_logits", "presence_logits")
TINY = 1e-9
KINDS = [("host_folder", False), ("lite_folder", False), ("video_folder", False), ("video_folder", True)]


class OfLength:
    """Features of exactly L valid tokens for any text, padded with one NaN token."""

    def __init__(self, length: int, width: int = WIDTH) -> None:
        self.name, self.context_length, self.width = f"L{length}", length, width

    def encode(self, texts: Any) -> TextFeatures:
        rows = [[vector_of(f"{text} {index}", self.width) for index in range(self.context_length)] for text in texts]
        values = torch.tensor(np.array(rows))
        values = torch.cat([values, torch.full_like(values[:, :1], torch.nan)], dim=1)
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        mask[:, -1] = False
        return TextFeatures(values, mask)


def as_processor(phrases: list[str], width: int = 32) -> dict[str, Any]:
    """Ids and attention mask as `Sam3Processor` makes them."""
    batch = TokenBatch.of_texts(phrases, width)
    ids = np.where(batch.mask, batch.ids, 49407)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(batch.mask).long()}


def some_pixels(dtype: Any) -> Any:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(dtype)


def run(model: Any, **text: Any) -> Any:
    pixels = some_pixels(model.dtype)
    count = len(text["input_ids"])
    with torch.no_grad():
        return detector_of(model)(pixel_values=pixels.expand(count, -1, -1, -1), **text)


def load_with(path: Path | str, encoder: Any, **options: Any) -> Any:
    """A host that never had its own tower, and reads its text with an encoder."""
    host = load_host(str(path), text_tower=False, device="cpu", **options)
    swap_text_encoder(host, encoder)
    return host


@cache
def _read(path: str, *, video: bool) -> Any:
    return load_host(path, device="cpu", video=video)


def fresh(path: Path | str, *, video: bool = False) -> Any:
    """A host of its own from a folder that stays as it is: read once, copied each time, which is quicker."""
    return copy.deepcopy(_read(str(path), video=video))


def exact(path: Path | str, encoder: Any = None, **options: Any) -> Any:
    """A host in float64: what is left of a difference there is no rounding."""
    if encoder is None:
        return fresh(path, **options).double()
    return load_with(path, encoder, **options).double()


def assert_equal(one: Any, other: Any, atol: float = TINY) -> None:
    for name in FIELDS:
        torch.testing.assert_close(
            one[name], other[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
