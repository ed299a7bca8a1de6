"""The micro SAM3: the classes of `transformers` with small numbers in them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.errors import MissingExtraError
from litetext.storage import atomic_folder, checksum, write_text

if TYPE_CHECKING:
    from transformers import Sam3Config

SIZE, PATCH = 160, 10  # pixels a side of the picture and of a patch
GRID = SIZE // PATCH  # patches a side: what the decoder reads
FINE = 4 * GRID  # a side of the mask logits
WIDTH = 64  # of the decoder, and so of its text features
VISION_WIDTH = 192
QUERIES = 16  # twice what a scene can hold
CARD = "README.md"
CARD_TEXT = """\
# The micro SAM3 of LiteText

Written by `litetext micro export` for Hugging Face `transformers`: SAM3's classes with small numbers in them, in
float32, and SAM3's processor. It knows emoji in the micro world of LiteText, not photographs.

    model, processor = Sam3Model.from_pretrained(folder), Sam3Processor.from_pretrained(folder)
    inputs = processor(images=image, text="red car", return_tensors="pt")
    sizes = inputs["original_sizes"].tolist()
    found = processor.post_process_instance_segmentation(model(**inputs), threshold=0.5, target_sizes=sizes)[0]

Weights: Apache-2.0. tokenizer.json holds the vocabulary and the merges of CLIP's tokenizer (OpenAI, MIT license).

Checksum of the other files: {checksum}
"""


def micro_config() -> "Sam3Config":
    """Every number of the model: SAM3's structure with 4.4 M parameters and a table of 49,408 x 96 tokens."""
    try:
        from transformers import Sam3Config
    except ImportError as error:
        raise MissingExtraError("the micro model", "sam3") from error
    # SAM3's deviation of 0.02 suits its width of 256; weights as small as that would begin all but silent at 64.
    decoder: dict[str, Any] = {"hidden_size": WIDTH, "num_attention_heads": 4, "initializer_range": 0.08}
    layers = {**decoder, "intermediate_size": 4 * WIDTH, "dropout": 0.0}
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 4 * VISION_WIDTH,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "image_size": SIZE,
        "pretrain_image_size": SIZE,
        "patch_size": PATCH,
        "window_size": GRID // 2,
        "global_attn_indexes": [2, 5],
    }
    return Sam3Config(
        vision_config={
            "backbone_config": backbone,
            "fpn_hidden_size": WIDTH,
            "backbone_feature_sizes": [[FINE, FINE], [2 * GRID, 2 * GRID], [GRID, GRID]],
        },
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": 49408,
            "hidden_size": 96,
            "intermediate_size": 384,
            "projection_dim": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
        },
        geometry_encoder_config={**layers, "num_layers": 1, "roi_size": 3},
        detr_encoder_config={**layers, "num_layers": 2},
        detr_decoder_config={**layers, "num_layers": 3, "num_queries": QUERIES},
        mask_decoder_config=decoder,
        initializer_range=decoder["initializer_range"],
    )


def export_micro(folder: Path) -> list[str]:
    """Write the model in the package as a whole folder of `transformers`: weights, image processor and tokenizer.

    Returns:
        The names of the files.

    Raises:
        OutputError: something else is in the folder, or files that were changed since they were written.
        MissingExtraError: PyTorch or `transformers` is not installed.
    """
    from litetext.checkpoints.hub import quiet
    from litetext.sam3.host import load_host, load_processor
    from litetext.tokenizer.pruned import huggingface_tokenizer

    model = load_host("micro", device="cpu", dtype="float32")
    from transformers import Sam3Processor

    with atomic_folder(folder, is_ours=_is_exported) as partial:
        with quiet():
            model.save_pretrained(partial)
            Sam3Processor(load_processor("micro", model), huggingface_tokenizer()).save_pretrained(partial)
        write_text(partial / CARD, _card(partial))
    return sorted(file.name for file in folder.iterdir())


def _card(folder: Path) -> str:
    return CARD_TEXT.format(checksum=checksum(folder, sorted({file.name for file in folder.iterdir()} - {CARD})))


def _is_exported(folder: Path) -> bool:
    """Whether a folder has what `export_micro` wrote, and nothing else: weights trained further are not replaced."""
    if not (folder / CARD).is_file() or not all(file.is_file() for file in folder.iterdir()):
        return False
    return (folder / CARD).read_bytes() == _card(folder).encode()
