"""The configuration of `transformers` for Meta's `sam3.pt`, from the shapes of its tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from litetext.checkpoints.schema import Shape
from litetext.checkpoints.tensors import AGAIN
from litetext.errors import EncoderError

TRUNK = "detector.backbone.vision_backbone.trunk."
TRACKER = "tracker.maskmem_tpos_enc"  # a tensor of SAM3's tracker, which SAM 3.1's does not have
# Rotary angles of the released image encoder, which is 1024 wide, by block: [positions, half a head's width]. Every
# eighth block sees all of the image, the others a window.
RELEASED_WIDTH, RELEASED_ANGLES = 1024, [(5184 if number % 8 == 7 else 576, 32) for number in range(32)]
# Heads of the tracker's mask decoder: a constant of Meta's class, in no tensor. Its memory attention has one.
TRACKER_HEADS = 8


@dataclass(frozen=True)
class _Sizes:
    """Shapes of the file's tensors by Meta's names."""

    shapes: Mapping[str, Shape]
    where: str

    def of(self, name: str, axis: int = 0) -> int:
        """One size of a tensor; without the tensor nothing can be said."""
        shape = self.shapes.get(name)
        if shape is None or axis >= len(shape) or not shape[axis]:
            what = f"missing: {name}" if shape is None else f"{name} is {list(shape)}"
            raise EncoderError(f"not a whole SAM3 of Meta ({what})", where=self.where, hint=AGAIN)
        return shape[axis]

    def count(self, prefix: str) -> int:
        """How many numbers follow a prefix."""
        found = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in self.shapes)
        return len({match[1] for match in found if match})


def host_config(shapes: Mapping[str, Shape], text: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Entries of a `Sam3VideoConfig`, or of a `Sam3Config` where there is no tracker.

    Args:
        shapes: of all tensors, by names that begin with "detector." and "tracker.".
        text: the entries of the text encoder's configuration.
        where: the file, for messages.
    """
    sizes = _Sizes(shapes, where)
    vision, grid = _vision(sizes)
    detector = {"model_type": "sam3", "text_config": text, "vision_config": vision, **_decoders(sizes)}
    if TRACKER not in shapes:
        return detector
    tracker = {"model_type": "sam3_tracker_video", "vision_config": vision, **_tracker(sizes, vision, grid)}
    return {
        "model_type": "sam3_video",
        "detector_config": detector,
        "tracker_config": tracker,
        "low_res_mask_size": 4 * grid,
    }


def _vision(sizes: _Sizes) -> tuple[dict[str, Any], int]:
    """The image encoder, and the patches on a side of the image."""
    width, depth = sizes.of(f"{TRUNK}pos_embed", 2), sizes.count(f"{TRUNK}blocks.")
    patch = sizes.of(f"{TRUNK}patch_embed.proj.weight", 3)
    names = [f"{TRUNK}blocks.{number}.attn.freqs_cis" for number in range(depth)]
    released = (width, depth) == (RELEASED_WIDTH, len(RELEASED_ANGLES))
    if released and not any(name in sizes.shapes for name in names):
        angles = RELEASED_ANGLES  # a copy of the weights without them
    else:
        angles = [(sizes.of(name), sizes.of(name, 1)) for name in names]
    rows = [positions for positions, _ in angles]
    grid, window = isqrt(max(rows)), isqrt(min(rows))
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": width,
        "intermediate_size": sizes.of(f"{TRUNK}blocks.0.mlp.fc1.weight"),
        "num_hidden_layers": depth,
        "num_attention_heads": max(1, width // (2 * angles[0][1])),
        "image_size": grid * patch,
        "patch_size": patch,
        "window_size": window,
        "global_attn_indexes": [number for number, positions in enumerate(rows) if positions != min(rows)],
        "pretrain_image_size": isqrt(sizes.of(f"{TRUNK}pos_embed", 1) - 1) * patch,
    }
    return {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": sizes.of("detector.backbone.vision_backbone.convs.0.conv_1x1.weight"),
        "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
    }, grid


def _decoders(sizes: _Sizes) -> dict[str, Any]:
    geometry, encoder = "detector.geometry_encoder.", "detector.transformer.encoder."
    decoder, masks = "detector.transformer.decoder.", "detector.segmentation_head."
    common = {
        "hidden_size": sizes.of(f"{decoder}query_embed.weight", 1),
        "num_attention_heads": sizes.of(f"{decoder}boxRPB_embed_x.layers.1.weight"),
    }

    def layers(prefix: str) -> dict[str, Any]:
        size = sizes.of(f"{prefix}0.linear1.weight")
        return {**common, "num_layers": sizes.count(prefix), "intermediate_size": size}

    return {
        "geometry_encoder_config": {
            **layers(f"{geometry}encode."),
            "roi_size": sizes.of(f"{geometry}boxes_pool_project.weight", 3),
        },
        "detr_encoder_config": layers(f"{encoder}layers."),
        "detr_decoder_config": {**layers(f"{decoder}layers."), "num_queries": sizes.of(f"{decoder}query_embed.weight")},
        "mask_decoder_config": {**common, "num_upsampling_stages": sizes.count(f"{masks}pixel_decoder.conv_layers.")},
    }


def _tracker(sizes: _Sizes, vision: Mapping[str, Any], grid: int) -> dict[str, Any]:
    backbone, memory = vision["backbone_config"], "tracker.maskmem_backbone."
    masks, attention = "tracker.sam_mask_decoder.", "tracker.transformer.encoder.layers."
    width = sizes.of("tracker.no_mem_embed", 2)
    return {
        "image_size": backbone["image_size"],
        "prompt_encoder_config": {
            "hidden_size": width,
            "image_size": backbone["image_size"],
            "patch_size": backbone["patch_size"],
            "mask_input_channels": sizes.of("tracker.sam_prompt_encoder.mask_downscaling.3.weight"),
        },
        "mask_decoder_config": {
            "hidden_size": width,
            "num_attention_heads": TRACKER_HEADS,
            "num_hidden_layers": sizes.count(f"{masks}transformer.layers."),
            "mlp_dim": sizes.of(f"{masks}transformer.layers.0.mlp.lin1.weight"),
            "attention_downsample_rate": width // sizes.of(f"{masks}transformer.final_attn_token_to_image.q_proj.bias"),
            "num_multimask_outputs": sizes.of(f"{masks}mask_tokens.weight") - 1,
            "iou_head_hidden_dim": sizes.of(f"{masks}iou_prediction_head.layers.0.weight"),
        },
        "num_maskmem": sizes.of(TRACKER),
        "memory_attention_hidden_size": width,
        "memory_attention_num_layers": sizes.count(attention),
        "memory_attention_feed_forward_hidden_size": sizes.of(f"{attention}0.linear1.weight"),
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_encoder_hidden_size": sizes.of(f"{memory}pix_feat_proj.weight"),
        "memory_encoder_output_channels": sizes.of(f"{memory}out_proj.weight"),
        "mask_downsampler_embed_dim": sizes.of(f"{memory}mask_downsampler.encoder.12.weight"),
        "memory_fuser_embed_dim": sizes.of(f"{memory}fuser.layers.0.gamma"),
        "memory_fuser_num_layers": sizes.count(f"{memory}fuser.layers."),
        "memory_fuser_intermediate_dim": sizes.of(f"{memory}fuser.layers.0.pwconv1.weight"),
    }
