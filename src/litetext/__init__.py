"""LiteText: measure what the prompts use, then give the segmenter a text encoder of that size.

The public names are imported when they are first used, so that ``import litetext`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litetext.anatomy.audit import AuditOptions, AuditReport, Inputs, audit
    from litetext.encoders.huggingface import load_huggingface
    from litetext.encoders.loading import load_encoder
    from litetext.encoders.protocol import TextEncoder, TextFeatures
    from litetext.errors import LiteTextError
    from litetext.prompts.bundled import bundled_corpus
    from litetext.prompts.corpus import Prompt, PromptCorpus
    from litetext.prompts.readers import ReadOptions, read_prompts
    from litetext.sam3.exemplars import Exemplars
    from litetext.sam3.host import load_host, swap_text_encoder
    from litetext.sam3.masks import Masks
    from litetext.sam3.segmenter import Segmenter, SegmentOptions
    from litetext.tokens.batch import TokenBatch
    from litetext.tokens.bpe import ClipTokenizer, clip_tokenizer

_HOMES = {
    "AuditOptions": "litetext.anatomy.audit",
    "AuditReport": "litetext.anatomy.audit",
    "ClipTokenizer": "litetext.tokens.bpe",
    "Exemplars": "litetext.sam3.exemplars",
    "Inputs": "litetext.anatomy.audit",
    "LiteTextError": "litetext.errors",
    "Masks": "litetext.sam3.masks",
    "Prompt": "litetext.prompts.corpus",
    "PromptCorpus": "litetext.prompts.corpus",
    "ReadOptions": "litetext.prompts.readers",
    "SegmentOptions": "litetext.sam3.segmenter",
    "Segmenter": "litetext.sam3.segmenter",
    "TextEncoder": "litetext.encoders.protocol",
    "TextFeatures": "litetext.encoders.protocol",
    "TokenBatch": "litetext.tokens.batch",
    "audit": "litetext.anatomy.audit",
    "bundled_corpus": "litetext.prompts.bundled",
    "clip_tokenizer": "litetext.tokens.bpe",
    "load_encoder": "litetext.encoders.loading",
    "load_host": "litetext.sam3.host",
    "load_huggingface": "litetext.encoders.huggingface",
    "read_prompts": "litetext.prompts.readers",
    "swap_text_encoder": "litetext.sam3.host",
}

__all__ = [
    "AuditOptions",
    "AuditReport",
    "ClipTokenizer",
    "Exemplars",
    "Inputs",
    "LiteTextError",
    "Masks",
    "Prompt",
    "PromptCorpus",
    "ReadOptions",
    "SegmentOptions",
    "Segmenter",
    "TextEncoder",
    "TextFeatures",
    "TokenBatch",
    "audit",
    "bundled_corpus",
    "clip_tokenizer",
    "load_encoder",
    "load_host",
    "load_huggingface",
    "read_prompts",
    "swap_text_encoder",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'litetext' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
