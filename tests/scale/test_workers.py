"""The classes for `map_batches`, without Ray: the answers of the functions of one machine, and errors in their rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from litetext.auditing.counting import count_corpus
from litetext.errors import EncoderError, OptionError
from litetext.evaluation.cgf1 import Tally, count_pair, score
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.sam3.masks import encode_masks, mask_ious
from litetext.scale import CountPrompts, EmbedPhrases, ScorePairs, SegmentImages
from litetext.scale.workers import as_table, merge_counts, merge_pairs

CONTEXTS = (8, 16)
PROMPTS = [
    Prompt("White  Dog", 2, "a"),
    Prompt("white dog", 1, "b"),
    Prompt("a cat on a mat that is long enough to be cut off", 5, "b"),
    Prompt("&amp;amp;amp; nested", 1, "a"),
    Prompt("white dog", 4, "a"),
    Prompt("W\u00e4lder", 1, "c"),
]


def counted(order: list[int], parts: int) -> list[Any]:
    """The rows of `CountPrompts` when the phrases are shuffled to parts; places are those of the list above."""
    names = ["a", "b", "c"]
    rows = [(PROMPTS[place].text, PROMPTS[place].count, names.index(PROMPTS[place].source), place) for place in order]
    worker = CountPrompts(CONTEXTS)
    tables = []
    for part in range(parts):
        own = [row for row in rows if len(row[0].replace("  ", " ")) % parts == part]
        if own:
            tables.append(
                worker(pa.table(dict(zip(("text", "count", "source", "first"), zip(*own, strict=True), strict=True))))
            )
    return tables


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0]])
def test_counts_add_up_whatever_the_parts_and_their_order(parts: int, order: list[int]) -> None:
    expected = PromptCorpus.build(PROMPTS)
    corpus, counts = merge_counts(reversed(counted(order, parts)), ["a", "b", "c"])
    assert (corpus.texts, corpus.sources, corpus.fingerprint) == (
        expected.texts,
        expected.sources,
        expected.fingerprint,
    )
    np.testing.assert_array_equal(corpus.counts, expected.counts)
    whole = count_corpus(expected, CONTEXTS)
    for name in ("occurrences", "distinct", "lengths", "tokens", "tokens_distinct"):
        np.testing.assert_array_equal(getattr(counts, name), getattr(whole, name))
    for length in CONTEXTS:
        np.testing.assert_array_equal(counts.kept[length], whole.kept[length])
    for source, histograms in whole.by_source.items():
        np.testing.assert_array_equal(counts.by_source[source], histograms)


def test_sources_without_a_prompt_are_none() -> None:
    corpus, _ = merge_counts(counted([1], 1), ["a", "b", "c"])
    assert corpus.sources == ("b",)


class Encoder:
    """Features that tell of the text; a text with "bad" in it cannot be encoded."""

    name, context_length, width = "fake", 8, 2

    def encode(self, texts: list[str]) -> Any:
        if any("bad" in text for text in texts):
            raise EncoderError("a bad text")
        values = np.array([[[len(text), row] for row in range(3)] for text in texts], np.float32)
        mask = np.ones(values.shape[:2], np.bool_)
        mask[:, 2] = False
        return values, mask


def test_phrases_keep_their_rows_and_columns() -> None:
    table = EmbedPhrases(Encoder)(pa.table({"id": [1, 2, 3, 4], "text": ["a", "bad", None, "abc"]}))
    assert table.column_names == ["id", "text", "tokens", "features", "error"]
    assert table["id"].to_pylist() == [1, 2, 3, 4]
    assert table["features"].to_pylist() == [[1, 0, 1, 1], None, None, [3, 0, 3, 1]]
    assert table["tokens"].to_pylist() == [2, None, None, 2]
    errors = table["error"].to_pylist()
    assert errors[0] is errors[3] is None
    assert "bad text" in errors[1]
    assert errors[2] == "no text"


class Segmenter:
    """Finds the upper half for "half", nothing else."""

    def embed(self, picture: Any) -> Any:
        return picture

    def segment_embedding(self, picture: Any, phrases: list[str]) -> Any:
        from litetext.sam3.masks import Masks

        for phrase in phrases:
            count = int(phrase == "half")
            masks = np.zeros((count, picture.height, picture.width), np.bool_)
            masks[:, : picture.height // 2] = True
            box = np.array([[0, 0, picture.width, picture.height // 2]] * count, np.float32).reshape(-1, 4)
            yield Masks(masks, box, np.array([0.75] * count, np.float32), phrase)


def test_images_are_paths_or_bytes_with_phrases_of_their_own(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(path := tmp_path / "a.png")
    images = [str(path).encode(), path.read_bytes(), b"no image"]
    table = pa.table({"image": images, "phrases": [["half"], ["x", "half"], ["half"]], "id": [7, 8, 9]})
    found = SegmentImages(Segmenter)(table)  # type: ignore[arg-type]
    assert found["id"].to_pylist() == [7, 8, 9]
    first, second, third = found.to_pylist()
    assert first["annotations"] is third["annotations"] is None
    assert "no image" in third["error"]
    assert second["error"] is None
    (one,) = second["annotations"]
    assert (one["category_id"], one["area"], one["score"], second["width"]) == (2, 12, 0.75, 6)
    again = SegmentImages(Segmenter, ["half"])({"image": [str(path)]})  # type: ignore[arg-type]
    assert again["annotations"][0].as_py()[0]["segmentation"] == one["segmentation"]


def test_pairs_add_up_to_the_scores_of_all() -> None:
    draw = np.random.default_rng(0)
    rows, counts = [], []
    for _ in range(40):
        found, true = (encode_masks(draw.random((n, 6, 6)) > 0.4) for n in draw.integers(0, 3, 2))
        counts.append(count_pair(mask_ious(found, true)))
        rows.append([[{**code, "counts": code["counts"].decode()} for code in codes] for codes in (found, true)])
    columns = {"predictions": [row[0] for row in rows], "truths": [[row[1]] for row in rows]}
    table = pa.table(columns)
    halves = [ScorePairs()(table.slice(0, 13)), ScorePairs()(table.slice(13))]
    merged = merge_pairs(pa.concat_tables(halves))
    assert json.dumps(merged.to_json()) == json.dumps(score(Tally.of(counts)).to_json())


def test_a_batch_is_a_table_or_arrays() -> None:
    assert as_table({"a": np.array([1, 2])}).to_pydict() == {"a": [1, 2]}
    with pytest.raises(OptionError, match="pyarrow"):
        as_table([1])


def test_workers_of_an_audit_need_no_pytorch() -> None:
    code = "import sys, litetext.scale.audit_jobs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"
