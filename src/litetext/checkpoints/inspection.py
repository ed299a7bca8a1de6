"""What `litetext inspect` says of a checkpoint, from names and shapes alone: no weights are read."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litetext.checkpoints.hub import is_other_model, locate
from litetext.checkpoints.load import PRETRAINED_ROWS
from litetext.checkpoints.reader import Checkpoint, open_checkpoint
from litetext.checkpoints.schema import PACKED, PARTS, UNUSED, is_parameter, part_of
from litetext.features.protocol import TextEncoder

NECKS_OF_31 = (".interactive_convs.", ".propagation_convs.")  # of SAM 3.1's tracker
NECK_OF_3 = (".sam2_convs.", "tracker_neck.")
SAME_NAMES = "3 and 3.1 have the same names and sizes here"


def sam_version(checkpoint: Checkpoint) -> tuple[str | None, bool]:
    """Which SAM a text encoder belongs to, "3", "3.1" or None, and whether that is a guess by the name of the file.

    The text sides of SAM 3 and 3.1 differ in their values only; the image side, if it is there, tells them apart.
    """
    names = tuple(checkpoint.source.entries)
    for version, necks in (("3.1", NECKS_OF_31), ("3", NECK_OF_3)):
        if any(neck in name for neck in necks for name in names):
            return version, False
    if written := checkpoint.source.metadata.get("sam"):
        return written, False
    named = any(re.search(r"sam_?3[.p]1(?!\d)", part.lower()) for part in checkpoint.source.path.absolute().parts[-3:])
    return ("3.1", True) if named else (None, False)


def guessed_version(path_or_id: str | Path) -> str | None:
    """A line on the version of SAM, where only the name of a file says it; None where nothing is guessed."""
    if is_other_model(path_or_id):
        return None
    version, guessed = sam_version(open_checkpoint(locate(path_or_id)))
    return f"SAM {version}, guessed from the name {path_or_id}: {SAME_NAMES}" if guessed else None


def summarize_checkpoint(path_or_id: str | Path) -> dict[str, Any]:
    """Recognize and measure a checkpoint; one that is not whole is described too, with its faults.

    Returns:
        The names of the `format`, the `model` ("student" or "teacher") and its `variant` (preset); sizes; what of it is
        `quantized`, in words; `sam` is which SAM it belongs to, "3", "3.1" or None, `sam_guessed` whether only the name
        of the file says so; `parts` and `parameters` as the paper counts them, `used_parameters` without CLIP's
        projection; `faults` in one line. `heads`, `output`, `padding` and `rank` are None where the file has none.
    """
    checkpoint = open_checkpoint(locate(path_or_id))
    entries, layout = list(checkpoint.entries()), checkpoint.layout
    parts = dict.fromkeys(PARTS, 0)
    for name, entry in entries:
        if is_parameter(name):
            parts[part_of(name)] += entry.size * (2 if entry.dtype == PACKED else 1)
    version, guessed = sam_version(checkpoint)
    has_projector, rows = checkpoint.format.has_projector, layout.context_length
    return {
        "path": checkpoint.where,
        "file_bytes": checkpoint.source.size,
        "format": checkpoint.format.name,
        "title": checkpoint.format.title,
        "sam": version,
        "sam_guessed": guessed,
        "model": layout.kind,
        "variant": layout.name,
        "layout": layout.describe_blocks(),
        "rows": rows,
        "vocabulary": layout.vocabulary,
        "is_pruned": layout.kept is not None,
        "rank": layout.rank,
        "heads": checkpoint.heads,
        "output": layout.output if has_projector else None,
        "padding": layout.padding if checkpoint.format.kind is None else None,
        "quantized": layout.describe_quantized(),
        "dtypes": dict(Counter(entry.dtype for name, entry in entries if is_parameter(name)).most_common()),
        "text_bytes": sum(entry.bytes for _, entry in entries),
        "tensors": len(entries),
        "other_tensors": len(checkpoint.source.entries) - len(entries),
        "parts": parts,
        "faults": checkpoint.faults(),
        "parameters": sum(parts.values()),
        "used_parameters": sum(parts.values()) - parts[UNUSED],
        "loads_without_choice": has_projector and rows != PRETRAINED_ROWS,
    }


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """A summary for people: a name and a value on each line."""
    model, variant, sam = summary["model"], summary["variant"], summary["sam"]
    ambiguous = summary["rows"] == PRETRAINED_ROWS
    choice = " (load it with positions=slice or interpolate, and a context)" if ambiguous else ""
    pruned = ", pruned: it has its own tokenizer" if summary["is_pruned"] else ""
    factorized = "" if summary["rank"] is None else f", factorized: rank {summary['rank']}"
    padding = summary["padding"] or "not in the file; the released students attend to it"
    rows = {
        "file": f"{summary['path']} ({_bytes(summary['file_bytes'])})",
        "format": f"{summary['format']}: {summary['title']}",
        "SAM": f"SAM {sam}{', guessed from the name: ' + SAME_NAMES if summary['sam_guessed'] else ''}" if sam else "",
        "variant": f"{model if variant == model else f'{model} {variant}'}: {summary['layout']}, "
        f"{summary['heads'] or 'unknown'} heads",
        "position table": f"{summary['rows']} rows{choice}",
        "token table": f"{summary['vocabulary']:,} rows{factorized}{pruned}",
        "projector": f"{summary['output']} wide" if summary["output"] else "none: for the start of a training only",
        "padding": "changes nothing: attention looks back only" if model == "teacher" else padding,
        "quantized": summary["quantized"],
        "dtype": ", ".join(f"{name} ({count})" for name, count in summary["dtypes"].items()),
        "text side": f"{summary['tensors']} tensors, {_bytes(summary['text_bytes'])}; "
        f"{summary['other_tensors']} others in the file",
        "parameters": f"{summary['parameters']:,} ({summary['used_parameters']:,} without the unused projection)",
        **{f"  {name.replace('_', ' ')}": f"{count:,}" for name, count in summary["parts"].items()},
        "faults": summary["faults"] or "none",
    }
    return [f"{name:<20} {value}" for name, value in rows.items() if value]


@dataclass(frozen=True)
class EncoderSize:
    """What a text encoder takes: all its parameters, as the paper counts them, and the bytes of its tensors."""

    name: str
    parameters: int
    bytes: int


def measure_encoder(spec: str, encoder: TextEncoder) -> EncoderSize:
    """The size of an encoder, loaded from a path or name, in its file's dtypes.

    A model of another kind than SAM3's, which is not read file by file, is measured as it was loaded.
    """
    if not is_other_model(spec):
        summary = summarize_checkpoint(spec)
        return EncoderSize(spec, summary["parameters"], summary["text_bytes"])
    from litetext.features.fingerprint import modules_of

    modules = modules_of(encoder).values()
    return EncoderSize(
        name=spec,
        parameters=sum(parameter.numel() for module in modules for parameter in module.parameters()),
        bytes=sum(tensor.nbytes for module in modules for tensor in module.state_dict().values()),
    )


def _bytes(count: int) -> str:
    """A size on disk for people."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
