"""RefCOCO's ``refs(*).p``: read by the child process of `isolated`; what is no plain data is refused."""

import copyreg
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from litetext.errors import PromptError
from litetext.prompts.opening import checked_text

_HINT = "give a list of strings, or of refs with sentences as in RefCOCO's refs(unc).p"
_PHRASES = 2**24  # characters that the phrases of any pickle may have,
_PHRASES_PER_BYTE = 200  # and more for each of its bytes, from which at most one phrase comes


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts, tuples, strings and numbers; a pickle that wants more is refused.

    Every callable that a pickle can reach comes through one of the two methods below, except objects in copyreg's cache
    of extension codes; `unpickled` empties that cache.
    """

    where = ""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise self._refusal(f"the global '{module_name}.{global_name}'")

    def persistent_load(self, pid: object, /) -> NoReturn:
        raise self._refusal(f"the persistent object {str(pid)[:40]!r}")

    def _refusal(self, wanted: str) -> PromptError:
        return PromptError(f"the pickle wants {wanted}, which is not plain data", where=self.where, hint=_HINT)


def unpickled(path: Path, where: str) -> Iterator[tuple[str, int]]:
    """The expressions of RefCOCO refs (``ref["sentences"][i]["sent"]``, else ``"raw"``), or of a list of strings.

    Source: ``refer.py`` of https://github.com/lichengunc/refer. The whole pickle is built in memory. Byte strings of
    Python 2 are UTF-8, or else Latin-1.
    """
    copyreg.clear_extension_cache()
    with path.open("rb") as file:
        unpickler = _PlainUnpickler(file, encoding="utf-8", errors="surrogateescape")
        unpickler.where = where
        try:
            data = unpickler.load()
        except (PromptError, MemoryError):
            raise
        except Exception as error:  # a broken pickle may raise anything
            reason = str(error) or type(error).__name__
            raise PromptError(f"broken pickle ({reason})", where=where, hint="fetch the file again") from error
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
            yield checked_text(_as_latin1(text), where), 1


def _as_latin1(text: str) -> str:
    """Text whose bytes were not UTF-8 (they came as lone surrogates) read as Latin-1; other text as it is."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            with suppress(UnicodeEncodeError):
                return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text
