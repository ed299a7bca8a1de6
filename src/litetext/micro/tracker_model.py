"""The micro tracker: SAM3's tracker with small numbers in it, joined with the micro detector to a video model."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.hub import FOLDER, one_line_errors
from litetext.checkpoints.tensors import SINGLE_FILE
from litetext.errors import EncoderError, MissingExtraError
from litetext.micro.model import FINE, PATCH, SIZE, WIDTH, micro_config
from litetext.sam3.host import NO_TRACKER, load_host

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import Sam3VideoConfig, Sam3VideoModel

TRACKER_FILE = FOLDER / "micro-tracker" / SINGLE_FILE
_LAYER = re.compile(r"tracker_model\.memory_attention\.layers\.(\d+)\.")


def micro_video_config(layers: int = 2) -> "Sam3VideoConfig":
    """Every number of the video model; ``layers`` of memory attention are the only thing that its width leaves open."""
    try:
        from transformers import Sam3TrackerVideoConfig, Sam3VideoConfig
    except ImportError as error:
        raise MissingExtraError("the micro tracker", "sam3") from error
    detector: Any = micro_config()
    configuration: Any = Sam3TrackerVideoConfig
    # Whatever touches features is as wide as the detector's decoder. Memories are as wide as the pointers, 64: that is
    # what memory attention reads in `transformers`, whatever its configuration says.
    tracker = configuration(
        image_size=SIZE,
        vision_config=detector.vision_config.to_dict(),
        prompt_encoder_config={
            "hidden_size": WIDTH,
            "image_size": SIZE,
            "patch_size": PATCH,
            "mask_input_channels": 16,
        },
        mask_decoder_config={
            "hidden_size": WIDTH,
            "mlp_dim": 4 * WIDTH,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": WIDTH,
            "num_multimask_outputs": 1,
            "dynamic_multimask_via_stability": False,
        },
        memory_attention_hidden_size=WIDTH,
        memory_attention_num_layers=layers,
        memory_attention_feed_forward_hidden_size=4 * WIDTH,
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_encoder_hidden_size=WIDTH,
        memory_encoder_output_channels=WIDTH,
        mask_downsampler_embed_dim=WIDTH,
        memory_fuser_embed_dim=WIDTH,
        memory_fuser_intermediate_dim=4 * WIDTH,
        initializer_range=0.08,  # as the detector's
    )
    return Sam3VideoConfig(
        detector_config=detector.to_dict(),
        tracker_config=tracker.to_dict(),
        low_res_mask_size=FINE,
        recondition_every_nth_frame=1,  # masks of the detector are better than the tracker's own, measured
        recondition_on_trk_masks=False,
        hotstart_delay=0,
    )


def load_video_host(
    path_or_id: str | Path,
    *,
    text_tower: bool = True,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
) -> "Sam3VideoModel":
    """As `load_host` of a video checkpoint; ``micro`` is joined with the tracker that comes with it.

    Raises:
        EncoderError: a model without a tracker, or as `load_host`.
    """
    if str(path_or_id) == "micro":
        if not TRACKER_FILE.is_file():
            raise EncoderError("this model has no tracker", where="micro", hint=NO_TRACKER)
        from safetensors.torch import load_file

        detector = load_host("micro", text_tower=text_tower, device=device, dtype=dtype)
        with one_line_errors(TRACKER_FILE, "install litetext anew"):
            return join_tracker(detector, load_file(TRACKER_FILE))
    host: Any = load_host(path_or_id, text_tower=text_tower, video=True, device=device, dtype=dtype)
    return host  # type: ignore[no-any-return]


def join_tracker(detector: Any, tensors: "dict[str, Tensor]") -> "Sam3VideoModel":
    """The micro detector with a tracker of these tensors, on the device and in the dtype of the detector.

    Args:
        detector: a micro model, which becomes part of the video model, with its text tower or without.
        tensors: ``tracker_model.*`` as `transformers` calls them, and ``tracker_neck.*``; without those, the tracker
            reads the backbone through a copy of the detector's neck.

    Raises:
        EncoderError: tensors that are missing, left over or of another shape.
    """
    import torch
    from transformers import Sam3VideoModel

    layers = 1 + max((int(match[1]) for name in tensors if (match := _LAYER.match(name))), default=0)
    with torch.random.fork_rng(devices=[]):
        model: Any = Sam3VideoModel(micro_video_config(layers))
    model.detector_model = detector
    neck = detector.vision_encoder.neck.state_dict()
    if not any(name.startswith("tracker_neck.") for name in tensors):
        tensors = {**tensors, **{f"tracker_neck.{name}": tensor for name, tensor in neck.items()}}
    parts = torch.nn.ModuleDict({name: getattr(model, name) for name in ("tracker_model", "tracker_neck")})
    try:
        parts.load_state_dict(tensors)
    except RuntimeError as error:
        message = str(error).splitlines()[1].strip().rstrip(".")
        raise EncoderError(f"weights that do not fit the tracker ({message})", hint="train it anew") from error
    joined: Sam3VideoModel = model.eval().to(detector.device, detector.dtype)
    return joined
