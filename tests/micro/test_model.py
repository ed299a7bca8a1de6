"""The micro model is SAM3 in small: its classes, its structure, its limits."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


from litetext.micro.model import GRID, QUERIES, SIZE, make_model, micro_config  # noqa: E402
from tests.micro.models import fresh_model  # noqa: E402

pytestmark = pytest.mark.torch


def test_sizes() -> None:
    model = fresh_model()
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    table = sizes["text_encoder.text_model.embeddings.token_embedding.weight"]
    assert table == 49408 * 96
    assert 3e6 < sum(sizes.values()) - table < 6e6
    assert 2 * sum(sizes.values()) < 20_000_000  # in float16
    config = micro_config()
    assert config.text_config.max_position_embeddings == 32
    assert config.image_size == SIZE == 10 * GRID


def test_queries_begin_on_a_grid() -> None:
    boxes = fresh_model().detr_decoder.reference_points.weight.sigmoid()
    assert boxes.shape == (QUERIES, 4)
    assert boxes[:, 2:].flatten().tolist() == pytest.approx([0.25] * 32)
    assert sorted({round(x, 3) for x in boxes[:, 0].tolist()}) == [0.125, 0.375, 0.625, 0.875]
    assert len({tuple(round(x, 3) for x in box) for box in boxes.tolist()}) == QUERIES


def test_making_a_model_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    make_model(0)
    assert torch.equal(torch.rand(2), expected)
