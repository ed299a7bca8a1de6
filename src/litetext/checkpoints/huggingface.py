"""Text models of Hugging Face `transformers`, from a folder or the hub: CLIP text towers and sentence encoders."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.hub import locate_folder, one_line_errors, quiet
from litetext.checkpoints.tensors import listed
from litetext.device import choose_device, choose_dtype
from litetext.errors import EncoderError, MissingExtraError, OptionError
from litetext.features.protocol import TextFeatures, describe
from litetext.tokenizer.clean import as_texts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CLIP_TYPES = ("clip", "clip_text_model")
MIN_CONTEXT = 3  # start token, one token of text, end token
NEEDED = "give a folder with config.json, model.safetensors and the tokenizer, or a name on the Hugging Face hub"


@dataclass(frozen=True, eq=False)
class HuggingFaceEncoder:
    """A text model, which gives ``last_hidden_state`` [B, L, D], and its tokenizer, as a `TextEncoder`."""

    name: str
    context_length: int
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"

    __repr__ = describe

    def __post_init__(self) -> None:
        """Refuse a context length that holds no text."""
        if self.context_length < MIN_CONTEXT:
            raise OptionError(f"a context of {self.context_length} tokens", hint=f"give at least {MIN_CONTEXT}")

    @property
    def width(self) -> int:
        """D, the size of a feature vector."""
        return int(self.model.config.hidden_size)

    def encode(self, texts: str | Iterable[str]) -> TextFeatures:
        """The last hidden states of a text, or of at least one, [B, L, D] in the model's dtype, on its device.

        L is the number of tokens of the longest text, at most the context length; what is too long is cut off before
        its end token.
        """
        import torch

        batch = self.tokenizer(
            as_texts(texts),
            padding=True,
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        ).to(self.model.device)
        mask = batch["attention_mask"]
        with torch.inference_mode():
            output = self.model(input_ids=batch["input_ids"], attention_mask=mask)
        return TextFeatures(output.last_hidden_state, mask.bool())


def load_huggingface(
    path_or_id: str | Path,
    *,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    context_length: int | None = None,
) -> HuggingFaceEncoder:
    """Load a text model from a folder or the hub: weights in safetensors only, and no code but that of `transformers`.

    Of a CLIP model with two towers only the text tower is read. The features are the last hidden states, before any
    projection. A context length of None reads as many tokens of a text as the model can.
    """
    try:
        import torch  # noqa: F401
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("an encoder", "sam3") from error
    target = choose_device(device)
    number = choose_dtype(dtype, target)
    name = str(path_or_id)
    source = locate_folder(path_or_id, NEEDED)
    with one_line_errors(name, NEEDED), quiet():
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        chosen = _text_model_class(config, name)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model, report = chosen.from_pretrained(
            source,
            dtype=number,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are listed in the report, and refused below by name
            output_loading_info=True,
        )
    _check_weights(report, name)
    _check_tokenizer(tokenizer, model, name)
    length = _context(context_length, tokenizer, model, name)
    return HuggingFaceEncoder(name, length, model.eval().to(target), tokenizer)


def _text_model_class(config: "PreTrainedConfig", where: str) -> Any:
    """The class of `transformers` that reads only the text encoder of such a checkpoint."""
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING, CLIPTextModel

    if config.model_type in CLIP_TYPES:
        return CLIPTextModel
    encoder: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    if encoder is not None:
        return encoder
    general: Any = MODEL_MAPPING.get(type(config), None)
    if general is None or config.is_encoder_decoder or general.input_modalities not in ("text", ("text",), ["text"]):
        what = f"a '{config.model_type}' model is not a text encoder"
        raise EncoderError(what, where=where, hint="give a CLIP model or a sentence encoder")
    return general


def _check_weights(report: Mapping[str, Any], where: str) -> None:
    """Refuse weights that `transformers` had to make up."""
    made_up = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    # Sentence encoders are often saved without the pooler, which comes after the states that are read here.
    bad = [key for key in made_up if "pooler" not in key.split(".")]
    if bad:
        what = f"{len(bad)} weights are missing or of another shape ({listed(bad, 3)})"
        raise EncoderError(what, where=where, hint="check config.json")


def _check_tokenizer(tokenizer: "PreTrainedTokenizerBase", model: Any, where: str) -> None:
    """Refuse a tokenizer that `transformers` made without files, or that does not belong to the model."""
    ids = tokenizer.get_vocab().values()
    rows = len(model.get_input_embeddings().weight)
    if len(ids) <= len(tokenizer.all_special_ids):
        raise EncoderError("the tokenizer's files are missing", where=where, hint=NEEDED)
    if max(ids) >= rows:
        what = f"the tokenizer has the id {max(ids)}, the model only {rows} tokens"
        raise EncoderError(what, where=where, hint="give the model's own")
    if tokenizer.pad_token_id is None:
        raise EncoderError("the tokenizer has no padding token", where=where, hint="give a sentence encoder")


def _context(wanted: int | None, tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel", where: str) -> int:
    """Tokens to read of a text: the wanted number, or as many as both tokenizer and position table allow."""
    # A tokenizer without a limit says 1e30; a model without a position table (T5) has no such entry.
    unknown = 10**9
    limit = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or unknown)
    if wanted is None and limit >= unknown:
        raise EncoderError("the model does not say how long a text may be", where=where, hint="give a context")
    if wanted is not None and wanted > limit:
        raise OptionError(f"a context of {wanted} tokens", where=where, hint=f"it reads {limit} at most")
    return limit if wanted is None else wanted
