"""Modules without weights, made in no time, for those whose weights are read in a moment."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def meta_init() -> Iterator[None]:
    """While the block runs, modules are made on the device "meta", and nothing is initialized."""
    with torch.device("meta"), _WithoutInitialization():
        yield


class _WithoutInitialization(TorchFunctionMode):
    """Leaves out the functions of `torch.nn.init`: on "meta" they do nothing, but first import the compiler (2 s)."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, unless it initializes: then give back its tensor."""
        given = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":  # slots of classes have no module
            return args[0] if args else given["tensor"]
        return func(*args, **given)
