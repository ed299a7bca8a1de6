"""Corpora of any size, and what stands in a folder."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from litetext.prompts.corpus import Prompt, PromptCorpus


def corpus_of(texts: Iterable[str]) -> PromptCorpus:
    return PromptCorpus.build(Prompt(text) for text in texts)


def letters(count: int) -> list[str]:
    """Distinct phrases of one to seven words, short and long ones mixed."""
    nouns = ("dog", "cat", "car", "cup", "tree", "man", "shoe")
    return [" ".join([*nouns[: 1 + number % 7], str(number)]) for number in range(count)]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)
