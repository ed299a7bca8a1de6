"""LiteText: measure what the prompts use, then give the segmenter a text encoder of that size.

The public names are imported when they are first used, so that ``import litetext`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litetext.auditing.run import AuditOptions, AuditReport, Inputs, audit
    from litetext.checkpoints.huggingface import load_huggingface
    from litetext.checkpoints.load import load_encoder
    from litetext.errors import LiteTextError
    from litetext.features.protocol import TextEncoder, TextFeatures
    from litetext.prompts.bundled import bundled_corpus
    from litetext.prompts.corpus import Prompt, PromptCorpus
    from litetext.prompts.readers import ReadOptions, read_prompts
    from litetext.sam3.segmenter import Exemplars
    from litetext.sam3.adapters import swap_text_encoder
    from litetext.sam3.host import load_host
    from litetext.sam3.masks import Masks
    from litetext.sam3.segmenter import Segmenter, SegmentOptions
    from litetext.tokenizer.batch import TokenBatch
    from litetext.tokenizer.bpe import ClipTokenizer, clip_tokenizer

_HOMES = {
    "AuditOptions": "litetext.auditing.run",
    "AuditReport": "litetext.auditing.run",
    "ClipTokenizer": "litetext.tokenizer.bpe",
    "Exemplars": "litetext.sam3.segmenter",
    "Inputs": "litetext.auditing.run",
    "LiteTextError": "litetext.errors",
    "Masks": "litetext.sam3.masks",
    "Prompt": "litetext.prompts.corpus",
    "PromptCorpus": "litetext.prompts.corpus",
    "ReadOptions": "litetext.prompts.readers",
    "SegmentOptions": "litetext.sam3.segmenter",
    "Segmenter": "litetext.sam3.segmenter",
    "TextEncoder": "litetext.features.protocol",
    "TextFeatures": "litetext.features.protocol",
    "TokenBatch": "litetext.tokenizer.batch",
    "audit": "litetext.auditing.run",
    "bundled_corpus": "litetext.prompts.bundled",
    "clip_tokenizer": "litetext.tokenizer.bpe",
    "load_encoder": "litetext.checkpoints.load",
    "load_host": "litetext.sam3.host",
    "load_huggingface": "litetext.checkpoints.huggingface",
    "read_prompts": "litetext.prompts.readers",
    "swap_text_encoder": "litetext.sam3.adapters",
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
