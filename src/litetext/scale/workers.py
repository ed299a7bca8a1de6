"""Callable classes for ``Dataset.map_batches``: tables in, tables out, a row that fails carries its error."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from PIL import Image

from litetext.auditing.counting import CorpusCounts, count_corpus, sum_counts
from litetext.auditing.run import CONTEXTS
from litetext.errors import ImageError, LiteTextError, OptionError, PromptError
from litetext.evaluation.cgf1 import CgF1, PairCounts, Tally, choose_best, count_pair, score
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.sam3.images import read_image
from litetext.sam3.masks import mask_ious
from litetext.sam3.segment_files import describe_found
from litetext.tokenizer.clean import clean
from litetext.video.masklets import Totals, read_masklets, to_annotation, to_record

if TYPE_CHECKING:
    from litetext.features.encode import Encoder
    from litetext.sam3.segmenter import Segmenter

Batch: TypeAlias = Any  # a table, or arrays by name
_CODE = pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.string())])
ANNOTATIONS = pa.list_(
    pa.struct(
        [
            ("category_id", pa.int64()),
            ("segmentation", _CODE),
            ("bbox", pa.list_(pa.float64())),
            ("area", pa.int64()),
            ("iscrowd", pa.int64()),
            ("score", pa.float64()),
        ]
    )
)
"""What is found in an image, as `Masks.to_coco` has it; category n is the n-th phrase."""


class CountPrompts:
    """Count prompts as the audit does; all rows of a phrase have to be in one batch (shuffle on the phrase).

    A batch has ``text``; ``count`` (1 without it), ``source`` (a number, 0) and ``first`` (where the row stands in the
    whole, its place) may be there. It becomes one row, and rows add up: see `merge_counts`.

    Args:
        contexts: context lengths, as `count_corpus` takes them.
    """

    def __init__(self, contexts: Sequence[int] = CONTEXTS) -> None:
        self.contexts = sorted(set(contexts))

    def __call__(self, batch: Batch) -> pa.Table:
        """One row: lists of the distinct texts and their figures, and counts of token ids."""
        table = as_table(batch)
        columns = {name: _column(table, name, value) for name, value in (("count", 1), ("source", 0))}
        first = table["first"].to_numpy() if "first" in table.column_names else np.arange(len(table))
        order = np.argsort(first, kind="stable")
        texts, counts = table["text"].take(order).to_pylist(), columns["count"][order]
        rows: dict[str, int] = {}
        index = np.array([rows.setdefault(clean(text), len(rows)) for text in texts], np.int64)
        corpus = PromptCorpus.build(map(Prompt, texts, counts.tolist()))
        found = count_corpus(corpus, self.contexts)
        width = int(columns["source"].max(initial=0)) + 1
        cells, inverse = np.unique(index * width + columns["source"][order], return_inverse=True)
        occurrences = np.zeros(len(cells), np.int64)
        np.add.at(occurrences, inverse, counts)
        values: dict[str, Any] = {
            "texts": corpus.texts,
            "firsts": first[order][np.unique(index, return_index=True)[1]],
            "lengths": found.lengths,
            "rows": cells // width,
            "sources": cells % width,
            "counts": occurrences,
            "tokens": found.tokens,
            "tokens_distinct": found.tokens_distinct,
            **{f"kept_{length}": kept for length, kept in found.kept.items()},
        }
        return pa.table({name: pa.array([list(value)]) for name, value in values.items()})


def merge_counts(
    tables: Iterable[pa.Table], sources: Sequence[str], **read: Mapping[str, str]
) -> tuple[PromptCorpus, CorpusCounts]:
    """The corpus and the counts of all rows of `CountPrompts`, the same whatever their number and order.

    ``sources`` are names by number, in the order in which they are read; ``read`` is ``read_as`` and ``warnings``.
    """
    merged: dict[str, list[Any]] = {}
    totals: dict[str, Any] = {}
    texts: list[str] = []
    for table in tables:
        for batch in table.to_batches():
            for row in range(len(batch)):
                size = len(texts)
                for name in batch.schema.names:
                    values = batch.column(name)[row].values
                    if name == "texts":
                        texts += values.to_pylist()
                    elif name in ("firsts", "lengths", "rows", "sources", "counts"):
                        numbers = values.to_numpy()
                        merged.setdefault(name, []).append(numbers + size if name == "rows" else numbers)
                    else:
                        totals[name] = totals.get(name, 0) + values.to_numpy()
    columns = {name: np.concatenate(parts) for name, parts in merged.items()}
    order = np.argsort(columns["firsts"], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    counts = np.zeros((len(sources), len(texts)), np.int64)
    np.add.at(counts, (columns["sources"], place[columns["rows"]]), columns["counts"])
    known = np.flatnonzero(counts.any(axis=1))  # a source without a prompt is none
    names = tuple(sources[number] for number in known.tolist())
    corpus = PromptCorpus(tuple(texts[row] for row in order), counts[known], names, **read)
    kept = {int(name[5:]): value for name, value in totals.items() if name.startswith("kept_")}
    lengths = columns["lengths"][order]
    return corpus, sum_counts(corpus, lengths, totals["tokens"], totals["tokens_distinct"], kept)


class EmbedPhrases:
    """Features of phrases: adds ``tokens`` (L), ``features`` (L x D float32 in a row), ``error``.

    Args:
        encoder: what `TextEncoder.from_pretrained` takes, or a function that gives an encoder.
        column: of the phrases.
    """

    def __init__(self, encoder: "str | Callable[[], Encoder]", column: str = "text") -> None:
        from litetext._face import TextEncoder

        self.encoder: Encoder = TextEncoder.from_pretrained(encoder) if isinstance(encoder, str) else encoder()
        self.column = column

    def __call__(self, batch: Batch) -> pa.Table:
        """The same rows with features, null where a phrase failed."""
        table = as_table(batch)
        texts = table[self.column].to_pylist()
        rows, errors = [None] * len(texts), [None if isinstance(text, str) and text else "no text" for text in texts]
        asked = [place for place, error in enumerate(errors) if error is None]
        found, failed = self.rows([texts[place] for place in asked]) if asked else ([], {})
        for number, (place, row) in enumerate(zip(asked, found, strict=True)):
            rows[place], errors[place] = row, failed.get(number)
        lengths = [None if row is None else len(row) for row in rows]
        values = [None if row is None else np.asarray(row, np.float32).ravel() for row in rows]
        added = {
            "tokens": pa.array(lengths, pa.int64()),
            "features": pa.array(values, pa.list_(pa.float32())),
            "error": pa.array(errors, pa.string()),
        }
        return _with(table, added)

    def rows(self, texts: Sequence[str]) -> "tuple[list[Any], dict[int, str]]":
        """Features [L_i, D] of each text, computed in one batch; where that fails, one by one, with what failed."""
        from litetext.features.encode import array_rows

        try:
            return list(array_rows(self.encoder, texts)), {}
        except LiteTextError as error:
            if len(texts) == 1:
                return [None], {0: str(error)}
        alone = [self.rows([text]) for text in texts]
        failed = {number: errors[0] for number, (_, errors) in enumerate(alone) if errors}
        return [rows[0] for rows, _ in alone], failed


class SegmentImages:
    """Masks of phrases in images: adds ``width``, ``height``, ``annotations`` (COCO's, RLE) and ``error``.

    Args:
        model: what `Segmenter.from_pretrained` takes, or a function that gives a segmenter.
        phrases: to find in every image; None: those in the column ``phrases`` of each row.
        column: of the images: paths, bytes of files, or both by their names as Hugging Face datasets have them.
        options: of `Segmenter.from_pretrained`: ``text_encoder``, ``threshold`` and more.
    """

    def __init__(
        self,
        model: "str | Callable[[], Segmenter]",
        phrases: Sequence[str] | None = None,
        column: str = "image",
        **options: Any,
    ) -> None:
        self.segmenter, self.phrases, self.column = _segmenter(model, options), phrases, column

    def __call__(self, batch: Batch) -> pa.Table:
        """The same rows with what was found, null where an image failed."""
        kinds = {"width": pa.int64(), "height": pa.int64(), "annotations": ANNOTATIONS}
        return _row_by_row(batch, self.column, self.phrases, self.describe, kinds)

    def describe(self, image: Any, phrases: Sequence[str]) -> dict[str, Any]:
        """The size of an image, a path or bytes, and the annotations of what is found in it."""
        picture = opened_image(image)
        return dict(describe_found(picture, self.find(picture, phrases)))

    def find(self, picture: Image.Image, phrases: Sequence[str]) -> list[Any]:
        """The masks of each phrase, as one machine finds them."""
        return list(self.segmenter.segment_embedding(self.segmenter.embed(picture), phrases))


class TrackVideos:
    """Masklets of phrases in clips: adds ``frames``, ``masklets`` (JSON, as in masklets.json) and ``error``.

    Args:
        model: what `Segmenter.from_pretrained` takes, or a function that gives a segmenter.
        phrases: to follow in every clip; None: those in the column ``phrases`` of each row.
        column: of the clips, what `litetext track` takes.
        method: of `make_tracker`.
        options: of `Segmenter.from_pretrained`.
    """

    def __init__(
        self,
        model: "str | Callable[[], Segmenter]",
        phrases: Sequence[str] | None = None,
        column: str = "video",
        method: str = "auto",
        **options: Any,
    ) -> None:
        self.segmenter = _segmenter(model, {"video": method == "tracker", **options})
        self.phrases, self.column, self.method = phrases, column, method

    def __call__(self, batch: Batch) -> pa.Table:
        """The same rows with what was followed, null where a clip failed."""
        kinds = {"frames": pa.int64(), "masklets": pa.string()}
        return _row_by_row(batch, self.column, self.phrases, self.follow, kinds)

    def follow(self, clip: str, phrases: Sequence[str]) -> dict[str, Any]:
        """The number of frames and the masklets of a clip."""
        from litetext.video.frames import open_clip
        from litetext.video.methods import make_tracker

        tracker, records, totals = make_tracker(self.segmenter, phrases, self.method), [], Totals(list(phrases))
        places = {phrase: place for place, phrase in enumerate(phrases)}
        with open_clip(clip) as frames:
            for settled in (*map(tracker.step, frames), tracker.finish()):
                for tracked in settled:
                    records.append(to_record(tracked, places))
                    totals.add(records[-1])
        listed = [{"phrase": one.prompt, **to_annotation(one)} for one in read_masklets(lambda: iter(records), totals)]
        return {"frames": totals.frames, "masklets": json.dumps(listed)}


class ScorePairs:
    """Count (image, phrase) pairs for cgF1: adds ``hits`` [10], ``found``, ``true``, ``misfits``; see `merge_pairs`.

    A row has ``predictions``, a list of RLE (``size``, ``counts``), and ``truths``, such a list of each annotator.
    """

    def __call__(self, batch: Batch) -> pa.Table:
        """The same rows with the counts against the annotator with the highest F1."""
        table = as_table(batch)
        counted = []
        for found, truths in zip(table["predictions"].to_pylist(), table["truths"].to_pylist(), strict=True):
            counted.append(choose_best([count_pair(mask_ious(found, true)) for true in truths]))
        return _with(
            table,
            {
                "hits": pa.array([pair.hits.tolist() for pair in counted], pa.list_(pa.int64())),
                "found": pa.array([pair.predictions for pair in counted], pa.int64()),
                "true": pa.array([pair.truths for pair in counted], pa.int64()),
                "misfits": pa.array([pair.misfits for pair in counted], pa.int64()),
            },
        )


def merge_pairs(table: pa.Table) -> CgF1:
    """The scores of all rows of `ScorePairs`; bit for bit those of one machine in the order of its pairs."""
    columns = [table[name].to_pylist() for name in ("hits", "found", "true", "misfits")]
    return score(Tally.of(PairCounts(np.array(hits), *rest) for hits, *rest in zip(*columns, strict=True)))


def opened_image(source: Any) -> Image.Image:
    """The image of a path, of the bytes of a file, or of either by its name (``path``, ``bytes``)."""
    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")
    if not isinstance(source, bytes):
        if not isinstance(source, str | Path):
            raise ImageError("no image", hint="give a path, or the bytes of a file")
        return read_image(source)
    try:
        return read_image(Image.open(io.BytesIO(source)))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"bytes that are no image ({error})", hint="fetch the file again") from error


def as_table(batch: Batch) -> pa.Table:
    """A batch of any format of `map_batches` but pandas as a table."""
    if isinstance(batch, pa.Table):
        return batch
    if not isinstance(batch, Mapping):
        raise OptionError(f"a batch that is a {type(batch).__name__}", hint='give batch_format="pyarrow"')
    return pa.table({name: pa.array(list(values)) for name, values in batch.items()})


def _row_by_row(
    batch: Batch,
    column: str,
    phrases: Sequence[str] | None,
    work: Callable[[Any, Sequence[str]], Mapping[str, Any]],
    kinds: Mapping[str, pa.DataType],
) -> pa.Table:
    """The rows with what ``work`` makes of a column and the phrases, each kind a column; a failed row has its error."""
    table = as_table(batch)
    sources = table[column].to_pylist()
    asked = table["phrases"].to_pylist() if phrases is None else [phrases] * len(sources)
    found: list[Mapping[str, Any]] = []
    for source, own in zip(sources, asked, strict=True):
        try:
            if not own:
                raise PromptError("no phrases", hint="give each row a list of them")
            found.append(work(source, [own] if isinstance(own, str) else own))
        except LiteTextError as error:
            found.append({"error": str(error)})
    columns = {**kinds, "error": pa.string()}
    return _with(table, {name: pa.array([one.get(name) for one in found], kind) for name, kind in columns.items()})


def _with(table: pa.Table, added: Mapping[str, pa.Array]) -> pa.Table:
    kept = table.drop_columns([name for name in added if name in table.column_names])
    for name, values in added.items():
        kept = kept.append_column(name, values)
    return kept


def _column(table: pa.Table, name: str, value: int) -> Any:
    return table[name].to_numpy() if name in table.column_names else np.full(len(table), value, np.int64)


def _segmenter(model: "str | Callable[[], Segmenter]", options: dict[str, Any]) -> "Segmenter":
    from litetext._face import Segmenter

    return Segmenter.from_pretrained(model, **options) if isinstance(model, str) else model()
