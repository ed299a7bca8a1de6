"""Writing a feature store: each phrase of a corpus once; after a kill the next call goes on, to the same bytes."""

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from litetext.errors import CacheError, OptionError
from litetext.features.encode import BATCH_TOKENS, Rows, array_rows, plan_encoding
from litetext.features.fingerprint import identify
from litetext.features.protocol import TextEncoder
from litetext.features.store import (
    MANIFEST,
    SHARD_NAME,
    FeatureStore,
    Teacher,
    check_dtype,
    check_teacher,
    distinct_phrases,
    phrase_bytes,
    read_manifest,
    write_manifest,
    write_shard,
)
from litetext.prompts.corpus import PromptCorpus
from litetext.storage import only_writer

SHARD_TOKENS = 16_384
_LEFTOVER = re.compile(rf"\.({re.escape(MANIFEST)}|{SHARD_NAME.pattern})\..*")  # of `atomic_file`, when killed


def embed(
    corpus: PromptCorpus,
    encoder: TextEncoder,
    cache_dir: str | Path,
    *,
    dtype: str = "fp16",
    batch_tokens: int = BATCH_TOKENS,
    shard_tokens: int = SHARD_TOKENS,
    progress: Callable[[str, float], None] | None = None,
) -> FeatureStore:
    """Compute the features of the phrases that a store has not got yet, and add them to it.

    After a kill, the next call goes on where the last finished shard ends, and the store comes out bit for bit as
    without the kill: batches and shards follow from the missing phrases alone, whatever the order of the corpus.

    Args:
        corpus: whose phrases; counts and sources do not matter.
        encoder: the teacher, at the context that it has.
        cache_dir: the store, a folder; made if it is not there.
        dtype: what features are stored in: "fp16", "bf16" or "int8".
        batch_tokens: the most tokens, padding counted, that the encoder reads at once; at least one phrase.
        shard_tokens: tokens after which a shard is closed. What a kill can cost is the work on one shard.
        progress: called with the stage and the share of it that is done, 0..1.

    Returns:
        The store, which may hold more than the corpus; its ``report`` has "corpus" and "embedded", the numbers of
        phrases in the corpus and computed now, "seconds", and "prompts_per_second" (None if none was computed).

    Raises:
        OptionError: a value makes no sense.
        OutputError: another process writes there, or it cannot be a folder.
        CacheError: the folder is something else, of another teacher or dtype, damaged, or not writable.
        EncoderError: the encoder fails, or its features are not finite in the dtype.
    """
    check_dtype(dtype)
    for name, tokens in (("batch", batch_tokens), ("shard", shard_tokens)):
        if tokens < 1:
            raise OptionError(f"a {name} of {tokens} tokens", hint="give at least 1")
    path = Path(cache_dir)
    with only_writer(path, "this cache"):
        teacher = identify(encoder)
        store = FeatureStore(path, teacher, dtype, begin(path, teacher, dtype))
        store.verify()
        start = time.perf_counter()
        missing = {phrase: text for phrase, text in distinct_phrases(corpus.texts).items() if store.find(phrase) < 0}
        texts = list(missing.values())
        report = None if progress is None else lambda share: progress("embedding", share)
        _add_shards(store, encoder, texts, plan_shards(encoder, texts, batch_tokens, shard_tokens), report)
        seconds = time.perf_counter() - start
        store = FeatureStore.open(path)
    store.report = {
        "corpus": len(corpus),
        "embedded": len(missing),
        "seconds": seconds,
        "prompts_per_second": len(missing) / seconds if missing else None,
    }
    return store


def plan_shards(
    encoder: TextEncoder, texts: Sequence[str], batch_tokens: int, shard_tokens: int
) -> Iterator[list[list[int]]]:
    """The shards of texts, each the batches that it has, and those the places of their texts.

    They follow from the texts and SAM3's tokenizer, so that whoever computes them, in whatever order, writes the same.
    """
    batches, lengths = plan_encoding(encoder, texts, batch_tokens)
    shard: list[list[int]] = []
    tokens = 0
    for batch in batches:
        shard.append(batch)
        tokens += int(lengths[batch].sum())
        if tokens >= shard_tokens:
            yield shard
            shard, tokens = [], 0
    if shard:
        yield shard


def _add_shards(
    store: FeatureStore,
    encoder: TextEncoder,
    texts: Sequence[str],
    planned: Iterable[list[list[int]]],
    report: Callable[[float], None] | None,
) -> None:
    """Compute shards and write each as soon as it is full; it is in the manifest when it is whole."""
    path, teacher, dtype, shards, done = store.path, store.teacher, store.dtype, dict(store.shards), 0
    for batches in planned:
        rows: Rows = []
        for batch in batches:
            rows += array_rows(encoder, [texts[place] for place in batch])
            done += len(batch)
            if report is not None:
                report(done / len(texts))
        names = map("shard-{:05d}.safetensors".format, range(len(shards) + 1))
        name = next(name for name in names if name not in shards)
        found = {phrase_bytes(texts[place]): texts[place] for batch in batches for place in batch}
        with _reporting(path / name):
            shards[name] = write_shard(path / name, teacher, dtype, found, [(range(len(rows)), rows)])
        with _reporting(path / MANIFEST):
            write_manifest(path, teacher, dtype, shards)


def begin(path: Path, teacher: Teacher, dtype: str, kept: Collection[str] = ()) -> dict[str, str]:
    """The shards that are there; what a killed run left half done is removed, but for the names that are to be kept."""
    files = sorted(path.iterdir())
    leftovers = [file for file in files if _LEFTOVER.fullmatch(file.name)]
    shards: dict[str, str] = {}
    if (path / MANIFEST).exists():
        owner, stored, listed = read_manifest(path)
        check_teacher(owner, teacher, path)
        if stored != dtype:
            raise CacheError(f"features in {stored}, not {dtype}", where=str(path), hint="give a folder of its own")
        names = {file.name for file in files}
        # A shard that was deleted, because it was damaged, is computed anew.
        shards = {name: checksum for name, checksum in listed.items() if name in names}
    elif len(leftovers) < sum(file.name not in kept for file in files):
        raise CacheError("a folder with other files", where=str(path), hint="give a new or an empty folder")
    else:
        with _reporting(path / MANIFEST):
            write_manifest(path, teacher, dtype, shards)
    for file in files:
        if file in leftovers or (SHARD_NAME.fullmatch(file.name) and file.name not in {*shards, *kept}):
            file.unlink(missing_ok=True)
    return shards


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """An error of the system as one that says what to do."""
    try:
        yield
    except OSError as error:
        hint = "fix that and run it again: finished shards are kept"
        raise CacheError((error.strerror or str(error)).lower(), where=str(path), hint=hint) from error
