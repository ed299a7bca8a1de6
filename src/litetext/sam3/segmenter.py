"""Phrases in, masks out: the image is embedded once, phrases go through the decoder in batches."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from litetext.errors import EncoderError, OptionError
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.sam3.exemplars import Exemplars
from litetext.sam3.host import default_processor, detector_of, encoder_of, image_size, load_host, load_processor
from litetext.sam3.images import ImageSource, read_image
from litetext.sam3.masks import Masks

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, Sam3ImageProcessor

MOST_CACHED_PHRASES = 4096  # 256 numbers a token, some 8 tokens: 32 MB in float32


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment.

    Attributes:
        threshold: instances with a score above it are kept; SAM3's own value is 0.5.
        mask_threshold: a pixel belongs to a mask where its probability is above it.
        prompt_batch: phrases in the decoder at once. Each takes about a quarter of a GB at SAM3's full size in float32.

    Raises:
        OptionError: a value that makes no sense.
    """

    threshold: float = 0.5
    mask_threshold: float = 0.5
    prompt_batch: int = 8

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in (("threshold", self.threshold), ("mask threshold", self.mask_threshold)):
            if not 0 <= value < 1:
                raise OptionError(f"a {name} of {value}", hint="give at least 0 and less than 1")
        if self.prompt_batch < 1:
            raise OptionError(f"a batch of {self.prompt_batch} prompts", hint="give at least 1")


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """What the model saw of one image, to be asked again and again.

    Attributes:
        size: height and width of the image in pixels.
        vision: the host's vision output, of a batch of one.
    """

    size: tuple[int, int]
    vision: Any


