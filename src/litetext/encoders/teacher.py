"""The teacher: SAM3's own text encoder, which is the CLIP text tower of `transformers` with a projector after it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from litetext.encoders.config import EXPANSION, EncoderConfig


class TextTeacher(nn.Module):
    """Token ids to features: a CLIP text tower with causal attention, and a projector on all tokens.

    Parameters: ``tower``, `transformers`' `CLIPTextModel`; ``projector``, Linear (C -> D). The projection that CLIP
    puts after its pooled token is left out: SAM3 never reads it.
    """

    def __init__(self, config: EncoderConfig) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.config = replace(config, projection=0)
        self.tower = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=config.width,
                intermediate_size=EXPANSION * config.width,
                num_hidden_layers=config.encoder_blocks,
                num_attention_heads=config.heads,
                max_position_embeddings=config.context_length,
                vocab_size=config.vocabulary,
                hidden_act="gelu",  # CLIP's own models have "quick_gelu"
            )
        )
        # The one tensor that no checkpoint holds: on "meta" it would be lost.
        rows = torch.arange(config.context_length, device="cpu")[None]
        self.tower.embeddings.position_ids = nn.Buffer(rows, persistent=False)
        self.projector = nn.Linear(config.width, config.output)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002 - what every text module takes
        """Features [B, L, D] of ids int64 [B, L], L at most the context length; what stands at padding means nothing.

        The mask is not read: padding comes last, and attention looks back only.
        """
        features: Tensor = self.projector(self.tower(input_ids=ids).last_hidden_state)
        return features


def build_teacher(config: EncoderConfig, generator: torch.Generator) -> TextTeacher:
    """A teacher with random weights, on the CPU in float32, in eval mode; initialized as `transformers` does it.

    The generator, on the CPU, is the only source of randomness.
    """
    # `transformers` draws from the global generator, which is seeded meanwhile and restored.
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return TextTeacher(config).eval()
