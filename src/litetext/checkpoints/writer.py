"""Writing text encoders: our own format, upstream's and Hugging Face's, each in one step and without loss."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.formats import FAMILIES, Format, writable
from litetext.checkpoints.hub import locate
from litetext.checkpoints.inspection import sam_version
from litetext.checkpoints.reader import open_checkpoint
from litetext.checkpoints.schema import UNUSED
from litetext.checkpoints.tensors import CONFIG, SINGLE_FILE
from litetext.encoders.config import EXPANSION, EncoderConfig
from litetext.errors import EncoderError, OptionError, OutputError
from litetext.storage import atomic_file, atomic_folder, check_output, to_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from litetext.encoders.student import TextStudent

OWN = "litetext"


def save_student(student: "TextStudent", path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write a student in its dtype as a file of our own: safetensors with the configuration and notes as metadata."""
    save_encoder(student.config, student.state_dict().items(), path, OWN, notes)


def save_encoder(
    config: EncoderConfig,
    tensors: "Iterable[tuple[str, Tensor]]",
    path: Path,
    family: str,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write an encoder, of which our name and value of each tensor are given, in the format of one of `FAMILIES`.

    Upstream's format is a file of ``torch.save``, ours is a safetensors file. Hugging Face's is a safetensors file if
    the path ends so, else a folder with `model.safetensors` and `config.json`. Only the text side is written,
    in one step; the unused projection may be among the tensors. The notes are more metadata of our own format.

    Raises:
        EncoderError: no such format, or it cannot hold this encoder.
        OutputError: a folder with other files is there.
    """
    from litetext.encoders.encoder import save_tensors

    row = writable(family, config.kind)
    _check_fits(config, row)
    rules = {rule.ours: rule for rule in row.rules(config.block_kinds)}
    ours = dict(tensors)
    # Cloned: the parts of a tensor that was taken apart share memory, which either file would store whole.
    theirs = {
        row.root + name: part.detach().cpu().clone().contiguous()
        for key, tensor in ours.items()
        for name, part in zip(rules[key].theirs, rules[key].change.save(tensor), strict=True)
    }
    if family == "upstream":
        import torch

        with atomic_file(path) as file:
            torch.save({"model": theirs}, file)
    elif family == OWN:
        save_tensors(theirs, path, config.metadata() | dict(notes or {}))
    elif path.suffix == ".safetensors":
        save_tensors(theirs, path, {"format": "pt"})
    else:
        unused = ours[UNUSED].shape[1] if UNUSED in ours else None
        with atomic_folder(path, is_ours=_is_plain) as folder:
            save_tensors(theirs, folder / SINGLE_FILE, {"format": "pt"})
            write_text(folder / CONFIG, to_json(transformers_config(config, unused)) + "\n")


def convert_checkpoint(source: str, target: Path, family: str, *, heads: int | None = None) -> dict[str, Any]:
    """Write the text encoder of a checkpoint in another format, bit for bit in the same dtypes.

    The source is as `load_encoder` takes it, the target as `save_encoder`, the heads as `open_checkpoint`. A target
    that is the source is refused.

    Returns:
        Paths and formats of both, the preset (`variant`), the number of `tensors`, the `rows` of the position table,
        and which SAM it belongs to, as `sam_version` says.
    """
    if family not in FAMILIES:
        raise OptionError(f"no format is called '{family}'", where="--to", hint=f"give {', '.join(FAMILIES)}")
    path = locate(source)
    _check_target(target, family, path)
    checkpoint = open_checkpoint(path, heads=heads)
    config = checkpoint.config()
    tensors = dict(checkpoint.read())
    version, guessed = sam_version(checkpoint)
    save_encoder(config, tensors.items(), target, family, {"sam": version} if version and not guessed else None)
    return {
        "source": str(path),
        "target": str(target),
        "source_format": checkpoint.format.name,
        "target_format": writable(family, config.kind).name,
        "variant": config.name,
        "tensors": len(tensors),
        "rows": config.context_length,
        "sam": version,
        "sam_guessed": guessed,
    }


def _check_target(path: Path, family: str, source: Path) -> None:
    """Refuse a place that `save_encoder` could not write to, before the work."""
    folder = family == "huggingface" and path.suffix != ".safetensors"
    check_output(path, folder=folder, inputs=[source, source.parent] if folder else [source])
    if folder and path.is_dir() and any(path.iterdir()) and not _is_plain(path):
        raise OutputError("something else is there", where=str(path), hint="give another folder")


def _is_plain(folder: Path) -> bool:
    """Whether a folder has the two files that are written, and nothing else."""
    return {path.name for path in folder.iterdir()} == {SINGLE_FILE, CONFIG}


def _check_fits(config: EncoderConfig, row: Format) -> None:
    """Refuse what would be another encoder when it is read back."""
    if row.family == OWN:
        return
    keep = "keep it in the format litetext"
    reasons = (
        (config.quantized, f"the student is quantized ({config.describe_quantized()})", "convert the one before"),
        (config.folded, "the RepMixer blocks are folded", "convert the student as it was trained"),
        (config.rank is not None, "the token table is factorized", keep),
        (config.kept is not None, "the token table is pruned", keep),
        (config.kind == "student" and config.padding == "masked", "the student masks its padding", keep),
    )
    for applies, reason, hint in reasons:
        if applies:
            raise EncoderError(f"{reason}: {row.title} cannot hold that", hint=hint)


def transformers_config(config: EncoderConfig, projection: int | None) -> dict[str, Any]:
    """The part of a `config.json` of `transformers` that concerns the text encoder."""
    text: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": EXPANSION * config.width,
        "num_hidden_layers": config.encoder_blocks + config.mixer_blocks,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context_length,
        "hidden_act": "gelu",
    }
    if projection is not None:
        text["projection_dim"] = projection
    if config.kind == "teacher":
        return {"model_type": "sam3_video", "detector_config": {"model_type": "sam3", "text_config": text}}
    student = {"model_type": "sam3_lite_text_text_model", "use_repmixer_blocks": config.mixer_blocks > 0}
    return {"model_type": "sam3_lite_text", "text_config": student | text}
