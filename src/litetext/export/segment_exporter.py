"""A whole SAM3 segmenter as programs, with its text encoder and tokenizer; compared with PyTorch first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from litetext.device import resident_bytes
from litetext.encoders.student import StudentEncoder
from litetext.errors import EncoderError, OptionError
from litetext.export.bundle import (
    MANIFEST,
    NOTICE,
    TOKENIZERS,
    is_bundle,
    open_bundle,
    program_files,
    write_tokenizer,
)
from litetext.export.compress import count_parameters
from litetext.export.exporter import with_precision
from litetext.export.graphs.graph_layers import Attention
from litetext.export.graphs.segmenter_graphs import write_segmenter_graphs, write_text_graph
from litetext.export.segment_bundle import (
    BANK,
    DECODER,
    LEVELS,
    PORTS,
    TEXT,
    Agreement,
    SegmentBundle,
    TextPart,
    is_segment_bundle,
)
from litetext.export.segment_runtime import ProgramEngine
from litetext.export.targets import TargetOptions
from litetext.export.targets.onnx import write as write_student
from litetext.features.encode import array_rows
from litetext.features.protocol import TextEncoder
from litetext.features.store import is_bank
from litetext.sam3.adapters import FromHost
from litetext.sam3.host_engine import HostEngine
from litetext.sam3.segmenter import Exemplars, ImageEmbedding, Segmenter
from litetext.storage import atomic_folder, checksum, to_json, write_text
from litetext.tokenizer.pruned import kept_tokens

NOTICE_TEXT = """\
This folder was written by LiteText (Apache-2.0) from the SAM3 model '{name}'.

The programs hold the model's weights. Their license is that of the model: of SAM3 and what was made of it Meta's SAM
License; of MobileCLIP's text encoders Apple's license for its models as well. LiteText grants no rights to them.

