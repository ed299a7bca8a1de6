"""Writing a cache: each phrase of a corpus once, the longest first, in batches that are hardly padded."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from litetext.device import DTYPES as NUMBER_TYPES
from litetext.errors import CacheError, EncoderError, OptionError
from litetext.features.manifest import DTYPES, MANIFEST, SHARD_NAME, Manifest, Teacher, read_manifest
from litetext.features.protocol import TextEncoder
from litetext.features.shards import write_shard
from litetext.features.store import FeatureCache
from litetext.prompts.corpus import PromptCorpus
from litetext.storage import only_writer
from litetext.tokenizer.bpe import clip_tokenizer

Progress = Callable[[str, float], None]
Lengths = npt.NDArray[np.int64]
_LEFTOVER = re.compile(rf"\.({re.escape(MANIFEST)}|{SHARD_NAME.pattern})\..*")  # of `atomic_file`, when killed
SMALLEST = 8  # a batch may end early when it has this part of the tokens of a full one
_CHUNK = 8192


@dataclass(frozen=True)
class EmbedOptions:
    """How a cache is written.

    Attributes:
        dtype: "fp16" or "bf16", what features are stored in.
        batch_tokens: the most tokens, padding counted, that the encoder reads at once; at least one phrase.
        shard_tokens: tokens after which a shard is closed. What a kill can cost is the work on one shard.

    Raises:
        OptionError: a value makes no sense.
    """

    dtype: str = "fp16"
    batch_tokens: int = 2048
    shard_tokens: int = 16_384

    def __post_init__(self) -> None:
        """Check each value."""
        if self.stored not in DTYPES:
            raise OptionError(f"features in '{self.dtype}'", hint="give fp16 or bf16")
        for name, value in (("batch", self.batch_tokens), ("shard", self.shard_tokens)):
            if value < 1:
                raise OptionError(f"a {name} of {value} tokens", hint="give at least 1")

    @property
    def stored(self) -> str:
        """The number type in PyTorch's words; nothing for one that is unknown."""
        return NUMBER_TYPES.get(self.dtype, "")


@dataclass(frozen=True)
class EmbedReport:
    """What was done, and what the cache holds now.

    Attributes:
        path: the folder.
        corpus: distinct phrases of the corpus; all of them are in the cache.
        embedded: how many of them were computed now.
        seconds: what computing and writing took.
        manifest: of the whole cache, which may hold more than the corpus.
    """

    path: Path
    corpus: int
    embedded: int
    seconds: float
    manifest: Manifest

    @property
    def rate(self) -> float | None:
        """Prompts per second; None if none was computed."""
        return self.embedded / self.seconds if self.embedded else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        held = self.manifest
        return {
            "cache": str(self.path),
            "corpus": self.corpus,
            "embedded": self.embedded,
            "seconds": self.seconds,
            "prompts_per_second": self.rate,
            "phrases": held.phrases,
            "tokens": held.tokens,
            "bytes": held.bytes,
            "shards": len(held.shards),
            "dtype": held.dtype,
            "teacher": asdict(held.teacher),
        }


DEFAULTS = EmbedOptions()


def embed(
    corpus: PromptCorpus,
    encoder: TextEncoder,
    path: Path,
    options: EmbedOptions = DEFAULTS,
    progress: Progress | None = None,
) -> EmbedReport:
    """Compute the features of the phrases that a cache has not got yet, and add them to it.

    After a kill, the next call goes on where the last finished shard ends, and the cache comes out bit for bit as
    without the kill: batches and shards follow from the missing phrases alone, whatever the order of the corpus.

    Args:
        corpus: whose phrases; counts and sources do not matter.
        encoder: the teacher, at the context that it has.
        path: the cache, a folder; made if it is not there.
        options: number type and sizes.
        progress: called with the stage and the share of it that is done, 0..1.

    Raises:
        OutputError: another process writes there, or it cannot be a folder.
        CacheError: the folder is something else, of another teacher or number type, damaged, or not writable.
        EncoderError: the encoder fails, or its features are not finite in the number type.
    """
    with only_writer(path, "this cache"):
        teacher = Teacher.of(encoder)
        manifest = _begin(path, Manifest(teacher, options.stored))
        cache = FeatureCache.of_manifest(path, manifest)
        cache.verify()
        texts, lengths = longest_first(cache.missing(corpus.texts), teacher.context_length)
        del cache
        start = time.perf_counter()
        costs = np.full_like(lengths, teacher.context_length) if len(texts) and _reads_padding(encoder) else lengths
        done, whole = 0, int(costs.sum())
        for batches in plan(lengths, costs, options):
            phrases, rows = [], []
            for batch in batches:
                phrases += texts[batch]
                rows += _encode(encoder, texts[batch], options.stored)
                done += int(costs[batch].sum())
                if progress is not None:
                    progress("embedding", done / whole)
            entry = write_shard(path / manifest.next_name(), phrases, rows, teacher.fingerprint)
            manifest = manifest.with_shard(entry)
            manifest.write(path)
        return EmbedReport(path, len(corpus), len(texts), time.perf_counter() - start, manifest)


