"""A student as a program for an engine, in a folder with all that serving takes; compared with PyTorch first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from safetensors import safe_open

from litetext.encoders.student import StudentEncoder, TextStudent
from litetext.errors import EncoderError, OptionError
from litetext.export.bundle import (
    NOTICE,
    Bundle,
    Origin,
    is_bundle,
    program_files,
    read_tokenizer,
    write_manifest,
    write_tokenizer,
)
from litetext.export.compress import Student, count_parameters
from litetext.export.runtime import TextRuntime, open_engine
from litetext.export.targets import TARGETS, TargetOptions
from litetext.features.compare import Fidelity, Pair, compare_rows
from litetext.features.encode import array_rows
from litetext.features.fingerprint import fingerprint_encoder
from litetext.features.protocol import Progress, TextEncoder
from litetext.records import parse_json, record
from litetext.storage import atomic_folder, checksum, write_text
from litetext.tokenizer.pruned import kept_tokens

LEAST = {"fp32": ("min", 0.9999), "fp16": ("min", 0.995), "int8": ("mean", 0.99)}
"""Which figure of the cosines with PyTorch a program must have, by its dtype. A number between two steps may be
rounded either way, and what follows from one rounding is as good as what follows from the other, but not the same:
single tokens of an int8 student say little."""

NOTICE_TEXT = """\
This folder was written by LiteText (Apache-2.0) from the student '{name}'.

The program holds the student's weights. Their license is that of what they were trained from: students that start from
MobileCLIP are under Apple's license for its models, students of SAM3's text encoder under Meta's SAM License as well.
LiteText grants no rights to them.

tokenizer.json holds the vocabulary and the merges of CLIP's tokenizer (OpenAI, MIT license).
"""

Write = Callable[[TextStudent, Path, TargetOptions], str]
BATCH = 32  # texts that are compared at once


def export_student(
    encoder: TextEncoder,
    folder: Path,
    texts: Sequence[str],
    *,
    target: str = "onnx",
    options: TargetOptions | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Write a student as a program with its tokenizer, manifest and notice, and compare it with PyTorch.

    Args:
        encoder: a student in float32 on the CPU, or one that is quantized, which stays so; the program has it folded.
        folder: a bundle that is there is replaced when all of the new one is written and checked.
        texts: real phrases to compare on, at least one.
        target: one of `TARGETS`.
        options: lengths that are fixed, and the dtype of float weights.
        name: of the student; None for the name of its file.
        progress: of the comparison.

    Raises:
        EncoderError: not a student, the target cannot hold it, or its program differs from PyTorch.
        OptionError: no such target, options that make no sense, no phrases, or something else stands at the folder.
    """
    if target not in TARGETS:
        raise OptionError(f"no target is called '{target}'", hint=f"give {', '.join(TARGETS)}")
    if not isinstance(encoder, StudentEncoder):
        raise EncoderError("not a student", where=encoder.name, hint="export a student of it, or make a prompt bank")
    student = encoder.module if encoder.module.config.folded else encoder.module.fold()
    config, options = student.config, with_precision(student, options or TargetOptions())
    name = name or Path(encoder.name).name
    write: Write = import_module(f"litetext.export.targets.{target}").write
    with atomic_folder(folder, is_ours=is_bundle) as work:
        model = write(student, work, options)
        files = program_files(work)
        write_text(work / NOTICE, NOTICE_TEXT.format(name=name))
        bundle = Bundle(
            target=target,
            model=model,
            files=files,
            program=checksum(work, files),
            tokenizer=write_tokenizer(work, None if config.kept is None else kept_tokens(config.kept).ids),
            options=options,
            config=replace(config, kept=None),
            pruned=config.kept is not None,
            name=name,
            parameters=count_parameters(student),
            fingerprint=fingerprint_encoder(StudentEncoder(student, name)),
            checked=None,
            origin=encoder.origin() if isinstance(encoder, Student) else read_origin(encoder.name),
        )
        if target != "coreml":  # whose programs run on Apple's systems only
            runtime = TextRuntime(bundle, read_tokenizer(work), open_engine(work, bundle, None, 1), cache=0)
            bundle = replace(bundle, checked=compare_with_program(encoder, runtime, texts, progress))
        write_manifest(work, bundle)
    return bundle


def compare_with_program(
    encoder: StudentEncoder, runtime: TextRuntime, texts: Sequence[str], progress: Progress | None = None
) -> Fidelity:
    """Compare a program with the student in PyTorch, in batches of mixed lengths, so that there is real padding."""
    distinct = list(dict.fromkeys(texts))

    def pairs() -> Iterator[Pair]:
        for start in range(0, len(distinct), BATCH):
            batch = distinct[start : start + BATCH]
            yield from zip(array_rows(encoder, batch), array_rows(runtime, batch), strict=True)
            if progress is not None:
                progress((start + len(batch)) / len(distinct))

    target = runtime.bundle.target
    fidelity = compare_rows(pairs(), where=target)
    if fidelity.skipped:
        raise EncoderError("the program reads other tokens than PyTorch", where=target)
    figure, least = LEAST[runtime.bundle.options.precision]
    cosine = getattr(fidelity, figure)
    if cosine < least:
        raise EncoderError(
            f"the program differs from PyTorch (cosine, {figure}: {cosine:.4f}, not {least})",
            where=target,
            hint="give another precision or target",
        )
    return fidelity


def read_origin(path: str) -> Origin | None:
    """Which student a file of `litetext compress` says that it was made of; None for any other file."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return None
    with safe_open(path, framework="numpy") as file:
        origin = (file.metadata() or {}).get("origin")
    try:
        return None if origin is None else record(Origin, parse_json(origin))
    except ValueError as error:
        raise EncoderError(f"its origin makes no sense ({error})", where=path, hint="compress it again") from error


def with_precision(student: TextStudent, options: TargetOptions) -> TargetOptions:
    """The options with the precision that the student has."""
    if student.config.weights == "int8":
        return replace(options, precision="int8")
    if options.precision == "int8":
        raise OptionError("int8 for a student that is not quantized", hint="litetext compress --quantize int8 first")
    return options
