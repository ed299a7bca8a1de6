"""The prompts that a command reads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litetext.prompts.corpus import PromptCorpus
    from litetext.prompts.readers import ReadOptions


def read_corpus(sources: Sequence[str] | None, options: "ReadOptions") -> "PromptCorpus":
    """The prompts of the sources, or the bundled corpus where none is named.

    Raises:
        PromptError: a source cannot be read.
    """
    from litetext.prompts.bundled import bundled_corpus
    from litetext.prompts.corpus import PromptCorpus
    from litetext.prompts.readers import read_prompts

    return PromptCorpus.build(read_prompts(sources, options)) if sources else bundled_corpus()
