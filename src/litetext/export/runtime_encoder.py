"""What is served without PyTorch, as a text encoder with it: NumPy arrays on one side, `TextFeatures` on the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from litetext.errors import OptionError
from litetext.export.bundle import is_bundle
from litetext.features.bank_file import is_bank
from litetext.features.protocol import Around, ArrayEncoder, ArraysOf, TextEncoder, TextFeatures


@dataclass(frozen=True, eq=False)
class ServedEncoder(Around[ArrayEncoder]):
    """Such a source as a `TextEncoder`: what segments, evaluates and measures can read with it.

    Attributes:
        bytes: of its files.
        parameters: of what computes them; a bank has none.
    """

    bytes: int = 0
    parameters: int = 0

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features float32 [B, L, D] of at least one text, on the CPU.

        Raises:
            OptionError: no texts, or something that is not a string.
            EncoderError: the source fails, or does not know a phrase.
        """
        import torch

        features, mask = self.inner.encode(texts)
        return TextFeatures(torch.from_numpy(features), torch.from_numpy(mask))


def is_served(spec: str) -> bool:
    """Whether it is a file or folder that `open_served` opens; cheap, and nothing is raised where nothing is."""
    return is_bank(spec) or is_bundle(Path(spec))


def open_served(
    spec: str, fallback: Callable[[], TextEncoder] | None = None, asked: Sequence[str] = ()
) -> ServedEncoder:
    """What `is_served` says yes to, as a text encoder.

    Args:
        spec: a prompt bank, or a folder that `litetext export` wrote.
        fallback: loads the encoder of phrases that a bank does not know; None refuses them.
        asked: what it will be asked, as far as that is known: better refused now than after an hour.

    Raises:
        EncoderError: it is damaged, the other encoder has another width, or a phrase is not known.
        OptionError: another encoder for what is no bank.
    """
    if not is_bank(spec):
        from litetext.export.runtime import TextRuntime

        if fallback is not None:
            raise OptionError("--fallback for what is no prompt bank", where=spec, hint="leave it out")
        runtime = TextRuntime.open(spec)
        bundle = runtime.bundle
        return ServedEncoder(runtime, sum(bundle.files.values()), bundle.parameters)
    from litetext.features.bank import PromptBank

    other = None if fallback is None else ArraysOf(fallback())
    bank = PromptBank.open(spec, other)
    bank.check(asked)
    return ServedEncoder(bank, bank.file.size)
