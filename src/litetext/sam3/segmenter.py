"""Phrases in, masks out: the image is embedded once, phrases go through the decoder in batches."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.sam3.host import check_width, default_processor, detector_of, image_size, load_host, load_processor
from litetext.sam3.images import ImageSource, read_image
from litetext.sam3.masks import Masks, to_masks

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, Sam3ImageProcessor

    from litetext.auditing.attenuation import AttenuationStats

MAX_CACHED_PHRASES = 4096  # 256 numbers a token, some 8 tokens: 32 MB in float32


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment; an `OptionError` for a value that makes no sense."""

    threshold: float = 0.5  # instances with a score above it are kept; the value is SAM3's own
    mask_threshold: float = 0.5  # a pixel belongs to a mask where its probability is above it
    prompt_batch: int = 8  # phrases in the decoder at once; each takes a quarter of a GB at full size in float32

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in (("threshold", self.threshold), ("mask threshold", self.mask_threshold)):
            if not 0 <= value < 1:
                raise OptionError(f"a {name} of {value}", hint="give at least 0 and less than 1")
        if self.prompt_batch < 1:
            raise OptionError(f"a batch of {self.prompt_batch} prompts", hint="give at least 1")


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Boxes that show what is meant, beside the phrase.

    Attributes:
        boxes: K boxes, left, top, right, bottom in pixels of the image.
        positive: for each box whether it shows what is meant (True) or what is not; None: all do.

    Raises:
        OptionError: not boxes [K, 4] that have an area, or another number of marks than boxes.
    """

    boxes: npt.ArrayLike
    positive: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        boxes = np.asarray(self.boxes, dtype=np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise OptionError(f"exemplars of shape {list(boxes.shape)}", hint="give [[left, top, right, bottom], ...]")
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise OptionError("an exemplar without an area", hint="give left < right and top < bottom")
        if self.positive is not None and len(self.positive) != len(boxes):
            raise OptionError(f"{len(self.positive)} marks for {len(boxes)} exemplars", hint="give one for each box")

    def to_host(self, size: tuple[int, int], count: int, like: "Tensor") -> dict[str, "Tensor"]:
        """The boxes as a host reads them on an image of (height, width), the same for each of ``count`` = B phrases.

        Returns:
            ``input_boxes`` [B, K, 4], center, width and height as shares of the image, on the device and in the dtype
            of ``like``, and ``input_boxes_labels`` int64 [B, K], 1 where positive, else 0.
        """
        import torch

        height, width = size
        left, top, right, bottom = (np.asarray(self.boxes, dtype=np.float64) / [width, height, width, height]).T
        shares = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=1)
        labels = torch.tensor([True] * len(shares) if self.positive is None else list(self.positive))
        return {
            "input_boxes": torch.from_numpy(shares).to(like).expand(count, -1, -1).contiguous(),
            "input_boxes_labels": labels.long().to(like.device).expand(count, -1).contiguous(),
        }


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An image as the model sees it, for any number of phrases."""

    size: tuple[int, int]  # height and width of the image in pixels
    vision: Any  # the host's vision output, of a batch of one


