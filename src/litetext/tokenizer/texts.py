"""Texts as a user gives them: any iterable of strings, looked at once; what else there may be is refused by name."""

from collections.abc import Iterable, Iterator

from litetext.errors import OptionError


def as_texts(texts: Iterable[str]) -> list[str]:
    """The texts of a list, a generator, an array.

    Raises:
        OptionError: none, one string instead of a list, or something that is not a string.
    """
    found = list(each_text(texts))
    if not found:
        raise OptionError("no texts to encode", hint="give at least one")
    return found


def each_text(texts: Iterable[str]) -> Iterator[str]:
    """One text after another; there may be none.

    Raises:
        OptionError: one string instead of a list, or something that is not a string.
    """
    if isinstance(texts, str):
        raise OptionError("one string where a list of strings is needed", where="encode", hint="put it into a list")
    if not isinstance(texts, Iterable):
        raise OptionError(f"{type(texts).__name__} is not a list of strings", where="encode", hint="give a list")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise OptionError(f"{type(text).__name__} is not a string", where=f"text {position}", hint="give strings")
        yield text
