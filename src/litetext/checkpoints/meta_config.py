"""The configuration of `transformers` for Meta's `sam3.pt`, from the shapes of its tensors."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt
from typing import Any

from litetext.checkpoints.schema import Shape
from litetext.checkpoints.tensors import AGAIN
from litetext.errors import EncoderError

TRUNK = "detector.backbone.vision_backbone.trunk."
# Rotary angles of the released image encoder, which is 1024 wide, by block: [positions, half a head's width]. Every
# eighth block sees all of the image, the others a window.
RELEASED_WIDTH, RELEASED_ANGLES = 1024, [(5184 if number % 8 == 7 else 576, 32) for number in range(32)]
COUNT = -1  # not an axis: how many numbers follow the name
_GEOMETRY, _DECODER, _ATTENTION = "detector.geometry_encoder.", "detector.transformer.decoder.", "tracker.transformer."
_MEMORY, _MASKS = "tracker.maskmem_backbone.", "tracker.sam_mask_decoder."
_VISION = {
    "backbone_config.hidden_size": (f"{TRUNK}pos_embed", 2),
    "backbone_config.intermediate_size": (f"{TRUNK}blocks.0.mlp.fc1.weight", 0),
    "backbone_config.num_hidden_layers": (f"{TRUNK}blocks.", COUNT),
    "backbone_config.patch_size": (f"{TRUNK}patch_embed.proj.weight", 3),
    "fpn_hidden_size": ("detector.backbone.vision_backbone.convs.0.conv_1x1.weight", 0),
}
_DETECTOR = {
    "geometry_encoder_config.num_layers": (f"{_GEOMETRY}encode.", COUNT),
    "geometry_encoder_config.intermediate_size": (f"{_GEOMETRY}encode.0.linear1.weight", 0),
    "geometry_encoder_config.roi_size": (f"{_GEOMETRY}boxes_pool_project.weight", 3),
    "detr_encoder_config.num_layers": ("detector.transformer.encoder.layers.", COUNT),
    "detr_encoder_config.intermediate_size": ("detector.transformer.encoder.layers.0.linear1.weight", 0),
    "detr_decoder_config.num_layers": (f"{_DECODER}layers.", COUNT),
    "detr_decoder_config.intermediate_size": (f"{_DECODER}layers.0.linear1.weight", 0),
    "detr_decoder_config.num_queries": (f"{_DECODER}query_embed.weight", 0),
    "mask_decoder_config.num_upsampling_stages": ("detector.segmentation_head.pixel_decoder.conv_layers.", COUNT),
}
_DETECTOR |= {
    f"{part}_config.{leaf}": place
    for part in ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder")
    for leaf, place in (
        ("hidden_size", (f"{_DECODER}query_embed.weight", 1)),
        ("num_attention_heads", (f"{_DECODER}boxRPB_embed_x.layers.1.weight", 0)),
    )
}
_TRACKER = {
    "prompt_encoder_config.hidden_size": ("tracker.no_mem_embed", 2),
    "prompt_encoder_config.mask_input_channels": ("tracker.sam_prompt_encoder.mask_downscaling.3.weight", 0),
    "mask_decoder_config.hidden_size": ("tracker.no_mem_embed", 2),
    "mask_decoder_config.num_hidden_layers": (f"{_MASKS}transformer.layers.", COUNT),
    "mask_decoder_config.mlp_dim": (f"{_MASKS}transformer.layers.0.mlp.lin1.weight", 0),
    "mask_decoder_config.iou_head_hidden_dim": (f"{_MASKS}iou_prediction_head.layers.0.weight", 0),
    "num_maskmem": ("tracker.maskmem_tpos_enc", 0),
    "memory_attention_hidden_size": ("tracker.no_mem_embed", 2),
    "memory_attention_num_layers": (f"{_ATTENTION}encoder.layers.", COUNT),
    "memory_attention_feed_forward_hidden_size": (f"{_ATTENTION}encoder.layers.0.linear1.weight", 0),
    "memory_encoder_hidden_size": (f"{_MEMORY}pix_feat_proj.weight", 0),
    "memory_encoder_output_channels": (f"{_MEMORY}out_proj.weight", 0),
    "mask_downsampler_embed_dim": (f"{_MEMORY}mask_downsampler.encoder.12.weight", 0),
    "memory_fuser_embed_dim": (f"{_MEMORY}fuser.layers.0.gamma", 0),
    "memory_fuser_num_layers": (f"{_MEMORY}fuser.layers.", COUNT),
    "memory_fuser_intermediate_dim": (f"{_MEMORY}fuser.layers.0.pwconv1.weight", 0),
}


def host_config(shapes: Mapping[str, Shape], text: Mapping[str, Any], where: str, *, tracker: bool) -> dict[str, Any]:
    """Entries of a `Sam3VideoConfig`, or of a `Sam3Config` without a tracker.

    The tracker's mask decoder has 8 heads and its memory attention one, as in Meta's classes: no tensor says so.

    Args:
        shapes: of all tensors, by names that begin with "detector." and "tracker.".
        text: the entries of the text encoder's configuration.
        where: the file, for messages.
        tracker: whether SAM3's tracker is in it.
    """
    size = partial(_size, shapes, where)
    vision = {"model_type": "sam3_vision_model"} | _fill(size, _VISION)
    backbone, patch = vision["backbone_config"], vision["backbone_config"]["patch_size"]
    names = [f"{TRUNK}blocks.{number}.attn.freqs_cis" for number in range(backbone["num_hidden_layers"])]
    angles = RELEASED_ANGLES  # which a copy of the released weights may do without
    if (backbone["hidden_size"], len(names)) != (RELEASED_WIDTH, len(angles)) or any(name in shapes for name in names):
        angles = [(size(name), size(name, 1)) for name in names]
    rows = [positions for positions, _ in angles]
    grid, window = isqrt(max(rows)), isqrt(min(rows))
    backbone |= {
        "model_type": "sam3_vit_model",
        "num_attention_heads": max(1, backbone["hidden_size"] // (2 * angles[0][1])),
        "image_size": grid * patch,
        "window_size": window,
        "global_attn_indexes": [number for number, positions in enumerate(rows) if positions != min(rows)],
        "pretrain_image_size": isqrt(size(f"{TRUNK}pos_embed", 1) - 1) * patch,
    }
    vision["backbone_feature_sizes"] = [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2]
    detector = {"model_type": "sam3", "text_config": text, "vision_config": vision} | _fill(size, _DETECTOR)
    if not tracker:
        return detector
    second = _fill(size, _TRACKER) | {"model_type": "sam3_tracker_video", "vision_config": vision}
    second |= {"image_size": grid * patch, "memory_attention_rope_feat_sizes": [grid, grid]}
    second["prompt_encoder_config"] |= {"image_size": grid * patch, "patch_size": patch}
    narrow = size(f"{_MASKS}transformer.final_attn_token_to_image.q_proj.bias")
    second["mask_decoder_config"] |= {
        "num_multimask_outputs": size(f"{_MASKS}mask_tokens.weight") - 1,
        "attention_downsample_rate": second["mask_decoder_config"]["hidden_size"] // narrow,
    }
    parts = {"detector_config": detector, "tracker_config": second}
    return {"model_type": "sam3_video", **parts, "low_res_mask_size": 4 * grid}


def _size(shapes: Mapping[str, Shape], where: str, name: str, axis: int = 0) -> int:
    """One size of a tensor, or `COUNT`; without the tensor nothing can be said."""
    if axis == COUNT:
        found = (re.match(rf"{re.escape(name)}(\d+)\.", other) for other in shapes)
        return len({match[1] for match in found if match})
    shape = shapes.get(name)
    if shape is None or axis >= len(shape) or not shape[axis]:
        what = f"missing: {name}" if shape is None else f"{name} is {list(shape)}"
        raise EncoderError(f"not a whole SAM3 of Meta ({what})", where=where, hint=AGAIN)
    return shape[axis]


def _fill(size: Callable[..., int], places: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """A nested configuration; the name of a part and that of an entry are joined by a dot."""
    config: dict[str, Any] = {}
    for path, place in places.items():
        part, _, leaf = path.rpartition(".")
        (config.setdefault(part, {}) if part else config)[leaf] = size(*place)
    return config
