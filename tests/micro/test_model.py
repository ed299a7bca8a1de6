"""The micro model is SAM3 in small: its classes, its structure, its limits."""

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.micro.dense_scenes import make_sheet  # noqa: E402
from litetext.micro.model import GRID, QUERIES, SIZE, make_model, micro_config  # noqa: E402
from litetext.micro.patch_whitening import whiten_patches  # noqa: E402
from litetext.micro.scenes import SceneOptions  # noqa: E402
from litetext.micro.weights import MOST_BYTES, save_weights  # noqa: E402
from tests.micro.models import fresh_model  # noqa: E402

pytestmark = pytest.mark.torch


def test_sizes() -> None:
    model = fresh_model()
    sizes = {name: one.numel() for name, one in model.named_parameters()}
    table = sizes["text_encoder.text_model.embeddings.token_embedding.weight"]
    assert table == 49408 * 96
    assert 3e6 < sum(sizes.values()) - table < 6e6
    assert 2 * sum(sizes.values()) < MOST_BYTES  # in float16
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


def test_whitened_patches() -> None:
    model = copy.deepcopy(fresh_model())
    whiten_patches(model, 0)
    projection = model.vision_encoder.backbone.embeddings.patch_embeddings.projection
    options = SceneOptions(size=SIZE)
    pixels = [torch.from_numpy(make_sheet(seed, options).pixels) for seed in range(20)]
    batch = torch.stack(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        seen = projection(batch).transpose(0, 1).flatten(1)  # [C, N]
    spread = seen.var(dim=1)
    assert 0.5 < spread[:2].mean() < 1.5  # the mean colour of a patch, which would drown all else
    assert bool((spread < 2).all())
    cross = torch.corrcoef(seen[:8]).fill_diagonal_(0)
    assert float(cross.abs().max()) < 0.2


def test_saved_weights_load_as_any_host(tmp_path: Path) -> None:
    from litetext.sam3.segmenter import Segmenter

    model = fresh_model()
    size = save_weights(model, tmp_path / "weights")
    assert size < MOST_BYTES
    assert next(model.parameters()).dtype == torch.float32  # the model itself stays as it is
    segmenter = Segmenter.load(tmp_path / "weights")
    assert segmenter.detector.dtype == torch.float32
    kept = segmenter.detector.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(kept[name], value.half().float()), name
    picture = make_sheet(0, SceneOptions(size=SIZE)).pixels
    assert len(segmenter.segment(picture, ["red car", "dog"])) == 2
    # A scene of the model's size goes in as training puts it in.
    pixels = segmenter.processor(images=picture, return_tensors="pt")["pixel_values"]
    assert float((pixels[0] - (torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1)).abs().max()) < 1e-5
