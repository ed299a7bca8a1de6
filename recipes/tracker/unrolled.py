"""The tracker over the frames of a window, for many things at once and with a gradient through all of them.

`transformers` runs it one thing at a time and without a gradient; this is the same computation, put together from the
parts of `Sam3TrackerVideoModel` (SAM 2, arXiv 2408.00714, section 4).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, max_pool2d
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import get_1d_sine_pe

from litetext.micro.clips import MIN_PIXELS
from recipes.micro.forward import normalize_pixels
from recipes.tracker.windows import Windows

NOTHING = -10.0  # the logit where nothing is
POINTERS = 16  # `max_object_pointers_in_encoder`


@dataclass(frozen=True, eq=False)
class Vision:
    """F frames as the tracker sees them: levels [F, c, h, w], the finest first; places [C, h, w] of the last."""

    fine: Tensor
    middle: Tensor
    coarse: Tensor
    places: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """What is decoded of O things in a frame: logits [O, 1, 64, 64], IoU and object scores [O, 1], pointers [O, C]."""

    masks: Tensor
    ious: Tensor
    scores: Tensor
    pointers: Tensor


@dataclass(frozen=True, eq=False)
class Memory:
    """What is remembered of a frame: features and places [HW, O, C], pointers [O, C]."""

    features: Tensor
    places: Tensor
    pointers: Tensor


def see(model: Any, pixels: Tensor) -> Vision:
    """Features of frames, uint8 [F, H, W, 3]: the backbone without a gradient, the tracker's neck with one."""
    with torch.no_grad():
        encoder = model.detector_model.vision_encoder
        hidden = encoder.backbone(normalize_pixels(pixels.permute(0, 3, 1, 2))).last_hidden_state
        side = int(hidden.shape[1] ** 0.5)
        hidden = hidden.transpose(1, 2).reshape(len(hidden), -1, side, side)
    levels, places = model.tracker_neck(hidden)
    decoder = model.tracker_model.mask_decoder
    return Vision(decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1]), levels[2], places[2][0])


