"""Where a model is: a path as the user wrote it, or a name on the Hugging Face hub, fetched into the hub's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litetext.checkpoints.shipped import shipped_folder
from litetext.checkpoints.tensors import AGAIN, CONFIG, SHARD_INDEX, SINGLE_FILE
from litetext.errors import EncoderError, MissingExtraError
from litetext.records import read_json

FILE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
NEEDED = "give a file, a folder with safetensors, or a model's name on the Hugging Face hub"


def locate(spec: str) -> Path:
    """The file or folder; a name on the hub is fetched unless it is in the local cache.

    Raises:
        EncoderError: nothing is there, or the hub cannot be reached and the cache has not got it.
    """
    path = shipped_folder(spec) or Path(spec).expanduser()
    if path.exists():
        return path
    _check_hub_name(spec, path)
    with _one_line_errors(spec):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(spec, allow_patterns=[CONFIG, SINGLE_FILE, SHARD_INDEX, "model-*.safetensors"]))


def is_other_model(spec: str) -> bool:
    """Whether it is a model of `transformers` of another kind than SAM3, by its `config.json`.

    Raises:
        EncoderError: nothing is there, it is out of reach, or `config.json` is broken.
    """
    path = shipped_folder(spec) or Path(spec).expanduser()
    file = path / CONFIG
    if not path.exists():
        _check_hub_name(spec, path)
        with _one_line_errors(spec):
            from huggingface_hub import hf_hub_download

            file = Path(hf_hub_download(spec, CONFIG))
    if not file.is_file():
        return False
    try:
        kind = read_json(file).get("model_type")
    except (ValueError, AttributeError) as error:
        raise EncoderError("not a configuration of transformers", where=str(file), hint=AGAIN) from error
    return isinstance(kind, str) and not kind.startswith("sam3")


def _check_hub_name(spec: str, path: Path) -> None:
    """Refuse a path that is not there, before the hub is asked for it."""
    if path.is_absolute() or spec.startswith((".", "~")) or len(path.parts) > 2 or path.suffix in FILE_SUFFIXES:
        raise EncoderError("no such file or folder", where=spec, hint=NEEDED)


@contextmanager
def _one_line_errors(where: str) -> Iterator[None]:
    """Say in one line what the hub's client says in many."""
    try:
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtraError("fetching from the Hugging Face hub", "sam3") from error
    try:
        yield
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .:")
        raise EncoderError(f"not here, and not to be had from the hub ({first})", where=where, hint=NEEDED) from error
