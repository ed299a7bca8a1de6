"""The audit: every measurement of a corpus, its embeddings, positions, word order and a student, in one report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.arrays import load_matrix
from litetext.auditing.advice import Advice, recommend
from litetext.auditing.attenuation import MAX_PAIRS, AttenuationStats
from litetext.auditing.counting import (
    ContextUse,
    CorpusCounts,
    Counts,
    LengthSummary,
    VocabularyUse,
    count_corpus,
    list_truncated,
    smallest_context,
    summarize,
    use_of_context,
    use_of_vocabulary,
)
from litetext.auditing.geometry import GeometryStats, check_geometry_options, measure_geometry
from litetext.auditing.order import OrderStats, measure_order
from litetext.auditing.position_rank import PositionStats, load_positions, measure_positions
from litetext.auditing.semantics import measure_semantics
from litetext.errors import OptionError
from litetext.features.encode import pooled_features
from litetext.features.protocol import TextEncoder
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.prompts.readers import as_corpus

Matrix = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]

CONTEXTS = (8, 16, 32, 77)
_ORDER_SAMPLE = 2000  # each phrase is encoded with up to five permutations


@dataclass(frozen=True)
class SourceReport:
    """Prompts of one source."""

    name: str
    read_as: str | None  # how the reader read it: the format and, after a colon, what it guessed; None: it was not read
    warning: str | None  # why what was read hardly is prompts; None: it may well be
    total: int  # occurrences
    distinct: int  # distinct prompts
    tokens: LengthSummary
    context: tuple[ContextUse, ...]  # at each context length
    histogram: Counts  # int64 [M], occurrences of prompts of n tokens at index n

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the histogram."""
        plain = asdict(self)
        del plain["histogram"]
        return {**plain, "context": list(plain["context"])}


@dataclass(frozen=True)
class AuditReport:
    """Everything that an audit found; None: what it takes was not given."""

    whole: SourceReport  # all prompts, weighted by occurrence
    by_distinct: SourceReport  # all prompts, each distinct one counted once
    sources: tuple[SourceReport, ...]  # each source, weighted by occurrence
    passed_over: Mapping[str, str]  # files of folders that were not read, in words, by the folder's name
    fingerprint: str  # of the corpus
    truncated: Mapping[str, Any]  # prompts, at the context length that is advised: see `list_truncated`
    semantics: Mapping[str, Any]  # classes of prompts that SAM3 hardly honors: see `measure_semantics`
    vocabulary: VocabularyUse
    geometry: GeometryStats | None
    positions: PositionStats | None
    order: OrderStats | None
    attenuation: AttenuationStats | None
    advice: tuple[Advice, ...]

    def __repr__(self) -> str:
        """What it comes to, in a line."""
        from litetext.auditing.rendering import verdict

        return f"AuditReport({self.whole.total:,} prompts, {self.whole.distinct:,} distinct. {verdict(self)})"

    def _repr_html_(self) -> str:
        from litetext.auditing.rendering import notebook_page

        return notebook_page(self)

    def to_json(self) -> dict[str, Any]:
        """One JSON object; shares are between 0 and 1, lengths count start and end tokens."""
        whole, distinct = self.whole.to_json(), self.by_distinct.to_json()
        measured = {name: getattr(self, name) for name in ("geometry", "positions", "order", "attenuation")}
        return {
            "prompts": {
                "total": self.whole.total,
                "distinct": self.whole.distinct,
                "sources": [source.to_json() for source in self.sources],
                "passed_over": dict(self.passed_over),
                "fingerprint": self.fingerprint,
            },
            "tokens": whole["tokens"],
            "context": whole["context"],
            "by_distinct": {"tokens": distinct["tokens"], "context": distinct["context"]},
            "truncated": dict(self.truncated),
            "semantics": dict(self.semantics),
            "vocabulary": self.vocabulary.to_json(),
            **{name: stats and asdict(stats) for name, stats in measured.items()},
            "advice": [asdict(advice) for advice in self.advice],
        }


