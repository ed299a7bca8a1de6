"""The micro model is SAM3 in small: its classes, its structure, its limits, and its folder for `transformers`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


from recipes.micro.model import make_model  # noqa: E402

import litetext as lt  # noqa: E402
from litetext.cli import run  # noqa: E402
from litetext.micro.model import GRID, QUERIES, SIZE, micro_config  # noqa: E402
from litetext.micro.phrases import phrases_of  # noqa: E402
from litetext.micro.scenes import SceneOptions, generator, make_scene  # noqa: E402
from tests.cli.helpers import failure  # noqa: E402
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "micro-sam3"
    assert run(["micro", "export", str(path)]) == 0
    return path


def ask(model: Any, processor: Any, image: Any, phrases: list[str]) -> list[dict[str, Any]]:
    """As the page of SAM3 on Hugging Face has it, with a batch."""
    inputs = processor(images=[image] * len(phrases), text=phrases, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    sizes = inputs["original_sizes"].tolist()
    found: list[dict[str, Any]] = processor.post_process_instance_segmentation(
        outputs, threshold=0.5, target_sizes=sizes
    )
    return found


@pytest.mark.parametrize("encoder", [None, pytest.param("micro-student", marks=pytest.mark.slow)])
def test_transformers_finds_the_same_masks_in_the_exported_folder(folder: Path, encoder: str | None) -> None:
    model: Any = transformers.Sam3Model.from_pretrained(folder)
    processor: Any = transformers.Sam3Processor.from_pretrained(folder)
    assert len(processor.tokenizer) == 49408
    if encoder is not None:
        lt.swap_text_encoder(model, lt.TextEncoder.from_pretrained(encoder, device="cpu"))  # type: ignore[arg-type]
    sam, scene = lt.Segmenter.from_pretrained("micro", encoder), make_scene(187, SceneOptions(split="test"))
    phrases = list(phrases_of(scene, generator(187, "test", 2), "test"))[:3]
    picture, instances = Image.fromarray(scene.pixels).resize((200, 170)), 0
    for ours, theirs in zip(sam(picture, phrases), ask(model, processor, picture, phrases), strict=True):
        order = theirs["scores"].argsort(descending=True)
        assert theirs["scores"][order].tolist() == pytest.approx(ours.scores.tolist(), abs=1e-3)
        assert (theirs["masks"][order].bool().numpy() != ours.masks).sum() <= 3
        assert np.allclose(theirs["boxes"][order], ours.boxes, atol=0.1)
        instances += len(ours)
    assert instances > 5


def test_an_exported_folder_is_replaced_only_as_it_was_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["micro", "export", str(folder)]
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert run(again) == 0
    assert f"{folder}: README.md, config.json" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    weights = folder / "model.safetensors"
    weights.write_bytes(before[weights.name] + b"\0")  # trained further, say
    assert "something else" in failure(capsys, *again)
    weights.write_bytes(before[weights.name])
    (folder / "checkpoints").mkdir()
    assert "something else" in failure(capsys, *again)
