"""A SAM3 model as programs: the engine of a segmenter without PyTorch."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from litetext.checkpoints.hub import LITE_TEXT, SAM3_KINDS, locate, model_kind, shipped_folder
from litetext.checkpoints.tensors import STUDENT_FILE
from litetext.device import usable_cores
from litetext.encoders.config import EncoderConfig
from litetext.errors import EncoderError, OptionError
from litetext.export.bundle import read_tokenizer
from litetext.export.programs import ENGINES, Array, EngineName, Program, find_weights, open_program, text_engine
from litetext.export.runtime import TextRuntime
from litetext.export.segment_bundle import (
    BANK,
    DECODER,
    GEOMETRY,
    LEVELS,
    PORTS,
    PROGRAMS,
    TEXT,
    VISION,
    WEIGHTS,
    SegmentBundle,
    TextPart,
    is_segment_bundle,
    open_segment_bundle,
)
from litetext.features.encode import AsTextEncoder
from litetext.features.ragged import pad
from litetext.records import read_json
from litetext.sam3.masks import RawMasks
from litetext.sam3.pixels import to_pixels
from litetext.sam3.segmenter import Engine, Exemplars, ImageEmbedding
from litetext.tokenizer.bpe import ClipTokenizer, clip_tokenizer
from litetext.tokenizer.pruned import kept_tokens

if TYPE_CHECKING:
    from PIL.Image import Image

# Cells of the coarsest level, times phrases, that go through the decoder at once: one phrase of SAM3's 5,184 cells, of
# which more at once are no faster and take memory each.
MOST_CELLS = 8192


class ProgramEngine(Engine):
    """Runs a segmenter's programs; each is opened when it is first needed.

    Args:
        bundle: the manifest of their folder.
        folder: where they are.
        name: the engine, "onnx" or "openvino".
        threads: to compute with; None: one for each core that this process may use.
        checkpoint: files of safetensors with the weights that programs take by name.
        pack: as `open_program` has it.
    """

    def __init__(
        self,
        bundle: SegmentBundle,
        folder: Path,
        name: EngineName = "onnx",
        threads: int | None = None,
        checkpoint: Sequence[Path] = (),
        *,
        pack: bool = True,
    ) -> None:
        if threads is not None and threads < 1:
            raise OptionError(f"{threads} threads", hint="give at least 1")
        self.bundle, self.folder, self.width = bundle, folder, bundle.width
        self.name: EngineName = name
        self._threads, self._checkpoint, self._pack = threads or usable_cores(), checkpoint, pack
        self._named = read_json(folder / WEIGHTS) if bundle.named else {}

    def own_encoder(self) -> Any:
        """See `Engine`."""
        text = self.bundle.text
        if text is None:
            hint = "give --text-encoder: an exported encoder, a bank, or a student where PyTorch is installed"
            raise EncoderError("a segmenter without a text encoder", where=str(self.folder), hint=hint)
        if text.file == BANK:
            from litetext.features.bank import PromptBank

            return AsTextEncoder(PromptBank.open(self.folder / BANK), bytes=self.bundle.files[BANK])
        return self.text_runtime(text, self._checkpoint)

    def text_runtime(self, part: TextPart, checkpoint: Sequence[Path], tokenizer: ClipTokenizer | None = None) -> Any:
        """A text encoder of the folder, with the weights that it takes by name from a checkpoint.

        The tokenizer is the folder's, or CLIP's where it has none, unless one is given.
        """
        if tokenizer is None:
            tokenizer = clip_tokenizer() if self.bundle.tokenizer is None else read_tokenizer(self.folder)
        runtime = TextRuntime(part, tokenizer, text_engine(self._open(part.file, TEXT, checkpoint)))
        if self.bundle.named:
            return runtime
        sizes = (size for name, size in self.bundle.files.items() if name.startswith(part.file))
        return AsTextEncoder(runtime, bytes=sum(sizes), parameters=part.parameters)

    def embed(self, picture: "Image") -> dict[str, Array]:
        """See `Engine`."""
        pixels = to_pixels(np.asarray(picture), self.bundle.size, self.bundle.mean, self.bundle.std)
        _ = self._opening  # of the decoder: meanwhile, because it takes longer than to look at a small image
        return self._vision({"images": pixels})

    def run(self, embedding: ImageEmbedding, rows: Sequence[Any], exemplars: Exemplars | None = None) -> RawMasks:
        """See `Engine`."""
        outputs = self.decode(embedding, rows, exemplars)
        classes, presence = (_sigmoid(outputs[name]) for name in ("pred_logits", "presence_logits"))
        return RawMasks(classes, outputs["pred_boxes"], outputs["pred_masks"], presence)

    def decode(
        self, embedding: ImageEmbedding, rows: Sequence[Any], exemplars: Exemplars | None = None
    ) -> dict[str, Array]:
        """What the decoder says, by the names of its outputs; as many phrases at once as memory is meant to hold."""
        values, mask = pad([np.asarray(row, dtype=np.float32) for row in rows])
        shown = self._show(embedding, exemplars)
        step = self.phrases_at_once(embedding)
        parts = []
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            features, valid = values[part], mask[part]
            if shown is not None:
                features, valid = (
                    np.concatenate([one, np.repeat(more, len(one), axis=0)], axis=1)
                    for one, more in ((features, shown[0]), (valid, shown[1]))
                )
            given = {name: embedding.vision[name] for name in LEVELS}
            parts.append(self._decoder({**given, "prompt_features": features, "prompt_mask": valid}))
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in PORTS[DECODER][1]}
        for name, output in outputs.items():
            # A sum is not finite where a number is not.
            if not np.isfinite(output.sum(dtype=np.float64)):
                raise EncoderError(f"{name} of the model are not finite", hint="check its weights")
        return outputs

    def _show(self, embedding: ImageEmbedding, exemplars: Exemplars | None) -> tuple[Array, Array] | None:
        """Features [1, K', D] of exemplars, and their mask, as they follow those of a phrase."""
        if exemplars is None:
            return None
        boxes, labels = exemplars.shares(embedding.size)
        given: dict[str, Array] = {"input_boxes": boxes, "input_boxes_labels": labels}
        outputs = self._geometry(given | {name: embedding.vision[name] for name in LEVELS[2:]})
        return outputs["geometry_features"], outputs["geometry_mask"]

    def phrases_at_once(self, embedding: ImageEmbedding) -> int:
        """How many phrases go through the decoder together."""
        return max(1, MOST_CELLS // int(np.prod(embedding.vision["fpn_feat_2"].shape[-2:])))

    def close(self) -> None:
        """Give the memory of all programs back; one that is needed again is opened again."""
        for name in ("_vision", "_decoder", "_opening", "_geometry"):
            vars(self).pop(name, None)

    @cached_property
    def _vision(self) -> Program:
        return self._open(f"{VISION}.onnx", VISION, self._checkpoint)

    @cached_property
    def _decoder(self) -> Program:
        return self._opening.result()

    @cached_property
    def _opening(self) -> Future[Program]:
        pool = ThreadPoolExecutor(1, "litetext")
        opening = pool.submit(self._open, f"{DECODER}.onnx", DECODER, self._checkpoint)
        pool.shutdown(wait=False)
        return opening

    @cached_property
    def _geometry(self) -> Program:
        return self._open(f"{GEOMETRY}.onnx", GEOMETRY, self._checkpoint)

    def _open(self, file: str, kind: str, checkpoint: Sequence[Path]) -> Program:
        wanted: Mapping[str, Any] = self._named.get(file, {})
        weights = find_weights(checkpoint, wanted) if self.bundle.named else None
        return open_program(self.folder / file, PORTS[kind], self.name, self._threads, weights, pack=self._pack)


def open_segmenter(model: str | Path, engine: str | None = None, threads: int | None = None) -> ProgramEngine:
    """The engine of a folder that `litetext export MODEL` wrote, or of a checkpoint whose programs come with LiteText.

    Args:
        model: the folder, "micro", or a folder of SAM3 with ``config.json`` and ``model.safetensors``.
        engine: "onnx", "openvino", or None: what it was exported for.
        threads: to compute with; None: one for each core that this process may use.

    Raises:
        EncoderError: nothing there, a damaged file, or a checkpoint that the programs do not fit.
        OptionError: no such engine.
    """
    if engine is not None and engine not in ENGINES:
        raise OptionError(f"no engine is called '{engine}'", hint=f"give {' or '.join(ENGINES)}")
    chosen: EngineName | None = "openvino" if engine == "openvino" else engine and "onnx"
    folder = Path(model)
    if is_segment_bundle(folder):
        bundle = open_segment_bundle(folder)
        return ProgramEngine(bundle, folder, chosen or bundle.target, threads)
    programs = shipped_programs(model)
    if programs is None:
        hint = "export it where PyTorch is installed: litetext export MODEL --to onnx -o DIR"
        raise EncoderError("no programs of this model", where=str(model), hint=hint)
    bundle = open_segment_bundle(programs)
    if str(model) not in PROGRAMS and model_kind(folder.expanduser()) == LITE_TEXT:
        bundle = replace(bundle, text=None)  # the programs read text with SAM3's own tower
    return ProgramEngine(bundle, programs, chosen or bundle.target, threads, checkpoint_files(model))


def shipped_text(name: str, threads: int | None = None) -> Any:
    """A text encoder that comes with the package, without PyTorch: micro's or a student's; None for another name."""
    folder = PROGRAMS["micro"]
    if name == "micro":
        return open_segmenter(name, "onnx", threads).own_encoder()
    if not name.startswith("micro-"):
        return None
    bundle = open_segment_bundle(folder)
    part = next((part for part in bundle.others if part.name == name), None)
    checkpoint = shipped_folder(name)
    if part is None or checkpoint is None:
        return None
    with safe_open(checkpoint / STUDENT_FILE, "np") as file:
        kept = EncoderConfig.from_json(file.metadata()["config"]).kept
    tokenizer = None if kept is None else kept_tokens(kept).tokenizer
    return ProgramEngine(bundle, folder, "onnx", threads).text_runtime(part, [checkpoint / STUDENT_FILE], tokenizer)


def shipped_programs(model: str | Path) -> Path | None:
    """The folder of the programs that come with the package for a model; None if there are none."""
    if str(model) in PROGRAMS:
        return PROGRAMS[str(model)]
    return PROGRAMS["sam3"] if model_kind(Path(model).expanduser()) in SAM3_KINDS else None


def checkpoint_files(model: str | Path) -> list[Path]:
    """The files of safetensors of a model's folder."""
    folder = shipped_folder(str(model)) or locate(Path(model).expanduser())
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise EncoderError("no model.safetensors in it", where=str(folder), hint="fetch the model again")
    return files


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)
