"""Serving an exported text encoder without PyTorch: texts in, NumPy arrays out.

from litetext.export.runtime import TextRuntime

runtime = TextRuntime.open("s0-onnx")
features, mask = runtime.encode(["white dog", "leash"])  # float32 [B, L, D], bool [B, L]
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError
from litetext.export.bundle import Bundle, is_bundle, open_bundle, read_tokenizer
from litetext.export.programs import EngineName, open_program, text_engine
from litetext.export.targets import INPUTS, OUTPUTS, Engine
from litetext.features.encode import AsTextEncoder, check_features
from litetext.features.protocol import Arrays, EncoderInfo, TextEncoder, describe
from litetext.features.ragged import pad
from litetext.features.store import is_bank
from litetext.tokenizer.bpe import ClipTokenizer, TokenBatch
from litetext.tokenizer.clean import as_texts
from litetext.tokenizer.vocabulary import END_ID, START_ID

Rows = npt.NDArray[np.float32]  # [T, D], features of the valid tokens of one text

TARGET_OF = {"onnx": "onnx", "openvino": "onnx", "executorch": "executorch"}
"""By the name of an engine the target whose programs it runs."""
LEAST_SHARE = 4  # texts that are worth a thread of their own


class TextRuntime:
    """An exported text encoder, ready to serve; any number of threads may call it.

    Texts are encoded once however often they occur, in batches of similar length (``workers`` of them side by side),
    and those asked for last are remembered. Use `TextRuntime.open`.
    """

    def __init__(
        self,
        bundle: EncoderInfo,
        tokenizer: ClipTokenizer,
        engine: Engine,
        *,
        batch_size: int = 32,
        cache: int = 256,
        workers: int = 1,
    ) -> None:
        if batch_size < 1 or cache < 0:
            raise OptionError(f"batches of {batch_size} texts and a cache of {cache}", hint="give 1 and 0 at least")
        self.bundle: Any = bundle  # a `Bundle`, or what another manifest says of the encoder
        self.name = bundle.name
        self.context_length, self.width = bundle.context_length, bundle.width
        self.text_tokenizer, self._engine = tokenizer, engine
        self._batch_size, self._cache_size, self._workers = batch_size, cache, workers
        self._cache: OrderedDict[bytes, Rows] = OrderedDict()
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(workers, "litetext") if workers > 1 else None

    __repr__ = describe

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        cache: int = 256,
        warm: bool = True,
    ) -> Self:
        """Open what `litetext export` wrote, once its checksums are right.

        Args:
            path: the folder.
            engine: "openvino" runs an ONNX graph in OpenVINO; None runs what it was exported for.
            threads: that a call may use; None for as many as there are cores. ONNX Runtime computes a batch on each,
                which is faster than all of them on one batch; the other engines do the latter.
            batch_size: texts that are computed at once.
            cache: texts that are remembered; 0 for none.
            warm: run it once, so that the first text waits for nothing.
        """
        folder = Path(path)
        bundle = open_bundle(folder)
        count = (os.cpu_count() or 1) if threads is None else threads
        if count < 1:
            raise OptionError(f"{count} threads", hint="give at least 1")
        side_by_side = (engine or bundle.target) == "onnx"
        program = open_engine(folder, bundle, engine, 1 if side_by_side else count)
        workers = count if side_by_side else 1
        runtime = cls(bundle, read_tokenizer(folder), program, batch_size=batch_size, cache=cache, workers=workers)
        if warm:
            program(np.array([[START_ID, END_ID]], dtype=np.int64), np.ones((1, 2), dtype=np.bool_))
        return runtime

    def encode(self, texts: str | Iterable[str]) -> Arrays:
        """Features float32 [B, L, D] of one or more texts, zero at padding, and mask bool [B, L], True at valid tokens.

        L is that of the longest text, at most the context. Both arrays are the caller's own.
        """
        texts = as_texts(texts)
        sequences = self.text_tokenizer.encode(texts)
        batch = TokenBatch.of_sequences(sequences, min(self.context_length, int(sequences.lengths.max())))
        lengths = batch.mask.sum(axis=1)
        keys = [ids[:length].tobytes() for ids, length in zip(batch.ids, lengths, strict=True)]
        rows = self._known(keys)
        # The longest come first, so that texts of similar length share a part.
        missing = {key: place for place, key in enumerate(keys) if key not in rows}
        order = sorted(missing.values(), key=lambda place: -lengths[place])
        parts = list(parts_of(order, self._batch_size, self._workers))

        def run(part: list[int]) -> list[Rows]:
            length = lengths[part[0]]
            mask = batch.mask[part, :length]
            values = self._engine(batch.ids[part, :length], mask)
            return check_features(values, mask, [texts[row] for row in part], self)

        results = self._pool.map(run, parts) if self._pool is not None and len(parts) > 1 else map(run, parts)
        for part, features in zip(parts, results, strict=True):
            rows |= {keys[place]: row for place, row in zip(part, features, strict=True)}
        self._remember(missing, rows)
        return pad([rows[key] for key in keys])

    def _known(self, keys: Iterable[bytes]) -> dict[bytes, Rows]:
        """Features of those of the keys that are remembered."""
        with self._lock:
            known = {key: self._cache[key] for key in keys if key in self._cache}
            for key in known:
                self._cache.move_to_end(key)
            return known

    def _remember(self, keys: Iterable[bytes], rows: dict[bytes, Rows]) -> None:
        """Remember new features, in memory of their own; the oldest are forgotten."""
        if not self._cache_size:
            return
        new = {key: rows[key].copy() for key in list(keys)[-self._cache_size :]}
        with self._lock:
            self._cache.update(new)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)


def parts_of(order: Sequence[int], size: int, workers: int) -> Iterator[list[int]]:
    """Rows, the longest first, in parts of at most a size that give workers side by side equally much to do."""
    for start in range(0, len(order), size * workers):
        together = order[start : start + size * workers]
        shares = max(-(-len(together) // size), min(workers, len(together) // LEAST_SHARE))
        parts: list[list[int]] = [[] for _ in range(shares)]
        for place, row in enumerate(together):
            turn = place % (2 * shares)  # there and back again: 0 1 2 2 1 0
            parts[min(turn, 2 * shares - 1 - turn)].append(row)
        yield from parts


def open_engine(folder: Path, bundle: Bundle, engine: str | None, threads: int | None) -> Engine:
    """The engine that runs a bundle's program, by name; None for that of its target."""
    name = engine or bundle.target
    if name not in TARGET_OF:
        raise OptionError(f"no engine here is called '{name}'", where=str(folder), hint=f"give {', '.join(TARGET_OF)}")
    if TARGET_OF[name] != bundle.target:
        raise OptionError(f"the engine '{name}' for a program for {bundle.target}", where=str(folder))
    if name == "executorch":
        from litetext.export.targets import executorch

        return executorch.open_engine(folder / bundle.model, threads)
    chosen: EngineName = "openvino" if name == "openvino" else "onnx"
    program = open_program(folder / bundle.model, (INPUTS, OUTPUTS[:1]), chosen, threads)
    return text_engine(program, bundle.options.length, bundle.options.batch)


def is_served(spec: str) -> bool:
    """Whether it is a file or folder that `open_served` opens; cheap, and nothing is raised where nothing is."""
    return is_bank(spec) or is_bundle(Path(spec))


def open_served(
    spec: str, fallback: Callable[[], TextEncoder] | None = None, asked: Sequence[str] = ()
) -> AsTextEncoder:
    """A prompt bank, or a folder that `litetext export` wrote, as a text encoder.

    Args:
        spec: its path.
        fallback: loads the encoder of phrases that a bank does not know; None refuses them.
        asked: phrases that are going to be encoded: those that are not known are refused now.
    """
    if not is_bank(spec):
        if fallback is not None:
            raise OptionError("--fallback for what is no prompt bank", where=spec, hint="leave it out")
        runtime = TextRuntime.open(spec)
        return AsTextEncoder(runtime, bytes=sum(runtime.bundle.files.values()), parameters=runtime.bundle.parameters)
    from litetext.features.bank import PromptBank

    bank = PromptBank.open(spec, None if fallback is None else fallback())
    bank.check(asked)
    return AsTextEncoder(bank, bytes=Path(spec).stat().st_size)
