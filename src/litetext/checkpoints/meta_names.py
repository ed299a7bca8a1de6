"""Where Meta's `sam3.pt` keeps each tensor of a `Sam3VideoModel`, the text side excepted: names, stacks and splits.

The text side is in `litetext.checkpoints.formats`. Both implementations turn queries and keys in the same pairs of
neighbors (rotary positions), so that no tensor is permuted.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
# Names below "detector_model.", and the tracker's neck; every rule is applied, in this order.
_DETECTOR: Rules = (
    (r"^vision_encoder\.neck\.fpn_layers", "backbone.vision_backbone.convs"),
    (r"^tracker_neck\.fpn_layers", "backbone.vision_backbone.sam2_convs"),
    (r"(convs\.0\.)scale_layers\.0", r"\1dconv_2x2_0"), (r"(convs\.0\.)scale_layers\.2", r"\1dconv_2x2_1"),
    (r"(convs\.1\.)scale_layers\.0", r"\1dconv_2x2"), (r"(convs\.\d+\.)proj1", r"\1conv_1x1"),
    (r"(convs\.\d+\.)proj2", r"\1conv_3x3"), (r"^vision_encoder\.backbone\.", "backbone.vision_backbone.trunk."),
    (r"trunk\.embeddings\.position_embeddings", "trunk.pos_embed"),
    (r"trunk\.embeddings\.patch_embeddings\.projection", "trunk.patch_embed.proj"),
    (r"trunk\.layer_norm\.", "trunk.ln_pre."), (r"trunk\.layers\.(\d+)\.layer_norm", r"trunk.blocks.\1.norm"),
    (r"trunk\.layers\.(\d+)\.attention\.[qkv]_proj", r"trunk.blocks.\1.attn.qkv"),
    (r"trunk\.layers\.(\d+)\.attention\.o_proj", r"trunk.blocks.\1.attn.proj"), (r"trunk\.layers\.", "trunk.blocks."),
    (r"^geometry_encoder\.layers", "geometry_encoder.encode"),
    (r"^geometry_encoder\.vision_layer_norm", "geometry_encoder.img_pre_norm"),
    (r"^geometry_encoder\.prompt_layer_norm", "geometry_encoder.norm"),
    (r"^geometry_encoder\.output_layer_norm", "geometry_encoder.encode_norm"),
    (r"^detr_encoder\.layers", "transformer.encoder.layers"),
    (r"^((?:geometry_encoder\.encode|transformer\.encoder\.layers)\.\d+)\.cross_attn", r"\1.cross_attn_image"),
    (r"^((?:geometry_encoder\.encode|transformer\.encoder\.layers)\.\d+)\.layer_norm", r"\1.norm"),
    (r"^detr_decoder\.", "transformer.decoder."), (r"decoder\.output_layer_norm", "decoder.norm"),
    (r"decoder\.box_head", "decoder.bbox_embed"), (r"decoder\.presence_head", "decoder.presence_token_head"),
    (r"decoder\.presence_layer_norm", "decoder.presence_token_out_norm"),
    (r"decoder\.box_rpb_embed_", "decoder.boxRPB_embed_"), (r"\.vision_cross_attn_layer_norm", ".norm1"),
    (r"\.self_attn_layer_norm", ".norm2"), (r"\.mlp_layer_norm", ".norm3"),
    (r"\.text_cross_attn_layer_norm", ".catext_norm"), (r"\.vision_cross_attn", ".cross_attn"),
    (r"\.text_cross_attn", ".ca_text"), (r"^((?:geometry_encoder|transformer)\..*)\.mlp\.fc", r"\1.linear"),
    (r"^dot_product_scoring\.query_proj", "dot_prod_scoring.hs_proj"),
    (r"^dot_product_scoring\.text_mlp_out_norm", "dot_prod_scoring.prompt_mlp.out_norm"),
    (r"^dot_product_scoring\.text_", "dot_prod_scoring.prompt_"), (r"^mask_decoder\.", "segmentation_head."),
    (r"^segmentation_head\.mask_embedder", "segmentation_head.mask_predictor.mask_embed"),
    (r"^segmentation_head\.(instance|semantic)_projection", r"segmentation_head.\1_seg_head"),
    (r"^segmentation_head\.prompt_cross_attn_norm", "segmentation_head.cross_attn_norm"),
    (r"^segmentation_head\.prompt_cross_attn", "segmentation_head.cross_attend_prompt"),
    (r"\.layer(\d)\.", lambda found: f".layers.{int(found[1]) - 1}."), (r"\.[qkv]_proj\.", ".in_proj_"),
    (r"\.o_proj\.", ".out_proj."),
)  # fmt: skip
# Names below "tracker_model.".
_TRACKER: Rules = (
    (r"^no_memory_embedding", "no_mem_embed"), (r"^no_memory_positional_encoding", "no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding", "maskmem_tpos_enc"), (r"^no_object_pointer", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"), (r"^object_pointer_proj", "obj_ptr_proj"),
    # One matrix for both; Meta's file has it once.
    (r"^(shared_image|prompt_encoder\.shared)_embedding\.positional_embedding",
     "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.", "sam_prompt_encoder."), (r"\.mask_embed\.conv1", ".mask_downscaling.0"),
    (r"\.mask_embed\.layer_norm1", ".mask_downscaling.1"), (r"\.mask_embed\.conv2", ".mask_downscaling.3"),
    (r"\.mask_embed\.layer_norm2", ".mask_downscaling.4"), (r"\.mask_embed\.conv3", ".mask_downscaling.6"),
    (r"^mask_decoder\.", "sam_mask_decoder."), (r"\.upscale_conv1", ".output_upscaling.0"),
    (r"\.upscale_layer_norm", ".output_upscaling.1"), (r"\.upscale_conv2", ".output_upscaling.3"),
    (r"\.layer_norm_final_attn", ".norm_final_attn"), (r"\.mlp\.proj_in", ".mlp.lin1"),
    (r"\.mlp\.proj_out", ".mlp.lin2"),
    # Perceptrons of three layers: the first and the last have names of their own.
    (r"^((?:sam_mask_decoder\.(?:iou|pred|output_hyper)|obj_ptr_proj).*)\.layers\.0\.", r"\1.layers.1."),
    (r"\.proj_in\.", ".layers.0."), (r"\.proj_out\.", ".layers.2."), (r"^memory_attention\.", "transformer.encoder."),
    (r"^memory_encoder\.", "maskmem_backbone."),
    (r"^maskmem_backbone\.feature_projection", "maskmem_backbone.pix_feat_proj"),
    (r"^maskmem_backbone\.projection", "maskmem_backbone.out_proj"), (r"\.memory_fuser\.", ".fuser."),
    (r"\.scale$", ".gamma"), (r"\.depthwise_conv", ".dwconv"), (r"\.pointwise_conv", ".pwconv"),
    # Convolution, norm and activation, four times; then the last convolution.
    (r"downsampler\.layers\.(\d+)\.conv", lambda found: f"downsampler.encoder.{3 * int(found[1])}"),
    (r"downsampler\.layers\.(\d+)\.layer_norm", lambda found: f"downsampler.encoder.{3 * int(found[1]) + 1}"),
    (r"downsampler\.final_conv", "downsampler.encoder.12"), (r"\.layer_norm", ".norm"), (r"\.o_proj\.", ".out_proj."),
)  # fmt: skip
_THIRDS = {".q_proj.": 0, ".k_proj.": 1, ".v_proj.": 2}


@dataclass(frozen=True)
class Origin:
    """Tensors of Meta's file, and which change makes a tensor of `transformers` of them."""

    names: tuple[str, ...]  # several are put under one another
    change: int | str = ""  # 0, 1, 2: queries, keys or values, a third of it; "patches"; "transposed"

    def shapes(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The shapes that Meta's tensors must have for one of `transformers` of that shape."""
        first, *rest = shape
        if isinstance(self.change, int):
            return [(3 * first, *rest)]
        if self.change == "patches":
            return [(first, rest[0] + 1, *rest[1:])]
        if self.change == "transposed":
            return [tuple(reversed(shape))]
        return [(first // len(self.names), *rest)] * len(self.names)

    def value(self, tensors: "Sequence[torch.Tensor]") -> "torch.Tensor":
        """The tensor of `transformers`."""
        import torch

        first = tensors[0]
        if isinstance(self.change, int):
            return first.chunk(3)[self.change]
        if self.change == "patches":
            return first[:, 1:]
        if self.change == "transposed":
            return first.T
        return torch.cat(list(tensors)) if len(tensors) > 1 else first


def origin_of(name: str) -> Origin:
    """Where a tensor of a `Sam3VideoModel` is in Meta's file: names that begin with "detector." or "tracker."."""
    below = name.removeprefix("tracker_model.")
    if below != name:
        if below == "prompt_encoder.point_embed.weight":
            return Origin(tuple(f"tracker.sam_prompt_encoder.point_embeddings.{n}.weight" for n in range(4)))
        return Origin((f"tracker.{_renamed(below, _TRACKER)}",))
    below = name.removeprefix("detector_model.")
    meta = f"detector.{_renamed(below, _DETECTOR)}"
    if meta.endswith(".pos_embed"):
        return Origin((meta,), "patches")  # without the class token's row, which SAM3 never reads
    third = next((number for part, number in _THIRDS.items() if part in below), "")
    return Origin((meta,), third)


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