def longest_first(texts: Sequence[str], context_length: int) -> tuple[list[str], Lengths]:
    """The texts with their lengths in tokens, at most the context, descending; of one length by alphabet.

    The longest come first, so that a batch that does not fit into memory fails at once. Tokens are counted as SAM3's
    tokenizer does; another tokenizer's lengths are near enough to batch by.
    """
    source, parts = iter(texts), [np.empty(0, np.int64)]
    while chunk := list(islice(source, _CHUNK)):
        parts.append(np.minimum(clip_tokenizer().encode(chunk).lengths, context_length))
    lengths = np.concatenate(parts)
    order = sorted(range(len(texts)), key=lambda row: (-int(lengths[row]), texts[row]))
    return [texts[row] for row in order], lengths[order]


def plan(lengths: Lengths, costs: Lengths, options: EmbedOptions) -> Iterator[list[slice]]:
    """The batches of one shard after another, as slices of the texts.

    A batch ends where it is full, or where the texts get shorter if it is large enough by then to be worth its call.
    What is planned from the beginning of a shard on does not depend on what is before it.

    Args:
        lengths: int64 [N], tokens that are stored of each text, descending.
        costs: int64 [N], tokens that the encoder reads of each, descending.
        options: sizes of batches and shards.
    """
    drops = np.append(np.flatnonzero(np.diff(costs)) + 1, len(costs))
    start, batches, tokens = 0, [], 0
    while start < len(lengths):
        cost = int(costs[start])
        full = start + max(1, options.batch_tokens // cost)
        least = start + max(1, -(-options.batch_tokens // (SMALLEST * cost)))
        stop = min(full, int(drops[min(int(np.searchsorted(drops, least)), len(drops) - 1)]))
        batches.append(slice(start, stop))
        tokens += int(lengths[start:stop].sum())
        start = stop
        if tokens >= options.shard_tokens or start == len(lengths):
            yield batches
            batches, tokens = [], 0


def _reads_padding(encoder: TextEncoder) -> bool:
    """Whether a short text costs as much as the whole context."""
    mask = encoder.encode(["a"]).mask
    return mask.shape[1] == encoder.context_length and not bool(mask.all())


def _encode(encoder: TextEncoder, texts: list[str], dtype: str) -> list[Tensor]:
    """Features [L_i, D] of the valid tokens of each text, on the CPU in the number type to store."""
    try:
        features = encoder.encode(texts)
    except torch.OutOfMemoryError as error:
        raise EncoderError(
            f"no memory for a batch of {len(texts)} phrases", where=encoder.name, hint="give fewer batch tokens"
        ) from error
    if len(features.values) != len(texts):
        raise EncoderError(f"features of {len(features.values)} texts instead of {len(texts)}", where=encoder.name)
    if features.values.shape[2] != encoder.width:
        raise EncoderError(
            f"features of width {features.values.shape[2]} instead of {encoder.width}", where=encoder.name
        )
    stored = features.values[features.mask].to(getattr(torch, dtype)).cpu()
    rows = list(torch.split(stored, features.mask.sum(dim=1).tolist()))
    if not bool(stored.isfinite().all()):
        bad = next(text for text, row in zip(texts, rows, strict=True) if not bool(row.isfinite().all()))
        raise EncoderError(
            f"the features of '{bad}' are not finite in {dtype}", where=encoder.name, hint="store them as bf16"
        )
    return rows


def _begin(path: Path, wanted: Manifest) -> Manifest:
    """The manifest to go on from; what a killed run left half done is removed.

    Raises:
        CacheError: the folder is something else, or the cache is of another teacher or number type.
    """
    files = sorted(path.iterdir())
    leftovers = [file for file in files if _LEFTOVER.fullmatch(file.name)]
    if not (path / MANIFEST).exists():
        if len(leftovers) < len(files):
            raise CacheError("a folder with other files", where=str(path), hint="give a new or an empty folder")
        manifest = wanted
        manifest.write(path)
    else:
        found = read_manifest(path)
        found.check_teacher(wanted.teacher, path)
        if found.dtype != wanted.dtype:
            raise CacheError(
                f"features in {found.dtype}, not {wanted.dtype}", where=str(path), hint="give a folder of its own"
            )
        names = {file.name for file in files}
        # A shard that was deleted, because it was damaged, is computed anew.
        manifest = Manifest(found.teacher, found.dtype, tuple(entry for entry in found.shards if entry.file in names))
    known = {entry.file for entry in manifest.shards}
    for file in files:
        if file in leftovers or (SHARD_NAME.fullmatch(file.name) and file.name not in known):
            file.unlink(missing_ok=True)
    return manifest
