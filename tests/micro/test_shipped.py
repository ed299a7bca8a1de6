"""The weights in the package: small enough, found by their name without a network, and better than chance by far."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocotools")

import litetext.micro
from litetext.encoders.loading import load_encoder
from litetext.micro.evaluation import evaluate_pairs, refuse_strangers
from litetext.micro.model import SIZE, micro_config
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.micro.weights import MOST_BYTES
from litetext.sam3.segmenter import Segmenter

pytestmark = pytest.mark.torch
FOLDER = Path(litetext.micro.__file__).parent / "weights"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return Segmenter.load("micro", device="cpu")


def test_the_files() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= MOST_BYTES
    assert {file.name for file in FOLDER.iterdir()} >= {"config.json", "model.safetensors"}


def test_the_configuration_is_that_of_the_recipe(segmenter: Segmenter) -> None:
    shipped, ours = segmenter.detector.config.to_dict(), micro_config().to_dict()
    for part in ("detr_encoder_config", "detr_decoder_config", "mask_decoder_config"):
        for name in ("hidden_size", "num_attention_heads"):
            assert shipped[part][name] == ours[part][name]
    assert shipped["vision_config"]["backbone_config"]["hidden_size"] == 192
    assert segmenter.encoder.context == 32


def test_its_text_encoder_alone(segmenter: Segmenter) -> None:
    alone, inside = load_encoder("micro", device="cpu"), segmenter.encoder
    phrases = ["red car", "the small dogs on the left side of the picture"]
    one, other = alone.encode(phrases), inside.encode(phrases)
    assert one.mask.sum(1).tolist() == other.mask.sum(1).tolist()
    assert float((one.values[one.mask] - other.values[other.mask]).abs().max()) < 1e-4


def test_far_better_than_chance(segmenter: Segmenter) -> None:
    pairs = make_pairs(11, 120, SceneOptions(size=SIZE, split="test"))
    scores = evaluate_pairs(segmenter, pairs).overall
    assert scores.cgf1 > 10
    assert scores.il_mcc > 0.59
    assert refuse_strangers(segmenter, 40, 0, SIZE) >= 0.8
