"""The trained micro model as files: what ``--model micro`` loads."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from litetext.checkpoints.pretrained import quiet
from litetext.micro.model import SIZE

if TYPE_CHECKING:
    from transformers import Sam3Model

MOST_BYTES = 20_000_000


def save_weights(model: "Sam3Model", folder: Path) -> int:
    """Write a model in float16 with its configuration and its processor, as `load_host` reads it.

    The model itself stays as it is.

    Returns:
        Bytes of all files.
    """
    import copy

    import torch
    from transformers import Sam3ImageProcessor

    folder.mkdir(parents=True, exist_ok=True)
    half: Any = copy.deepcopy(model)
    with quiet():
        half.to(torch.float16).save_pretrained(folder)
    Sam3ImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return sum(file.stat().st_size for file in folder.iterdir())
