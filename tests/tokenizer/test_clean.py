import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from litetext.tokenizer.clean import clean, is_plain
from tests.tokenizer.reference import sam3_clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  White\t dog \n", "white dog"),
        ("&amp;lt;b&gt;", "<b>"),
        ("donâ€™t", "don't"),
        ("CAFÉ", "café"),
        ("a\u00a0b\u2003c", "a b c"),
        ("", ""),
    ],
)
def test_known_answers(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(
    st.text() | st.text(alphabet=st.characters(max_codepoint=0x7F)) | st.text(alphabet="&amp;#1x<>lt \u00a0\x1c\x85")
)
def test_equals_sam3(text: str) -> None:
    assert clean(text) == sam3_clean(text)


def test_white_space_is_that_of_regex() -> None:
    for code in range(0x3100):
        char = chr(code)
        assert (clean(f"a{char}b") == "a b") == (sam3_clean(f"a{char}b") == "a b"), hex(code)
        assert is_plain(char) <= (0x20 <= code < 0x7F)
    assert regex.match(r"\s", "\x1c") is None
