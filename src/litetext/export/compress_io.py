"""What the commands that make a student smaller share: reading it, writing it, and comparing the two."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.hub import locate
from litetext.checkpoints.load import Positions, load_encoder, load_stored_student
from litetext.checkpoints.summary import summarize_checkpoint
from litetext.checkpoints.writer import save_student
from litetext.errors import EncoderError, OptionError
from litetext.features.compare import Fidelity, compare_encoders
from litetext.features.protocol import Progress, TextEncoder

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent

CHECKED = 1000  # phrases that the smaller student is compared on, unless another number is asked for


@dataclass(frozen=True)
class StudentFiles:
    """A student to be made smaller, and where to.

    Attributes:
        source: the student, as `load_encoder` takes it.
        target: a safetensors file in our own format, replaced in one step.
        positions: of the source, as `load_encoder` takes it.
        context_length: of the source, as `load_encoder` takes it; the target's position table has that many rows.
    """

    source: str
    target: Path
    positions: Positions = "auto"
    context_length: int | None = None

    def read(self) -> "TextStudent":
        """The student in the number types of its file.

        Raises:
            EncoderError: it cannot be loaded, is not a student, or is quantized.
            OptionError: the target is the source, or an option makes no sense.
            MissingExtraError: PyTorch is not installed.
        """
        path = locate(self.source)
        if self.target.exists() and self.target.resolve() == path.resolve():
            raise OptionError("the output is the input", where=str(self.target), hint="give another file")
        student = load_stored_student(self.source, positions=self.positions, context_length=self.context_length)
        if student.config.quantized:
            raise EncoderError(
                f"a quantized student ({student.config.describe_quantized()})",
                where=self.source,
                hint="give the student that it was made of",
            )
        return student

    def load_target(self) -> TextEncoder:
        """The student that was written."""
        return load_encoder(self.target, positions="keep", device="cpu")


@dataclass(frozen=True)
class Reduction:
    """What became smaller, and how true it is to what it was.

    Attributes:
        source: what was read.
        target: what was written.
        parameters: before and after, the projection that SAM3 never reads among them.
        bytes: of the files, before and after.
        fidelity: of the student that was written to that which was read, in float32.
    """

    source: str
    target: str
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    fidelity: Fidelity

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source,
            "target": self.target,
            "parameters": {"before": self.parameters[0], "after": self.parameters[1]},
            "bytes": {"before": self.bytes[0], "after": self.bytes[1]},
            "fidelity": self.fidelity.to_json(),
        }

    def lines(self) -> list[str]:
        """For people: what became smaller, and how true it is."""
        parameters, size = self.parameters, self.bytes
        return [
            f"{self.target}: {size[1] / 1e6:.2f} MB of {size[0] / 1e6:.2f}, {parameters[1] / 1e6:.2f} M of "
            f"{parameters[0] / 1e6:.2f} M parameters",
            self.fidelity.line(),
        ]


def write_smaller(
    files: StudentFiles,
    before: "TextStudent",
    after: "TextStudent",
    texts: Sequence[str],
    progress: Progress | None = None,
) -> Reduction:
    """Write a student, load it again, and compare it with the one that it was made of.

    Args:
        files: where to.
        before: as it was read; it is compared in float32.
        after: the smaller one.
        texts: at least one phrase to compare them on.
        progress: called with the share of the comparison, 0..1.

    Raises:
        OptionError: no phrases.
        EncoderError: a number that the type it is stored in cannot hold.
        OSError: the file cannot be written.
    """
    from litetext.encoders.student import StudentEncoder

    if not texts:
        raise OptionError("no phrases to compare", hint="give at least one")
    _check_finite(after, files.source)
    save_student(after, files.target)
    reference = StudentEncoder(copy.deepcopy(before).float(), files.source)
    fidelity = compare_encoders(reference, files.load_target(), texts, progress)
    one, other = summarize_checkpoint(files.source), summarize_checkpoint(str(files.target))
    return Reduction(
        source=one.path,
        target=other.path,
        parameters=(one.parameters, other.parameters),
        bytes=(one.file_bytes, other.file_bytes),
        fidelity=fidelity,
    )


def draw_texts(texts: Sequence[str], count: int) -> list[str]:
    """At most so many texts; which ones depends on the texts alone, not on their order.

    Raises:
        OptionError: the count is not positive.
    """
    if count < 1:
        raise OptionError(f"{count} phrases", hint="give a number of at least 1")
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())[:count]


def _check_finite(student: "TextStudent", where: str) -> None:
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise EncoderError(f"'{name}' is too large for {tensor.dtype}", where=where, hint="give bf16 or fp32")
