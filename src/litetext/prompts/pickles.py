"""RefCOCO's ``refs(*).p``: pickles read by an unpickler that can build nothing but plain data."""

import copyreg
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from litetext.errors import PromptError
from litetext.prompts.apart import read_apart
from litetext.prompts.opening import Opened, ReadOptions, checked_text, refuse_columns

_HINT = "give a list of strings, or of refs with sentences as in RefCOCO's refs(unc).p"

_PHRASES = 2**24  # characters that the phrases of any pickle may have,
_PHRASES_PER_BYTE = 200  # and more for each of its bytes, from which at most one phrase comes


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts, tuples, strings and numbers; a pickle that wants more is refused.

    Every callable that a pickle can reach comes through one of the two methods below, except objects in copyreg's cache
    of extension codes; `read_pickle` empties that cache.
    """

    where = ""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise self._refusal(f"the global '{module_name}.{global_name}'")

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise self._refusal(f"the persistent object {str(pid)[:40]!r}")

    def _refusal(self, wanted: str) -> PromptError:
        return PromptError(f"the pickle wants {wanted}, which is not plain data", where=self.where, hint=_HINT)


def read_pickle(opened: Opened, options: ReadOptions) -> Iterator[tuple[str, int]]:
    """The expressions of RefCOCO refs (``ref["sentences"][i]["sent"]``, else ``"raw"``), or of a list of strings.

    Source: ``refer.py`` of https://github.com/lichengunc/refer. The whole pickle is built in memory, in a process of
    its own. Byte strings of Python 2 are UTF-8, or else Latin-1.

    Raises:
        PromptError: broken, of another shape, it wants code to run, or it takes too much memory.
    """
    refuse_columns(opened, options)
    return read_apart("pickle", opened, options)


def unpickled(path: Path, where: str) -> Iterator[tuple[str, int]]:
    """The phrases of a pickle, read in this process; see `read_pickle`."""
    with path.open("rb") as file:
        data = _plain(file, where)
    if not isinstance(data, list | tuple):
        raise PromptError(f"the pickle holds a {type(data).__name__}, not a list", where=where, hint=_HINT)
    left = _PHRASES + _PHRASES_PER_BYTE * path.stat().st_size
    for index, ref in enumerate(data, 1):
        sentences = ref.get("sentences") if isinstance(ref, dict) else [ref]
        if not isinstance(sentences, list | tuple):
            raise PromptError("no list of sentences", where=f"{where} item {index}", hint=_HINT)
        for sentence in sentences:
            text = sentence.get("sent", sentence.get("raw")) if isinstance(sentence, dict) else sentence
            if not isinstance(text, str):
                kind = type(text).__name__
                raise PromptError(f"a {kind} instead of a phrase", where=f"{where} item {index}", hint=_HINT)
            left -= max(len(text), _PHRASES_PER_BYTE)
            if left < 0:  # a list may hold one string, or one list, a million times
                what = f"the phrases have more than {_PHRASES_PER_BYTE} times the bytes of the pickle"
                raise PromptError(what, where=where, hint=_HINT)
            yield checked_text(_fixed(text), where), 1


def _plain(file: BinaryIO, where: str) -> object:
    copyreg.clear_extension_cache()
    unpickler = _PlainUnpickler(file, encoding="utf-8", errors="surrogateescape")
    unpickler.where = where
    try:
        return unpickler.load()
    except (PromptError, MemoryError):
        raise
    except Exception as error:  # a broken pickle may raise anything
        reason = str(error) or type(error).__name__
        raise PromptError(f"broken pickle ({reason})", where=where, hint="fetch the file again") from error


def _fixed(text: str) -> str:
    """Text whose bytes were not UTF-8 (they came as lone surrogates) read as Latin-1; other text as it is."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        with suppress(UnicodeEncodeError):
            return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text
