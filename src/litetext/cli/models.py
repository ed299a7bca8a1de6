"""The options that say which model segments, and with which text encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from litetext.errors import OptionError

if TYPE_CHECKING:
    from litetext.checkpoints.size import EncoderSize
    from litetext.features.protocol import TextEncoder
    from litetext.sam3.segmenter import Segmenter, SegmentOptions

MODEL_HELP = "SAM3 model: a folder, a name on the Hugging Face hub, or micro: the small one in this package."

Text = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|HF_ID",
        help="Text encoder, exported one or prompt bank instead of the model's own encoder, which is not loaded then.",
    ),
]
Fallback = Annotated[
    str | None,
    typer.Option(metavar="PATH|HF_ID", help="Text encoder of phrases that a prompt bank (--text) does not know."),
]
Positions = Annotated[str, typer.Option(help="Position table of the text encoder: auto, slice, interpolate or keep.")]
Context = Annotated[int | None, typer.Option(help="Tokens that the text encoder reads.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, mps.")]
Dtype = Annotated[str, typer.Option(help="Number type: auto (float32), bf16 or fp16.")]


def open_encoder(spec: str, positions: str, context: int | None, device: str, dtype: str = "auto") -> "TextEncoder":
    """A text encoder, exported or not, or a bank.

    Raises:
        EncoderError: it cannot be loaded.
        OptionError: no such positions, context, device or number type, or one of the first two for what has its own.
    """
    from litetext.checkpoints.load import Positions as Known
    from litetext.checkpoints.load import load_encoder
    from litetext.export.runtime_encoder import is_served, open_served

    if is_served(spec):
        _refuse_positions(spec, positions, context)
        return open_served(spec)
    chosen = cast("Known", positions)  # load_encoder refuses any other word
    return load_encoder(spec, positions=chosen, context_length=context, dtype=dtype, device=device)


def measure(spec: str, encoder: "TextEncoder") -> "EncoderSize":
    """The size of what `open_encoder` gave.

    Raises:
        EncoderError: nothing there, or no (single) text encoder in it.
    """
    from litetext.checkpoints.size import EncoderSize, measure_encoder
    from litetext.export.runtime_encoder import ServedEncoder

    if isinstance(encoder, ServedEncoder):
        return EncoderSize(spec, encoder.parameters, encoder.bytes)
    return measure_encoder(spec, encoder)


@dataclass(frozen=True)
class ModelChoice:
    """A SAM3 host and its text encoder, as the command line names them.

    Attributes:
        model: a folder or a hub name.
        text: another text encoder, exported or not, or a prompt bank; None: the model's own.
        positions: of that encoder's position table: auto, slice, interpolate or keep; with a bank, of ``otherwise``.
        context_length: tokens that it reads; None: as many as its table has.
        device: where to compute.
        dtype: the number type.
        fallback: encodes the phrases that the bank does not know; None: they are refused.

    Raises:
        OptionError: a context or positions without a text encoder, or something for a bank without one.
    """

    model: str
    text: str | None = None
    positions: str = "auto"
    context_length: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    fallback: str | None = None

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.text is None and (self.context_length is not None or self.positions != "auto"):
            raise OptionError("a context or positions without a text encoder", hint="give --text")
        if self.fallback is not None and self.text is None:
            raise OptionError("--fallback without a prompt bank", where=self.fallback, hint="give --text BANK")

    def load(self, options: "SegmentOptions", asked: Sequence[str] = ()) -> "Segmenter":
        """Load the encoder, if there is one, and the model around it.

        Args:
            options: how to segment.
            asked: phrases that are going to be asked; a bank without them is refused before the model is loaded.

        Raises:
            EncoderError: one of them cannot be loaded, or a phrase is not in the bank.
            OptionError: no such device, number type or positions.
            MissingExtraError: PyTorch or `transformers` is not installed.
        """
        from litetext.sam3.segmenter import Segmenter

        encoder = self._load_encoder(asked)
        return Segmenter.load(self.model, encoder, device=self.device, dtype=self.dtype, options=options)

    def describe(self) -> dict[str, str]:
        """What predictions depend on, name by name; where they are computed is not among it."""
        from litetext.evaluation.predict import identify

        described = {"model": identify(self.model), "dtype": self.dtype}
        if self.text is not None:
            described |= {
                "text": identify(self.text),
                "positions": self.positions,
                "context_length": str(self.context_length),
            }
        if self.fallback is not None:
            described["otherwise"] = identify(self.fallback)
        return described

    def _load_encoder(self, asked: Sequence[str]) -> "TextEncoder | None":
        from litetext.export.runtime_encoder import is_served, open_served

        if self.text is None:
            return None
        other = self.fallback
        if not is_served(self.text):
            if other is not None:
                raise OptionError("--fallback for what is no prompt bank", where=self.text, hint="leave it out")
            return self._load(self.text)
        if other is None:
            _refuse_positions(self.text, self.positions, self.context_length)
            return open_served(self.text, asked=asked)
        return open_served(self.text, lambda: self._load(other))

    def _load(self, spec: str) -> "TextEncoder":
        return open_encoder(spec, self.positions, self.context_length, self.device, self.dtype)


def _refuse_positions(spec: str, positions: str, context: int | None) -> None:
    if context is not None or positions != "auto":
        raise OptionError("a context or positions for what has its own", where=spec, hint="leave them out")
