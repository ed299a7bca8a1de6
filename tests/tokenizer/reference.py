"""SAM3's tokenizer as an oracle: open_clip's, with the one rule in which SAM3 differs."""

from functools import lru_cache

import regex
from open_clip.tokenizer import SimpleTokenizer, basic_clean


def sam3_clean(text: str) -> str:
    """SAM3's `_clean_lower`: white space is that of the `regex` module, not of `str.split`."""
    return regex.sub(r"\s+", " ", basic_clean(text)).strip().lower()


@lru_cache(maxsize=1)
def sam3_tokenizer() -> SimpleTokenizer:
    tokenizer = SimpleTokenizer()
    tokenizer.clean_fn = sam3_clean
    return tokenizer
