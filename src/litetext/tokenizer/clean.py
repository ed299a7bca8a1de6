"""SAM3's text cleaning, which decides what its tokenizer sees."""

import html
import re

import ftfy

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
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _WHITE_SPACE.sub(" ", text).strip().lower()
