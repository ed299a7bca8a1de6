"""Writing text encoders: our own format, upstream's and Hugging Face's, each in one step and without loss."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.formats import Format, Model, writable
from litetext.checkpoints.reader import block_kinds, own_metadata
from litetext.checkpoints.shapes import UNUSED
from litetext.checkpoints.tensors import CONFIG, SINGLE_FILE
from litetext.encoders.config import StudentConfig
from litetext.errors import EncoderError, OutputError
from litetext.storage import atomic_file, atomic_folder, check_output, to_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

    from litetext.encoders.student import TextStudent

OWN = "litetext"


@dataclass(frozen=True)
class Identity:
    """What a text encoder is, beside its tensors.

    Attributes:
        model: "student" or "teacher".
        config: its sizes; the teacher's are those of a student without RepMixer blocks.
    """

    model: Model
    config: StudentConfig


def save_student(student: "TextStudent", path: Path, unused_projection: "Tensor | None" = None) -> None:
    """Write a student in our own format: safetensors with the configuration in its metadata.

    Args:
        student: what to write, in its number type.
        path: a file, replaced in one step.
        unused_projection: [C, P], carried for the way back to upstream's format.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = list(student.state_dict().items())
    if unused_projection is not None:
        tensors.append((UNUSED, unused_projection))
    save_encoder(Identity("student", student.config), tensors, path, OWN)


def save_encoder(identity: Identity, tensors: "Iterable[tuple[str, Tensor]]", path: Path, family: str) -> None:
    """Write an encoder.

    Upstream's format is a file of ``torch.save``, ours is a safetensors file. Hugging Face's is a safetensors file if
    the path ends so, else a folder with `model.safetensors` and `config.json`. Only the text side is written.

    Args:
        identity: what the tensors are.
        tensors: our name and value of each.
        path: what to write, replaced in one step.
        family: one of `FAMILIES`.

    Raises:
        EncoderError: no such format, or it cannot hold this encoder.
        OutputError: a folder with other files is there.
        OSError: the file cannot be written.
    """
    row = writable(family, identity.model)
    _check_fits(identity, row)
    rules = {rule.ours: rule for rule in row.rules(block_kinds(identity.config))}
    # Cloned: the parts of a tensor that was taken apart share memory, which either file would store whole.
    held = dict(tensors)
    theirs = {
        row.root + name: part.detach().cpu().clone().contiguous()
        for ours, tensor in held.items()
        for name, part in zip(rules[ours].theirs, rules[ours].change.save(tensor), strict=True)
    }
    if family == "upstream":
        _save_torch(theirs, path)
    elif family == OWN:
        _save_safetensors(theirs, path, own_metadata(identity.config, identity.model))
    elif path.suffix == ".safetensors":
        _save_safetensors(theirs, path, {"format": "pt"})
    else:
        with atomic_folder(path, is_ours=_is_plain) as folder:
            _save_safetensors(theirs, folder / SINGLE_FILE, {"format": "pt"})
            write_text(folder / CONFIG, to_json(_transformers_config(identity, held.get(UNUSED))) + "\n")


def check_target(path: Path, family: str, inputs: Iterable[Path]) -> None:
    """Refuse a place that `save_encoder` could not write to, before the work.

    Raises:
        OutputError: it cannot be written, is one of the inputs, or holds something else.
    """
    folder = family == "huggingface" and path.suffix != ".safetensors"
    sources = list(inputs)
    check_output(path, folder=folder, inputs=[*sources, *(source.parent for source in sources if folder)])
    if folder and path.is_dir() and any(path.iterdir()) and not _is_plain(path):
        raise OutputError("something else is there", where=str(path), hint="give another folder")


def _is_plain(folder: Path) -> bool:
    """Whether a folder has the two files that are written, and nothing else."""
    return {path.name for path in folder.iterdir()} == {SINGLE_FILE, CONFIG}


def _check_fits(identity: Identity, row: Format) -> None:
    """Refuse what would be another encoder when it is read back."""
    config = identity.config
    if row.family == OWN:
        return
    if config.quantized:
        raise EncoderError(
            f"the student is quantized ({config.describe_quantized()}): {row.title} holds floating point only",
            hint="convert the student that it was made of",
        )
    if config.folded:
        raise EncoderError(
            f"the RepMixer blocks are folded: {row.title} cannot hold them",
            hint="convert the student as it was trained",
        )
    if config.rank is not None:
        raise EncoderError(
            f"the token table is factorized: {row.title} holds whole ones only", hint="keep it in the format litetext"
        )
    if config.kept is not None:
        raise EncoderError(
            f"the token table is pruned: {row.title} holds CLIP's whole one", hint="keep it in the format litetext"
        )
    if identity.model == "student" and config.padding == "masked":
        raise EncoderError(
            f"the student masks its padding: {row.title} would attend to it", hint="keep it in the format litetext"
        )


def _save_torch(tensors: "dict[str, Tensor]", path: Path) -> None:
    import torch

    with atomic_file(path) as file:
        torch.save({"model": tensors}, file)


def _save_safetensors(tensors: "dict[str, Tensor]", path: Path, metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    with atomic_file(path) as file:
        file.write(save(tensors, metadata))


def _transformers_config(identity: Identity, unused: "Tensor | None") -> dict[str, Any]:
    """The part of a `config.json` of `transformers` that concerns the text encoder."""
    config = identity.config
    text: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.encoder_blocks + config.mixer_blocks,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context_length,
        "hidden_act": "gelu",
    }
    if unused is not None:
        text["projection_dim"] = unused.shape[1]
    if identity.model == "teacher":
        return {"model_type": "sam3_video", "detector_config": {"model_type": "sam3", "text_config": text}}
    student = {"model_type": "sam3_lite_text_text_model", "use_repmixer_blocks": config.mixer_blocks > 0}
    return {"model_type": "sam3_lite_text", "text_config": student | text}
