"""Serving an exported text encoder without PyTorch: texts in, NumPy arrays out.

from litetext.export.runtime import TextRuntime

runtime = TextRuntime.open("s0-onnx")
features, mask = runtime.encode(["white dog", "leash"])  # float32 [B, L, D], bool [B, L]
"""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.export.bundle import Bundle, open_bundle, read_tokenizer
from litetext.export.targets.target import TARGETS, Engine
from litetext.prompts.permutations import is_permutable
from litetext.prompts.words import split_words
from litetext.tokenizer.batch import TokenBatch
from litetext.tokenizer.bpe import ClipTokenizer
from litetext.tokenizer.clean import clean
from litetext.tokenizer.texts import as_texts
from litetext.tokenizer.vocabulary import END_ID, START_ID

Rows = npt.NDArray[np.float32]  # [T, D], features of the valid tokens of one text

ORDERLESS = 0.1  # greatest sensitivity to word order of a student whose features may be shared by all orders
PARALLEL = "onnx"  # the engine that computes several batches at a time
LEAST_SHARE = 4  # texts that are worth a thread of their own
CACHED = 256  # texts that are remembered unless something else is said


class TextRuntime:
    """An exported text encoder, ready to serve; any number of threads may call it.

    Texts are encoded once however often they occur, in batches of similar length, and those asked for last are
    remembered. Use [`TextRuntime.open`][litetext.export.runtime.TextRuntime.open].

    Args:
        bundle: what it is.
        tokenizer: its own.
        engine: runs its program.
        batch_size: texts that are computed at once.
        cache: texts that are remembered; 0 for none.
        any_order: whether phrases with the same content words in any order share their features.
        workers: batches that are computed side by side.
    """

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: ClipTokenizer,
        engine: Engine,
        *,
        batch_size: int = 32,
        cache: int = CACHED,
        any_order: bool = False,
        workers: int = 1,
    ) -> None:
        if batch_size < 1 or cache < 0:
            raise OptionError(f"batches of {batch_size} texts and a cache of {cache}", hint="give 1 and 0 at least")
        self.bundle = bundle
        self._tokenizer, self._engine = tokenizer, engine
        self._batch_size, self._any_order = batch_size, any_order
        self._cache = Cache(cache)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers - 1, "litetext") if workers > 1 else None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: str | None = None,
        threads: int | None = None,
        within: int = 1,
        batch_size: int = 32,
        cache: int = CACHED,
        any_order: bool = False,
        warm: bool = True,
    ) -> Self:
        """Open what `litetext export` wrote, once its checksums are right.

        Args:
            path: the folder.
            engine: "openvino" runs an ONNX graph in OpenVINO; None runs what it was exported for.
            threads: that a call may use; None for as many as there are cores.
            within: of these, how many work on one batch; the others work on other texts of the call, which is faster
                where there are some. Engines but ONNX Runtime put all of them on one batch.
            batch_size: texts that are computed at once.
            cache: texts that are remembered; 0 for none.
            any_order: whether phrases with the same content words in any order share features, those of the first that
                came. Relations ("left of") keep their order. Only for students that hardly tell orders apart.
            warm: run it once, so that the first text waits for nothing.

        Raises:
            EncoderError: no such folder, not a bundle, not whole, or its engine cannot read it.
            OptionError: an option makes no sense.
            MissingExtraError: its engine is not installed.
        """
        folder = Path(path)
        bundle = open_bundle(folder)
        if any_order and (bundle.order is None or bundle.order > ORDERLESS):
            found = "was not measured" if bundle.order is None else f"is {bundle.order:.3f}"
            raise OptionError(
                f"any order, for a student whose sensitivity to order {found}, more than {ORDERLESS}",
                where=str(folder),
                hint="leave any_order out, or train the student with consistency",
            )
        count = (os.cpu_count() or 1) if threads is None else threads
        if count < 1 or not 1 <= within <= count:
            raise OptionError(f"{count} threads, {within} of them within a batch", hint="give at least 1, and no more")
        chosen = bundle.target if engine is None else engine
        workers = count // within if chosen == PARALLEL else 1
        program = open_engine(folder, bundle, engine, within if chosen == PARALLEL else count)
        options = {"batch_size": batch_size, "cache": cache, "workers": workers}
        runtime = cls(bundle, read_tokenizer(folder), program, any_order=any_order, **options)
        if warm:
            runtime.warm_up()
        return runtime

    @property
    def name(self) -> str:
        """What the student was called."""
        return self.bundle.name

    @property
    def context_length(self) -> int:
        """Tokens that it reads of a text, start and end token counted; the rest is cut off."""
        return self.bundle.config.context_length

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.bundle.config.output

    def warm_up(self) -> None:
        """Run once, on two tokens; nothing is remembered of it."""
        self._engine.run(np.array([[START_ID, END_ID]], dtype=np.int64), np.ones((1, 2), dtype=np.bool_))

    def encode(self, texts: Iterable[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Features of texts.

        Args:
            texts: B of them, at least one.

        Returns:
            Features float32 [B, L, D], zero at padding, and a mask bool [B, L], True at valid tokens; L is that of the
            longest text, at most the context. Both are the caller's own.

        Raises:
            OptionError: no texts, or something that is not a string.
            EncoderError: the engine fails, or gives features that are not finite.
        """
        texts = as_texts(texts)
        sequences = self._tokenizer.encode(texts)
        batch = TokenBatch.of_sequences(sequences, min(self.context_length, int(sequences.lengths.max())))
        lengths = batch.mask.sum(axis=1)
        keys = [self._key(text, ids[:length]) for text, ids, length in zip(texts, batch.ids, lengths, strict=True)]
        known = self._cache.find(keys)
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in known}
        for part, values in self._compute(texts, batch, lengths, list(first.values())):
            known |= {keys[row]: values[place, : lengths[row]] for place, row in enumerate(part)}
        features = np.zeros((*batch.mask.shape, self.width), dtype=np.float32)
        features[batch.mask] = np.concatenate([known[key] for key in keys])
        self._cache.keep(first, known)
        return features, batch.mask

    def _compute(
        self, texts: Sequence[str], batch: TokenBatch, lengths: npt.NDArray[np.int64], rows: Sequence[int]
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        """Rows of a batch in parts, and the features of each part."""
        # The longest come first, so that texts of similar length share a part.
        order = sorted(rows, key=lambda row: -lengths[row])
        parts = list(parts_of(order, self._batch_size, self._workers))

        def run(part: list[int]) -> npt.NDArray[np.float32]:
            length = lengths[part[0]]
            mask = batch.mask[part, :length]
            values = self._engine.run(batch.ids[part, :length], mask)
            self._check(values, mask, texts, part)
            return values

        found: dict[int, npt.NDArray[np.float32]] = {}
        waiting = deque(range(len(parts)))

        def work() -> None:
            while waiting:
                try:
                    place = waiting.popleft()
                except IndexError:  # another thread took the last one
                    return
                found[place] = run(parts[place])

        # The caller's thread works too: a batch that is alone waits for no other.
        helpers = min(self._workers, len(parts)) - 1
        hands = [self._pool.submit(work) for _ in range(helpers)] if self._pool is not None else []
        work()
        for hand in hands:
            if not hand.cancel():  # one that waits behind other calls has nothing left to do
                hand.result()
        return ((part, found[place]) for place, part in enumerate(parts))

    def _key(self, text: str, ids: npt.NDArray[np.int64]) -> Hashable:
        """What tells texts apart: their tokens, or where orders are not told apart and may change, these as a set."""
        if self._any_order and is_permutable(split_words(clean(text))):
            return tuple(sorted(ids.tolist()))
        return ids.tobytes()

    def _check(
        self, values: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], texts: Sequence[str], part: Sequence[int]
    ) -> None:
        if values.shape != (*mask.shape, self.width):
            raise EncoderError(
                f"features {list(values.shape)} for {list(mask.shape)} tokens and width {self.width}", where=self.name
            )
        if not np.isfinite(values.sum()):  # cheaper than to look at each
            bad = int(np.isfinite(values).all(axis=(1, 2)).argmin())
            raise EncoderError(f"the features of '{texts[part[bad]]}' are not finite", where=self.name)


class Cache:
    """Features of the texts that were asked for last; several threads may use it.

    Args:
        size: texts that are kept.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._rows: OrderedDict[Hashable, Rows] = OrderedDict()

    def __len__(self) -> int:
        """Texts that are kept now."""
        return len(self._rows)

    def find(self, keys: Iterable[Hashable]) -> dict[Hashable, Rows]:
        """Those of the keys that are known."""
        with self._lock:
            found = {key: self._rows[key] for key in keys if key in self._rows}
            for key in found:
                self._rows.move_to_end(key)
            return found

    def keep(self, keys: Iterable[Hashable], known: dict[Hashable, Rows]) -> None:
        """Remember new ones, in memory of their own; the oldest are forgotten."""
        wanted = list(keys)[-self._size :] if self._size else []
        rows = [(key, known[key].copy()) for key in wanted]
        with self._lock:
            self._rows.update(rows)
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)


def parts_of(order: Sequence[int], size: int, workers: int) -> Iterator[list[int]]:
    """Rows in parts of at most a size, so that workers who compute some together have equally much to do.

    Args:
        order: the rows, the longest first.
        size: of a part, at most.
        workers: that compute parts side by side.
    """
    for start in range(0, len(order), size * workers):
        together = order[start : start + size * workers]
        shares = max(-(-len(together) // size), min(workers, len(together) // LEAST_SHARE))
        parts: list[list[int]] = [[] for _ in range(shares)]
        for place, row in enumerate(together):
            turn = place % (2 * shares)  # there and back again: 0 1 2 2 1 0
            parts[min(turn, 2 * shares - 1 - turn)].append(row)
        yield from parts


def open_engine(folder: Path, bundle: Bundle, engine: str | None, threads: int | None) -> Engine:
    """The engine that runs a bundle's program.

    Raises:
        EncoderError: it cannot be read, or runs elsewhere only.
        OptionError: no such engine, or not for this program.
        MissingExtraError: it is not installed.
    """
    chosen = bundle.target if engine is None else engine
    if chosen not in TARGETS:
        raise OptionError(f"no engine is called '{chosen}'", hint=f"give {', '.join(TARGETS)}")
    if chosen != bundle.target and (chosen, bundle.target) != ("openvino", "onnx"):
        raise OptionError(f"the engine '{chosen}' for a program for {bundle.target}", where=str(folder))
    opener: Callable[[Path, str, int | None], Engine] = import_module(f"litetext.export.targets.{chosen}").open_engine
    return opener(folder, bundle.model, threads)
