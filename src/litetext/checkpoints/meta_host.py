"""Meta's `sam3.pt` as a folder of `transformers`: every tensor found, checked and copied, one at a time.

`transformers` says which tensors a model of the file's sizes has; the file must hold all of them and no others, but
for what `LEFT_OUT` lists.
"""

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from litetext.checkpoints.formats import writable
from litetext.checkpoints.hub import locate, one_line_errors, quiet
from litetext.checkpoints.meta_config import TRUNK, host_config
from litetext.checkpoints.meta_names import Origin, origin_of
from litetext.checkpoints.reader import FLOATING, Checkpoint, open_checkpoint
from litetext.checkpoints.schema import UNUSED, Shape
from litetext.checkpoints.tensors import AGAIN, CONFIG, SINGLE_FILE, TensorEntry, listed, open_tensors, write_tensors
from litetext.checkpoints.writer import transformers_config
from litetext.errors import EncoderError, MissingExtraError, OutputError
from litetext.storage import atomic_folder, check_output

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MARK = {"format": "pt", "litetext": "convert --host"}  # in the header of the weights: only a folder of ours is replaced
# How the names of the tracker begin, where those of the detector begin so.
TRACKER_ROOTS = {"detector.": r"tracker\.", "sam3_model.": r"sam2_predictor\.(?:model\.)?"}
NECKS = re.escape(TRUNK.replace("trunk", "")[:-1])
MULTIPLEX = rf"{NECKS}(interactive|propagation)_convs\..*"  # of SAM 3.1
LAST_LEVEL = TRUNK.replace("trunk", "convs.3")  # SAM 3.1 has none; transformers computes it and drops it
LEFT_OUT = {
    "rotary angles, which transformers computes": rf"{re.escape(TRUNK)}blocks\.\d+\.attn\.freqs_cis",
    "clicks for the detector, which transformers does not take": r"detector\.geometry_encoder\.points_.*",
}
WITHOUT_TRACKER = LEFT_OUT | {"the neck of a tracker that is not there": rf"{NECKS}sam2_convs\..*"}
MULTIPLE = LEFT_OUT | {"SAM 3.1's tracker, for which transformers has no class": rf"{MULTIPLEX}|tracker\..*"}
FILES = {CONFIG, SINGLE_FILE, "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
BLOCK = 2**28  # bytes to read before the file is opened anew: what was read of a mapped file stays in memory


@dataclass(frozen=True, eq=False)
class HostPlan:
    """What becomes of Meta's file, checked tensor by tensor, before any is read."""

    checkpoint: Checkpoint
    names: Mapping[str, str]  # that begin with "detector." and "tracker.", and as they are in the file
    model: "PreTrainedModel"  # of `transformers`, without memory for weights
    origins: Mapping[str, Origin]  # of its tensors
    entries: Mapping[str, TensorEntry]  # they themselves, in the order in which they are written
    left_out: Mapping[str, int]  # reasons, and how many tensors of the file
    zeros: int  # tensors that are made


def convert_host(
    source: str, target: Path, *, heads: int | None = None, progress: Callable[[float], None] = lambda _: None
) -> dict[str, Any]:
    """Write Meta's checkpoint of SAM3 as a folder that `litetext.load_host` and `transformers` read, bit for bit.

    With SAM3's tracker in it, it becomes a `Sam3VideoModel`, else a `Sam3Model`: of SAM 3.1 the detector. Processor and
    tokenizer are written as well. Little more than `BLOCK` bytes of the weights are in memory.

    Args:
        source: a file of ``torch.save`` or safetensors, whose detector may be called "detector.", "sam3_model.", or
            nothing, below any root.
        target: a folder that is not there, is empty, or was written so before.
        heads: attention heads of the text encoder, where its sizes are of no released one.
        progress: is called with the share of the tensors that is written.

    Returns:
        Paths; the class (`model`); how many `tensors` and `parameters`; `left_out`, how many tensors for which reason;
        `zeros`, how many tensors that have no influence were made.

    Raises:
        EncoderError: not a whole SAM3 of Meta; tensors that are missing, unexpected or of another shape are named.
        OutputError: something else is in the target.
    """
    path = locate(source)
    check_output(target, folder=True, inputs=[path, path.parent])
    if target.is_dir() and any(target.iterdir()) and not _is_ours(target):
        raise OutputError("something else is there", where=str(target), hint="give another folder")
    plan = plan_host(path, heads=heads)
    with atomic_folder(target, is_ours=_is_ours) as folder:
        with (folder / SINGLE_FILE).open("wb") as file:
            write_tensors(file, plan.entries, _tensors(plan, progress), MARK)
        _write_rest(plan, folder)
    return {
        "source": str(path),
        "target": str(target),
        "model": type(plan.model).__name__,
        "tensors": len(plan.entries),
        "parameters": sum(entry.size for entry in plan.entries.values()),
        "left_out": dict(plan.left_out),
        "zeros": plan.zeros,
    }


def plan_host(path: Path, *, heads: int | None = None) -> HostPlan:
    """Check names, shapes and dtypes of Meta's file against those of `transformers`; arguments as above."""
    checkpoint = open_checkpoint(path, heads=heads)
    names = _meta_names(checkpoint)
    multiplex = any(re.fullmatch(MULTIPLEX, name) for name in names)
    tracker = not multiplex and any(name.startswith("tracker.") for name in names)
    model = _empty_model(checkpoint, names, tracker=tracker)
    text, tensors = _text_origins(checkpoint), model.state_dict()
    origins = {name: text.get(name.removeprefix("detector_model.")) or origin_of(name) for name in tensors}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    zeros = {name for name, origin in origins.items() if multiplex and origin.names[0].startswith(LAST_LEVEL)}
    wanted = {
        meta: shape
        for name in origins.keys() - zeros
        for meta, shape in zip(origins[name].names, origins[name].shapes(shapes[name]), strict=True)
    }
    left_out = _check(checkpoint, names, wanted, MULTIPLE if multiplex else LEFT_OUT if tracker else WITHOUT_TRACKER)
    found = checkpoint.source.entries
    usual = Counter(entry.dtype for entry in found.values()).most_common(1)[0][0]
    dtypes = {name: usual if name in zeros else found[names[origin.names[0]]].dtype for name, origin in origins.items()}
    # From float64 down to bfloat16: each begins where a number of its size may.
    ordered = sorted(origins, key=lambda name: dtypes[name], reverse=True)
    entries = {name: TensorEntry(shapes[name], dtypes[name]) for name in ordered}
    return HostPlan(checkpoint, names, model, origins, entries, left_out, len(zeros))


def _meta_names(checkpoint: Checkpoint) -> dict[str, str]:
    """Names that begin with "detector." and "tracker.", and those in the file; others are as they are there."""
    entries = checkpoint.source.entries
    root, inner = checkpoint.root, next((key for key in TRACKER_ROOTS if checkpoint.root.endswith(key)), "")
    if checkpoint.format.name != "sam3":
        hint = "give sam3.pt of Meta"
        if checkpoint.format.family == "huggingface":
            hint = "that is a model of transformers already"
        elif checkpoint.layout.kind == "student":
            hint = "give a host such as vil-uob/sam3-litetext-s0, with --text-encoder for this file"
        what = f"{checkpoint.format.title}: only Meta's SAM3 becomes a host"
        raise EncoderError(what, where=checkpoint.where, hint=hint)
    if not any(name.startswith(root + TRUNK.removeprefix("detector.")) for name in entries):
        what = "only the text side of SAM3 is in it"
        raise EncoderError(what, where=checkpoint.where, hint="convert that with --to, or give the whole sam3.pt")
    tracker = re.escape(root.removesuffix(inner)) + TRACKER_ROOTS[inner] if inner else r"(?!)"

    def meta_name(name: str) -> str:
        if name.startswith(root):
            return f"detector.{name.removeprefix(root)}"
        return re.sub(rf"^{tracker}", "tracker.", name)

    return {meta_name(name): name for name in entries}


def _empty_model(checkpoint: Checkpoint, names: Mapping[str, str], *, tracker: bool) -> "PreTrainedModel":
    """The model of `transformers` with the file's sizes, without memory for its weights."""
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("a SAM3 model", "sam3") from error
    from litetext.encoders.layers import meta_init

    shapes = {name: checkpoint.source.entries[theirs].shape for name, theirs in names.items()}
    projection = checkpoint.layout.projection or 1  # which is missing if it is 0, and is said to be, below
    text = transformers_config(checkpoint.config(), projection)["detector_config"]["text_config"]
    text |= {"model_type": "clip_text_model"}
    config = host_config(shapes, text, checkpoint.where, tracker=tracker)
    kind = "Sam3Video" if tracker else "Sam3"
    with one_line_errors(checkpoint.where, AGAIN, "sizes that make no SAM3"), quiet(), meta_init():
        filled = getattr(transformers, f"{kind}Config")(**config)
        model: PreTrainedModel = getattr(transformers, f"{kind}Model")(filled)
    return model


def _text_origins(checkpoint: Checkpoint) -> dict[str, Origin]:
    """Where the text side of `transformers` is in Meta's file, by way of our own names."""
    rules = {rule.ours: rule for rule in writable("huggingface", "teacher").rules(checkpoint.layout.block_kinds)}
    origins: dict[str, Origin] = {}
    for ours, rule in checkpoint.rules().items():
        meta, theirs = rule.theirs[0].removeprefix(checkpoint.root), rules[ours].theirs
        for number, name in enumerate(theirs):
            change = "transposed" if ours == UNUSED else number if len(theirs) > 1 else ""
            origins[name] = Origin((f"detector.{meta}",), change)
    return origins


def _check(
    checkpoint: Checkpoint, names: Mapping[str, str], wanted: Mapping[str, Shape], reasons: Mapping[str, str]
) -> dict[str, int]:
    """Refuse a file that does not fit tensor by tensor; how many of its tensors are left out for which reason."""
    entries = {name: checkpoint.source.entries[theirs] for name, theirs in names.items()}
    others = {
        name: next((reason for reason, rule in reasons.items() if re.fullmatch(rule, name)), "")
        for name in entries.keys() - wanted.keys()
    }
    there = {name: entries[name] for name in wanted if name in entries}
    faults = {
        "missing": wanted.keys() - there.keys(),
        "unexpected": [names[name] for name, reason in others.items() if not reason],
        "wrong": [
            f"{name} is {list(entry.shape)} of {entry.dtype}, not {list(wanted[name])} of floating point"
            for name, entry in there.items()
            if entry.shape != wanted[name] or entry.dtype not in FLOATING
        ],
    }
    if any(faults.values()):
        text = "; ".join(f"{kind} ({len(found)}): {listed(found, 3)}" for kind, found in faults.items() if found)
        raise EncoderError(f"not a whole SAM3 of Meta ({text})", where=checkpoint.where, hint=AGAIN)
    return dict(Counter(others.values()))


def _tensors(plan: HostPlan, progress: Callable[[float], None]) -> "Iterator[torch.Tensor]":
    """The planned tensors, one after another."""
    import torch

    source = plan.checkpoint.source
    load, read, mapped = source.load, BLOCK, zipfile.is_zipfile(source.path)
    for number, (name, entry) in enumerate(plan.entries.items()):
        if read >= BLOCK:
            fresh = open_tensors(source.path) if mapped else source
            load, read = lru_cache(maxsize=2)(fresh.load), 0  # thirds of a weight and of a bias come in turns
        origin = plan.origins[name]
        if all(part in plan.names for part in origin.names):
            value = origin.value([load(plan.names[part]) for part in origin.names])
        else:
            value = torch.zeros(entry.shape, dtype=getattr(torch, entry.dtype))
        if not all(bound.isfinite() for bound in value.aminmax()):
            what = f"NaN or infinity in '{origin.names[0]}'"
            raise EncoderError(what, where=plan.checkpoint.where, hint=AGAIN)
        read += entry.bytes
        progress((number + 1) / len(plan.entries))
        yield value


def _write_rest(plan: HostPlan, folder: Path) -> None:
    """The configuration, the processor and the tokenizer beside the weights."""
    import transformers

    from litetext.tokenizer.pruned import huggingface_tokenizer

    config, tokenizer = plan.model.config, huggingface_tokenizer()
    config.architectures = [type(plan.model).__name__]
    config.dtype = Counter(entry.dtype for entry in plan.entries.values()).most_common(1)[0][0]
    size, half = {"height": config.image_size, "width": config.image_size}, [0.5] * 3
    images = transformers.Sam3ImageProcessor(size=size)
    with quiet():
        config.save_pretrained(folder)
        if config.model_type == "sam3_video":
            videos = transformers.Sam2VideoVideoProcessor(image_mean=half, image_std=half, size=size)
            processor: Any = transformers.Sam3VideoProcessor(images, videos, tokenizer)
        else:
            processor = transformers.Sam3Processor(images, tokenizer)
        processor.save_pretrained(folder)


def _is_ours(folder: Path) -> bool:
    """Whether a folder has what was written here, and nothing else: weights that were trained further are not."""
    if not {file.name for file in folder.iterdir()} <= FILES:
        return False
    try:
        with safe_open(folder / SINGLE_FILE, framework="numpy") as file:
            return bool(file.metadata() == MARK)
    except (OSError, SafetensorError):
        return False
