from litetext import errors
from litetext.errors import LiteTextError, MissingExtraError


def test_what_where_and_the_mend() -> None:
    error = LiteTextError("no such file", where="a.txt", hint="check the path")
    assert str(error) == "no such file, a.txt; check the path"
    assert (error.what, error.where, error.hint) == ("no such file", "a.txt", "check the path")
    assert str(LiteTextError("broken")) == "broken"
    assert str(LiteTextError("broken", hint="fix it")) == "broken; fix it"


def test_always_one_line() -> None:
    assert str(LiteTextError("bad\nthing", where="line\r\n 2")) == "bad thing, line 2"


def test_a_missing_extra_says_what_to_install() -> None:
    assert str(MissingExtraError("an encoder", "sam3")) == (
        "an encoder needs the extra 'sam3'; pip install 'litetext[sam3]'"
    )


def test_one_class_catches_them_all() -> None:
    found = [getattr(errors, name) for name in dir(errors) if name.endswith("Error")]
    assert len(found) > 9
    assert all(issubclass(kind, LiteTextError) for kind in found)
