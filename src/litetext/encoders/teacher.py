"""The teacher: SAM3's own text encoder, which is the CLIP text tower of `transformers` with a projector after it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from litetext.encoders.config import OUTPUT_WIDTH, PRESETS, SHORTEST_CONTEXT, check_heads, check_sizes
from litetext.encoders.inputs import encode_batch, prepare
from litetext.features.protocol import TextFeatures
from litetext.tokenizer.batch import TokenBatch
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE

if TYPE_CHECKING:
    from transformers import CLIPTextModel

SAM3 = PRESETS["teacher"]


@dataclass(frozen=True)
class TeacherConfig:
    """Sizes of a teacher; the defaults are SAM3's.

    Attributes:
        width: channels C of a token.
        heads: attention heads, a divisor of the width.
        blocks: pre-norm transformer blocks.
        context_length: rows of the position table; the most tokens that are read.
        vocabulary: rows V of the token table.
        output: width D of the features.

    Raises:
        OptionError: a value makes no sense.
    """

    width: int = SAM3.width
    heads: int = SAM3.heads
    blocks: int = SAM3.encoder_blocks
    context_length: int = SAM3.context_length
    vocabulary: int = VOCABULARY_SIZE
    output: int = OUTPUT_WIDTH

    def __post_init__(self) -> None:
        """Check each value."""
        check_sizes(width=self.width, heads=self.heads, vocabulary=self.vocabulary, output=self.output)
        check_sizes(0, blocks=self.blocks)
        check_sizes(SHORTEST_CONTEXT, context_length=self.context_length)
        check_heads(self.width, self.heads)


class TextTeacher(nn.Module):
    """Token ids to features: a CLIP text tower with causal attention, and a projector on all tokens.

    Parameters: ``tower``, `transformers`' `CLIPTextModel`; ``projector``, Linear (C -> D). The projection that CLIP
    puts after its pooled token is left out: SAM3 never reads it.

    Args:
        tower: gives ``last_hidden_state`` [B, L, C], after its final norm, for ids [B, L].
        projector: from C to D.
    """

    def __init__(self, tower: "CLIPTextModel", projector: nn.Linear) -> None:
        super().__init__()
        self.tower = tower
        self.projector = projector

    @classmethod
    def of(cls, config: TeacherConfig) -> Self:
        """A teacher whose weights are still to be loaded; it may be made on the device "meta"."""
        from transformers import CLIPTextConfig, CLIPTextModel

        tower = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.blocks,
                num_attention_heads=config.heads,
                max_position_embeddings=config.context_length,
                vocab_size=config.vocabulary,
                hidden_act="gelu",  # CLIP's own models have "quick_gelu"
            )
        )
        # The one tensor that no checkpoint holds: on "meta" it would be lost.
        rows = torch.arange(config.context_length, device="cpu")[None]
        tower.embeddings.position_ids = nn.Buffer(rows, persistent=False)
        return cls(tower, nn.Linear(config.width, config.output))

    @property
    def config(self) -> TeacherConfig:
        """The sizes, read off the tower."""
        tower = self.tower.config
        return TeacherConfig(
            width=tower.hidden_size,
            heads=tower.num_attention_heads,
            blocks=tower.num_hidden_layers,
            context_length=tower.max_position_embeddings,
            vocabulary=tower.vocab_size,
            output=self.projector.out_features,
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - what every text module takes
        """Features of tokens.

        Args:
            ids: int64 [B, L], L at most the context.
            mask: bool [B, L], True at valid tokens. Not read: padding comes last, and attention looks back only.

        Returns:
            [B, L, D]; what stands at padding means nothing.
        """
        features: Tensor = self.projector(self.tower(input_ids=ids).last_hidden_state)
        return features


@dataclass(frozen=True, eq=False)
class TeacherEncoder:
    """The teacher as a `TextEncoder`: it tokenizes, and computes on its module's device in its number type.

    Attributes:
        module: the teacher; it is run in eval mode, whatever mode it is in.
        name: what reports call it.
        to_longest: whether a batch is as long as its longest text, instead of the context. It is faster, and the
            features at valid tokens are the same up to rounding.
    """

    module: TextTeacher
    name: str
    to_longest: bool = True

    @property
    def context_length(self) -> int:
        """Tokens that it reads of a text, start and end token counted."""
        return self.module.config.context_length

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return self.module.config.output

    def encode(self, texts: Iterable[str] | TokenBatch) -> TextFeatures:
        """Features [B, L, D] of at least one text, without a gradient.

        Raises:
            OptionError: no texts, something that is not a string, or a token that the teacher does not have.
        """
        config = self.module.config
        batch = prepare(texts, config.context_length, to_longest=self.to_longest, vocabulary=config.vocabulary)
        return encode_batch(self.module, batch)


def build_teacher(config: TeacherConfig, generator: torch.Generator) -> TextTeacher:
    """A teacher with random weights, on the CPU in float32, in eval mode; initialized as `transformers` does it.

    Args:
        config: the sizes.
        generator: the only source of randomness, on the CPU.
    """
    # `transformers` draws from the global generator: it is set for the while, and put back.
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return TextTeacher.of(config).eval()
