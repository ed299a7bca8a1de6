"""Make a student smaller: prune its token table, fold it, factorize the table, quantize; each step is measured."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from litetext.checkpoints.schema import QUANTIZED_LEAVES
from litetext.checkpoints.writer import save_student
from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.export.bundle import Origin
from litetext.export.quantize import KINDS, calibrate, quantize_student
from litetext.export.table_compression import in_float32, lower_rank, prune_table
from litetext.features.compare import Fidelity, compare
from litetext.features.fingerprint import fingerprint_encoder
from litetext.prompts.corpus import Prompt, PromptCorpus, bundled_corpus
from litetext.prompts.readers import as_corpus
from litetext.storage import to_json

if TYPE_CHECKING:
    from litetext.export.runtime import TextRuntime

CHECKED, CALIBRATED = 1000, 1000  # phrases
CLOSE = {"mean": 0.999, "p1": 0.995}
"""Cosines that count as close. Not the least: that of the shipped student's int8 is 0.971 on 4,014 tokens, where it
keeps all of cgF1 (docs/explanation/quantize.md), and it falls with the number of tokens that are compared."""

Prompts = PromptCorpus | str | Path | Iterable[Prompt | Path | str] | None


@dataclass(frozen=True)
class Step:
    """A student after a step, compared with the student before all steps."""

    name: str  # "input", or what was done
    parameters: int  # without the scales of integers
    bytes: int  # of the tensors
    fidelity: Fidelity | None = None  # to the input, both computed in float32; None for the input
    note: str = ""

    def line(self) -> str:
        """For people."""
        line = f"{self.name:<22} {self.parameters / 1e6:>6.2f} M parameters {self.bytes / 1e6:>7.2f} MB"
        if self.fidelity is not None:
            cosine = self.fidelity
            line += f"  cosine mean {cosine.mean:.5f}, 1st percentile {cosine.p1:.5f}, least {cosine.min:.5f}"
        return f"{line}; {self.note}" if self.note else line


@dataclass(frozen=True)
class CompressionReport:
    """What each step made smaller, and how close the features stay to those of the student before all steps."""

    source: str = ""  # what that student was called
    steps: tuple[Step, ...] = ()  # the first is the input
    calibrated: int = 0  # phrases for the ranges of activations; where there are others, those are compared

    @property
    def fidelity(self) -> Fidelity:
        """Of the last step."""
        fidelity = self.steps[-1].fidelity
        assert fidelity is not None  # noqa: S101 - there is no report without a step
        return fidelity

    @property
    def is_close(self) -> bool:
        """Whether the cosines of the last step are at least those of `CLOSE`."""
        return all(getattr(self.fidelity, name) >= least for name, least in CLOSE.items())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __repr__(self) -> str:
        """One line."""
        steps = " -> ".join(f"{step.name} {step.bytes / 1e6:.2f} MB" for step in self.steps)
        return f"CompressionReport('{self.source}': {steps})"

    def _repr_html_(self) -> str:
        from litetext.pages import html_table

        columns = ("step", "M parameters", "MB", "mean cosine", "1st percentile", "least")
        sizes = [(step.name, step.parameters / 1e6, step.bytes / 1e6, step.fidelity) for step in self.steps]
        return html_table(
            self.source, columns, [(*row, one.mean, one.p1, one.min) if one else row for *row, one in sizes]
        )

    def lines(self) -> list[str]:
        """For people."""
        counts = f"compared on {self.fidelity.tokens:,} tokens of {self.fidelity.phrases:,} phrases"
        calibrated = f"; calibrated on {self.calibrated:,} others" if self.calibrated else ""
        return [*(step.line() for step in self.steps), counts + calibrated]


@dataclass(frozen=True, eq=False, repr=False)
class Student(StudentEncoder):
    """A student encoder with the methods that make it smaller; each returns another one, with a report."""

    report: Any = CompressionReport()  # against the student that all steps began with; `DistillReport` of that one
    original: StudentEncoder | None = None  # that student; None for itself
    corpus: PromptCorpus | None = None  # of the last step; the next one reads it unless it is given another

    @classmethod
    def of(cls, encoder: Any) -> "Student":
        """A student as one with these methods, or an `EncoderError`."""
        if isinstance(encoder, Student):
            return encoder
        if not isinstance(encoder, StudentEncoder):
            raise EncoderError("not a student", where=encoder.name, hint="give a student; distill one of a teacher")
        return cls(encoder.module, encoder.name)

    def prune(self, prompts: Prompts = None) -> "Student":
        """With the rows of the token table that phrases need; see `compress`."""
        return compress(self, prompts, prune=True)

    def fold(self, prompts: Prompts = None) -> "Student":
        """With RepMixer blocks and their norms as two convolutions each; see `compress`."""
        return compress(self, prompts, fold=True)

    def low_rank(self, rank: float, prompts: Prompts = None) -> "Student":
        """With a factorized token table; see `compress`."""
        return compress(self, prompts, low_rank=rank)

    def quantize(self, kind: str = "int8", prompts: Prompts = None) -> "Student":
        """With smaller numbers, one of `KINDS`; see `compress`."""
        return compress(self, prompts, quantize=kind)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file in our own format, which names the original."""
        origin = self.origin()
        save_student(self.module, Path(path), notes={} if origin is None else {"origin": to_json(asdict(origin))})

    def origin(self) -> Origin | None:
        """Which student it was made of; None for the original."""
        if self.original is None:
            return None
        return Origin(self.original.name, fingerprint_encoder(self.original), self.report.fidelity)

    def export(self, folder: str | Path, target: str = "onnx", prompts: Prompts = None) -> "TextRuntime":
        """Write it as a program that needs no PyTorch, and open that; see `export_student`."""
        from litetext.export.exporter import export_student
        from litetext.export.runtime import TextRuntime

        texts = draw_texts(_corpus(self, prompts).texts, 500)
        export_student(self, Path(folder), texts, target=target)
        return TextRuntime.open(folder)


