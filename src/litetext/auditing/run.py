"""The audit: every measurement of a corpus, its embeddings, positions and word order, in one report."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.auditing.advice import Advice, AuditFindings, recommend
from litetext.auditing.attenuation import AttenuationStats
from litetext.auditing.context import ContextUse, LengthSummary, summarize, use_of_context
from litetext.auditing.counting import CorpusCounts, LengthCounts, check_contexts, count_corpus
from litetext.auditing.geometry import GeometryOptions, GeometryStats, measure_geometry
from litetext.auditing.order import OrderOptions, OrderStats, measure_order
from litetext.auditing.position_rank import PositionStats, measure_positions
from litetext.auditing.vocabulary_use import VocabularyUse, use_of_vocabulary
from litetext.errors import OptionError
from litetext.features.protocol import TextEncoder, pooled_features
from litetext.prompts.corpus import Prompt, PromptCorpus

Matrix = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class AuditOptions:
    """How to audit.

    Attributes:
        contexts: context lengths to report, start and end tokens counted.
        truncation_limit: share of prompts, in [0, 1), that the advised context length may truncate.
        sample: distinct prompts, drawn by ``seed``, whose features are computed when an encoder is given.
        seed: of that draw.
        geometry: options of the geometry of embeddings.
        order: options of the sensitivity to word order.

    Raises:
        OptionError: a value is out of its range.
    """

    contexts: tuple[int, ...] = (8, 16, 32, 77)
    truncation_limit: float = 0.01
    sample: int = 5000
    seed: int = 0
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    order: OrderOptions = field(default_factory=OrderOptions)

    def __post_init__(self) -> None:
        check_contexts(self.contexts)
        if not 0 <= self.truncation_limit < 1:
            raise OptionError(f"truncation limit {self.truncation_limit} is not a share", hint="give 0.01 for 1 %")
        if self.sample < 10:
            raise OptionError(f"sample of {self.sample} prompts", hint="give at least 10")


@dataclass(frozen=True)
class Inputs:
    """What is measured beside the prompts; anything may be missing.

    Attributes:
        encoder: for word order, and for the geometry when no embeddings are given.
        embeddings: float32 [N, D], any embeddings of prompts.
        positions: float32 [T, C], a table of position embeddings.
        attenuation: of a student's error in a segmenter, measured before: `litetext.sam3.attenuation` does it.
    """

    encoder: TextEncoder | None = None
    embeddings: Matrix | None = None
    positions: Matrix | None = None
    attenuation: AttenuationStats | None = None


@dataclass(frozen=True)
class SourceReport:
    """Prompts of one source.

    Attributes:
        name: the source.
        total: occurrences.
        distinct: distinct prompts.
        tokens: their lengths.
        context: their use of each context length.
        histogram: int64 [M], occurrences of prompts of n tokens at index n.
        read_as: how the reader read it: the format and, after a colon, what it guessed; None: it was not read.
    """

    name: str
    total: int
    distinct: int
    tokens: LengthSummary
    context: tuple[ContextUse, ...]
    histogram: npt.NDArray[np.int64]
    read_as: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the histogram."""
        return {
            "name": self.name,
            "read_as": self.read_as,
            "total": self.total,
            "distinct": self.distinct,
            "tokens": self.tokens.to_json(),
            "context": [asdict(use) for use in self.context],
        }


