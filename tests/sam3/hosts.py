"""SAM3 hosts scaled down: the same classes, random weights large enough that phrases matter, built in a second."""

from pathlib import Path
from typing import Any

SIDE = 112  # pixels; 8 x 8 patches
WIDTH = 64  # of the decoder; 256 in SAM3, and no less than the tracker's memory, whose 64 channels are fixed
QUERIES = 8
VIT = {
    "model_type": "sam3_vit_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 14,
    "window_size": 4,
    "global_attn_indexes": [1],
    "pretrain_image_size": 56,
}
VISION = {
    "model_type": "sam3_vision_model",
    "fpn_hidden_size": WIDTH,
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    "backbone_config": VIT,
}
PART = {"hidden_size": WIDTH, "num_attention_heads": 2}
LAYERED = {**PART, "intermediate_size": 32, "num_layers": 1}
DECODERS = {
    "geometry_encoder_config": LAYERED,
    "detr_encoder_config": LAYERED,
    "detr_decoder_config": {**LAYERED, "num_layers": 2, "num_queries": QUERIES},
    "mask_decoder_config": {**PART, "num_upsampling_stages": 2},
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "projection_dim": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 49408,
}
TRACKER = {
    "model_type": "sam3_tracker_video",
    "vision_config": VISION,
    "prompt_encoder_config": {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 14, "mask_input_channels": 4},
    "mask_decoder_config": {**PART, "mlp_dim": 32, "num_hidden_layers": 1, "iou_head_hidden_dim": 32},
    "memory_attention_hidden_size": WIDTH,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_attention_rope_feat_sizes": [8, 8],
    "memory_encoder_hidden_size": WIDTH,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": 32,
}


def sam3_config(**changes: Any) -> dict[str, Any]:
    """Entries of a `Sam3Config`; ``changes`` go to the text tower."""
    text = {**TEXT, "model_type": "clip_text_model", "max_position_embeddings": 32, "hidden_act": "gelu", **changes}
    return {"vision_config": VISION, "text_config": text, **DECODERS}


def lite_config() -> dict[str, Any]:
    """Entries of a `Sam3LiteTextConfig`, RepMixer blocks included."""
    text = {**TEXT, "num_hidden_layers": 3, "max_position_embeddings": 77}
    return {"vision_config": VISION, "text_config": text, **DECODERS}


def video_config() -> dict[str, Any]:
    """Entries of a `Sam3VideoConfig`."""
    detector = {"model_type": "sam3", **sam3_config()}
    return {"detector_config": detector, "tracker_config": TRACKER, "low_res_mask_size": 32}


def build(kind: str) -> Any:
    """A host of one of the three kinds, with weights of standard deviation 0.2 where it draws them at 0.02."""
    import torch
    import transformers

    configs: dict[str, Any] = {
        "sam3": lambda: transformers.Sam3Config(**sam3_config()),
        "sam3_lite_text": lambda: transformers.Sam3LiteTextConfig(**lite_config()),
        "sam3_video": lambda: transformers.Sam3VideoConfig(**video_config()),
    }
    classes = {"sam3": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel", "sam3_video": "Sam3VideoModel"}
    torch.manual_seed(0)
    config = configs[kind]()
    config.image_size = SIDE
    model = getattr(transformers, classes[kind])(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
    return model


def save(model: Any, folder: Path, **options: Any) -> Path:
    """As `save_pretrained`, silently."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder, **options)
    logging.enable_progress_bar()
    return folder
