"""SAM3 hosts of Hugging Face `transformers`: load one, without its text tower if need be, and find its parts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litetext.checkpoints.hub import OPEN, locate_folder, one_line_errors, quiet
from litetext.device import choose_device, choose_dtype
from litetext.errors import EncoderError, MissingExtraError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, Sam3ImageProcessor

NEEDED = (
    "give a folder with config.json and model.safetensors (`litetext convert sam3.pt --host` makes one of Meta's file) "
    f"or a name on the Hugging Face hub such as {OPEN} or facebook/sam3"
)
NO_TRACKER = "use --method association, or give a video model such as facebook/sam3"
VIDEO_TYPE = "sam3_video"
IMAGE_CLASSES = {"sam3": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel"}
TOWER_KEYS = r"^(detector_model\.)?text_(encoder|projection)\."
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def load_host(
    path_or_id: str | Path,
    *,
    text_tower: bool = True,
    video: bool = False,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
) -> "PreTrainedModel":
    """Load a SAM3 model from a folder or the hub: weights in safetensors only, and no code but that of `transformers`.

    Args:
        path_or_id: a folder that ``save_pretrained`` wrote, or a hub name such as ``facebook/sam3``.
        text_tower: whether the model needs its own text encoder. Without it, the memory that it takes (1.4 GB of
            SAM3's 3.4 GB in float32) is never asked for; `swap_text_encoder` puts another in its place.
        video: load the whole `Sam3VideoModel` of a video checkpoint; else only its detector, which segments images.
        device: as `choose_device` takes it.
        dtype: as `choose_dtype` takes it.

    Returns:
        A `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`, in evaluation mode.

    Raises:
        EncoderError: nothing to be loaded there, no SAM3, or weights that are missing, left over or of another shape.
    """
    try:
        import torch  # noqa: F401
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingExtraError("a SAM3 model", "sam3") from error
    target = choose_device(device)
    chosen_dtype = choose_dtype(dtype, target)
    source = locate_folder(path_or_id, NEEDED)
    with one_line_errors(path_or_id, NEEDED), quiet():
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        host_class, config = _choose_class(config, str(path_or_id), video=video)
        model, report = (host_class if text_tower else _without_tower(host_class)).from_pretrained(
            source,
            config=config,
            dtype=chosen_dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are listed in the report, and refused below by name
            output_loading_info=True,
        )
    _check_weights(report, str(path_or_id))
    host: PreTrainedModel = model.eval().to(target)
    return host


def load_processor(path_or_id: str | Path, model: "PreTrainedModel") -> "Sam3ImageProcessor":
    """The image processor that a checkpoint names; for a folder that names none, SAM3's at the model's image size."""
    from transformers import Sam3ImageProcessor

    folder = Path(locate_folder(path_or_id, NEEDED))
    if folder.is_dir() and not any((folder / name).is_file() for name in PROCESSOR_FILES):
        return default_processor(model)
    with one_line_errors(path_or_id, NEEDED), quiet():
        processor: Sam3ImageProcessor = Sam3ImageProcessor.from_pretrained(str(folder))
    return processor


def default_processor(model: "PreTrainedModel") -> "Sam3ImageProcessor":
    """SAM3's image processor at the model's image size."""
    from transformers import Sam3ImageProcessor

    return Sam3ImageProcessor(size=dict(zip(("height", "width"), image_size(model), strict=True)))


def image_size(model: "PreTrainedModel") -> tuple[int, int]:
    """Height and width in pixels of the images that the model reads."""
    height, width = np.broadcast_to(detector_of(model).config.image_size, 2).tolist()
    return height, width


def detector_of(model: "PreTrainedModel") -> Any:
    """The part of a host that finds instances in an image, and reads the text: of an image model all of it."""
    kind = model.config.model_type
    if kind == VIDEO_TYPE:
        return model.detector_model
    if kind not in IMAGE_CLASSES:
        raise EncoderError(f"a '{kind}' model is not a SAM3 host", hint="give a Sam3Model or a Sam3VideoModel")
    return model


def text_width(detector: Any) -> int:
    """D of the text features that the decoder reads."""
    return int(detector.config.detr_encoder_config.hidden_size)


def text_attentions(detector: Any) -> dict[str, tuple[Any, Any]]:
    """The cross-attentions that read the text, each with the layer that it is part of, in the order in which they run.

    Names are ``encoder.N`` and ``decoder.N`` for the layers of the DETR encoder and decoder, ``masks`` for the mask
    decoder.
    """
    encoder, decoder, masks = detector.detr_encoder.layers, detector.detr_decoder.layers, detector.mask_decoder
    return {
        **{f"encoder.{number}": (layer.cross_attn, layer) for number, layer in enumerate(encoder)},
        **{f"decoder.{number}": (layer.text_cross_attn, layer) for number, layer in enumerate(decoder)},
        "masks": (masks.prompt_cross_attn, masks.pixel_decoder),
    }


def _choose_class(config: "PreTrainedConfig", where: str, *, video: bool) -> tuple[Any, "PreTrainedConfig"]:
    """The class of a checkpoint and the configuration to load it with."""
    import transformers

    if config.model_type == VIDEO_TYPE and not video:
        config = config.detector_config
    classes = {VIDEO_TYPE: "Sam3VideoModel"} if video else IMAGE_CLASSES
    if video and config.model_type in IMAGE_CLASSES:
        raise EncoderError("this model has no tracker", where=where, hint=NO_TRACKER)
    if config.model_type not in classes:
        message = f"a '{config.model_type}' model is not a SAM3 {'video ' if video else ''}host"
        raise EncoderError(message, where=where, hint=f"give {'' if video else f'{OPEN} or '}facebook/sam3")
    return getattr(transformers, classes[config.model_type]), config


def _without_tower(host_class: Any) -> Any:
    """The class as it is, but for its text tower: that is neither filled, nor looked for in the checkpoint.

    `from_pretrained` makes models on PyTorch's meta device, where tensors have no memory, so that dropping the tower
    before the weights are read costs nothing; all else (shards, dtypes, buffers) stays the business of `transformers`.
    """
    from torch import nn

    class Towerless(host_class):  # type: ignore[misc]
        _keys_to_ignore_on_load_unexpected = (*(host_class._keys_to_ignore_on_load_unexpected or ()), TOWER_KEYS)

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            detector = detector_of(self)
            detector.text_encoder, detector.text_projection = nn.Identity(), nn.Identity()

    Towerless.__name__ = Towerless.__qualname__ = host_class.__name__
    return Towerless


def _check_weights(report: Mapping[str, Iterable[Any]], where: str) -> None:
    """Refuse a checkpoint that does not fit the model tensor by tensor."""
    faults = {
        "missing": sorted(report["missing_keys"]),
        "not the model's": sorted(report["unexpected_keys"]),
        "of another shape": sorted(entry[0] for entry in report["mismatched_keys"]),
    }
    messages = [
        f"{len(keys)} weights are {fault} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if messages:
        raise EncoderError(" and ".join(messages), where=where, hint="check config.json and the files of weights")