def compress(
    encoder: StudentEncoder,
    prompts: Prompts = None,
    *,
    prune: bool = False,
    fold: bool = False,
    low_rank: float | None = None,
    quantize: str | None = None,
    check: int = CHECKED,
    calibrated: int = CALIBRATED,
    progress: Callable[[str, float], None] | None = None,
) -> Student:
    """Make a student smaller, in the order of the options; after each step compare it with the student given.

    Args:
        encoder: a student that is not quantized; tensors keep their dtype unless they are quantized.
        prompts: phrases to prune for, to weigh tokens by, to calibrate with and to compare on. None for those of the
            step before, else the bundled corpus.
        prune: keep only the rows of the token table that the phrases need; their features stay the same bit for bit.
            Other words fall into smaller pieces.
        fold: turn RepMixer blocks and their batch norms into two convolutions each, computed in float64.
        low_rank: factorize the token table: its rank, or below 1 the share of its variance to keep.
        quantize: one of `KINDS`; the student is folded first.
        check: the most phrases that the students are compared on.
        calibrated: the most phrases that ranges of activations are chosen on; others than these are compared.
        progress: called with a stage and the share of it that is done, 0..1.
    """
    source = Student.of(encoder)
    config = source.module.config
    if config.quantized:
        what = f"a quantized student ({config.describe_quantized()})"
        raise EncoderError(what, where=source.name, hint="compress the one that it was made of")
    if not prune and not fold and low_rank is None and quantize is None:
        raise OptionError("nothing to do", hint="prune, fold, low_rank or quantize")
    if quantize is not None and quantize not in KINDS:
        raise OptionError(f"no way to quantize is called '{quantize}'", hint=f"give {', '.join(KINDS)}")

    def tell(stage: str) -> Callable[[float], None]:
        return lambda share: None if progress is None else progress(stage, share)

    corpus = _corpus(source, prompts)
    calibrates = quantize is not None and KINDS[quantize].activations == "int8"
    learn, texts = _split(corpus.texts, calibrated if calibrates else 0, check)
    original, module = source.original or encoder, source.module
    reference = in_float32(original.module, original.name)
    steps = list(source.report.steps) if source.original else [_step("input", module)]
    for name, smaller, note in _smaller(module, corpus, learn, prune, fold, low_rank, quantize, tell("calibrating")):
        _check_finite(smaller, source.name)
        fidelity = compare(reference, in_float32(smaller, f"{source.name}, {name}"), texts, tell(f"after {name}"))
        steps.append(_step(name, smaller, fidelity, note))
        module = smaller
    report = CompressionReport(original.name, tuple(steps), len(learn))
    return Student(module, source.name, report, original, corpus)


def _smaller(  # noqa: PLR0917 - as `compress` has them
    module: TextStudent,
    corpus: PromptCorpus,
    learn: Sequence[str],
    prune: bool,
    fold: bool,
    low_rank: float | None,
    quantize: str | None,
    progress: Callable[[float], None],
) -> Iterator[tuple[str, TextStudent, str]]:
    """The name of each step, the student after it, and a note."""
    if prune:
        module, note = prune_table(module, corpus.texts)
        yield "prune", module, note
    if fold:
        module = _folded(module)
        yield "fold", module, ""
    if low_rank is not None:
        module, note = lower_rank(module, corpus, low_rank)
        yield f"low rank {low_rank:g}", module, note
    if quantize is not None:
        module, kind = _folded(module), KINDS[quantize]
        ranges = calibrate(copy.deepcopy(module).float(), learn, progress) if kind.activations == "int8" else {}
        yield quantize, quantize_student(module, kind, ranges), ""


def _step(name: str, student: TextStudent, fidelity: Fidelity | None = None, note: str = "") -> Step:
    size = sum(tensor.nbytes for tensor in student.state_dict().values())
    return Step(name, count_parameters(student), size, fidelity, note)


def count_parameters(student: TextStudent) -> int:
    """Numbers that a student learnt; two of an int4 table share a byte, and scales of integers are not counted."""
    return sum(
        tensor.numel() * (2 if tensor.dtype == torch.uint8 else 1)
        for name, tensor in student.state_dict().items()
        if name.rpartition(".")[2] not in QUANTIZED_LEAVES
    )


def draw_texts(texts: Sequence[str], count: int) -> list[str]:
    """At most so many texts; which ones depends on the texts alone, not on their order."""
    if count < 1:
        raise OptionError(f"{count} phrases", hint="give a number of at least 1")
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())[:count]


def _corpus(student: Student, prompts: Prompts) -> PromptCorpus:
    return as_corpus(prompts) if prompts is not None else student.corpus or bundled_corpus()


def _split(texts: Sequence[str], learn: int, check: int) -> tuple[list[str], list[str]]:
    """Phrases to calibrate with and others to compare on; the same only where there is but one."""
    drawn = draw_texts(texts, learn + check if check > 0 else check)
    count = min(learn, max(len(drawn) - check, (len(drawn) + 1) // 2))
    return drawn[:count], drawn[count:][:check] or drawn[:count]


def _folded(student: TextStudent) -> TextStudent:
    return student if student.config.folded else student.fold()


def _check_finite(student: TextStudent, where: str) -> None:
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise EncoderError(f"'{name}' is too large for {tensor.dtype}", where=where, hint="give bf16 or fp32")
