"""The prompts that a command reads, and what is told of how they were read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from litetext.cli.app import echo

if TYPE_CHECKING:
    from litetext.prompts.corpus import PromptCorpus
    from litetext.prompts.readers import ReadOptions

_MOST_LINES = 12


def read_corpus(sources: Sequence[str] | None, options: "ReadOptions") -> "PromptCorpus":
    """The prompts of the sources, or the bundled corpus where none is named; guesses go to standard error.

    Raises:
        PromptError: a source cannot be read.
    """
    from litetext.prompts.bundled import bundled_corpus
    from litetext.prompts.corpus import PromptCorpus
    from litetext.prompts.readers import read_prompts

    if not sources:
        return bundled_corpus()
    read_as: dict[str, str] = {}
    corpus = PromptCorpus.build(read_prompts(sources, options, read_as), read_as)
    _tell(corpus.read_as)
    return corpus


def _tell(read_as: Mapping[str, str]) -> None:
    """One line for all sources that were read in one way, none where nothing was guessed."""
    from litetext.prompts.readers import FORMATS

    names: dict[str, list[str]] = {}
    for name, told in read_as.items():
        if told not in FORMATS:
            names.setdefault(told, []).append(name)
    for told, (first, *others) in list(names.items())[:_MOST_LINES]:
        echo(f"{first}{f' and {len(others)} more' if others else ''}: {told}", err=True)
    if len(names) > _MOST_LINES:
        echo(f"... and {len(names) - _MOST_LINES} other ways to read sources (see litetext audit --json)", err=True)
