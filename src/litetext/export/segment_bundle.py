"""A whole segmenter as a folder: programs in the layout that others read too, tokenizer and manifest.

Nothing here needs PyTorch, nor an engine.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from litetext.checkpoints.hub import FOLDER
from litetext.encoders.config import check_sizes
from litetext.errors import EncoderError, LiteTextError, OptionError, shortened
from litetext.export.bundle import MANIFEST, check_files, check_names
from litetext.records import read_json, record, sealed, unsealed

VISION, DECODER, GEOMETRY, TEXT = "vision-encoder", "decoder", "geometry-encoder", "text-encoder"
LEVELS = ("fpn_feat_0", "fpn_feat_1", "fpn_feat_2", "fpn_pos_2")
PORTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    VISION: (("images",), LEVELS),
    DECODER: (
        (*LEVELS, "prompt_features", "prompt_mask"),
        ("pred_masks", "pred_boxes", "pred_logits", "presence_logits"),
    ),
    GEOMETRY: (
        ("input_boxes", "input_boxes_labels", "fpn_feat_2", "fpn_pos_2"),
        ("geometry_features", "geometry_mask"),
    ),
    TEXT: (("input_ids", "attention_mask"), ("text_features", "text_mask")),
}
"""Inputs and outputs of each program; the file of one is its name with ``.onnx``."""
BANK = "text-bank.safetensors"
WEIGHTS = "weights.json"  # which weights a program takes by name: {file: {name: {"dtype": ..., "shape": [...]}}}
VERSION = 1
MOST_SIDE = 8192  # pixels of the image that a vision encoder reads; SAM3's is 1008
AGAIN = "export the model again"
PROGRAMS = {"micro": FOLDER / "micro-programs", "sam3": FOLDER / "sam3-programs"}
"""Programs that come with the package, without weights: those stay in the file of the checkpoint."""


@dataclass(frozen=True)
class TextPart:
    """The text encoder of a segmenter: a program, or a prompt bank."""

    name: str
    context_length: int
    width: int
    parameters: int
    file: str  # of the program or the bank, in the folder


@dataclass(frozen=True)
class Agreement:
    """The largest differences between the programs and PyTorch on a picture and a few phrases."""

    vision: float
    masks: float  # of their logits
    boxes: float  # as shares of the picture
    logits: float  # of classes and presence
    text: float | None = None  # of features; None: the text encoder is no program that was written here

    def line(self) -> str:
        """For people."""
        parts = [(name, value) for name, value in asdict(self).items() if value is not None]
        return "largest differences to PyTorch: " + ", ".join(f"{name} {value:.1e}" for name, value in parts)


@dataclass(frozen=True)
class SegmentBundle:
    """The manifest of an exported segmenter.

    Attributes:
        kind: what the folder is, for whoever opens another.
        target: the engine that it was checked in.
        name: of the model.
        size: height and width in pixels of the images that the vision encoder reads.
        mean: of the channels, from 0 to 1.
        std: of the channels.
        width: D of the text features that the decoder reads.
        parameters: of all but the text encoder.
        options: how it was written, word by word.
        files: all files but the manifest, the tokenizer and the notice, with their sizes in bytes.
        programs: checksum of those files.
        tokenizer: checksum of the tokenizer's two files; None where there is none.
        text: None: a text encoder has to be given.
        others: more text encoders, of models that come with the package.
        named: the programs take their weights by name from a checkpoint, as ``weights.json`` lists them.
        checked: how the programs compare with PyTorch.
    """

    kind: Literal["segmenter"]
    target: Literal["onnx", "openvino"]
    name: str
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    width: int
    parameters: int
    options: Mapping[str, str]
    files: Mapping[str, int]
    programs: str
    tokenizer: str | None
    text: TextPart | None
    others: tuple[TextPart, ...] = ()
    named: bool = False
    checked: Agreement | None = None

    def __post_init__(self) -> None:
        """Check what a reader relies on."""
        if len(self.size) != 2 or len(self.mean) != 3 or len(self.std) != 3 or not all(self.std):
            raise OptionError("not a size of two numbers, and means and deviations of three channels")
        needed = {f"{name}.onnx" for name in (VISION, DECODER, GEOMETRY)}
        needed |= {part.file for part in (self.text, *self.others) if part is not None}
        needed |= {WEIGHTS} if self.named else set()
        if missing := needed - self.files.keys():
            raise OptionError(f"no {sorted(missing)[0]} among its files")
        check_names(self.files)
        sizes = {f"the size of '{name}'": size for name, size in self.files.items()}
        check_sizes(1, width=self.width, **{"the image's height": self.size[0], "the image's width": self.size[1]})
        check_sizes(0, parameters=self.parameters, **sizes)
        if max(self.size) > MOST_SIDE:  # the memory of whoever opens it
            raise OptionError(f"images of more than {MOST_SIDE} pixels a side")

    def to_json(self) -> dict[str, Any]:
        """Plain values, with a checksum of them."""
        return sealed({"litetext": VERSION} | asdict(self))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """What `to_json` gave; an `OptionError` or `ValueError` if it is not that."""
        if not isinstance(value, dict) or value.get("kind") != "segmenter" or value.get("litetext") != VERSION:
            raise ValueError(f"not a segmenter's manifest of version {VERSION}")
        return record(cls, {name: one for name, one in unsealed(value).items() if name != "litetext"})

    def lines(self) -> list[str]:
        """What it is, for people."""
        text = "no text encoder" if self.text is None else f"text encoder {shortened(self.text.name, 100)}"
        height, width = self.size
        options = ", ".join(self.options.values())
        return [
            f"{shortened(self.name, 100)}, a segmenter exported for {self.target} ({options}): "
            f"{sum(self.files.values()) / 1e6:.2f} MB, {self.parameters / 1e6:.2f} M parameters and {text}",
            f"images of {width} x {height} pixels, features of width {self.width}",
            "not compared with PyTorch" if self.checked is None else self.checked.line(),
        ]


def is_segment_bundle(path: Path) -> bool:
    """Whether a path is a folder that holds a whole exported segmenter; cheap."""
    return (path / MANIFEST).is_file() and (path / f"{DECODER}.onnx").is_file()


def read_segment_bundle(folder: Path) -> SegmentBundle:
    """The manifest of a folder."""
    file = folder / MANIFEST
    if not file.is_file():
        what = "a file" if folder.is_file() else "no exported segmenter"
        raise EncoderError(what, where=str(folder), hint="give a folder that `litetext export MODEL` wrote")
    try:
        return SegmentBundle.from_json(read_json(file))
    except (ValueError, LiteTextError) as error:
        raise EncoderError(f"not a manifest ({error})", where=str(file), hint=AGAIN) from error


def open_segment_bundle(folder: Path) -> SegmentBundle:
    """The same, once the folder's files are byte for byte those that were exported."""
    bundle = read_segment_bundle(folder)
    check_files("segmenter", folder, bundle.files, program=bundle.programs, tokenizer=bundle.tokenizer, hint=AGAIN)
    return bundle
