"""Which encoder it is: a fingerprint of the weights in use, their settings, the context and the tokenizer."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from litetext.errors import EncoderError
from litetext.features.protocol import TextEncoder, check_loaded
from litetext.features.store import Teacher
from litetext.storage import fingerprint

# What a configuration of `transformers` says about files and releases, not about the features.
_IDLE = {"architectures", "dtype", "torch_dtype", "transformers_version"}


def identify(encoder: TextEncoder) -> Teacher:
    """What tells an encoder from others; its weights are read once."""
    check_loaded(encoder)
    marks = fingerprint_encoder(encoder), fingerprint_tokenizer(encoder)
    return Teacher(encoder.name, *marks, encoder.context_length, encoder.width)


def fingerprint_encoder(encoder: TextEncoder) -> str:
    """SHA-256 of what decides an encoder's features, in hexadecimal: the same encoder at another path has the same.

    That is every tensor of its modules (name, type, shape, bytes, so that float32 and bfloat16 differ), their
    configuration, the context, the width and the tokenizer. The modules are the attributes of the encoder that are
    PyTorch modules, or the encoder itself.
    """
    modules = modules_of(encoder)
    if not modules:
        hint = "keep its module in an attribute"
        raise EncoderError("an encoder without weights", where=encoder.name, hint=hint)
    parts = [str(encoder.context_length), str(encoder.width), fingerprint_tokenizer(encoder)]
    for name, module in modules.items():
        parts += [name, type(module).__name__, _settings(module), *_tensors(module)]
    return fingerprint(parts)


def fingerprint_tokenizer(encoder: TextEncoder) -> str:
    """SHA-256 of an encoder's tokenizer: its attribute ``tokenizer`` if it has one, else CLIP's merges."""
    own: Any = getattr(encoder, "tokenizer", None)
    if own is None:
        return fingerprint([files("litetext.tokenizer").joinpath("data", "clip_merges.txt.gz").read_bytes()])
    rules = json.loads(own.backend_tokenizer.to_str()) if own.is_fast else {}
    # These two are what the last call asked for.
    rules = {key: value for key, value in rules.items() if key not in {"padding", "truncation"}}
    return fingerprint([type(own).__name__, *(json.dumps(part, sort_keys=True) for part in (rules, own.get_vocab()))])


def modules_of(encoder: TextEncoder) -> dict[str, nn.Module]:
    """The encoder's modules by the names of their attributes; "" if it is a module itself."""
    if isinstance(encoder, nn.Module):
        return {"": encoder}
    return {name: value for name, value in sorted(vars(encoder).items()) if isinstance(value, nn.Module)}


def _settings(module: nn.Module) -> str:
    """The configuration of a module, which says what weights do not, such as the number of heads."""
    config: Any = getattr(module, "config", None)
    if config is None or is_dataclass(config):
        return repr(config)
    fields = {key: value for key, value in config.to_diff_dict().items() if key not in _IDLE and key[0] != "_"}
    return json.dumps(fields, sort_keys=True, default=str)


def _tensors(module: nn.Module) -> Iterator[str]:
    """Name, type, shape and digest of each tensor; one at a time is copied from its device."""
    for name, tensor in sorted(module.state_dict().items()):
        yield from (name, str(tensor.dtype), str(list(tensor.shape)), _digest(tensor))


def _digest(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(data.numpy().data).hexdigest()
