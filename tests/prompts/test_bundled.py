from importlib.resources import files
from pathlib import Path

from litetext.prompts.bundled import bundled_corpus


def test_the_bundled_corpus_is_small_and_real() -> None:
    corpus = bundled_corpus()
    assert len(corpus) > 4500
    assert {"white cane", "fire engine", "person", "traffic light"} <= set(corpus.texts)
    assert corpus.sources == tuple(
        f"bundled/{name}" for name in ("coco", "emoji", "lvis", "objects365", "odinw", "openimages")
    )
    folder = files("litetext.prompts").joinpath("data")
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 300_000


def test_every_source_is_in_the_notice() -> None:
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    for name in (
        "LVIS",
        "COCO",
        "Objects365",
        "Open Images",
        "ODinW",
        "CLDR",
        "bpe_simple_vocab_16e6",
        "Noto Color Emoji",
    ):
        assert name in notice
