"""A student as a program for an engine, in a folder with all that serving takes; compared with PyTorch first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from litetext.auditing.order import OrderOptions, measure_order
from litetext.checkpoints.shapes import QUANTISED_LEAVES
from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.export.bundle import (
    NOTICE,
    Bundle,
    is_bundle,
    program_files,
    read_tokenizer,
    write_manifest,
    write_tokenizer,
)
from litetext.export.runtime import TextRuntime, open_engine
from litetext.export.targets.target import TARGETS, TargetOptions
from litetext.features.compare import Fidelity, Pair, fidelity_of
from litetext.features.fingerprint import fingerprint_encoder
from litetext.features.protocol import Progress, TextEncoder
from litetext.storage import atomic_folder, checksum, write_text
from litetext.tokenizer.pruned import kept_tokens

LEAST = {"fp32": ("min", 0.9999), "fp16": ("min", 0.995), "int8": ("mean", 0.99)}
"""Which figure of the cosines with PyTorch a program must have, by its number type. A number between two steps may be
rounded either way, and what follows from one rounding is as good as what follows from the other, but not the same:
single tokens of an int8 student say little."""

NOTICE_TEXT = """\
This folder was written by LiteText (Apache-2.0) from the student '{name}'.

The program holds the student's weights. Their licence is that of what they were trained from: students that start from
MobileCLIP are under Apple's licence for its models, students of SAM3's text encoder under Meta's SAM License as well.
LiteText gives no right in them.

tokenizer.json holds the vocabulary and the merges of CLIP's tokenizer (OpenAI, MIT licence).
"""

Write = Callable[[TextStudent, Path, TargetOptions], str]
BATCH = 32  # texts that are compared at once
ORDERS = OrderOptions(permutations=1, sample=300)
ELSEWHERE = {"coreml"}  # targets whose programs run on one system only, and are not compared


@dataclass(frozen=True)
class ExportPlan:
    """What is to be written.

    Attributes:
        target: one of `TARGETS`.
        folder: where to; a bundle that is there is replaced when all of the new one is written and checked.
        name: what the student is called.
        options: lengths that are fixed, and the number type of float weights.

    Raises:
        OptionError: no such target.
    """

    target: str
    folder: Path
    name: str
    options: TargetOptions = field(default_factory=TargetOptions)

    def __post_init__(self) -> None:
        """Check the target."""
        if self.target not in TARGETS:
            raise OptionError(f"no target is called '{self.target}'", hint=f"give {', '.join(TARGETS)}")


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: the bundle's.
        bundle: its manifest.
        bytes: of all files in it.
    """

    folder: Path
    bundle: Bundle
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.bundle.to_json() | {"folder": str(self.folder), "bytes": self.bytes}


def export_student(
    encoder: TextEncoder, plan: ExportPlan, texts: Sequence[str], progress: Progress | None = None
) -> Export:
    """Write a student as a program with its tokenizer, manifest and notice, and compare it with PyTorch.

    Args:
        encoder: a student in float32 on the CPU, or one that is quantized, which stays so; it is folded first.
        plan: what to write.
        texts: real phrases to compare on, at least one.
        progress: called with the share of the comparison that is done, 0..1.

    Raises:
        EncoderError: not a student, the target cannot hold it, or its program answers otherwise than PyTorch.
        OptionError: options that make no sense, no phrases, or something else stands at the folder.
        MissingExtraError: the target's packages are not installed.
        OSError: it cannot be written.
    """
    if not isinstance(encoder, StudentEncoder):
        raise EncoderError("not a student", where=encoder.name, hint="export a student of it, or make a prompt bank")
    student = encoder.module if encoder.module.config.folded else encoder.module.fold()
    served = StudentEncoder(student, encoder.name)
    config, options = student.config, _precise(student, plan.options)
    write: Write = import_module(f"litetext.export.targets.{plan.target}").write
    with atomic_folder(plan.folder, is_ours=is_bundle) as work:
        name = write(student, work, options)
        files = program_files(work)
        write_text(work / NOTICE, NOTICE_TEXT.format(name=plan.name))
        bundle = Bundle(
            target=plan.target,
            model=name,
            files=files,
            program=checksum(work, files),
            tokenizer=write_tokenizer(work, None if config.kept is None else kept_tokens(config.kept).ids),
            options=options,
            config=replace(config, kept=None),
            pruned=config.kept is not None,
            name=plan.name,
            parameters=_parameters(student),
            fingerprint=fingerprint_encoder(served),
            order=measure_order(served, texts, ORDERS).sensitivity,
            checked=None,
        )
        if plan.target not in ELSEWHERE:
            engine = open_engine(work, bundle, None, 1)
            runtime = TextRuntime(bundle, read_tokenizer(work), engine, cache=0)
            bundle = replace(bundle, checked=compare_with_program(served, runtime, texts, progress))
        write_manifest(work, bundle)
    return Export(plan.folder, bundle, sum(file.stat().st_size for file in plan.folder.rglob("*") if file.is_file()))


def compare_with_program(
    encoder: StudentEncoder, runtime: TextRuntime, texts: Sequence[str], progress: Progress | None = None
) -> Fidelity:
    """Compare what a program makes of texts with what PyTorch makes of them; each batch has texts of mixed lengths.

    Raises:
        EncoderError: a token's features differ more than rounding explains.
        OptionError: no texts.
    """
    distinct = list(dict.fromkeys(texts))

    def pairs() -> Iterator[Pair]:
        for start in range(0, len(distinct), BATCH):
            some = distinct[start : start + BATCH]
            expected = encoder.encode(some)
            values, mask = runtime.encode(some)
            wanted = expected.mask.numpy()[:, : mask.shape[1]]
            if not np.array_equal(mask, wanted):
                raise EncoderError("the program reads other tokens than PyTorch", where=runtime.bundle.target)
            for row, seen, other in zip(expected.values.float().numpy(), wanted, values, strict=True):
                yield row[: len(seen)][seen], other[seen]
            if progress is not None:
                progress((start + len(some)) / len(distinct))

    fidelity = fidelity_of(pairs(), where=runtime.bundle.target)
    figure, least = LEAST[runtime.bundle.options.precision]
    found = fidelity.to_json()[figure]
    if found < least:
        raise EncoderError(
            f"the program answers otherwise than PyTorch (cosine, {figure}: {found:.4f}, not {least})",
            where=runtime.bundle.target,
            hint="give another precision or target",
        )
    return fidelity


def _precise(student: TextStudent, options: TargetOptions) -> TargetOptions:
    """The options with the precision that the student has."""
    if student.config.weights == "int8":
        return replace(options, precision="int8")
    if options.precision == "int8":
        raise OptionError("int8 for a student that is not quantized", hint="quantize it first: litetext quantize")
    return options


def _parameters(student: TextStudent) -> int:
    """Numbers that a folded student learnt; two of an int4 table share a byte."""
    return sum(
        tensor.numel() * (2 if tensor.dtype == torch.uint8 else 1)
        for name, tensor in student.state_dict().items()
        if name.rpartition(".")[2] not in QUANTISED_LEAVES
    )
