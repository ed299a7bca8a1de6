"""SAM3 hosts of Hugging Face `transformers`: load one, without its text tower if need be, and swap its text encoder."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from litetext.checkpoints.pretrained import locate_folder, one_line_errors, quiet
from litetext.device import choose_device, choose_dtype
from litetext.errors import EncoderError, MissingExtraError
from litetext.features.protocol import TextEncoder

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedConfig, PreTrainedModel, Sam3ImageProcessor

NEEDED = "give a folder with config.json and model.safetensors, or a name on the Hugging Face hub such as facebook/sam3"
VIDEO_TYPE = "sam3_video"
IMAGE_CLASSES = {"sam3": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel"}
CAUSAL_TYPES = ("clip_text_model",)
TOWER_KEYS = r"^(detector_model\.)?text_(encoder|projection)\."
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


def load_host(
    path_or_id: str | Path,
    encoder: TextEncoder | None = None,
    *,
    video: bool = False,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
) -> "PreTrainedModel":
    """Load a SAM3 model from a folder or the hub: weights in safetensors only, and no code but that of `transformers`.

    With an encoder the model's own text tower is neither made nor read: the memory that it takes (1.4 GB of SAM3's
    3.4 GB in float32) is never asked for. The encoder stands in its place; there is no tower to go back to.

    Args:
        path_or_id: a folder that ``save_pretrained`` wrote, or a hub name such as ``facebook/sam3``.
        encoder: reads the text instead of the model's own tower; None keeps the tower.
        video: load the whole `Sam3VideoModel` of a video checkpoint; else only its detector, which segments images.
        device: as `choose_device` takes it.
        dtype: as `choose_dtype` takes it.

    Returns:
        A `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`, in evaluation mode.

    Raises:
        EncoderError: nothing to be loaded there, no SAM3, weights that are missing, left over or of another shape, or
            an encoder whose features have another width than the model reads.
        OptionError: no such device or number type.
        MissingExtraError: PyTorch or `transformers` is not installed.
    """
    try:
        import torch  # noqa: F401
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingExtraError("a SAM3 model", "sam3") from error
    target = choose_device(device)
    number = choose_dtype(dtype, target)
    source = locate_folder(path_or_id, NEEDED)
    with one_line_errors(path_or_id, NEEDED), quiet():
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        host_class, config = _choose(config, str(path_or_id), video=video)
        if encoder is not None:
            host_class = _without_tower(host_class)
        model, report = host_class.from_pretrained(
            source,
            config=config,
            dtype=number,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are listed in the report, and refused below by name
            output_loading_info=True,
        )
    _check_weights(report, str(path_or_id))
    host: PreTrainedModel = model.eval().to(target)
    if encoder is not None:
        swap_text_encoder(host, encoder)
    return host


def load_processor(path_or_id: str | Path, model: "PreTrainedModel") -> "Sam3ImageProcessor":
    """The image processor that a checkpoint names; for a folder that names none, SAM3's at the model's image size.

    Raises:
        EncoderError: it cannot be read.
    """
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

    height, width = image_size(model)
    return Sam3ImageProcessor(size={"height": height, "width": width})


def image_size(model: "PreTrainedModel") -> tuple[int, int]:
    """Height and width in pixels of the images that the model reads."""
    height, width = np.broadcast_to(detector_of(model).config.image_size, 2).tolist()
    return height, width


def detector_of(model: "PreTrainedModel") -> Any:
    """The part of a host that finds instances in an image, and that reads the text: of an image model all of it.

    Raises:
        EncoderError: not a SAM3 host.
    """
    kind = model.config.model_type
    if kind == VIDEO_TYPE:
        return model.detector_model
    if kind not in IMAGE_CLASSES:
        raise EncoderError(f"a '{kind}' model is not a SAM3 host", hint="give a Sam3Model or a Sam3VideoModel")
    return model


def encoder_of(model: "PreTrainedModel") -> TextEncoder:
    """What a host reads its text with: the encoder that was swapped in, else its own tower.

    Raises:
        EncoderError: not a SAM3 host.
    """
    from litetext.sam3.adapters import HOST_CONTEXT, AsHostTower, FromHost

    detector = detector_of(model)
    tower = detector.text_encoder
    if isinstance(tower, AsHostTower):
        return tower.encoder
    config = detector.config.text_config
    return FromHost(
        name=detector.config.name_or_path or detector.config.model_type,
        width=_text_width(detector),
        tower=tower,
        projection=detector.text_projection,
        causal=config.model_type in CAUSAL_TYPES,
        context_length=min(HOST_CONTEXT, config.max_position_embeddings),
    )


@dataclass(frozen=True, eq=False)
class Swap:
    """A swap that can be undone, by `undo` or at the end of a ``with`` block.

    It keeps what stood there before in memory; drop it to let the old tower go.

    Attributes:
        detector: whose text encoder was swapped.
        old: ``text_encoder`` and ``text_projection`` before.
        new: ``text_encoder`` since.
        hook: what gives the decoder the encoder's own mask.
    """

    detector: Any
    old: tuple["nn.Module", "nn.Module"]
    new: "nn.Module"
    hook: "RemovableHandle"

    def undo(self) -> None:
        """Put back what stood there before; a second time does nothing.

        Raises:
            EncoderError: another swap came after this one and stands.
        """
        if self.detector.text_encoder is self.old[0]:
            return
        if self.detector.text_encoder is not self.new:
            raise EncoderError("another swap came after this one", hint="undo the last swap first")
        self.hook.remove()
        self.detector.text_encoder, self.detector.text_projection = self.old

    def __enter__(self) -> Self:
        """The swap is done already."""
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def swap_text_encoder(model: "PreTrainedModel", encoder: TextEncoder) -> Swap:
    """Let a live host read its text with another encoder; nothing else of it changes.

    ``model(pixel_values=..., **processor(text=...))``, ``get_text_features`` and the video model's sessions work on:
    the ids of the host's processor are made phrases again, and the encoder reads those with its own tokens and its own
    context. What it leaves out of a long text is masked.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`.
        encoder: gives features of the width that the model's decoder reads (256 for SAM3).

    Returns:
        What undoes it.

    Raises:
        EncoderError: not a SAM3 host, or the encoder's features have another width.
    """
    from torch import nn

    from litetext.sam3.adapters import AsHostTower

    detector = detector_of(model)
    width = _text_width(detector)
    if encoder.width != width:
        raise EncoderError(
            f"features of width {encoder.width} where the model reads {width}",
            where=encoder.name,
            hint="give the features after the projection to the decoder's width",
        )
    old = (detector.text_encoder, detector.text_projection)
    new = AsHostTower(encoder, detector.device, detector.dtype).eval()
    detector.text_encoder, detector.text_projection = new, nn.Identity()
    return Swap(detector, old, new, detector.register_forward_pre_hook(_with_own_mask, with_kwargs=True))


def _with_own_mask(detector: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    """Before the detector runs: the mask of the encoder's tokens takes the place of the tokenizer's.

    An encoder with a shorter context reads fewer tokens than the host's processor marks as valid.
    """
    from litetext.sam3.adapters import EncodedText

    call = dict(zip(inspect.signature(detector.forward).parameters, args, strict=False)) | kwargs
    if call.get("input_ids") is not None:
        ids, mask = call.pop("input_ids"), call.get("attention_mask")
        call["text_embeds"] = detector.get_text_features(input_ids=ids, attention_mask=mask, return_dict=True)
    text = call.get("text_embeds")
    if isinstance(text, EncodedText):  # else the caller computed it before the swap, or elsewhere
        call["attention_mask"] = text.text_mask
    return (), call


def _text_width(detector: Any) -> int:
    """D of the text features that the decoder reads."""
    return int(detector.config.detr_encoder_config.hidden_size)


def _choose(config: "PreTrainedConfig", where: str, *, video: bool) -> tuple[Any, Any]:
    """The class of `transformers` for such a checkpoint, and its part of the configuration."""
    import transformers

    if config.model_type == VIDEO_TYPE and not video:
        config = config.detector_config
    kind = config.model_type
    if kind == VIDEO_TYPE:
        return transformers.Sam3VideoModel, config
    if video or kind not in IMAGE_CLASSES:
        raise EncoderError(
            f"a '{kind}' model is not a SAM3 {'video ' if video else ''}host", where=where, hint="give facebook/sam3"
        )
    return getattr(transformers, IMAGE_CLASSES[kind]), config


def _without_tower(host_class: Any) -> Any:
    """The class as it is, but for its text tower: that is neither filled, nor looked for in the checkpoint.

    `from_pretrained` makes models on PyTorch's meta device, where tensors have no memory, so that dropping the tower
    before the weights are read costs nothing; all else (shards, number types, buffers) stays the business of
    `transformers`.
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
    told = [
        f"{len(keys)} weights are {fault} ({', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if told:
        raise EncoderError(" and ".join(told), where=where, hint="check config.json and the files of weights")
