"""The job of the audit: count prompts, the same counts as on one machine. A worker needs no PyTorch."""

import json
import pickle
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from litetext.auditing.counting import CorpusCounts
from litetext.errors import LiteTextError, OptionError, PromptError
from litetext.prompts.corpus import PromptCorpus
from litetext.prompts.opening import NoColumnsError, ReadOptions
from litetext.prompts.readers import Source, find_sources, read_source
from litetext.records import read_json
from litetext.scale.jobs import Cluster, Job, Part, Progress, Receipt, key_of, timed, write_table
from litetext.scale.workers import CountPrompts, merge_counts
from litetext.storage import only_writer, write_text
from litetext.tokenizer.clean import clean

_PART_BYTES = 2 * 2**20  # of prompts as they stand in their files: some 100,000
_LEAST_PARTS = 8
_ROWS = 2**16  # distinct prompts that a reader holds
_READ = "_sources.json"  # what readers say of their files
_NOTES = -1  # the part that holds what readers say of their files
_SHIFT = 40  # bits of a row's place in its file
_SCHEMA = pa.schema(
    [
        ("part", pa.int64()),
        ("text", pa.large_string()),
        ("count", pa.int64()),
        ("source", pa.int64()),
        ("first", pa.int64()),
    ]
)


def count_prompts(
    cluster: Cluster,
    sources: Sequence[str],
    options: ReadOptions,
    *,
    contexts: Sequence[int],
    folder: Path,
    progress: Progress,
) -> tuple[PromptCorpus, CorpusCounts, Job]:
    """Read and count files of prompts; the corpus and counts are those of `count_corpus` on one machine.

    A file is read by one task; Ray shuffles its prompts to the part of their hash, where each distinct one is counted.
    A file that cannot be read is a failure of the job, and what was read of it before counts.

    Raises:
        PromptError: a source is missing, or none has a prompt.
    """
    passed_over: dict[str, str] = {}
    files = find_sources(sources, passed_over)
    if any(file.path is None for file in files):
        raise OptionError("standard input on a cluster", where="--ray", hint="give files that every node can read")
    names = list(dict.fromkeys(file.name for file in files))
    marks = [f"{file.name} {_mark(file)} {file.options}" for file in files]
    size = sum(file.path.stat().st_size for file in files if file.path and file.path.is_file())
    count = max(_LEAST_PARTS, -(-size // _PART_BYTES))
    key = key_of([*marks, str(options), str(count)])
    parts = [Part(f"counts-{number:05d}.parquet", key, number) for number in range(count)]
    settings = {"contexts": ",".join(map(str, sorted(set(contexts)))), "sources": key_of(names)}
    with only_writer(folder, "to this folder"):
        job = Job(folder, "litetext audit --ray", settings)
        job.recover()
        notes = _shuffle(cluster, job, parts, files=files, options=options, contexts=contexts, progress=progress)
        job.receipts = {part.name: job.receipts[part.name] for part in parts if part.name in job.receipts}
        job.others = [{"file": note["file"], "reason": note["error"]} for note in notes if note["error"]]
        lacking = [note["lacking"] for note in notes if note["lacking"]]
        tables = [pq.read_table(folder / part.name) for part in parts if job.receipts[part.name]["rows"]]
        if (lacking and len(lacking) == len(files)) or not tables:
            raise PromptError([*lacking, *(one["reason"] for one in job.others)][0])
        job.finish(manifest=not job.others)  # else the next submission reads again
    read: dict[str, dict[str, str]] = {name: {} for name in ("read_as", "warnings")}
    read["read_as"] |= passed_over
    for note in notes:
        for name in read:
            read[name] |= note[name]
    corpus, counts = merge_counts(tables, names, **read)
    return corpus, counts, job


def _shuffle(
    cluster: Cluster,
    job: Job,
    parts: Sequence[Part],
    *,
    files: Sequence[Source],
    options: ReadOptions,
    contexts: Sequence[int],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Count the parts that are not finished; what the readers say, file by file."""
    import ray.data

    notes_file = job.folder / _READ
    wanted = {part.payload for part in parts if not job.is_finished(part) or not notes_file.is_file()}
    if not wanted:
        found: list[dict[str, Any]] = read_json(notes_file)
        return found
    cluster.start()
    began = time.perf_counter()
    number = {name: place for place, name in enumerate(dict.fromkeys(file.name for file in files))}
    rows = [
        {"place": place, "source": number[file.name], "file": file._replace(path=file.path and file.path.absolute())}
        for place, file in enumerate(files)
    ]
    read = partial(_read_files, options=options, parts=len(parts), wanted=frozenset(wanted))
    compute = ray.data.TaskPoolStrategy(size=cluster.workers)
    dataset = (
        ray.data.from_items([{"row": pickle.dumps(row)} for row in rows], override_num_blocks=len(rows))
        .map_batches(read, batch_size=1, batch_format="numpy", compute=compute, num_cpus=1)
        .groupby("part", num_partitions=min(len(parts), 4096))
        .map_groups(
            partial(_count_part, count=CountPrompts(contexts), folder=str(job.folder.absolute()), key=parts[0].key),
            batch_format="pyarrow",
            compute=compute,
            num_cpus=1,
        )
    )
    notes: dict[int, dict[str, Any]] = {}
    for row in dataset.iter_rows():
        answer = json.loads(row["answer"])
        if "part" in answer:
            job.keep(answer)
            progress("parts", len(job.computed) / len(wanted))
        else:
            notes |= {int(place): note for place, note in answer["notes"].items()}
    for part in parts:  # to which no prompt fell
        if part.payload in wanted and part.name not in {one["part"] for one in job.computed}:
            job.keep(timed(part.name, part.key, job.folder, lambda path: _write_counts(path, None)))
    job.seconds = time.perf_counter() - began
    listed = [notes[place] for place in sorted(notes)]
    write_text(notes_file, json.dumps(listed))
    return listed


def _read_files(
    batch: Mapping[str, Any], options: ReadOptions, parts: int, wanted: frozenset[int]
) -> Iterator[pa.Table]:
    """The prompts of a file, those of a chunk counted together, with the parts they belong to; in the end notes."""
    row = pickle.loads(batch["row"][0])  # noqa: S301 - of our own driver
    file, place = row["file"], row["place"]
    note: dict[str, Any] = {"file": file.name, "read_as": {}, "warnings": {}, "error": "", "lacking": ""}
    lacking: list[NoColumnsError] = []
    held: dict[str, list[Any]] = {}
    total = 0
    try:
        for text, count in read_source(file, options, note["read_as"], note["warnings"], lacking):
            key = clean(text)
            if key in held:
                held[key][1] += count
            else:
                part = zlib.crc32(key.encode("utf-8", "surrogatepass")) % parts
                if part in wanted:
                    held[key] = [text, count, part, (place << _SHIFT) + total]
            total += 1
            if len(held) >= _ROWS:
                yield _rows(held, row["source"])
                held = {}
        if not total:
            hint = "give a file with at least one phrase"
            raise lacking[0] if lacking else PromptError("no prompts in the file", where=str(file.path), hint=hint)
    except (LiteTextError, OSError) as error:
        note["error"] = str(error)
    note["lacking"] = str(lacking[0]) if lacking else ""
    yield _rows(held, row["source"])
    told = json.dumps({str(place): note})
    yield pa.table({"part": [_NOTES], "text": [told], "count": [1], "source": [0], "first": [0]}).cast(_SCHEMA)


def _rows(held: Mapping[str, list[Any]], source: int) -> pa.Table:
    texts, counts, parts, firsts = zip(*held.values(), strict=True) if held else ((), (), (), ())
    columns = (parts, texts, counts, [source] * len(texts), firsts)
    arrays = [pa.array(values, kind.type) for values, kind in zip(columns, _SCHEMA, strict=True)]
    return pa.table(arrays, schema=_SCHEMA)


def _count_part(table: pa.Table, count: CountPrompts, folder: str, key: str) -> dict[str, list[str]]:
    """Count all prompts of a part into its file; the notes go through."""
    number = table["part"][0].as_py()
    if number == _NOTES:
        notes: dict[str, Any] = {}
        for text in table["text"].to_pylist():
            notes |= json.loads(text)
        return {"answer": [json.dumps({"notes": notes})]}
    work = partial(_write_counts, made=lambda: count(table))
    return {"answer": [json.dumps(timed(f"counts-{number:05d}.parquet", key, Path(folder), work))]}


def _write_counts(path: Path, made: Callable[[], pa.Table] | None) -> Receipt:
    table = pa.table({}) if made is None else made()
    write_table(path, table)
    return {"rows": len(table["texts"][0]) if made is not None else 0, "failures": []}


def _mark(file: Source) -> str:
    """What changes when a file changes."""
    if file.path is None or not file.path.exists():
        return ""
    stat = file.path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
