"""How big a text encoder is, as it is shipped."""

from dataclasses import dataclass

from litetext.checkpoints.hub import is_other_model
from litetext.checkpoints.summary import summarize_checkpoint
from litetext.features.protocol import TextEncoder


@dataclass(frozen=True)
class EncoderSize:
    """What a text encoder takes.

    Attributes:
        name: what the user calls it.
        parameters: all of them, token table and projector included; a projection that SAM3 never reads counts where the
            file has it, as the paper counts.
        bytes: of its tensors.
    """

    name: str
    parameters: int
    bytes: int


def measure_encoder(spec: str, encoder: TextEncoder) -> EncoderSize:
    """The size of an encoder in the file that it came from, in that file's number types.

    A model of another kind than SAM3's, which is not read file by file, is measured as it was loaded.

    Args:
        spec: what `load_encoder` or `load_host` was given.
        encoder: what came of it.

    Raises:
        EncoderError: nothing there, or no (single) text encoder in it.
    """
    if not is_other_model(spec):
        summary = summarize_checkpoint(spec)
        return EncoderSize(spec, summary.parameters, summary.text_bytes)
    from litetext.features.fingerprint import modules_of

    modules = modules_of(encoder).values()
    return EncoderSize(
        name=spec,
        parameters=sum(one.numel() for module in modules for one in module.parameters()),
        bytes=sum(one.nbytes for module in modules for one in module.state_dict().values()),
    )
