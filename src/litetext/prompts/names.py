"""Names of columns and fields that hold a prompt or a count, what their values look like, and what to say otherwise."""

import re
from collections.abc import Callable, Sequence

from litetext.errors import PromptError

# The first known name that is there wins. The strong ones say that the value is a prompt; the weak ones, a class.
STRONG_NAMES = (
    *("text_input", "noun_phrase", "prompt", "phrase", "text", "caption", "expression", "sentence", "query"),
    *("prompts", "phrases", "texts", "captions", "expressions", "sentences", "queries", "noun_phrases"),
    *("referring_expression", "text_prompt", "sent", "raw"),
)
TEXT_NAMES = (
    *STRONG_NAMES,
    *("category_name", "category", "class_name", "display_name", "displayname", "class", "label", "name"),
)
COUNT_NAMES = (
    *("count", "counts", "n", "freq", "frequency", "occurrences", "instance_count", "image_count"),
    *("num", "total", "n_instances", "n_images"),
)
MAX_COUNT = 10**18
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
PICTURE = r"[^\s].*\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|npy|mp4|avi|mov)"
_REFERENCE = re.compile(
    rf"[a-z][a-z0-9+.-]*://\S+|www\.\S+|(?:\.{{0,2}}/|[a-z]:\\)\S*|{PICTURE}"  # an address, a path, a name of a file
    r"|(?=(?:[^\d\s]*\d){3})[\w./:#-]+",  # an id: one word of letters with three digits
    re.ASCII | re.IGNORECASE,
)


def plain_name(name: str) -> str:
    """A column's name as the lists of known names spell it."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def best_known(names: Sequence[str], known: Sequence[str], usable: Callable[[int], bool]) -> int | None:
    """Index of the usable name that stands first among the known ones; None: there is none."""
    ranks = [(known.index(plain), index) for index, plain in enumerate(map(plain_name, names)) if plain in known]
    return next((index for _, index in sorted(ranks) if usable(index)), None)


def looks_like_reference(text: str) -> bool:
    """Whether a text is an address, a path, the name of a picture or an id rather than words."""
    return _REFERENCE.fullmatch(text.strip()) is not None


def best_text(names: Sequence[str], columns: Sequence[Sequence[str]], count: int | None = None) -> int | None:
    """Index of the column that holds the text: of a known name, else mostly words; None: it could not be told.

    Columns of references (see `looks_like_reference`) come after all others.

    Args:
        names: of the columns.
        columns: some cells of each.
        count: the column that holds counts.
    """
    filled = [[cell for cell in column if cell] for column in columns]
    texts = [[cell for cell in column if not NUMBER.fullmatch(cell)] for column in filled]
    references = [2 * sum(map(looks_like_reference, cells)) > len(cells) for cells in texts]
    rest = [index for index in range(len(names)) if index != count]
    for wanted in (False, True):
        fitting = [index for index in rest if references[index] is wanted]
        named = {index for index in fitting if texts[index] or not columns[index]}
        known = best_known(names, TEXT_NAMES, named.__contains__)
        mostly = (index for index in fitting if 2 * len(texts[index]) > len(filled[index]))
        found = next(mostly, None) if known is None else known
        if found is not None:
            return found
    return rest[0] if len(rest) == 1 else None


def is_index(numbers: Sequence[int]) -> bool:
    """Whether the numbers beside phrases are those of classes, and not counts.

    That is: 0 to the last one; or 1 to the last one, rising, or many (counts 3, 1, 2 are no wonder); or rising with few
    gaps (COCO's).
    """
    size = len(numbers)
    distinct = sorted(set(numbers))
    if len(distinct) < max(size, 2):
        return False
    rising = distinct == list(numbers)
    if distinct[-1] == size - 1:  # with 0, which as a count would lose the phrase
        return True
    return (distinct[-1] == size and (rising or size > 5)) or (rising and size > 2 and distinct[-1] < 2 * size)


def ignored_counts(name: str) -> str:
    """What to tell of a column or field with the name of counts that holds none."""
    return f"'{name}' is not counted (no whole numbers)"


def wrong_column(wanted: str, names: Sequence[str], where: str) -> PromptError:
    """The error for a column that is not there, or (``wanted`` is empty) for none that could be guessed."""
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    what = f"no column '{wanted}'" if wanted else "no column of text could be told"
    return PromptError(what, where=where, hint=f"it has: {listed}" + ("" if wanted else "; name one with column"))


def bad_count(value: object, where: str) -> PromptError:
    """The error for a count that is not a positive integer."""
    shown = str(value)[:40]
    return PromptError(f"count '{shown}' is not a positive integer", where=where, hint="fix it, or name another column")