tokenizer.json holds the vocabulary and the merges of CLIP's tokenizer (OpenAI, MIT license).
"""
LIMITS = {"fp32": (1e-3, 1e-3), "fp16": (3e-2, 3e-2), "int8-vision": (0.5, 1e-3)}
"""How far the vision encoder and other programs may be from PyTorch, in sizes of the largest number of an output."""

Precision = Literal["fp32", "fp16", "int8-vision"]


def export_segmenter(
    segmenter: Segmenter,
    folder: Path,
    phrases: Sequence[str],
    *,
    target: Literal["onnx", "openvino"] = "onnx",
    attention: Attention | None = None,
    precision: Precision = "fp32",
    text: str | Path | None = None,
    name: str = "",
) -> SegmentBundle:
    """Write a segmenter as programs for an engine, and compare them with PyTorch.

    Args:
        segmenter: its model is one of `transformers`, on the CPU in float32; its encoder, the model's own or a student,
            becomes a program too.
        folder: a segmenter that was exported there is replaced when all of the new one is written and checked.
        phrases: a few, to compare on.
        target: the engine, ONNX Runtime or OpenVINO.
        attention: "fused" takes operators that ONNX Runtime alone has, "standard" takes ONNX's; None: fused for ONNX
            Runtime.
        precision: that the weights are stored in; programs compute in float32, but for "int8-vision" the products of
            the vision encoder, which engines do in whole numbers.
        text: a bank, or a text encoder that `litetext export` wrote for ONNX, in place of the segmenter's encoder.
        name: of the model.

    Raises:
        EncoderError: the model has a part that is not written, or a program differs from PyTorch.
        OptionError: something else stands at the folder.
    """
    host = segmenter.host_engine
    attention = attention or ("standard" if target == "openvino" else "fused")
    with atomic_folder(folder, is_ours=is_segment_bundle) as work:
        write_segmenter_graphs(host.detector, work, attention=attention, precision=precision)
        part = (
            _copy_text(work, Path(text))
            if text is not None
            else _write_text(work, host, segmenter.encoder, attention, precision)
        )
        write_text(work / NOTICE, NOTICE_TEXT.format(name=name))
        mode = work.stat().st_mode & 0o666
        for file in work.iterdir():
            file.chmod(mode)  # the library of ONNX writes files of weights for their owner alone
        options = {"attention": attention, "precision": precision}
        bundle = describe(host, work, name=name, target=target, options=options, text=part)
        reader = segmenter.encoder if text is None else None
        agreement = compare(host, ProgramEngine(bundle, work, target, pack=False), phrases, reader, LIMITS[precision])
        bundle = SegmentBundle(**{**vars(bundle), "checked": agreement})
        write_text(work / MANIFEST, to_json(bundle.to_json()) + "\n")
    return bundle


def describe(
    host: HostEngine,
    folder: Path,
    *,
    name: str,
    target: Literal["onnx", "openvino"],
    options: Mapping[str, str],
    text: TextPart | None,
) -> SegmentBundle:
    """The manifest of the programs in a folder, which are not compared yet."""
    processor, files = host.processor, program_files(folder)
    towers = ("text_encoder.", "text_projection.")
    parameters = sum(weight.numel() for key, weight in host.detector.named_parameters() if not key.startswith(towers))
    mean, std = (tuple(float(value) for value in one) for one in (processor.image_mean, processor.image_std))
    return SegmentBundle(
        kind="segmenter",
        target=target,
        name=name,
        size=(processor.size["height"], processor.size["width"]),
        mean=mean,  # type: ignore[arg-type]
        std=std,  # type: ignore[arg-type]
        width=host.width,
        parameters=parameters,
        options=options,
        files=files,
        programs=checksum(folder, files),
        tokenizer=checksum(folder, TOKENIZERS) if (folder / TOKENIZERS[0]).is_file() else None,
        text=text,
    )


def _write_text(
    work: Path, host: HostEngine, encoder: TextEncoder, attention: Attention, precision: Precision
) -> TextPart:
    """The program of a text encoder with its tokenizer."""
    if isinstance(encoder, StudentEncoder):
        student = encoder.module if encoder.module.config.folded else encoder.module.fold()
        write_student(student, work, with_precision(student, TargetOptions()), f"{TEXT}.onnx")
        kept = student.config.kept
        write_tokenizer(work, None if kept is None else kept_tokens(kept).ids)
        parameters = count_parameters(student)
    elif isinstance(encoder, FromHost):
        stored: Literal["fp32", "fp16"] = "fp32" if precision == "fp32" else "fp16"
        write_text_graph(host.detector, work, attention=attention, precision=stored)
        write_tokenizer(work, None)
        parts = (encoder.tower, encoder.projection)
        parameters = sum(weight.numel() for part in parts for weight in part.parameters())
    else:
        raise EncoderError("a text encoder that is no program", where=encoder.name, hint="give its path instead")
    name = Path(encoder.name).name
    return TextPart(name, encoder.context_length, encoder.width, parameters, f"{TEXT}.onnx")


def _copy_text(work: Path, source: Path) -> TextPart:
    """A bank, or an exported text encoder with its tokenizer."""
    if is_bank(str(source)):
        from litetext.features.bank import PromptBank

        bank = PromptBank.open(source)
        copyfile(source, work / BANK)
        return TextPart(source.name, bank.context_length, bank.width, 0, BANK)
    if not is_bundle(source):
        raise OptionError("no exported text encoder", where=str(source), hint="give a folder of `litetext export`")
    bundle = open_bundle(source)
    if bundle.target != "onnx":
        raise OptionError(f"a text encoder for {bundle.target}", where=str(source), hint="export it with --to onnx")
    model = onnx.load_model(source / bundle.model)  # the graph names the file of its weights
    location = f"{TEXT}.onnx.data"
    onnx.save_model(model, work / f"{TEXT}.onnx", save_as_external_data=True, location=location, size_threshold=1024)
    for name in TOKENIZERS:
        copyfile(source / name, work / name)
    return TextPart(bundle.name, bundle.context_length, bundle.width, bundle.parameters, f"{TEXT}.onnx")


def compare(
    host: HostEngine,
    engine: ProgramEngine,
    phrases: Sequence[str],
    encoder: TextEncoder | None,
    limits: tuple[float, float],
) -> Agreement:
    """Compare programs with PyTorch, each on what PyTorch gives: a picture, phrases, and the first phrase with a box.

    Args:
        host: the model in PyTorch.
        engine: its programs.
        phrases: a few.
        encoder: reads the phrases in PyTorch; None: there is no program of it to compare.
        limits: for the vision encoder and for the other programs, in sizes of the largest number of an output.

    Raises:
        EncoderError: a difference beyond the limit.
    """
    from PIL import Image

    first, limit = limits

    height, width = engine.bundle.size
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    theirs, ours = (ImageEmbedding((height, width), one.embed(picture)) for one in (host, engine))
    levels = [*theirs.vision.fpn_hidden_states[:3], theirs.vision.fpn_position_encoding[2]]
    pairs = [(level.numpy(), one) for level, one in zip(levels, ours.vision.values(), strict=True)]
    vision = _farthest("vision encoder", pairs, first)
    given = ImageEmbedding((height, width), {name: one[0] for name, one in zip(LEVELS, pairs, strict=True)})
    text = None
    if encoder is None:  # those of a bank, or of a program that was compared when it was exported: any will do
        rng = np.random.default_rng(0)
        rows = [rng.normal(size=(2 + len(phrase.split()), host.width)).astype(np.float32) for phrase in phrases]
    else:
        rows = array_rows(encoder, phrases)
        other = array_rows(engine.own_encoder(), phrases)
        rounds = isinstance(encoder, StudentEncoder) and encoder.module.config.weights == "int8"
        text = _farthest("text encoder", list(zip(rows, other, strict=True)), np.inf if rounds else limit)
    engine.close()  # the weights of SAM3's vision encoder take 2 GB, and each phrase in PyTorch as much
    box = Exemplars([[width / 4, height / 4, width / 2, height / 2]])
    together = [rows] if len(rows) <= engine.phrases_at_once(given) else [[row] for row in rows]
    farthest = dict.fromkeys(PORTS[DECODER][1], 0.0)
    for some, exemplars in [*((part, None) for part in together), (rows[:1], box)]:
        expected, found = host.run_rows(theirs, some, exemplars), engine.decode(given, some, exemplars)
        for name, before in farthest.items():
            farthest[name] = max(before, _farthest(name, [(expected[name].numpy(), found[name])], limit))
        del expected, found
        resident_bytes(trim=True)
    masks, boxes, logits, presence = farthest.values()
    return Agreement(vision, masks, boxes, max(logits, presence), text)


def _farthest(what: str, pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]], limit: float) -> float:
    """The largest difference of pairs of arrays; an `EncoderError` beyond a share of the largest number."""
    farthest = 0.0
    for theirs, ours in pairs:
        difference = float(np.abs(theirs - ours).max())
        if not difference <= limit * max(1.0, float(np.abs(theirs).max())):
            message = f"the program differs from PyTorch by {difference:.1e}"
            raise EncoderError(message, where=what, hint="report it; --attention standard is the plain form")
        farthest = max(farthest, difference)
    return farthest
