"""What the tokenizer sees of a text: SAM3's cleaning; and what a user may give as texts."""

import html
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from litetext.errors import OptionError

_Value = TypeVar("_Value")

# The white space of the `regex` module, which SAM3 uses: Unicode's White_Space property. Python's own \s has four
# control characters more (U+001C to U+001F).
_WHITE_SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def is_plain(text: str) -> bool:
    """Whether the text is printable ASCII without ``&``: nothing to fix or unescape, only case and spaces."""
    return text.isascii() and text.isprintable() and "&" not in text


def clean(text: str) -> str:
    """Clean a prompt as SAM3's tokenizer does before it splits words.

    ftfy fixes broken encodings, HTML is unescaped twice, white space is collapsed, case is lowered (``_clean_lower`` in
    SAM3's ``tokenizer_ve.py``).
    """
    if is_plain(text):
        return " ".join(text.split()).lower()
    import ftfy  # with all its patterns, a twentieth of the time that a first mask takes

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _WHITE_SPACE.sub(" ", text).strip().lower()


def settled(text: str, cleaned: str) -> str:
    """The cleaned text, unless cleaning it again would change it (nested HTML entities): then the text as given."""
    return cleaned if is_plain(cleaned) or clean(cleaned) == cleaned else text


def as_texts(texts: str | Iterable[str]) -> list[str]:
    """A text, or those of a list, a generator, an array: at least one, or an `OptionError`."""
    found = [texts] if isinstance(texts, str) else list(each_text(texts))
    if not found:
        raise OptionError("no texts to encode", hint="give at least one")
    return found


def each_text(texts: Iterable[str]) -> Iterator[str]:
    """One text after another; there may be none."""
    for position, text in enumerate(check_iterable(texts)):
        if not isinstance(text, str):
            raise OptionError(f"{type(text).__name__} is not a string", where=f"text {position}", hint="give strings")
        yield text


def check_iterable(values: Iterable[_Value]) -> Iterable[_Value]:
    """The values, unless they are one string, whose characters would be taken for texts, or no collection."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise OptionError(f"a {type(values).__name__} where a list of strings is needed", hint="put it into a list")
    return values
