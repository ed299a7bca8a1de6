"""A text encoder whose answer for a text does not depend on the texts beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from litetext.features.protocol import Around, TextEncoder, TextFeatures


@dataclass(frozen=True, eq=False)
class OneByOne(Around[TextEncoder]):
    """Reads each text alone.

    In a batch of another size the last bits of a product differ. A run that goes on after it was stopped has other
    phrases left to read together; read alone, they have the same features as in a run that was never stopped.
    """

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features [B, L, D] of the valid tokens, L the longest text, padded with zeros.

        Raises:
            EncoderError: the encoder fails.
        """
        from litetext.features.ragged import pad_rows, valid_rows

        rows = [row for text in texts for row in valid_rows(self.inner, [text])]
        return pad_rows(rows, like=rows[0])
