"""Prompts and corpora: normalized text, how often it occurs, and where it is from."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from litetext.errors import OptionError, PromptError
from litetext.storage import fingerprint
from litetext.tokenizer.clean import check_iterable, clean, settled

_MAX_OCCURRENCES = 10**15  # times the tokens of a prompt, they fit 64 bits


@dataclass(frozen=True, slots=True)
class Prompt:
    """A phrase, how often it occurs, and the source that it was read from."""

    text: str
    count: int = 1  # at least 1
    source: str = ""  # name of the file, folder or data set


@dataclass(frozen=True)
class PromptCorpus:
    """Distinct normalized prompts with their counts in each source.

    Two prompts are the same when SAM3's tokenizer sees the same text (see `clean`). Rows are in order of first sight.
    """

    texts: tuple[str, ...]  # the N distinct phrases, cleaned
    counts: npt.NDArray[np.int64]  # int64 [S, N], occurrences of each phrase in each source
    sources: tuple[str, ...]  # names of the S sources
    # how the reader read a source, by its name, where it was read from a file
    read_as: Mapping[str, str] = field(default_factory=dict, compare=False)
    # why what was read of a source hardly is prompts, by its name
    warnings: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.sources), len(self.texts)):
            raise ValueError(f"counts {self.counts.shape} for {len(self.sources)} sources, {len(self.texts)} texts")

    @classmethod
    def build(
        cls,
        prompts: Iterable[Prompt | str],
        read_as: Mapping[str, str] | None = None,
        warnings: Mapping[str, str] | None = None,
    ) -> "PromptCorpus":
        """Count prompts, and strings once each; memory grows with the distinct ones only.

        ``read_as`` and ``warnings`` may be filled while the prompts are counted.

        Raises:
            OptionError: something is neither a prompt nor a string, or its count is below 1.
            PromptError: there is no prompt at all, or more occurrences than can be counted.
        """
        rows: dict[str, int] = {}  # by cleaned text
        texts: list[str] = []
        tables: dict[str, dict[int, int]] = {}
        for prompt in map(_checked, check_iterable(prompts)):
            cleaned = clean(prompt.text)
            row = rows.get(cleaned)
            if row is None:
                row = rows[cleaned] = len(texts)
                texts.append(settled(prompt.text, cleaned))  # each encoder cleans it again
            table = tables.setdefault(prompt.source, {})
            table[row] = table.get(row, 0) + prompt.count
        if not texts:
            raise PromptError("no prompts", hint="give a file with at least one phrase")
        total = sum(sum(table.values()) for table in tables.values())
        if total > _MAX_OCCURRENCES:
            raise PromptError(f"{total} occurrences, more than {_MAX_OCCURRENCES}", hint="give smaller counts")
        counts = np.zeros((len(tables), len(texts)), dtype=np.int64)
        for source, table in enumerate(tables.values()):
            counts[source, list(table)] = list(table.values())
        return cls(tuple(texts), counts, tuple(tables), dict(read_as or {}), dict(warnings or {}))

    def __repr__(self) -> str:
        """One line."""
        first = ", ".join(f"'{text[:40]}'" for text in self.texts[:3]) + ", ..." * (len(self) > 3)
        return f"PromptCorpus({len(self):,} phrases, {self.total:,} times, {len(self.sources)} sources: {first})"

    def __len__(self) -> int:
        """The number of distinct prompts."""
        return len(self.texts)

    def __iter__(self) -> Iterator[Prompt]:
        """One `Prompt` for each phrase and source that has it."""
        for source, row in zip(self.sources, self.counts, strict=True):
            for index in np.flatnonzero(row):
                yield Prompt(self.texts[index], int(row[index]), source)

    @property
    def total(self) -> int:
        """Occurrences over all sources."""
        return int(self.counts.sum())

    @cached_property
    def occurrences(self) -> npt.NDArray[np.int64]:
        """int64 [N], occurrences of each phrase over all sources."""
        return np.asarray(self.counts.sum(axis=0))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the phrases and their occurrences, whatever their order, sources or spelling before cleaning."""
        rows = sorted(zip(self.texts, self.occurrences.tolist(), strict=True))
        return fingerprint(part for text, count in rows for part in (text, str(count)))

    def select(self, rows: npt.NDArray[np.intp]) -> "PromptCorpus":
        """The corpus of some rows (indices, ascending); sources without any of them go."""
        counts = self.counts[:, rows]
        kept = np.flatnonzero(counts.any(axis=1))
        texts, sources = tuple(self.texts[row] for row in rows), tuple(self.sources[index] for index in kept)
        return PromptCorpus(texts, counts[kept], sources, self.read_as, self.warnings)

    def split(self, shares: Mapping[str, float], seed: int = 0) -> dict[str, "PromptCorpus"]:
        """Split the corpus by phrase: every phrase, with all its occurrences, falls into one part.

        The part depends on the phrase and the seed alone, so that a phrase stays in its part when the corpus grows. The
        shares of the named parts add up to 1.
        """
        edges = np.cumsum(list(shares.values()))
        if not shares or min(shares.values()) <= 0 or abs(float(edges[-1]) - 1) > 1e-9:
            what = f"shares {dict(shares)} are not positive with sum 1"
            raise OptionError(what, hint="for example train=0.9 val=0.1")
        key = seed.to_bytes(8, "little", signed=True)
        draws = [
            int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest())
            for text in self.texts
        ]
        part = np.searchsorted(edges[:-1], np.array(draws, dtype=np.float64) / 2.0**64, side="right")
        return {name: self.select(np.flatnonzero(part == index)) for index, name in enumerate(shares)}


def bundled_corpus() -> PromptCorpus:
    """Names of LVIS, COCO, Objects365, Open Images and ODinW classes and English emoji names and keywords.

    Made by `scripts/make_corpus.py`; licences are in NOTICE. Sources are named ``bundled/coco`` and so on.
    """
    data = files("litetext.prompts").joinpath("data")
    names = sorted(entry.name for entry in data.iterdir() if entry.name.endswith(".txt"))
    return PromptCorpus.build(
        Prompt(line, 1, f"bundled/{name.removesuffix('.txt')}")
        for name in names
        for line in data.joinpath(name).read_text(encoding="utf-8").splitlines()
    )


def _checked(value: Prompt | str) -> Prompt:
    prompt = value if isinstance(value, Prompt) else Prompt(value)
    if not isinstance(prompt.text, str):
        raise OptionError(f"a {type(prompt.text).__name__} where a text is to be", hint="give strings")
    if not isinstance(prompt.count, int | np.integer) or prompt.count < 1:
        raise OptionError(f"the count {prompt.count!r} of a prompt", hint="give whole numbers from 1 on")
    if not prompt.text.isascii():
        try:
            prompt.text.encode("utf-8")
        except UnicodeEncodeError as error:
            what = f"half a character (a lone surrogate) in '{prompt.text[:60]}'"
            raise OptionError(what, hint="fix that text") from error
    return prompt
