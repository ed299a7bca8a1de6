"""The text encoders of SAM3 and SAM3-LiteText as rows of one table, with their exact parameter counts."""

from dataclasses import dataclass

from litetext.tokens.vocabulary import VOCABULARY_SIZE

OUTPUT_WIDTH = 256  # what SAM3's decoder reads
KERNEL = 11  # taps of a RepMixer block's depthwise convolutions


@dataclass(frozen=True)
class Preset:
    """One text encoder.

    Attributes:
        name: short name for the command line.
        title: name for people.
        width: channels C of a token.
        heads: attention heads.
        encoder_blocks: pre-norm transformer blocks.
        mixer_blocks: RepMixer blocks (depthwise convolutions over the tokens), half before and half after the others.
        context: context length L that it is released for.
        projection: width of the projection that its checkpoint holds but SAM3 never uses.
        causal: whether attention looks back only.
    """

    name: str
    title: str
    width: int
    heads: int
    encoder_blocks: int
    mixer_blocks: int
    context: int
    projection: int
    causal: bool

    def parameters(self, context: int | None = None, *, vocabulary: int = VOCABULARY_SIZE) -> int:
        """Parameters as the paper counts them: the unused projection and batch-norm scales in, running statistics out.

        Args:
            context: rows of the position table; default the preset's own.
            vocabulary: rows of the token table.
        """
        return sum(self.parts(context, vocabulary=vocabulary).values())

    def parts(self, context: int | None = None, *, vocabulary: int = VOCABULARY_SIZE) -> dict[str, int]:
        """Parameters by part: token table, positions, blocks, final norm, projector, unused projection."""
        width = self.width
        feed_forward = 2 * width * 4 * width + 4 * width + width
        encoder = 2 * 2 * width + 4 * (width * width + width) + feed_forward
        # Token mixer: two skip norms, convolution and its norm, layer scale. Then: convolution, norm, layer scale.
        mixer = (
            (2 * 2 * width + KERNEL * width + 2 * width + width) + (KERNEL * width + 2 * width + width) + feed_forward
        )
        return {
            "token_table": vocabulary * width,
            "positions": (context or self.context) * width,
            "blocks": self.encoder_blocks * encoder + self.mixer_blocks * mixer,
            "final_norm": 2 * width,
            "projector": width * OUTPUT_WIDTH + OUTPUT_WIDTH,
            "unused_projection": width * self.projection,
        }


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("s0", "MobileCLIP-S0", 512, 8, 4, 2, 16, 512, causal=False),
        Preset("s1", "MobileCLIP-S1", 512, 8, 12, 0, 16, 512, causal=False),
        Preset("l", "MobileCLIP2-L", 768, 12, 12, 0, 16, 768, causal=False),
        Preset("teacher", "SAM3 text encoder", 1024, 16, 24, 0, 32, 512, causal=True),
    )
}
STUDENTS = tuple(preset for preset in PRESETS.values() if preset.name != "teacher")
