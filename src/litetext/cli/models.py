"""The options that say which model segments, and with which text encoder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from litetext.errors import OptionError

if TYPE_CHECKING:
    from litetext.encoders.protocol import TextEncoder
    from litetext.sam3.segmenter import Segmenter, SegmentOptions

MODEL_HELP = "SAM3 model: a folder, a name on the Hugging Face hub, or micro: the small one in this package."

Text = Annotated[
    str | None,
    typer.Option(metavar="PATH|HF_ID", help="Text encoder instead of the model's own, which is then not loaded."),
]
Positions = Annotated[str, typer.Option(help="Position table of the text encoder: auto, slice, interpolate or keep.")]
Context = Annotated[int | None, typer.Option(help="Tokens that the text encoder reads.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, mps.")]
Dtype = Annotated[str, typer.Option(help="Number type: auto (float32), bf16 or fp16.")]


def load_quietly(spec: str, positions: str, context: int | None, device: str, dtype: str = "auto") -> "TextEncoder":
    """A text encoder as the command line names it; the hub's retries are not told, an error stays one line.

    Raises:
        EncoderError: it cannot be loaded.
        OptionError: no such positions, context, device or number type.
    """
    import logging

    from litetext.encoders.loading import Positions as Known
    from litetext.encoders.loading import load_encoder

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    chosen = cast("Known", positions)  # load_encoder refuses any other word
    return load_encoder(spec, positions=chosen, context=context, dtype=dtype, device=device)


@dataclass(frozen=True)
class ModelChoice:
    """A SAM3 host and its text encoder, as the command line names them.

    Attributes:
        model: a folder or a hub name.
        text: another text encoder; None: the model's own.
        positions: of that encoder's position table: auto, slice, interpolate or keep.
        context: tokens that it reads; None: as many as its table has.
        device: where to compute.
        dtype: the number type.

    Raises:
        OptionError: a context or positions without a text encoder.
    """

    model: str
    text: str | None = None
    positions: str = "auto"
    context: int | None = None
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.text is None and (self.context is not None or self.positions != "auto"):
            raise OptionError("a context or positions without a text encoder", mend="give --text")

    def load(self, options: "SegmentOptions") -> "Segmenter":
        """Load the encoder, if there is one, and the model around it.

        Raises:
            EncoderError: one of them cannot be loaded.
            OptionError: no such device, number type or positions.
            MissingExtraError: PyTorch or `transformers` is not installed.
        """
        from litetext.sam3.segmenter import Segmenter

        encoder = self._load_encoder()
        return Segmenter.load(self.model, encoder, device=self.device, dtype=self.dtype, options=options)

    def describe(self) -> dict[str, str]:
        """What predictions depend on, name by name; where they are computed is not among it."""
        from litetext.evaluate.predict import identify

        described = {"model": identify(self.model), "dtype": self.dtype}
        if self.text is not None:
            described |= {"text": identify(self.text), "positions": self.positions, "context": str(self.context)}
        return described

    def _load_encoder(self) -> "TextEncoder | None":
        if self.text is None:
            return None
        from litetext.encoders.loading import Positions as Known
        from litetext.encoders.loading import load_encoder

        chosen = cast("Known", self.positions)  # load_encoder refuses any other word
        return load_encoder(self.text, positions=chosen, context=self.context, dtype=self.dtype, device=self.device)
