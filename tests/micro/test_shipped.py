"""The weights in the package: small enough, found by their name without a network, and better than chance by far."""

from functools import cache

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocotools")


from litetext.checkpoints import hub
from litetext.checkpoints.hub import shipped_folder
from litetext.checkpoints.inspection import measure_encoder
from litetext.checkpoints.load import load_encoder
from litetext.evaluation.cgf1 import CgF1
from litetext.micro.evaluation import compare_orders, evaluate_pairs, refused_share
from litetext.micro.model import SIZE, micro_config
from litetext.micro.phrases import Pair, make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.segmenter import Segmenter

pytestmark = pytest.mark.torch
FOLDER = hub.FOLDER / "micro"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return Segmenter.from_pretrained("micro", device="cpu")


@cache
def pairs() -> list[Pair]:
    return list(make_pairs(12, 72, SceneOptions(size=SIZE, split="test")))


@pytest.fixture(scope="module")
def own(segmenter: Segmenter) -> CgF1:
    """The scores with its own text encoder."""
    return evaluate_pairs(segmenter, pairs()).overall


def test_the_files() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 20_000_000
    assert {file.name for file in FOLDER.iterdir()} >= {"config.json", "model.safetensors"}


def test_the_configuration_is_that_of_the_recipe(segmenter: Segmenter) -> None:
    shipped, ours = segmenter.detector.config.to_dict(), micro_config().to_dict()
    for part in ("detr_encoder_config", "detr_decoder_config", "mask_decoder_config"):
        for name in ("hidden_size", "num_attention_heads"):
            assert shipped[part][name] == ours[part][name]
    assert shipped["vision_config"]["backbone_config"]["hidden_size"] == 192
    assert segmenter.encoder.context_length == 32


def test_its_text_encoder_alone(segmenter: Segmenter) -> None:
    alone, inside = load_encoder("micro", device="cpu"), segmenter.encoder
    phrases = ["red car", "the small dogs on the left side of the picture"]
    one, other = alone.encode(phrases), inside.encode(phrases)
    assert one.mask.sum(1).tolist() == other.mask.sum(1).tolist()
    assert float((one.values[one.mask] - other.values[other.mask]).abs().max()) < 1e-4


def test_far_better_than_chance(segmenter: Segmenter, own: CgF1) -> None:
    assert own.cgf1 > 45
    assert own.il_mcc > 0.8
    assert refused_share(segmenter, 20, 0, SIZE) >= 0.8


@pytest.mark.parametrize(
    ("name", "share", "least"),
    [("micro-student", 0.12, 0.9), pytest.param("micro-student-xs", 0.05, 0.8, marks=pytest.mark.slow)],
)
def test_the_students_beside_it(segmenter: Segmenter, own: CgF1, name: str, share: float, least: float) -> None:
    folder = shipped_folder(name)
    assert folder is not None
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 2_000_000
    student, teacher = load_encoder(name, device="cpu"), segmenter.encoder
    ours, theirs = measure_encoder(name, student), measure_encoder("micro", teacher)
    assert ours.parameters <= share * theirs.parameters
    assert student.context_length == 16
    swapped = Segmenter(segmenter.detector, student, segmenter.processor)
    scores = evaluate_pairs(swapped, pairs())
    assert scores.overall.cgf1 / own.cgf1 > least
    order = compare_orders(swapped, pairs(), scores, seed=0)
    assert order is not None
    assert order.pairs > 20
    assert order.lost < 10  # a student that was trained without consistency loses more
    assert refused_share(swapped, 20, 0, SIZE) >= 0.8