@dataclass(frozen=True)
class AuditReport:
    """Everything that an audit found.

    Attributes:
        whole: all prompts, weighted by occurrence.
        by_distinct: all prompts, each distinct one counted once.
        sources: the same for each source, weighted by occurrence.
        passed_over: files of folders that were not read, in words, by the folder's name.
        fingerprint: of the corpus.
        vocabulary: use of the vocabulary.
        geometry: of embeddings, if they or an encoder were given.
        positions: of a position table, if given.
        order: sensitivity to word order, if an encoder was given.
        attenuation: of a student's error in a segmenter, if given.
        advice: what follows.
    """

    whole: SourceReport
    by_distinct: SourceReport
    sources: tuple[SourceReport, ...]
    passed_over: Mapping[str, str]
    fingerprint: str
    vocabulary: VocabularyUse
    geometry: GeometryStats | None
    positions: PositionStats | None
    order: OrderStats | None
    attenuation: AttenuationStats | None
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON object; shares are between 0 and 1, lengths count start and end tokens."""
        return {
            "prompts": {
                "total": self.whole.total,
                "distinct": self.whole.distinct,
                "sources": [source.to_json() for source in self.sources],
                "passed_over": dict(self.passed_over),
                "fingerprint": self.fingerprint,
            },
            "tokens": self.whole.tokens.to_json(),
            "context": [asdict(use) for use in self.whole.context],
            "by_distinct": {
                "tokens": self.by_distinct.tokens.to_json(),
                "context": [asdict(use) for use in self.by_distinct.context],
            },
            "vocabulary": self.vocabulary.to_json(),
            "geometry": self.geometry.to_json() if self.geometry else None,
            "positions": self.positions.to_json() if self.positions else None,
            "order": self.order.to_json() if self.order else None,
            "attenuation": self.attenuation.to_json() if self.attenuation else None,
            "advice": [advice.to_json() for advice in self.advice],
        }


def audit(
    corpus: PromptCorpus | Iterable[Prompt | str],
    inputs: Inputs | None = None,
    options: AuditOptions | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Measure what the prompts of a corpus use of a text encoder, and say what size would do.

    Args:
        corpus: the prompts; they are counted first, if they are not a corpus yet.
        inputs: an encoder, embeddings or a position table to measure as well.
        options: what to report and how to sample.
        progress: called with a stage's name and the share of it that is done.

    Raises:
        OptionError: the prompts are one string, or not strings.
        ArrayError: embeddings or positions cannot be measured (too few points, not finite, ...).
        EncoderError: the encoder failed.
    """
    inputs, options = inputs or Inputs(), options or AuditOptions()
    if not isinstance(corpus, PromptCorpus):
        corpus = PromptCorpus.build(corpus)
    counts = count_corpus(corpus, options.contexts, _stage(progress, "tokens"))
    vocabulary = use_of_vocabulary(counts)
    geometry = _geometry(corpus, inputs, options, progress)
    positions = None if inputs.positions is None else measure_positions(inputs.positions)
    order = None
    if inputs.encoder is not None:
        order = measure_order(inputs.encoder, corpus.texts, options.order, _stage(progress, "word order"))
    lengths = counts.lengths.occurrences
    evidence = AuditFindings(lengths, options.truncation_limit, vocabulary, geometry, order, inputs.attenuation)
    return AuditReport(
        whole=_source("all", counts.lengths, options, by_occurrence=True),
        by_distinct=_source("all, distinct", counts.lengths, options, by_occurrence=False),
        sources=_sources(counts, options, corpus.read_as),
        passed_over={name: told for name, told in corpus.read_as.items() if name not in corpus.sources},
        fingerprint=corpus.fingerprint,
        vocabulary=vocabulary,
        geometry=geometry,
        positions=positions,
        order=order,
        attenuation=inputs.attenuation,
        advice=recommend(evidence),
    )


def _geometry(
    corpus: PromptCorpus, inputs: Inputs, options: AuditOptions, progress: Progress | None
) -> GeometryStats | None:
    embeddings = inputs.embeddings
    if embeddings is None:
        if inputs.encoder is None:
            return None
        draw = np.random.default_rng(options.seed).permutation(len(corpus))[: options.sample]
        texts = [corpus.texts[row] for row in np.sort(draw)]
        embeddings = pooled_features(inputs.encoder, texts, progress=_stage(progress, "features"))
    return measure_geometry(embeddings, options.geometry, _stage(progress, "geometry"))


def _sources(counts: CorpusCounts, options: AuditOptions, read_as: Mapping[str, str]) -> tuple[SourceReport, ...]:
    return tuple(
        replace(_source(name, found, options, by_occurrence=True), read_as=read_as.get(name))
        for name, found in counts.by_source.items()
    )


def _source(name: str, counts: LengthCounts, options: AuditOptions, *, by_occurrence: bool) -> SourceReport:
    histogram = counts.occurrences if by_occurrence else counts.distinct
    return SourceReport(
        name=name,
        total=int(counts.occurrences.sum()),
        distinct=int(counts.distinct.sum()),
        tokens=summarize(histogram),
        context=tuple(use_of_context(histogram, length) for length in check_contexts(options.contexts)),
        histogram=histogram,
    )


def _stage(progress: Progress | None, name: str) -> Callable[[float], None] | None:
    if progress is None:
        return None
    return lambda share: progress(name, share)
