"""A student as a program for an engine, in a folder with all that serving it takes; compared with PyTorch before it counts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from litetext.deploy.artefact import (
    NOTICE,
    Artefact,
    digest_of,
    new_folder,
    program_files,
    read_tokenizer,
    write_manifest,
    write_tokenizer,
)
from litetext.deploy.fidelity import Fidelity, Pair, fidelity_of
from litetext.deploy.runtime import TextRuntime, open_engine
from litetext.deploy.targets.protocol import Engine, TargetOptions
from litetext.distill.permute import permute
from litetext.encoders.fingerprint import fingerprint_encoder
from litetext.encoders.protocol import Progress, TextEncoder
from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.storage import write_text
from litetext.tokens.kept import kept_tokens

LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.995, "int8": 0.95}
"""Of a token whose features PyTorch and the program both compute; a program below that is refused."""

NOTICE_TEXT = """\
This folder was written by LiteText (Apache-2.0) from the student '{name}'.

The program holds the student's weights. Their licence is that of what they were trained from: students that start from
MobileCLIP are under Apple's licence for its models, students of SAM3's text encoder under Meta's SAM License as well.
LiteText gives no right in them.

tokenizer.json holds the vocabulary and the merges of CLIP's tokeniser (OpenAI, MIT licence).
"""

Write = Callable[[TextStudent, Path, TargetOptions], str]


@dataclass(frozen=True)
class Target:
    """What a student can be exported to.

    Attributes:
        title: for people.
        runs: whether the program can be run where it is written, on any system; else only off-line checks are made.
    """

    title: str
    runs: bool = True


TARGETS = {
    "onnx": Target("ONNX, opset 20 (ONNX Runtime, OpenVINO, TensorRT)"),
    "openvino": Target("OpenVINO IR"),
    "executorch": Target("ExecuTorch, XNNPACK"),
    "coreml": Target("Core ML", runs=False),
}


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: the artefact's.
        artefact: its manifest.
        total: bytes of all files in it.
    """

    folder: Path
    artefact: Artefact
    total: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.artefact.to_json() | {"folder": str(self.folder), "total_bytes": self.total}


def export_student(
    encoder: TextEncoder,
    target: str,
    folder: Path,
    options: TargetOptions,
    texts: Sequence[str],
    progress: Progress | None = None,
) -> Export:
    """Write a student as a program with its tokeniser, manifest and notice, and compare it with PyTorch.

    Args:
        encoder: a student in float32 on the CPU, or one that is quantised; it is folded first.
        target: one of `TARGETS`.
        folder: what to write; an artefact that is there is replaced when all of the new one is written and checked.
        options: lengths that are fixed, and the number type of float weights. A quantised student's is int8.
        texts: real phrases to compare on, at least one.
        progress: called with the share of the comparison that is done, 0..1.

    Raises:
        EncoderError: not a student, the target cannot hold it, or its program answers otherwise than PyTorch.
        OptionError: no such target, options that make no sense, no phrases, or something else stands at the folder.
        MissingExtraError: the target's packages are not installed.
        OSError: it cannot be written.
    """
    if target not in TARGETS:
        raise OptionError(f"no target is called '{target}'", mend=f"give {', '.join(TARGETS)}")
    if not isinstance(encoder, StudentEncoder):
        raise EncoderError("not a student", where=encoder.name, mend="export a student of it, or make a prompt bank")
    student = encoder.module if encoder.module.config.folded else encoder.module.fold()
    options = _precise(student, options)
    served = StudentEncoder(student, encoder.name)
    config = student.config
    write: Write = import_module(f"litetext.deploy.targets.{target}").write
    with new_folder(folder) as work:
        name = write(student, work, options)
        files = program_files(work)
        kept = None if config.kept is None else kept_tokens(config.kept).ids
        tokenizer = write_tokenizer(work, kept)
        write_text(work / NOTICE, NOTICE_TEXT.format(name=Path(encoder.name).name))
        artefact = Artefact(
            target=target,
            model=name,
            files=files,
            sha256=digest_of(work, files),
            tokenizer=tokenizer,
            options=options,
            config=replace(config, kept=None),
            pruned=kept is not None,
            name=Path(encoder.name).name,
            fingerprint=fingerprint_encoder(served),
            order=order_cosine(served, texts),
            checked={},
        )
        if TARGETS[target].runs:
            engine = open_engine(work, artefact, None, 1)
            fidelity = compare_with_program(served, work, artefact, engine, texts, progress)
            artefact = replace(artefact, checked=fidelity.to_json())
        write_manifest(work, artefact)
    return Export(folder, artefact, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def compare_with_program(
    encoder: StudentEncoder,
    folder: Path,
    artefact: Artefact,
    engine: Engine,
    texts: Sequence[str],
    progress: Progress | None = None,
) -> Fidelity:
    """Compare what a program makes of texts with what PyTorch makes of them; each batch has texts of mixed lengths.

    Raises:
        EncoderError: a token's features differ more than rounding explains.
        OptionError: no texts.
    """
    runtime = TextRuntime(artefact, read_tokenizer(folder), engine, cache=0)
    distinct = list(dict.fromkeys(texts))

    def pairs() -> Iterator[Pair]:
        for start in range(0, len(distinct), 32):
            some = distinct[start : start + 32]
            expected = encoder.encode(some)
            values, mask = runtime.encode(some)
            wanted = expected.mask.numpy()[:, : mask.shape[1]]
            if not np.array_equal(mask, wanted):
                raise EncoderError("the program reads other tokens than PyTorch", where=artefact.target)
            for row, seen, other in zip(expected.values.float().numpy(), wanted, values, strict=True):
                yield row[: len(seen)][seen], other[seen]
            if progress is not None:
                progress((start + len(some)) / len(distinct))

    fidelity = fidelity_of(pairs(), where=artefact.target)
    least = LEAST_COSINE[artefact.options.precision]
    if fidelity.min < least:
        raise EncoderError(
            f"the program answers otherwise than PyTorch (least cosine {fidelity.min:.4f}, not {least})",
            where=artefact.target,
            mend="give another precision or target",
        )
    return fidelity


def order_cosine(encoder: StudentEncoder, texts: Sequence[str], most: int = 200) -> float | None:
    """Mean cosine between pooled features of phrases and of the same with their content words in another order.

    Args:
        encoder: what to measure.
        texts: phrases; those that have no other order are passed over.
        most: phrases that are measured.
    """
    generator = np.random.default_rng(0)
    pairs = [(text, other) for text in texts if (other := permute(text, generator)) is not None][:most]
    if not pairs:
        return None
    one, two = (encoder.encode([pair[side] for pair in pairs]).pooled().double().numpy() for side in (0, 1))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(((one * two).sum(axis=1) / norms).mean())


def _precise(student: TextStudent, options: TargetOptions) -> TargetOptions:
    """The options with the precision that the student has."""
    if student.config.weights == "int8":
        return replace(options, precision="int8")
    if options.precision == "int8":
        raise OptionError("int8 for a student that is not quantised", mend="quantise it first: litetext quantize")
    return options
