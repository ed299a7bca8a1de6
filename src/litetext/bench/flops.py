"""How much arithmetic a prompt takes, so that what a machine reaches can be held against what it could."""

import json
from collections.abc import Sequence

from litetext.bench.rows import Row
from litetext.bench.work import Work
from litetext.encoders.config import KERNEL, StudentConfig

EXPANSION = 4  # feed-forward width over block width


def prompt_flops(config: StudentConfig, length: int) -> int:
    """Floating-point operations of one prompt of ``length`` tokens: two for each multiplication with its addition.

    Matrix products, attention and convolutions count; norms, activations and table look-ups do not. A teacher is a
    student without RepMixer blocks: its attention looks back only, but the whole matrix is computed.

    Args:
        config: the sizes.
        length: tokens that are computed, padding included where it is.
    """
    width = config.width
    feed_forward = 2 * EXPANSION * width * width
    attention = 4 * width * width + 2 * length * width  # query, key, value, out; scores and mixed values
    encoder = config.encoder_blocks * (attention + feed_forward)
    mixers = config.mixer_blocks * (2 * KERNEL * width + feed_forward)
    table = 0 if config.rank is None else config.rank * width
    return 2 * length * (table + encoder + mixers + width * config.output)


def mean_flops(config: StudentConfig, lengths: Sequence[int]) -> float:
    """The mean over prompts of some lengths, each computed at its own, at most the context."""
    return sum(prompt_flops(config, min(length, config.context_length)) for length in lengths) / len(lengths)


def row_cost(work: Work, row: Row) -> dict[str, float | int | None]:
    """``length``, the tokens that a row computes of every prompt, and ``flops``, its operations on one in the mean.

    Where only valid tokens are read the length is None, and these are counted: what a batch is padded to its longest
    text with is waste. Both are None for a row that computes nothing, or that is not known.
    """
    if row.group in {"bank", "bundle"}:
        return {"length": None, "flops": None}
    config = _config(work, row)
    length = row.computed(config.context_length)
    if length is not None:
        return {"length": length, "flops": prompt_flops(config, length)}
    from litetext.tokenizer.bpe import clip_tokenizer

    lengths = clip_tokenizer().encode(work.texts()).lengths.tolist()
    return {"length": None, "flops": mean_flops(config, lengths)}


def _config(work: Work, row: Row) -> StudentConfig:
    """The sizes of what a row's first step made."""
    first = work.made(row.chain[:1])
    if row.group != "teacher":
        from litetext.checkpoints.reader import open_checkpoint

        return open_checkpoint(first).config()
    said = json.loads((first / "config.json").read_bytes())
    sizes = ("hidden_size", "num_attention_heads", "num_hidden_layers")
    width, heads, blocks = (said[name] for name in sizes)
    return StudentConfig("teacher", width, heads, blocks, 0, said["max_position_embeddings"], "masked")
