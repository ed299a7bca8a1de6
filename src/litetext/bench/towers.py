"""Text models of `transformers` as folders: SAM3's own text encoder, and a student as Hugging Face runs it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.bench.openers import PROJECTOR, tower_class
from litetext.checkpoints.pretrained import quiet
from litetext.errors import EncoderError
from litetext.storage import write_text
from litetext.tokenizer.vocabulary import END_TEXT, START_TEXT, clip_vocabulary

if TYPE_CHECKING:
    from torch import nn

    from litetext.encoders.config import StudentConfig
    from litetext.encoders.student import TextStudent

CONFIG = "config.json"
SPECIAL = {START_TEXT: "<|startoftext|>", END_TEXT: "<|endoftext|>"}  # as Hugging Face spells them
TEXT_ROOT, PROJECTOR_ROOT = "text_encoder.", "text_projection."


def make_teacher(spec: str | None, seed: int, folder: Path) -> None:
    """SAM3's text encoder as `transformers` holds it: from a checkpoint, or with random weights of its size.

    Raises:
        EncoderError: the checkpoint cannot be loaded, or is no teacher.
    """
    import torch
    from transformers import CLIPTextModelWithProjection

    from litetext.checkpoints.load import load_encoder
    from litetext.encoders.teacher import TeacherConfig, TeacherEncoder, build_teacher

    if spec is None:
        module = build_teacher(TeacherConfig(), torch.Generator().manual_seed(seed))
    else:
        encoder = load_encoder(spec, device="cpu")
        if not isinstance(encoder, TeacherEncoder):
            raise EncoderError("not a teacher", where=spec, hint="give SAM3's; a student goes to --student")
        module = encoder.module
    config = module.tower.config
    config.projection_dim = config.hidden_size // 2  # of a projection that SAM3 has, and never reads
    with torch.device("meta"):
        whole = CLIPTextModelWithProjection(config)
    whole.text_model = module.tower
    whole.text_projection = torch.nn.Linear(config.hidden_size, config.projection_dim, bias=False)
    _save(whole, module.projector, folder)


def to_huggingface(student: "TextStudent", seed: int, folder: Path) -> bool:
    """A student as SAM3-LiteText's port in `transformers` holds it.

    Returns:
        Whether it has the student's weights: of one that the port cannot hold (folded, pruned, quantized or with a
        factorized table) only the sizes are kept, and the weights are random.
    """
    import torch
    from torch import nn
    from transformers.models.sam3_lite_text.configuration_sam3_lite_text import Sam3LiteTextTextConfig

    config = student.config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = tower_class("sam3_lite_text_text_model")(Sam3LiteTextTextConfig(**_sizes(config)))
        projector = nn.Linear(config.width, config.output)
    tensors = _theirs(student, folder.with_suffix(".safetensors"))
    if tensors is not None:
        held = {name.removeprefix(TEXT_ROOT): value for name, value in tensors.items() if name.startswith(TEXT_ROOT)}
        missing, unexpected = model.load_state_dict(held, strict=False)
        if unexpected or set(missing) - {"projection.weight"}:  # which SAM3 never reads
            raise EncoderError(f"transformers wants other tensors ({[*missing, *unexpected][:3]})")
        projector.load_state_dict({leaf: tensors[PROJECTOR_ROOT + leaf] for leaf in ("weight", "bias")})
    _save(model, projector, folder)
    return tensors is not None


def halve(source: Path, folder: Path) -> None:
    """The same folder with its weights in bfloat16."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        half = {
            name: value.to(torch.bfloat16) if value.is_floating_point() else value for name, value in tensors.items()
        }
        save_file(half, path, {"format": "pt"})
    config = json.loads((folder / CONFIG).read_bytes())
    write_text(folder / CONFIG, json.dumps(config | {"dtype": "bfloat16"}))


def _theirs(student: "TextStudent", file: Path) -> "dict[str, Any] | None":
    """The tensors by Hugging Face's names; None where its format cannot hold the student.

    Args:
        student: whose they are.
        file: written on the way, and removed.
    """
    from safetensors.torch import load_file

    from litetext.checkpoints.writer import Identity, save_encoder

    try:
        save_encoder(Identity("student", student.config), student.state_dict().items(), file, "huggingface")
    except EncoderError:
        return None
    tensors = load_file(file)
    file.unlink()
    return tensors


def _sizes(config: "StudentConfig") -> dict[str, Any]:
    return {
        "vocab_size": config.vocabulary if config.kept is None else len(clip_vocabulary().tokens),
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "projection_dim": config.width,
        "num_hidden_layers": config.encoder_blocks + config.mixer_blocks,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context_length,
        "hidden_act": "gelu",
        "use_repmixer_blocks": config.mixer_blocks > 0,
    }


def _save(model: Any, projector: "nn.Linear", folder: Path) -> None:
    """Model, projector and CLIP's tokenizer, each as its library writes it."""
    from safetensors.torch import save_file
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True)
    with quiet():
        model.save_pretrained(folder)
    save_file({name: value.detach().contiguous() for name, value in projector.state_dict().items()}, folder / PROJECTOR)
    vocabulary = clip_vocabulary()
    ids = {SPECIAL.get(token, token): number for number, token in enumerate(vocabulary.tokens)}
    merges: Any = list(vocabulary.merges)  # pairs, though its signature says texts
    CLIPTokenizer(vocab=ids, merges=merges).save_pretrained(folder)