def audit(
    source: PromptCorpus | str | Path | Iterable[Prompt | Path | str],
    *,
    contexts: Sequence[int] = CONTEXTS,
    limit: float = 0.01,
    encoder: TextEncoder | None = None,
    embeddings: Matrix | str | Path | None = None,
    positions: Matrix | str | Path | None = None,
    student: TextEncoder | None = None,
    model: Any = None,
    images: Sequence[Any] | None = None,
    pairs: int = MAX_PAIRS,
    sample: int = 5000,
    discard: float = 0.1,
    neighbors: tuple[int, int] = (10, 20),
    seed: int = 0,
    counts: CorpusCounts | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Measure what prompts use of a text encoder, and what size is enough.

    Args:
        source: a file, folder or pattern; `Path` objects; a list of strings, which are prompts; or a corpus.
        contexts: context lengths to report, start and end tokens counted.
        limit: share of prompts, in [0, 1), that the advised context length may truncate.
        encoder: measures word order, and the geometry when no embeddings are given.
        embeddings: [N, D], any embeddings of prompts, or FILE[#NAME] of them.
        positions: [T, C], a table of position embeddings, or FILE[#NAME] of it.
        student: a text encoder whose error is followed through ``model`` on ``images``.
        model: a `Segmenter` with its own text encoder as the teacher, or what else has ``measure_attenuation``.
        images: paths or arrays, of which the prompts are asked; or tuples of an image and phrases of its own.
        pairs: the most (image, phrase) pairs.
        sample: distinct prompts, drawn by ``seed``, whose features are computed when an encoder is given.
        discard: share of the largest distance ratios that TwoNN leaves out.
        neighbors: range of neighbors that the maximum likelihood estimate averages over.
        seed: of draws and bootstraps.
        counts: of the corpus, where they are counted already.
        progress: called with a stage and the share done.
    """
    _check(limit, sample, seed, (student, model, images))
    check_geometry_options(discard, neighbors)
    corpus, measured = as_corpus(source), dict[str, Any]()
    counts = count_corpus(corpus, contexts, _stage(progress, "tokens")) if counts is None else counts
    points = load_matrix(str(embeddings)) if isinstance(embeddings, str | Path) else embeddings
    if encoder is not None:
        points = _sampled_features(corpus, encoder, sample, seed, progress) if points is None else points
        most, stage = min(sample, _ORDER_SAMPLE), _stage(progress, "word order")
        measured["order"] = measure_order(encoder, corpus.texts, sample=most, seed=seed, progress=stage)
    if points is not None:
        stage = _stage(progress, "geometry")
        measured["geometry"] = measure_geometry(points, discard=discard, neighbors=neighbors, seed=seed, progress=stage)
    if positions is not None:
        positions = load_positions(str(positions)) if isinstance(positions, str | Path) else positions
        measured["positions"] = measure_positions(positions)
    if student is not None:
        measured["attenuation"] = model.measure_attenuation(
            student, images, corpus.texts, pairs=pairs, seed=seed, progress=progress
        )
    return _report(corpus, counts, limit, measure_semantics(corpus, seed), measured)


def _check(limit: float, sample: int, seed: int, injected: tuple[Any, Any, Any]) -> None:
    if not 0 <= limit < 1:
        raise OptionError(f"truncation limit {limit} is not a share", hint="give 0.01 for 1 %")
    if sample < 10:
        raise OptionError(f"sample of {sample} prompts", hint="give at least 10")
    if seed < 0:
        raise OptionError(f"seed = {seed}", hint="give 0 or more")
    if len({value is None for value in injected}) > 1:
        raise OptionError("attenuation is measured with a student, a model and images", hint="give all three")


def _sampled_features(
    corpus: PromptCorpus, encoder: TextEncoder, sample: int, seed: int, progress: Progress | None
) -> Matrix:
    draw = np.random.default_rng(seed).permutation(len(corpus))[:sample]
    texts = [corpus.texts[row] for row in np.sort(draw)]
    return pooled_features(encoder, texts, progress=_stage(progress, "features"))


def _report(
    corpus: PromptCorpus,
    counts: CorpusCounts,
    limit: float,
    semantics: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> AuditReport:
    lengths = sorted(counts.kept)
    vocabulary = use_of_vocabulary(counts)
    geometry, order, attenuation = (measured.get(name) for name in ("geometry", "order", "attenuation"))
    sensitivity = None if order is None else order.sensitivity
    return AuditReport(
        whole=_source("all", counts.occurrences, counts.distinct, lengths),
        by_distinct=_source("all, distinct", counts.distinct, counts.distinct, lengths),
        sources=tuple(_source(name, *found, lengths, corpus) for name, found in counts.by_source.items()),
        passed_over={name: how for name, how in corpus.read_as.items() if name not in corpus.sources},
        fingerprint=corpus.fingerprint,
        truncated=list_truncated(corpus, counts.lengths, smallest_context(counts.occurrences, limit)),
        semantics=semantics,
        vocabulary=vocabulary,
        geometry=geometry,
        positions=measured.get("positions"),
        order=order,
        attenuation=attenuation,
        advice=recommend(
            counts.occurrences,
            limit,
            vocabulary,
            semantics=semantics,
            geometry=geometry,
            sensitivity=sensitivity,
            attenuation=attenuation,
        ),
    )


def _source(
    name: str, histogram: Counts, distinct: Counts, lengths: Sequence[int], corpus: PromptCorpus | None = None
) -> SourceReport:
    return SourceReport(
        name=name,
        read_as=corpus.read_as.get(name) if corpus else None,
        warning=corpus.warnings.get(name) if corpus else None,
        total=int(histogram.sum()),
        distinct=int(distinct.sum()),
        tokens=summarize(histogram),
        context=tuple(use_of_context(histogram, length) for length in lengths),
        histogram=histogram,
    )


def _stage(progress: Progress | None, name: str) -> Callable[[float], None] | None:
    return None if progress is None else lambda share: progress(name, share)
