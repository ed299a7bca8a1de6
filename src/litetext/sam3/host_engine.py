"""A SAM3 model of `transformers` as the engine of a segmenter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from transformers import Sam3ImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from litetext.errors import EncoderError
from litetext.features.protocol import TextEncoder, TextFeatures
from litetext.features.ragged import pad
from litetext.sam3.host import default_processor, detector_of, image_size, text_width
from litetext.sam3.masks import RawMasks
from litetext.sam3.segmenter import Engine, Exemplars, ImageEmbedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HostEngine(Engine):
    """Runs a model of `transformers` on its device, in its dtype.

    Args:
        model: a `Sam3Model`, `Sam3LiteTextModel` or `Sam3VideoModel`, whose detector segments images.
        processor: makes pixels of an image; None: SAM3's own at the model's image size.

    Raises:
        EncoderError: not a SAM3 host, or a processor of another image size.
    """

    name = "torch"

    def __init__(self, model: "PreTrainedModel", processor: Sam3ImageProcessor | None = None) -> None:
        self.model, self.detector = model, detector_of(model)
        self.width = text_width(self.detector)
        self.processor = processor if processor is not None else default_processor(model)
        size = (self.processor.size["height"], self.processor.size["width"])
        if size != image_size(model):
            raise EncoderError(f"a processor of {size} pixels for a model of {image_size(model)}")

    def own_encoder(self) -> TextEncoder:
        """See `Engine`."""
        from litetext.sam3.adapters import encoder_of

        return encoder_of(self.model)

    def embed(self, picture: Image) -> Any:
        """See `Engine`."""
        pixels = self.processor(images=picture, return_tensors="pt")["pixel_values"]
        # Not `inference_mode`: whoever trains the rest on an embedding may need gradients through what comes after.
        with torch.no_grad():
            vision = self.detector.get_vision_features(pixels.to(self.detector.device, self.detector.dtype))
        kept = {name: vision[name] for name in ("fpn_hidden_states", "fpn_position_encoding")}
        return type(vision)(**kept)

    def run(self, embedding: ImageEmbedding, rows: Sequence[Any], exemplars: Exemplars | None = None) -> RawMasks:
        """See `Engine`."""
        return to_raw(self.run_rows(embedding, rows, exemplars))

    def run_rows(self, embedding: ImageEmbedding, rows: Sequence[Any], exemplars: Exemplars | None = None) -> Any:
        """The host's own output, from the features [L_i, D] of the tokens of each phrase, tensors or arrays."""
        finest = embedding.vision.fpn_hidden_states[0]
        with torch.inference_mode():
            text = TextFeatures(*pad([torch.as_tensor(row) for row in rows], like=finest))
            return self.run_features(embedding, text, exemplars)

    def run_features(self, embedding: ImageEmbedding, text: TextFeatures, exemplars: Exemplars | None = None) -> Any:
        """The same of padded features, of the width that the host reads, on its device, in its dtype.

        An `EncoderError` if an output is not finite.
        """
        count, finest = len(text.values), embedding.vision.fpn_hidden_states[0]
        boxes = {}
        if exemplars is not None:
            shares, labels = map(torch.from_numpy, exemplars.shares(embedding.size))
            boxes["input_boxes"] = shares.to(finest).expand(count, -1, -1).contiguous()
            boxes["input_boxes_labels"] = labels.to(finest.device).expand(count, -1).contiguous()
        with torch.inference_mode():
            outputs = self.detector(
                vision_embeds=_repeated(embedding.vision, count),
                text_embeds=BaseModelOutputWithPooling(pooler_output=text.values),
                attention_mask=text.mask,
                **boxes,
            )
        _check_finite(outputs)
        return outputs


def to_raw(outputs: Any) -> RawMasks:
    """A host's own output as candidates."""
    classes, presence = (scores.cpu().numpy() for scores in detection_scores(outputs))
    return RawMasks(classes, outputs.pred_boxes.float().cpu().numpy(), outputs.pred_masks, presence)


def detection_scores(outputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """How sure a host is of each query, if the phrase is there at all, float32 [B, Q]; and that it is, [B, 1]."""
    return outputs.pred_logits.float().sigmoid(), outputs.presence_logits.float().sigmoid()


def _check_finite(outputs: Any) -> None:
    """Refuse what damaged weights, or a dtype that is too narrow, give: it looks like an image without instances."""
    for name in ("presence_logits", "pred_logits", "pred_boxes", "pred_masks"):
        # A sum takes no memory, unlike a mask of all numbers, and is not finite where one of them is not.
        if not bool(getattr(outputs, name).sum(dtype=torch.float32).isfinite()):
            hint = "check its weights, or compute in float32 (--dtype auto)"
            raise EncoderError(f"{name} of the host are not finite", hint=hint)


def _repeated(vision: Any, count: int) -> Any:
    """The vision output as a batch of ``count``, without copying it."""
    repeated = {name: tuple(level.expand(count, -1, -1, -1) for level in levels) for name, levels in vision.items()}
    return type(vision)(**repeated)
