"""Names of columns and fields that hold a prompt or a count, and what to say where none fits."""

from collections.abc import Callable, Sequence

from litetext.errors import PromptError

# The first known name that is there wins. The strong ones say that the value is a prompt; the weak ones, a class.
STRONG_NAMES = (
    *("text_input", "noun_phrase", "prompt", "phrase", "text", "caption", "expression", "sentence", "query"),
    *("prompts", "phrases", "texts", "captions", "expressions", "sentences", "queries", "noun_phrases"),
    *("referring_expression", "text_prompt", "sent", "raw"),
)
TEXT_NAMES = (*STRONG_NAMES, "category_name", "category", "class_name", "class", "label", "name")
COUNT_NAMES = (
    *("count", "counts", "n", "freq", "frequency", "occurrences", "instance_count", "image_count"),
    *("num", "total", "n_instances", "n_images"),
)
MAX_COUNT = 10**18


def plain_name(name: str) -> str:
    """A column's name as the lists of known names spell it."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def best_known(names: Sequence[str], known: Sequence[str], usable: Callable[[int], bool]) -> int | None:
    """Index of the usable name that stands first among the known ones; None: there is none."""
    ranks = [(known.index(plain), index) for index, plain in enumerate(map(plain_name, names)) if plain in known]
    return next((index for _, index in sorted(ranks) if usable(index)), None)


def wrong_column(wanted: str, names: Sequence[str], where: str) -> PromptError:
    """The error for a column that is not there, or (``wanted`` is empty) for none that could be guessed."""
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    what = f"no column '{wanted}'" if wanted else "no column of text could be told"
    return PromptError(what, where=where, mend=f"it has: {listed}" + ("" if wanted else "; name one with column"))


def bad_count(value: object, where: str) -> PromptError:
    """The error for a count that is not a positive integer."""
    shown = str(value)[:40]
    return PromptError(
        f"count '{shown}' is not a positive integer", where=where, mend="mend it, or name another column"
    )