class Segmenter:
    """A SAM3 host and a text encoder that find every instance of a phrase in an image.

    Teacher and student take the same path: features of a phrase's valid tokens go to the host as precomputed text.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel` (of which only the detector is used).
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
        self.detector = detector_of(model)
        self.encoder = encoder if encoder is not None else encoder_of(model)
        self.processor = processor if processor is not None else default_processor(model)
        self.options = options
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        reads = self.detector.config.detr_encoder_config.hidden_size
        if self.encoder.width != reads:
            raise EncoderError(
                f"features of width {self.encoder.width} where the model reads {reads}",
                where=self.encoder.name,
                hint="give an encoder of the model's width",
            )
        size = (self.processor.size["height"], self.processor.size["width"])
        if size != image_size(model):
            raise EncoderError(f"a processor of {size} pixels for a model of {image_size(model)}")

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        encoder: TextEncoder | None = None,
        *,
        device: "str | torch.device | None" = None,
        dtype: "str | torch.dtype | None" = None,
        options: SegmentOptions = SegmentOptions(),
    ) -> Self:
        """Load a host as `load_host` does, without its text tower when an encoder is given.

        Raises:
            EncoderError: the model or its processor cannot be loaded, or the encoder has another width.
            OptionError: no such device or number type.
            MissingExtraError: PyTorch, torchvision or `transformers` is not installed.
        """
        model = load_host(path_or_id, encoder, device=device, dtype=dtype)
        return cls(model, encoder, load_processor(path_or_id, model), options)

    def with_encoder(self, encoder: TextEncoder) -> Self:
        """The same host, processor and options with another text encoder; this one keeps its own.

        Raises:
            EncoderError: the encoder has another width than the host reads.
        """
        return type(self)(self.detector, encoder, self.processor, self.options)

    def segment(self, image: ImageSource, prompts: Iterable[str], exemplars: Exemplars | None = None) -> list[Masks]:
        """Every instance of each phrase in an image.

        Args:
            image: a path, a PIL image or an array, as `read_image` takes it.
            prompts: phrases; repeated ones are computed once.
            exemplars: boxes that go with every phrase; SAM3 was trained with the phrase "visual" for boxes alone.

        Returns:
            Masks of each phrase, in the order of the phrases, at the size of the (upright) image.

        Raises:
            ImageError: the image cannot be read.
            OptionError: one string instead of a list, something else than strings, or an empty phrase.
            EncoderError: the encoder fails, or what the host answers is not finite.
        """
        listed = check_prompts(prompts)  # before the image is embedded
        return self.segment_embedding(self.embed(image), listed, exemplars)

    def embed(self, image: ImageSource) -> ImageEmbedding:
        """What the model sees of an image, for `segment_embedding`.

        Raises:
            ImageError: the image cannot be read.
        """
        import torch

        picture = read_image(image)
        pixels = self.processor(images=picture, return_tensors="pt")["pixel_values"]
        # Not `inference_mode`: whoever trains the rest on an embedding may need gradients through what comes after.
        with torch.no_grad():
            vision = self.detector.get_vision_features(pixels.to(self.detector.device, self.detector.dtype))
        kept = {name: vision[name] for name in ("fpn_hidden_states", "fpn_position_encoding")}
        return ImageEmbedding((picture.height, picture.width), type(vision)(**kept))

    def segment_embedding(
        self, embedding: ImageEmbedding, prompts: Iterable[str], exemplars: Exemplars | None = None
    ) -> list[Masks]:
        """As `segment`, of an image that was embedded before."""
        listed = check_prompts(prompts)
        distinct = list(dict.fromkeys(listed))
        found: dict[str, Masks] = {}
        for start in range(0, len(distinct), self.options.prompt_batch):
            batch = distinct[start : start + self.options.prompt_batch]
            found.update(zip(batch, self._detect(embedding, batch, exemplars), strict=True))
        return [found[prompt] for prompt in listed]

    def run_host(self, embedding: ImageEmbedding, prompts: list[str], exemplars: Exemplars | None = None) -> Any:
        """The host's raw output for phrases, before any threshold: one run of the decoder, whatever their number."""
        import torch

        from litetext.features.ragged import pad_rows

        with torch.inference_mode():
            text = pad_rows(self._rows(prompts), like=embedding.vision.fpn_hidden_states[0])
            return self.run_features(embedding, text, exemplars)

    def run_features(self, embedding: ImageEmbedding, text: TextFeatures, exemplars: Exemplars | None = None) -> Any:
        """As `run_host`, of the features of phrases, whoever made them.

        Args:
            embedding: of the image.
            text: of the width that the host reads, on its device and in its number type.
            exemplars: boxes that go with every phrase.

        Raises:
            EncoderError: the output is not finite.
        """
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

    def _detect(self, embedding: ImageEmbedding, prompts: list[str], exemplars: Exemplars | None) -> list[Masks]:
        """Masks of what passes the thresholds."""
        import torch

        from litetext.sam3.postprocess import to_masks

        with torch.inference_mode():
            outputs = self.run_host(embedding, prompts, exemplars)
            return to_masks(outputs, prompts, embedding.size, self.options.threshold, self.options.mask_threshold)

    def _rows(self, prompts: list[str]) -> list["Tensor"]:
        """Features of the valid tokens of each phrase, [L_i, D], from the cache where they are in it."""
        from litetext.features.ragged import valid_rows

        new = [prompt for prompt in prompts if prompt not in self._features]
        if new:
            self._features.update(zip(new, valid_rows(self.encoder, new), strict=True))
        for prompt in prompts:
            self._features.move_to_end(prompt)
        rows = [self._features[prompt] for prompt in prompts]
        while len(self._features) > MOST_CACHED_PHRASES:
            self._features.popitem(last=False)
        return rows


def check_prompts(prompts: Iterable[str]) -> list[str]:
    """The phrases as a list.

    Raises:
        OptionError: one string, something else than strings, or a phrase without a letter.
    """
    if isinstance(prompts, str):
        raise OptionError("one string where a list of phrases is needed", hint="put it into a list")
    if not isinstance(prompts, Iterable):
        raise OptionError(f"{type(prompts).__name__} where a list of phrases is needed", hint="give a list of strings")
    listed = list(prompts)
    for prompt in listed:
        if not isinstance(prompt, str):
            raise OptionError(f"{type(prompt).__name__} where a phrase is needed", hint="give strings")
        if not prompt.strip():
            raise OptionError("an empty phrase", hint="say what to look for")
    return listed


def _check_finite(outputs: Any) -> None:
    """Refuse what damaged weights, or a number type that is too small for them, give: it looks as if nothing was found.

    Raises:
        EncoderError: an output is not finite.
    """
    import torch

    for name in ("presence_logits", "pred_logits", "pred_boxes", "pred_masks"):
        # A sum takes no memory, unlike a mask of all numbers, and is not finite where one of them is not.
        if not bool(getattr(outputs, name).sum(dtype=torch.float32).isfinite()):
            raise EncoderError(
                f"{name} of the host are not finite", hint="check its weights, or compute in float32 (--dtype auto)"
            )


def _repeated(vision: Any, count: int) -> Any:
    """The vision output as a batch of ``count``, without copying it."""
    return type(vision)(
        **{name: tuple(level.expand(count, -1, -1, -1) for level in levels) for name, levels in vision.items()}
    )
