"""Meta's own SAM3 (PyPI `sam3`), scaled down, with random weights large enough that pictures and phrases matter.

The package is made for CUDA; what of it is used here runs on a CPU.
"""

from pathlib import Path
from typing import Any

GRID, PATCH, WIDTH, QUERIES = 8, 14, 128, 8
MEMORY = 64  # channels; transformers has no other number
SIDE = GRID * PATCH
HEADS = 2


def build(*, tracker: bool = True, levels: int = 4) -> Any:
    """A module with Meta's detector and tracker as `detector` and `tracker`; SAM 3.1's detector has three levels."""
    import torch
    from sam3.model.sam3_image import Sam3Image

    torch.manual_seed(0)
    model = torch.nn.Module()
    transformer = _transformer()
    model.detector = Sam3Image(
        backbone=_backbone(levels),
        transformer=transformer,
        input_geometry_encoder=_geometry(),
        segmentation_head=_masks(),
        dot_prod_scoring=_scoring(),
        use_instance_query=False,
    )
    if tracker:
        model.tracker = _tracker()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # of a block that is meant to begin as nothing
                parameter.fill_(0.5)
            elif parameter.ndim > 1:
                parameter.normal_(0.0, max(0.05, parameter[0].numel() ** -0.5))
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def tensors(model: Any) -> dict[str, Any]:
    """The state dict as Meta stores it: the class token's row and the rotary angles are in it."""
    return dict(model.state_dict())


def save(content: dict[str, Any], path: Path) -> Path:
    """A file of ``torch.save``, as `sam3.pt` is one."""
    import torch

    torch.save({"model": content}, path)
    return path


def _attention(**options: Any) -> Any:
    from sam3.model.model_misc import MultiheadAttentionWrapper

    return MultiheadAttentionWrapper(num_heads=HEADS, dropout=0.0, embed_dim=WIDTH, **options)


def _sine(features: int = WIDTH) -> Any:
    from sam3.model.position_encoding import PositionEmbeddingSine

    return PositionEmbeddingSine(num_pos_feats=features, normalize=True)


def _backbone(levels: int) -> Any:
    from sam3.model.necks import Sam3DualViTDetNeck
    from sam3.model.text_encoder_ve import VETextEncoder
    from sam3.model.vitdet import ViT
    from sam3.model.vl_combiner import SAM3VLBackbone

    trunk = ViT(
        img_size=SIDE,
        pretrain_img_size=4 * PATCH,
        patch_size=PATCH,
        embed_dim=32,
        depth=4,
        num_heads=2,
        mlp_ratio=2,
        norm_layer="LayerNorm",
        drop_path_rate=0.0,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=(1, 3),
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=4,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        ln_post=False,
        return_interm_layers=False,
        bias_patch_embed=False,
        use_act_checkpoint=False,
    )
    scales = [4.0, 2.0, 1.0, 0.5][:levels]
    neck = Sam3DualViTDetNeck(trunk, _sine(), WIDTH, scales, add_sam2_neck=levels == 4)
    text = VETextEncoder(WIDTH, _tokens, width=16, heads=2, layers=2, use_act_checkpoint=False)
    return SAM3VLBackbone(visual=neck, text=text, scalp=levels - 3)


def _tokens(texts: list[str], context_length: int) -> Any:
    """Ids as Meta's tokenizer has them (`test_bpe` compares the two): padded with 0."""
    import torch

    from litetext.tokenizer.bpe import TokenBatch

    return torch.from_numpy(TokenBatch.of_texts(texts, context_length).ids).long()


def _layer(*, batch_first: bool, **options: Any) -> Any:
    from sam3.model.encoder import TransformerEncoderLayer

    return TransformerEncoderLayer(
        activation="relu",
        d_model=WIDTH,
        dim_feedforward=32,
        dropout=0.0,
        pre_norm=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=_attention(batch_first=batch_first),
        cross_attention=_attention(batch_first=batch_first),
        **options,
    )