def decode(tracker: Any, vision: Vision, frame: Tensor, coarse: Tensor, prompt: Tensor | None) -> Step:
    """The mask decoder on O things: ``coarse`` [O, C, 16, 16] is what memory says, ``prompt`` [O, 1, h, w] a mask."""
    if prompt is not None:
        size = tracker.prompt_encoder.mask_input_size
        prompt = interpolate(prompt.float(), size=size, mode="bilinear", antialias=True)
    count = len(coarse)
    sparse, dense = tracker.prompt_encoder(
        input_points=coarse.new_zeros(count, 1, 1, 2),
        input_labels=-torch.ones(count, 1, 1, dtype=torch.int32, device=coarse.device),
        input_boxes=None,
        input_masks=prompt,
    )
    masks, ious, tokens, scores = tracker.mask_decoder(
        image_embeddings=coarse,
        image_positional_embeddings=tracker.get_image_wide_positional_embeddings().repeat(count, 1, 1, 1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
        high_resolution_features=[vision.fine[frame], vision.middle[frame]],
    )
    return Step(
        masks[:, 0].float(),
        ious[:, 0].float(),
        scores[:, 0].float(),
        pointer(tracker, tokens[:, 0, 0], scores[:, 0] > 0),
    )


def pointer(tracker: Any, tokens: Tensor, there: Tensor) -> Tensor:
    """Object pointers [O, C] of mask tokens [O, C]; what is not there, bool [O, 1], has the same one for all."""
    share = there.to(tokens.dtype)
    pointers: Tensor = share * tracker.object_pointer_proj(tokens) + (1 - share) * tracker.no_object_pointer
    return pointers


def remember(tracker: Any, vision: Vision, frame: Tensor, step: Step) -> Memory:
    """The memory of a frame with the masks, object scores and pointers of a step; its masks may have another size."""
    coarse = vision.coarse[frame].flatten(2).permute(2, 0, 1)
    features, places = tracker._encode_new_memory(coarse, step.masks, step.scores[..., None], is_mask_from_pts=False)
    return Memory(features.to(coarse.dtype), places, step.pointers)


def given(tracker: Any, vision: Vision, frame: Tensor, prompt: Tensor) -> Memory:
    """The memory of a frame in which the masks are given, 0 or 1, [O, H, W]."""
    masks = prompt[:, None].float()
    step = decode(tracker, vision, frame, vision.coarse[frame], tracker.mask_downsample(masks))
    there = masks.flatten(1).any(1, keepdim=True)
    share = there.to(step.pointers.dtype)
    pointers = share * step.pointers + (1 - share) * tracker.no_object_pointer
    return remember(tracker, vision, frame, Step(masks * 20 - 10, step.ious, 20 * there.float() - 10, pointers))


def recall(tracker: Any, vision: Vision, frames: Tensor, prompted: dict[int, Memory], own: dict[int, Memory]) -> Tensor:
    """The coarse level [O, C, 16, 16] of the last of ``frames`` [T, O], with what memory says of it."""
    now, frame = len(frames) - 1, frames[-1]
    temporal = tracker.memory_temporal_positional_encoding
    kept = [(one, temporal[-1]) for one in prompted.values()]
    kept += [
        (own[now - back], temporal[back - 1]) for back in range(tracker.num_maskmem - 1, 0, -1) if now - back in own
    ]
    features = [one.features for one, _ in kept]
    places = [one.places + when for one, when in kept]
    every = [(now - when, one) for when, one in prompted.items()]
    every += [(back, own[now - back]) for back in range(1, POINTERS) if now - back in own]
    offsets = torch.tensor([back for back, _ in every], dtype=torch.float32, device=frame.device) / (POINTERS - 1)
    pointers = torch.stack([one.pointers for _, one in every])
    when = tracker.temporal_positional_encoding_projection_layer(get_1d_sine_pe(offsets, dim=pointers.shape[-1]))  # type: ignore[no-untyped-call]
    conditioned = tracker.memory_attention(
        current_vision_features=vision.coarse[frame].flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=vision.places.flatten(1).T[:, None].expand(-1, len(frame), -1),
        memory=torch.cat([*features, pointers.to(features[0].dtype)]),
        memory_posision_embeddings=torch.cat([*places, when[:, None].expand(-1, len(frame), -1).to(places[0].dtype)]),
        num_object_pointer_tokens=len(pointers),
    )
    coarse: Tensor = conditioned.squeeze(0).transpose(1, 2).reshape(len(frame), -1, *vision.coarse.shape[-2:])
    return coarse


def follow(model: Any, windows: Windows, prompted: frozenset[int] = frozenset({0})) -> list[Step]:
    """Every frame but the first decoded; in the frames of ``prompted`` a mask is given and remembered."""
    tracker = model.tracker_model
    vision = see(model, windows.pixels)
    masked: dict[int, Memory] = {}
    own: dict[int, Memory] = {}
    steps = []
    last = len(windows.frame) - 1
    for now, frame in enumerate(windows.frame):
        if now:
            coarse = recall(tracker, vision, windows.frame[: now + 1], masked, own)
            step = decode(tracker, vision, frame, coarse, None)
            steps.append(step)
        if now in prompted:
            masked[now] = given(tracker, vision, frame, windows.prompts[now])
        elif now < last:
            # A hard choice, as in inference: what is not there leaves no mask in memory.
            masks = step.masks.masked_fill((step.scores <= 0)[..., None, None], NOTHING)
            own[now] = remember(tracker, vision, frame, replace(step, masks=masks))
    return steps


def track_losses(steps: list[Step], masks: Tensor) -> dict[str, Tensor]:
    """Losses of decoded frames against their masks, uint8 [T, O, H, W], at the size of the picture.

    Cells beside a thing count fully, those at its edge twice, all others a tenth. Where nothing is to be seen, only the
    object score is asked.
    """
    logits = torch.cat([step.masks for step in steps])
    truth = masks.flatten(0, 1)[:, None].float()
    there = truth.flatten(1).sum(1) >= MIN_PIXELS
    scores = torch.cat([step.scores for step in steps])[:, 0]
    losses = {"object": binary_cross_entropy_with_logits(scores, there.float())}
    logits, truth, ious = logits[there], truth[there], torch.cat([step.ious for step in steps])[there, 0]
    fine = interpolate(logits, size=truth.shape[-2:], mode="bilinear", align_corners=False)
    near = max_pool2d(truth, 15, 1, 7)
    edge = max_pool2d(truth, 5, 1, 2) + max_pool2d(1 - truth, 5, 1, 2) - 1
    weight = 0.1 + 0.9 * near + edge
    bce = binary_cross_entropy_with_logits(fine, truth, reduction="none")
    losses["mask"] = ((bce * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)).mean()
    share = fine.sigmoid()
    overlap = (share * truth).flatten(1).sum(1)
    losses["dice"] = (1 - (2 * overlap + 1) / (share.flatten(1).sum(1) + truth.flatten(1).sum(1) + 1)).mean()
    with torch.no_grad():
        hard = fine > 0
        both, either = (hard & (truth > 0)).flatten(1).sum(1), (hard | (truth > 0)).flatten(1).sum(1)
        true = both / either.clamp(min=1)
    losses["iou"] = (ious - true).abs().mean()
    losses["J"] = true.mean()
    return losses


WEIGHTS = {"mask": 2.0, "dice": 1.0, "iou": 0.2, "object": 0.3}
