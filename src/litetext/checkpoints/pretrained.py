"""What is asked of `transformers` when it loads a model: a known place, errors of one line, and silence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from litetext.checkpoints.shipped import shipped_folder
from litetext.errors import EncoderError

GATED = "accept the licence on the model's page with your account, then run 'hf auth login'"


def locate_folder(path_or_id: str | Path, needed: str) -> str:
    """The folder (that of a model in the package, for its name), or the name as it is when it can only be on the hub.

    Args:
        path_or_id: what the user gave.
        needed: what to give instead, for the error.

    Raises:
        EncoderError: neither.
    """
    name = str(path_or_id)
    path = shipped_folder(name) or Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EncoderError("not a model folder: no config.json in it", where=name, hint=needed)
        return str(path)
    if path.exists():
        raise EncoderError("not a model folder but a file", where=name, hint=needed)
    if path.is_absolute() or name.startswith(".") or len(path.parts) not in (1, 2):
        raise EncoderError("no such folder", where=name, hint=needed)
    return name


@contextmanager
def one_line_errors(where: str | Path, needed: str) -> Iterator[None]:
    """Say in one line what `transformers` says in many, whichever of its many exceptions it chose."""
    from huggingface_hub.errors import GatedRepoError, StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (
        AttributeError, ImportError, KeyError, OSError, RuntimeError, SafetensorError, StrictDataclassError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        if isinstance(error.__cause__, GatedRepoError):
            raise EncoderError("the model is gated", where=str(where), hint=GATED) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        raise EncoderError(f"cannot load the model ({first})", where=str(where), hint=needed) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no table of unread weights from `transformers`; its settings come back afterwards."""
    from transformers import utils

    logging: Any = utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