def _transformer() -> Any:
    from sam3.model.decoder import TransformerDecoder, TransformerDecoderLayer
    from sam3.model.encoder import TransformerEncoderFusion
    from sam3.model.model_misc import TransformerWrapper

    encoder = TransformerEncoderFusion(
        layer=_layer(batch_first=True, pos_enc_at_attn=True, pos_enc_at_cross_attn_keys=False),
        num_layers=2,
        d_model=WIDTH,
        num_feature_levels=1,
        frozen=False,
        add_pooled_text_to_img_feat=False,
        pool_text_with_mask=True,
    )
    decoder = TransformerDecoder(
        layer=TransformerDecoderLayer(
            activation="relu",
            d_model=WIDTH,
            dim_feedforward=32,
            dropout=0.0,
            cross_attention=_attention(),
            n_heads=HEADS,
            use_text_cross_attention=True,
        ),
        num_layers=3,
        num_queries=QUERIES,
        return_intermediate=True,
        box_refine=True,
        num_o2m_queries=0,
        dac=True,
        boxRPB="log",
        d_model=WIDTH,
        frozen=False,
        interaction_layer=None,
        dac_use_selfatt_ln=True,
        presence_token=True,
    )
    return TransformerWrapper(encoder=encoder, decoder=decoder, d_model=WIDTH)


def _geometry() -> Any:
    from sam3.model.geometry_encoders import SequenceGeometryEncoder

    return SequenceGeometryEncoder(
        pos_enc=_sine(),
        encode_boxes_as_points=False,
        points_direct_project=True,
        points_pool=True,
        points_pos_enc=True,
        boxes_direct_project=True,
        boxes_pool=True,
        boxes_pos_enc=True,
        d_model=WIDTH,
        num_layers=2,
        layer=_layer(batch_first=False, pos_enc_at_attn=False, pos_enc_at_cross_attn_keys=True),
    )


def _masks() -> Any:
    from sam3.model.maskformer_segmentation import PixelDecoder, UniversalSegmentationHead

    return UniversalSegmentationHead(
        hidden_dim=WIDTH,
        upsampling_stages=3,
        aux_masks=False,
        presence_head=False,
        dot_product_scorer=None,
        cross_attend_prompt=_attention(),
        pixel_decoder=PixelDecoder(hidden_dim=WIDTH, num_upsampling_stages=3, interpolation_mode="nearest"),
    )


def _scoring() -> Any:
    import torch
    from sam3.model.model_misc import MLP, DotProductScoring

    perceptron = MLP(WIDTH, 32, WIDTH, num_layers=2, dropout=0.0, residual=True, out_norm=torch.nn.LayerNorm(WIDTH))
    return DotProductScoring(d_model=WIDTH, d_proj=WIDTH, prompt_mlp=perceptron)


def _tracker() -> Any:
    from sam3.model.decoder import TransformerDecoderLayerv2, TransformerEncoderCrossAttention
    from sam3.model.memory import CXBlock, SimpleFuser, SimpleMaskDownSampler, SimpleMaskEncoder
    from sam3.model.model_misc import TransformerWrapper
    from sam3.model.sam3_tracking_predictor import Sam3TrackerPredictor
    from sam3.sam.transformer import RoPEAttention

    rotary: dict[str, Any] = {"embedding_dim": WIDTH, "num_heads": 1, "downsample_rate": 1, "feat_sizes": [GRID, GRID]}
    layer = TransformerDecoderLayerv2(
        cross_attention_first=False,
        activation="relu",
        dim_feedforward=32,
        dropout=0.0,
        pos_enc_at_attn=False,
        pre_norm=True,
        self_attention=RoPEAttention(**rotary),
        d_model=WIDTH,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=RoPEAttention(**rotary, kv_in_dim=MEMORY, rope_k_repeat=True),
    )
    encoder = TransformerEncoderCrossAttention(
        d_model=WIDTH, frozen=False, pos_enc_at_input=True, layer=layer, num_layers=2, batch_first=True
    )
    memory = SimpleMaskEncoder(
        in_dim=WIDTH,
        out_dim=MEMORY,
        position_encoding=_sine(MEMORY),
        mask_downsampler=SimpleMaskDownSampler(
            embed_dim=WIDTH, kernel_size=3, stride=2, padding=1, interpol_size=[16 * GRID, 16 * GRID]
        ),
        fuser=SimpleFuser(CXBlock(WIDTH), num_layers=2),
    )
    return Sam3TrackerPredictor(
        image_size=SIDE,
        num_maskmem=7,
        backbone=None,
        backbone_stride=PATCH,
        transformer=TransformerWrapper(encoder=encoder, decoder=None, d_model=WIDTH),
        maskmem_backbone=memory,
        multimask_output_in_sam=True,
        multimask_output_for_tracking=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        max_cond_frames_in_attn=4,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
        use_memory_selection=False,
    )