class Segmenter:
    """A SAM3 host and a text encoder that find every instance of a phrase in an image.

    Teacher and student take the same path: features of a phrase's valid tokens go to the host as precomputed text.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`, whose detector segments images; kept as ``host``.
        encoder: reads the phrases; None: what the host reads text with.
        processor: makes pixels of an image; None: SAM3's own at the model's image size.
        options: thresholds and batch size.

    Raises:
        EncoderError: not a SAM3 host, an encoder of another width, or a processor of another image size.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        encoder: TextEncoder | None = None,
        processor: "Sam3ImageProcessor | None" = None,
        options: SegmentOptions = SegmentOptions(),
    ) -> None:
        self.host, self.detector = model, detector_of(model)
        if encoder is None:
            from litetext.sam3.adapters import encoder_of

            encoder = encoder_of(model)
        check_width(self.detector, encoder)
        self.encoder = encoder
        self.processor = processor if processor is not None else default_processor(model)
        self.options = options
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        size = (self.processor.size["height"], self.processor.size["width"])
        if size != image_size(model):
            raise EncoderError(f"a processor of {size} pixels for a model of {image_size(model)}")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        text_encoder: TextEncoder | str | Path | None = None,
        *,
        device: "str | torch.device | None" = None,
        dtype: "str | torch.dtype | None" = None,
        options: SegmentOptions = SegmentOptions(),
    ) -> Self:
        """Load a SAM3 model and its image processor; its own text tower only if nothing stands in for it.

        Args:
            model: a folder, a name on the Hugging Face hub, or ``micro``: the small model in this package.
            text_encoder: reads the phrases: an encoder, or what `load_encoder` takes; None: the model's own.
            device: as `choose_device` takes it.
            dtype: as `choose_dtype` takes it.
            options: thresholds and batch size.

        Raises:
            EncoderError: the model, its processor or the encoder cannot be loaded, or the encoder has another width.
        """
        if isinstance(text_encoder, str | Path):
            from litetext.checkpoints.load import load_encoder

            text_encoder = load_encoder(text_encoder, device=device, dtype=dtype)
        host = load_host(model, text_tower=text_encoder is None, device=device, dtype=dtype)
        return cls(host, text_encoder, load_processor(model, host), options)

    def with_encoder(self, encoder: TextEncoder) -> Self:
        """The same host, processor and options with another text encoder; this one keeps its own."""
        return type(self)(self.host, encoder, self.processor, self.options)

    def measure_attenuation(
        self, student: TextEncoder, images: Sequence[Any], texts: Sequence[str] = (), **options: Any
    ) -> "AttenuationStats":
        """What this model leaves of a student's error; see `litetext.sam3.feature_errors.measure_attenuation`."""
        from litetext.sam3.feature_errors import measure_attenuation

        return measure_attenuation(self, student, images, texts, **options)

    def __call__(
        self, image: ImageSource, prompts: str | Iterable[str], exemplars: Exemplars | None = None
    ) -> list[Masks]:
        """Every instance of each phrase in an image.

        Args:
            image: a path, a PIL image or an array, as `read_image` takes it.
            prompts: a phrase or several; repeated ones are computed once.
            exemplars: boxes that go with every phrase; SAM3 was trained with the phrase "visual" for boxes alone.

        Returns:
            Masks of each phrase, in the order of the phrases, at the size of the (upright) image.
        """
        listed = check_prompts(prompts)  # before the image is embedded
        distinct = list(dict.fromkeys(listed))
        results = dict(zip(distinct, self.segment_embedding(self.embed(image), distinct, exemplars), strict=True))
        return [results[prompt] for prompt in listed]

    def embed(self, image: ImageSource) -> ImageEmbedding:
        """What the model sees of an image, for `segment_embedding`."""
        import torch

        picture = read_image(image)
        pixels = self.processor(images=picture, return_tensors="pt")["pixel_values"]
        # Not `inference_mode`: whoever trains the rest on an embedding may need gradients through what comes after.
        with torch.no_grad():
            vision = self.detector.get_vision_features(pixels.to(self.detector.device, self.detector.dtype))
        kept = {name: vision[name] for name in ("fpn_hidden_states", "fpn_position_encoding")}
        return ImageEmbedding((picture.height, picture.width), type(vision)(**kept))

    def segment_embedding(
        self, embedding: ImageEmbedding, prompts: Sequence[str], exemplars: Exemplars | None = None
    ) -> Iterator[Masks]:
        """Masks of each phrase, one after another: only those of one batch of phrases are in memory at once.

        The phrases are not checked: `check_prompts` does it once for a whole run.
        """
        options = self.options
        for start in range(0, len(prompts), options.prompt_batch):
            batch = prompts[start : start + options.prompt_batch]
            outputs = self.run_host(embedding, batch, exemplars)
            yield from to_masks(outputs, batch, embedding.size, options.threshold, options.mask_threshold)

    def run_host(self, embedding: ImageEmbedding, prompts: Sequence[str], exemplars: Exemplars | None = None) -> Any:
        """The host's raw output for phrases, before any threshold: one run of the decoder, whatever their number.

        An `EncoderError` if it is not finite.
        """
        import torch

        from litetext.features.ragged import pad

        with torch.inference_mode():
            values, mask = pad(self._rows(prompts), like=embedding.vision.fpn_hidden_states[0])
            return self.run_features(embedding, TextFeatures(values, mask), exemplars)

    def run_features(self, embedding: ImageEmbedding, text: TextFeatures, exemplars: Exemplars | None = None) -> Any:
        """As `run_host`, of the features of phrases, of the width that the host reads, on its device, in its dtype."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        count = len(text.values)
        with torch.inference_mode():
            finest = embedding.vision.fpn_hidden_states[0]
            boxes = {} if exemplars is None else exemplars.to_host(embedding.size, count, finest)
            outputs = self.detector(
                vision_embeds=_repeated(embedding.vision, count),
                text_embeds=BaseModelOutputWithPooling(pooler_output=text.values),
                attention_mask=text.mask,
                **boxes,
            )
        _check_finite(outputs)
        return outputs

    def _rows(self, prompts: Sequence[str]) -> list["Tensor"]:
        """Features of the valid tokens of each phrase, [L_i, D], from the cache where they are in it."""
        import torch

        from litetext.features.encode import valid_rows

        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._features]
        if new:
            self._features.update(zip(new, map(torch.as_tensor, valid_rows(self.encoder, new)), strict=True))
        for prompt in prompts:
            self._features.move_to_end(prompt)
        rows = [self._features[prompt] for prompt in prompts]
        while len(self._features) > MAX_CACHED_PHRASES:
            self._features.popitem(last=False)
        return rows


def check_prompts(prompts: str | Iterable[str]) -> list[str]:
    """A phrase or several as a list; an `OptionError` for anything but strings, or a phrase without a letter."""
    if isinstance(prompts, str):
        prompts = [prompts]
    if not isinstance(prompts, Iterable):
        raise OptionError(f"{type(prompts).__name__} where phrases are needed", hint="give a string or a list of them")
    listed = list(prompts)
    for prompt in listed:
        if not isinstance(prompt, str):
            raise OptionError(f"{type(prompt).__name__} where a phrase is needed", hint="give strings")
        if not prompt.strip():
            raise OptionError("an empty phrase", hint="say what to look for")
    return listed


def _check_finite(outputs: Any) -> None:
    """Refuse what damaged weights, or a dtype that is too narrow, give: it looks like an image without instances."""
    import torch

    for name in ("presence_logits", "pred_logits", "pred_boxes", "pred_masks"):
        # A sum takes no memory, unlike a mask of all numbers, and is not finite where one of them is not.
        if not bool(getattr(outputs, name).sum(dtype=torch.float32).isfinite()):
            hint = "check its weights, or compute in float32 (--dtype auto)"
            raise EncoderError(f"{name} of the host are not finite", hint=hint)


def _repeated(vision: Any, count: int) -> Any:
    """The vision output as a batch of ``count``, without copying it."""
    repeated = {name: tuple(level.expand(count, -1, -1, -1) for level in levels) for name, levels in vision.items()}
    return type(vision)(**repeated)
