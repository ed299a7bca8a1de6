"""The job of `litetext embed`: phrases into a cache of features, the same bytes as on one machine."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from litetext.errors import OptionError
from litetext.features.embed import begin, plan_shards
from litetext.features.fingerprint import identify
from litetext.features.protocol import TextEncoder
from litetext.features.store import (
    MANIFEST,
    FeatureStore,
    Teacher,
    distinct_phrases,
    narrow,
    phrase_bytes,
    read_manifest,
    widen,
    write_manifest,
    write_shard,
)
from litetext.prompts.corpus import PromptCorpus
from litetext.scale.jobs import JOURNAL, Cluster, Job, Part, Progress, Receipt, key_of
from litetext.scale.workers import EmbedPhrases
from litetext.storage import only_writer


def embed_phrases(
    cluster: Cluster,
    corpus: PromptCorpus,
    start: Callable[[], TextEncoder],
    folder: Path,
    *,
    dtype: str,
    batch_tokens: int,
    shard_tokens: int,
    progress: Progress,
) -> tuple[FeatureStore, Job]:
    """Embed what a cache has not got, as `litetext.features.embed.embed` does: to the same shards, bit for bit.

    A part is a shard, and the cache's manifest is written when all are there. The encoder is loaded here too, for its
    fingerprint and to plan the batches.
    """
    encoder = start()
    with only_writer(folder, "this cache"):
        teacher = identify(encoder)
        shards = _known_shards(folder)
        store = FeatureStore(folder, teacher, dtype, begin(folder, teacher, dtype, _kept(folder)))
        store.verify()
        missing = {phrase: text for phrase, text in distinct_phrases(corpus.texts).items() if store.find(phrase) < 0}
        texts = list(missing.values())
        parts = _plan_parts(encoder, texts, batch_tokens, shard_tokens, store.shards)
        settings = {"teacher": teacher.fingerprint, "dtype": dtype, "phrases": key_of(missing), "shards": str(shards)}
        settings |= {"batch_tokens": str(batch_tokens), "shard_tokens": str(shard_tokens)}
        job = Job(folder, "litetext embed --ray", settings)
        job.recover()
        receipts = job.run(cluster, parts, partial(_start_embedding, start, teacher, dtype), progress)
        made = {receipt["part"]: receipt["note"] for receipt in receipts if receipt["note"]}
        write_manifest(folder, teacher, dtype, {**store.shards, **made})
        job.finish(manifest=False)
        store = FeatureStore.open(folder)
    embedded = sum(receipt["rows"] for receipt in job.computed)
    store.report = {"corpus": len(corpus), "embedded": embedded, "seconds": job.seconds}
    store.report["prompts_per_second"] = embedded / job.seconds if embedded else None
    return store, job


def _known_shards(folder: Path) -> int:
    return len(read_manifest(folder)[2]) if (folder / MANIFEST).exists() else 0


def _kept(folder: Path) -> list[str]:
    """Files that an unfinished job needs: `begin` would remove shards that the manifest does not list."""
    if not (folder / JOURNAL).exists():
        return []
    return [JOURNAL, *(path.name for path in folder.glob("shard-*.safetensors"))]


def _plan_parts(
    encoder: TextEncoder, texts: list[str], batch_tokens: int, shard_tokens: int, taken: Mapping[str, str]
) -> list[Part]:
    """A part for each shard: its batches of texts."""
    names = (name for number in range(10**9) if (name := f"shard-{number:05d}.safetensors") not in taken)
    parts = []
    for shard in plan_shards(encoder, texts, batch_tokens, shard_tokens):
        batches = [[texts[place] for place in batch] for batch in shard]
        parts.append(Part(next(names), key_of(text for batch in batches for text in (*batch, "")), batches))
    return parts


def _start_embedding(
    start: Callable[[], Any], teacher: Teacher, dtype: str
) -> Callable[[list[list[str]], Path], Receipt]:
    """Load the encoder; what is done with a shard then."""
    encoder = start()
    worker, here = EmbedPhrases(lambda: encoder), identify(encoder)
    if here.fingerprint != teacher.fingerprint:
        raise OptionError("another encoder than on the driver", where=here.name, hint="give each node the same files")
    return partial(_embed_shard, worker, teacher, dtype)


def _embed_shard(worker: EmbedPhrases, teacher: Teacher, dtype: str, batches: list[list[str]], path: Path) -> Receipt:
    found: dict[bytes, str] = {}
    rows: list[Any] = []
    failures: list[dict[str, str]] = []
    for texts in batches:
        computed, failed = worker.rows(texts)
        for number, (text, row) in enumerate(zip(texts, computed, strict=True)):
            if row is not None and not np.isfinite(widen(*narrow(row, dtype))).all():
                failed[number] = f"the features of '{text}' are not finite in {dtype}"
            if number in failed:
                failures.append({"phrase": text, "reason": failed[number]})
            else:
                found[phrase_bytes(text)] = text
                rows.append(row)
    note = write_shard(path, teacher, dtype, found, [(range(len(rows)), rows)]) if rows else ""
    if not rows:
        path.write_bytes(b"")
    return {"rows": len(rows), "failures": failures, "note": note}
