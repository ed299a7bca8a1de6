"""Where a model is: a path, a name in this package, or a name on the Hugging Face hub, fetched into the hub's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from litetext.checkpoints.tensors import AGAIN, CONFIG, SHARD_INDEX, SINGLE_FILE
from litetext.errors import EncoderError, MissingExtraError, first_line
from litetext.records import read_json
from litetext.storage import checksum

FILE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
NEEDED = "give a file, a folder with safetensors, or a model's name on the Hugging Face hub"
NOT_FOUND = "not found locally and could not be downloaded from the Hub"
OPEN = "vil-uob/sam3-litetext-s0"  # a whole image model that is not gated
GATED = (
    f"accept the license at https://huggingface.co/{{}} with your account, then run 'hf auth login'; {OPEN} needs none"
)
WITHOUT_WEIGHTS = "the model micro needs no download"
# Models that come with the package, folders in `FOLDER`. A folder of the user's that is called so is given as ./NAME.
SHIPPED = ("micro", "micro-student", "micro-student-xs")
# Names that a misspelled one is compared with.
KNOWN = (*SHIPPED, *(f"vil-uob/sam3-litetext-{size}" for size in ("s0", "s1", "l")), "facebook/sam3")
TIMEOUT = 10.0  # seconds for the hub's first answer
LITE_TEXT = "sam3_lite_text"
SAM3_KINDS = ("sam3", "sam3_video", LITE_TEXT)  # models that segment, by their ``model_type``
FOLDER = Path(__file__).parents[1] / "weights"


def shipped_folder(name: str) -> Path | None:
    """The folder of a model that comes with the package; None if it is another name."""
    return FOLDER / name if name in SHIPPED else None


def name_source(spec: str) -> str:
    """A name for a model or an encoder: of a path, with a short checksum of its files, wherever they are."""
    path = shipped_folder(spec) or Path(spec)
    if not path.exists():
        return spec
    folder = path if path.is_dir() else path.parent
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return f"{path.resolve().name} ({checksum(folder, [str(file.relative_to(folder)) for file in files])[:12]})"


def locate(path_or_id: str | Path) -> Path:
    """The file or folder; a name on the hub is fetched unless it is in the local cache."""
    path = _path_or_hub_name(path_or_id, NEEDED)
    if path.exists():
        return path
    with one_line_errors(path_or_id, NEEDED, NOT_FOUND):
        from huggingface_hub import snapshot_download

        patterns = [CONFIG, SINGLE_FILE, SHARD_INDEX, "model-*.safetensors"]
        return Path(snapshot_download(str(path_or_id), allow_patterns=patterns))


def locate_folder(path_or_id: str | Path, needed: str) -> str:
    """The folder of a model of `transformers`, or its name on the hub, which `transformers` fetches itself.

    What is ``needed`` is the hint of its errors.
    """
    path = _path_or_hub_name(path_or_id, needed)
    if path.is_dir() and not (path / CONFIG).is_file():
        raise EncoderError(f"not a model folder: no {CONFIG} in it", where=str(path_or_id), hint=needed)
    if path.is_file():
        raise EncoderError("not a model folder but a file", where=str(path_or_id), hint=needed)
    return str(path)


def is_other_model(path_or_id: str | Path) -> bool:
    """Whether it is a model of `transformers` of another kind than SAM3, by its `config.json`."""
    kind = model_kind(path_or_id)
    return kind is not None and not kind.startswith("sam3")


def model_kind(path_or_id: str | Path) -> str | None:
    """The ``model_type`` of a model of `transformers`, such as "sam3"; None for what has no `config.json`."""
    path = _path_or_hub_name(path_or_id, NEEDED)
    file = path / CONFIG
    if not path.exists():
        with one_line_errors(path_or_id, NEEDED, NOT_FOUND):
            from huggingface_hub import hf_hub_download

            file = Path(hf_hub_download(str(path_or_id), CONFIG))
    if not file.is_file():
        return None
    try:
        kind = read_json(file).get("model_type")
    except (ValueError, AttributeError) as error:
        raise EncoderError("not a configuration of transformers", where=str(file), hint=AGAIN) from error
    return kind if isinstance(kind, str) else None


@contextmanager
def one_line_errors(where: str | Path, needed: str, what: str = "cannot load the model") -> Iterator[None]:
    """Raise an `EncoderError` of one line for whichever exception `transformers` or the hub's client chose."""
    try:
        from huggingface_hub.errors import GatedRepoError, StrictDataclassError
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingExtraError("a model of the Hugging Face hub", "sam3") from error
    try:
        yield
    except (
        AttributeError, ImportError, KeyError, OSError, RuntimeError, SafetensorError, StrictDataclassError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        if isinstance(error, GatedRepoError) or isinstance(error.__cause__, GatedRepoError):
            raise EncoderError("the model is gated", where=str(where), hint=GATED.format(where)) from error
        first = first_line(error).rstrip(" .:")
        raise EncoderError(f"{what} ({first})", where=str(where), hint=needed) from error


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


def _path_or_hub_name(path_or_id: str | Path, needed: str) -> Path:
    """The path of what is here, or a hub name as a path; what can only be a path, and is not there, is refused."""
    name = str(path_or_id)
    path = shipped_folder(name) or Path(name).expanduser()
    looks_like_path = path.is_absolute() or name.startswith((".", "~")) or path.suffix in FILE_SUFFIXES
    if not path.exists() and (looks_like_path or len(path.parts) not in (1, 2)):
        raise EncoderError("no such file or folder", where=name, hint=needed)
    if not path.exists():
        _ask_hub(name, needed)
    return path


@cache
def _ask_hub(name: str, needed: str) -> None:
    """Refuse a name that the hub does not give, at its first answer: its clients would try again for half a minute."""
    near = get_close_matches(name, KNOWN, 1, 0.7)
    meant = f"did you mean '{near[0]}'? " if near and near[0] != name else ""
    if near and "/" not in name:
        raise EncoderError("no such file, folder or model", where=name, hint=meant.strip())
    with one_line_errors(name, needed):
        import huggingface_hub as hub
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
    try:
        if hub.try_to_load_from_cache(name, CONFIG) is None:  # neither there nor known to be missing
            hub.get_hf_file_metadata(hub.hf_hub_url(name, CONFIG), timeout=TIMEOUT)
    except hub.errors.GatedRepoError as error:
        raise EncoderError("the model is gated", where=name, hint=GATED.format(name)) from error
    except EntryNotFoundError:  # a model without a configuration, which whoever needs one refuses
        return
    except (HFValidationError, RepositoryNotFoundError) as error:
        what = "neither a file or folder nor a model on the Hugging Face hub"
        raise EncoderError(what, where=name, hint=f"{meant}{needed}; {WITHOUT_WEIGHTS}") from error
    except Exception as error:  # of the connection, in whichever package the hub's client uses for it
        what = "not on this machine, and the Hugging Face hub was not reached"
        get = GATED.format(name) if name.startswith("facebook/") else "check the name and the connection"
        raise EncoderError(what, where=name, hint=f"{meant}{get}; {WITHOUT_WEIGHTS}") from error
