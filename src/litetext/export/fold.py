"""Folding: RepMixer blocks and their batch norms become two convolutions each, and what nobody reads is left out."""

from collections.abc import Sequence

from litetext.errors import EncoderError
from litetext.export.compress_io import Reduction, StudentFiles, write_smaller
from litetext.features.protocol import Progress


def fold_checkpoint(files: StudentFiles, texts: Sequence[str], progress: Progress | None = None) -> Reduction:
    """Write a student that computes the same with fewer tensors, each in the number type of its file.

    Folding is computed in float64. The projection that SAM3 never reads is left out.

    Args:
        files: from where, and where to.
        texts: at least one phrase to compare the two on.
        progress: called with the share of the comparison, 0..1.

    Raises:
        EncoderError: not a student, or one that is folded or quantized already.
        OptionError: no phrases, the target is the source, or an option makes no sense.
        MissingExtraError: PyTorch is not installed.
        OSError: the file cannot be written.
    """
    student = files.read()
    if student.config.folded:
        raise EncoderError("its RepMixer blocks are folded already", where=files.source, hint="use it as it is")
    return write_smaller(files, student, student.fold(), texts, progress)
