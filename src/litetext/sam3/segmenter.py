"""Phrases in, masks out: the image is embedded once, phrases go through the decoder in batches."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import numpy.typing as npt

from litetext.errors import EncoderError, OptionError
from litetext.features.encode import valid_rows
from litetext.features.protocol import TextEncoder, check_loaded
from litetext.sam3.images import ImageSource, read_image
from litetext.sam3.masks import ImageMasks, Masks, RawMasks, to_masks
from litetext.sam3.score_shift import Calibration
from litetext.storage import names_file

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedModel, Sam3ImageProcessor

    from litetext.auditing.attenuation import AttenuationStats
    from litetext.sam3.host_engine import HostEngine

Prompts = str | Iterable[str]
Several = list[Any] | tuple[Any, ...]  # images
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

    def shares(self, size: tuple[int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The boxes as a model reads them on an image of (height, width), and which are positive.

        Returns:
            float32 [1, K, 4], center, width and height as shares of the image; int64 [1, K], 1 where positive, else 0.
        """
        height, width = size
        left, top, right, bottom = (np.asarray(self.boxes, dtype=np.float64) / [width, height, width, height]).T
        shares = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=1)
        labels = np.ones(len(shares)) if self.positive is None else np.asarray(self.positive)
        return shares[None].astype(np.float32), labels[None].astype(np.int64)


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An image as the model sees it, for any number of phrases."""

    size: tuple[int, int]  # height and width of the image in pixels
    vision: Any  # the model's vision output, of a batch of one


class Engine(ABC):
    """What runs a SAM3 model: pixels in, candidates for masks out; PyTorch, or programs that were exported."""

    name: str  # of the engine: torch, onnx, openvino
    width: int  # D of the text features that the model reads

    @abstractmethod
    def own_encoder(self) -> TextEncoder:
        """What the model itself reads text with; an `EncoderError` if that is not there."""

    @abstractmethod
    def embed(self, picture: "Image") -> Any:
        """What the model sees of an RGB image."""

    @abstractmethod
    def run(self, embedding: "ImageEmbedding", rows: Sequence[Any], exemplars: "Exemplars | None" = None) -> RawMasks:
        """Candidates of B phrases, from the features [L_i, D] of the tokens of each.

        An `EncoderError` if they are not finite.
        """


class Segmenter:
    """A SAM3 model and a text encoder that find every instance of a phrase in an image.

    Teacher and student take the same path: features of a phrase's valid tokens go to the model as precomputed text.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`, whose detector segments images, or an `Engine`.
        encoder: reads the phrases; None: what the model reads text with.
        processor: makes pixels of an image for a model of `transformers`; None: SAM3's own at the model's image size.
        options: thresholds and batch size.
        calibration: shifts scores, as was found for this encoder in this model; None: scores are the model's.

    Raises:
        EncoderError: not a SAM3 host, an encoder of another width, or a processor of another image size.
    """

    def __init__(
        self,
        model: "PreTrainedModel | Engine",
        encoder: TextEncoder | None = None,
        processor: "Sam3ImageProcessor | None" = None,
        options: SegmentOptions = SegmentOptions(),
        calibration: Calibration | None = None,
    ) -> None:
        if isinstance(model, str | Path):
            hint = "give the names to Segmenter.from_pretrained(MODEL, TEXT_ENCODER)"
            raise EncoderError("a name where a model is needed", where=str(model), hint=hint)
        if isinstance(model, Engine):
            self.engine = model
        else:
            from litetext.sam3.host_engine import HostEngine

            self.engine = HostEngine(model, processor)
        self.encoder = self.engine.own_encoder() if encoder is None else encoder
        check_width(self.engine.width, self.encoder)
        self.options, self.calibration = options, calibration
        self._features: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        text_encoder: TextEncoder | str | Path | None = None,
        *,
        device: "str | torch.device | None" = None,
        dtype: "str | torch.dtype | None" = None,
        options: SegmentOptions = SegmentOptions(),
        calibration: Calibration | None = None,
    ) -> Self:
        """Load a SAM3 model and its image processor; its own text tower only if nothing stands in for it.

        Args:
            model: a folder, a name on the Hugging Face hub, or ``micro``: the small model in this package.
            text_encoder: reads the phrases: an encoder, or what `load_encoder` takes; None: the model's own.
            device: as `choose_device` takes it.
            dtype: as `choose_dtype` takes it.
            options: thresholds and batch size.
            calibration: as above.

        Raises:
            EncoderError: the model, its processor or the encoder cannot be loaded, or the encoder has another width.
        """
        from litetext.sam3.host import load_host, load_processor

        if isinstance(text_encoder, str | Path):
            from litetext.checkpoints.load import load_encoder

            text_encoder = load_encoder(text_encoder, device=device, dtype=dtype)
        host = load_host(model, text_tower=text_encoder is None, device=device, dtype=dtype)
        return cls(host, text_encoder, load_processor(model, host), options, calibration)

    @property
    def host_engine(self) -> "HostEngine":
        """The engine of a model of `transformers`; an `EncoderError` where exported programs run in its place."""
        from litetext.sam3.host_engine import HostEngine

        if not isinstance(self.engine, HostEngine):
            message = f"the model runs in {self.engine.name}, and this needs it in PyTorch"
            raise EncoderError(
                message, hint='give --engine torch (in Python engine="torch"), and not an exported model'
            )
        return self.engine

    @property
    def host(self) -> "PreTrainedModel":
        """The model of `transformers`; as `host_engine`."""
        return self.host_engine.model

    @property
    def detector(self) -> Any:
        """The part of `host` that finds instances in an image."""
        return self.host_engine.detector

    @property
    def processor(self) -> "Sam3ImageProcessor":
        """What makes pixels of an image for `host`."""
        return self.host_engine.processor

    def with_encoder(self, encoder: TextEncoder) -> Self:
        """The same model and options with another text encoder, not calibrated; this one keeps its own."""
        return type(self)(self.engine, encoder, options=self.options)

    def with_options(self, options: SegmentOptions) -> Self:
        """The same model and text encoder with other options."""
        return type(self)(self.engine, self.encoder, options=options, calibration=self.calibration)

    def measure_attenuation(
        self, student: TextEncoder, images: Sequence[Any], texts: Sequence[str] = (), **options: Any
    ) -> "AttenuationStats":
        """What this model leaves of a student's error; see `litetext.sam3.feature_errors.measure_attenuation`."""
        from litetext.sam3.feature_errors import measure_attenuation

        return measure_attenuation(self, student, images, texts, **options)

    def __repr__(self) -> str:
        """One line."""
        shifted = "" if self.calibration is None else f", calibrated: {self.calibration}"
        return f"{type(self).__name__}({self.engine.name}, text encoder {self.encoder!r}{shifted})"

    @overload
    def __call__(
        self,
        image: ImageSource,
        prompts: Prompts,
        exemplars: Exemplars | None = None,
        *,
        threshold: float | None = None,
    ) -> ImageMasks: ...
    @overload
    def __call__(
        self, image: Several, prompts: Prompts, exemplars: Exemplars | None = None, *, threshold: float | None = None
    ) -> list[ImageMasks]: ...
    def __call__(
        self, image: Any, prompts: Prompts, exemplars: Exemplars | None = None, *, threshold: float | None = None
    ) -> ImageMasks | list[ImageMasks]:
        """Every instance of each phrase in an image, or in each of several.

        Args:
            image: a path, a PIL image or an array, as `read_image` takes it; or a list or tuple of these.
            prompts: a phrase or several; repeated ones are computed once.
            exemplars: boxes that go with every phrase; SAM3 was trained with the phrase "visual" for boxes alone.
            threshold: instances with a higher score are kept; None: that of the options.

        Returns:
            Masks of each phrase, in the order of the phrases, at the size of the (upright) image: a list, which
            has ``draw`` for all of them. Of several images one such list for each, in their order.
        """
        listed = check_prompts(prompts)  # before the image is embedded
        if isinstance(image, list | tuple):
            return [self(one, listed, exemplars, threshold=threshold) for one in image]
        options = self.options if threshold is None else replace(self.options, threshold=threshold)
        distinct = list(dict.fromkeys(listed))
        found = self.segment_embedding(self.embed(image), distinct, exemplars, options)
        results = {masks.prompt: replace(masks, image=image) for masks in found}
        return ImageMasks(results[prompt] for prompt in listed)

    def embed(self, image: ImageSource) -> ImageEmbedding:
        """What the model sees of an image, for `segment_embedding`."""
        picture = read_image(image)
        return ImageEmbedding((picture.height, picture.width), self.engine.embed(picture))

    def segment_embedding(
        self,
        embedding: ImageEmbedding,
        prompts: Sequence[str],
        exemplars: Exemplars | None = None,
        options: SegmentOptions | None = None,
    ) -> Iterator[Masks]:
        """Masks of each phrase, one after another: only those of one batch of phrases are in memory at once.

        The phrases are not checked: `check_prompts` does it once for a whole run. Options stand in for the segmenter's.
        """
        options = options or self.options
        for start in range(0, len(prompts), options.prompt_batch):
            batch = prompts[start : start + options.prompt_batch]
            raw = self.run(embedding, self.rows(batch), exemplars)
            yield from to_masks(raw, batch, embedding.size, options.threshold, options.mask_threshold)

    def run(self, embedding: ImageEmbedding, rows: Sequence[Any], exemplars: Exemplars | None = None) -> RawMasks:
        """As the engine runs, with calibrated scores."""
        raw = self.engine.run(embedding, rows, exemplars)
        classes, presence = self.calibrate(raw.classes, raw.presence)
        return replace(raw, classes=classes, presence=presence)

    def calibrate(self, classes: Any, presence: Any) -> tuple[Any, Any]:
        """Scores of class and presence, arrays or tensors, as the calibration shifts them; without one as they are."""
        return (classes, presence) if self.calibration is None else self.calibration.apply(classes, presence)

    def rows(self, prompts: Sequence[str]) -> list[Any]:
        """Features of the valid tokens of each phrase, [L_i, D], from the cache where they are in it."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._features]
        if new:
            self._features.update(zip(new, valid_rows(self.encoder, new), strict=True))
        for prompt in prompts:
            self._features.move_to_end(prompt)
        rows = [self._features[prompt] for prompt in prompts]
        while len(self._features) > MAX_CACHED_PHRASES:
            self._features.popitem(last=False)
        return rows


def check_prompts(prompts: Prompts) -> list[str]:
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
        if names_file(prompt):
            hint = "give the phrases in it, or --prompts FILE"
            raise OptionError("a file where a phrase is to be", where=prompt, hint=hint)
    return listed


def check_width(width: int, encoder: TextEncoder) -> None:
    """Refuse an encoder whose features a model of a width cannot read: an `EncoderError`."""
    check_loaded(encoder)
    if encoder.width != width:
        message = f"features of width {encoder.width} where the model reads {width}"
        hint = "give the features after the projection to the decoder's width"
        raise EncoderError(message, where=encoder.name, hint=hint)
