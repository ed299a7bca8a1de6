"""Every error that LiteText raises for a mistake it can name.

The command line prints any of them as one line, ``error: what, where; hint``, and exits with 1.
"""

import re
from collections.abc import Iterable, Sequence

# Control characters (a terminal would obey them), marks that reorder the text around them, and lone surrogates (bytes
# of a file name that are not UTF-8; no encoding takes them). Tab and line feed stay.
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 600  # characters of a part of a message: a path of Linux's longest name, and some more


def printable(text: str) -> str:
    r"""Text that is safe to print: what a terminal would obey, or cannot encode, becomes an escape such as ``\x1b``."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """The text, or its beginning and end where it is longer than that."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def first_line(error: Exception) -> str:
    """The first line of what another library says, or the name of its error where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class LiteTextError(Exception):
    """A mistake that LiteText can name: what is wrong (no full stop), where, and a hint how to fix it."""

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        text = ", ".join(shortened(part) for part in (what, where) if part)
        text = "; ".join(part for part in (text, shortened(hint)) if part)
        super().__init__(printable(re.sub(r"[ \t\r\n]+", " ", text).strip()))


class PromptError(LiteTextError):
    """A source of prompts cannot be read (missing, binary, empty, broken)."""


class ArrayError(LiteTextError):
    """A file of embeddings or positions cannot be read, or has the wrong shape."""


class EncoderError(LiteTextError):
    """An encoder or a model cannot be loaded or used."""


class CacheError(LiteTextError):
    """A cache of features is damaged, of another teacher or in use, or lacks a phrase."""


class TrainingError(LiteTextError):
    """A training cannot begin, go on, or be kept (a loss that is not finite, a full disk); what was kept is whole."""


class EvaluationError(LiteTextError):
    """Annotations or predictions cannot be read, or do not fit together."""


class ImageError(LiteTextError):
    """An image cannot be read, or does not fit its masks."""


class OutputError(LiteTextError):
    """A file or folder cannot be written: it is an input, something else is there, or another process writes it."""


class OptionError(LiteTextError):
    """A value that the user gave makes no sense, or none together with the rest."""


class MissingExtraError(LiteTextError):
    """The feature needs an optional dependency, which an extra of this package such as ``sam3`` brings."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the extra '{extra}'", hint=f"pip install 'litetext[{extra}]'")


def check_names(names: Iterable[str], known: Sequence[str], kind: str = "option") -> None:
    """Refuse a name that is not among those known, with the nearest one: an `OptionError`."""
    for name in names:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise OptionError(f"no {kind} is called '{name}'", hint=f"did you mean '{near}'? All: {', '.join(known)}")
