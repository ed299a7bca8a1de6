"""Options that several commands share, and what they open: prompts, encoders, and the SAM3 model around an encoder."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from litetext.cli._output import echo
from litetext.errors import MissingExtraError, OptionError, shortened

if TYPE_CHECKING:
    from litetext.checkpoints.inspection import EncoderSize
    from litetext.features.protocol import TextEncoder
    from litetext.prompts.corpus import PromptCorpus
    from litetext.sam3.score_shift import Calibration
    from litetext.sam3.segmenter import Segmenter, SegmentOptions

PATH, PATH_OR_HUB = "PATH", "PATH|HF_ID"
MODEL_HELP = "SAM3 model: a folder, exported or not, a name on the Hugging Face hub, or micro: the small one in here."
TRUTHS_HELP = "Ground truth of an annotator (COCO JSON); of several: --gt A B C, or A,B,C, or --gt again."
_READING_LINES = 12
# What people write between phrases: commas (not those in 1,000), semicolons, strokes, and full stops as Grounding DINO
# has them (not those in "St. Bernard").
_BETWEEN = re.compile(r"(?<!\d),|,(?!\d)|[;|/]|\s\.\s|\.\s+(?=.+\.\s*$)")
_PHRASE_LINES = 3  # of hints and warnings about phrases


def option(help_text: str, *names: str, metavar: str | None = None, **more: Any) -> Any:
    """An option, with the help first."""
    return typer.Option(*names, help=help_text, metavar=metavar, **more)


def argument(help_text: str, *, metavar: str) -> Any:
    """An argument, with the help first."""
    return typer.Argument(help=help_text, metavar=metavar)


# Choices, as their functions have them; written here so that --help imports none of those.
PositionTable = Literal["auto", "slice", "interpolate", "keep"]
ComputeDtype = Literal["auto", "fp32", "bf16", "fp16"]
Split = Literal["train", "validation", "test"]
TrackMethod = Literal["auto", "association", "tracker"]
EngineChoice = Literal["auto", "torch", "onnx", "openvino"]

Sources = Annotated[
    list[str] | None,
    argument(
        "Phrases, as `litetext audit` reads them: FILE, FILE:column=NAME, ... None: the bundled corpus.",
        metavar="SOURCE",
    ),
]
Phrases = Annotated[list[str] | None, option("What to find; may be repeated.", "-p", "--prompt", metavar="PHRASE")]
PhraseSources = Annotated[
    list[str] | None, option("Phrases, as `litetext audit` reads them; may be repeated.", "--prompts", metavar="SOURCE")
]
Format = Annotated[str | None, option("Read every source as this format.", "--format", metavar="NAME")]
Column = Annotated[str | None, option("Column or field with the text, of all sources that have any.", metavar="NAME")]
OutputFile = Annotated[Path, option("The file to write.", "-o", "--output", metavar="FILE")]
OutputFolder = Annotated[Path, option("The folder to write.", "-o", "--output", metavar="DIR")]
Model = Annotated[str, option(MODEL_HELP, metavar=PATH_OR_HUB)]
TextEncoderOption = Annotated[
    str | None,
    option("Encoder, exported or not, or bank in place of the model's own.", "--text-encoder", metavar=PATH_OR_HUB),
]
Fallback = Annotated[str | None, option("Encoder for phrases missing from the bank.", metavar=PATH_OR_HUB)]
StudentArgument = Annotated[str, argument("A student, as `litetext inspect` takes it.", metavar="STUDENT")]
Positions = Annotated[PositionTable, option("Position table of the encoder.")]
ContextLength = Annotated[int | None, option("Tokens that the encoder reads. Default: its own.")]
Device = Annotated[str, option("Where to compute; cuda:N for one of several.", metavar="auto|cpu|cuda|mps")]
Dtype = Annotated[ComputeDtype, option("What to compute in; auto: float32.")]
Engine = Annotated[
    EngineChoice, option("What runs the model; auto: ONNX Runtime for exported models and micro, else PyTorch.")
]
Seed = Annotated[int, option("The same seed gives the same result.")]
NoCalibration = Annotated[
    bool, option("Take scores as they are, whatever `litetext evaluate calibrate` found.", "--no-calibration")
]
Ray = Annotated[
    str | None,
    option(
        "Work on a Ray cluster: HOST:PORT, auto (this machine's), or one that is started here.",
        "--ray",
        metavar="[ADDRESS]",
    ),
]
Workers = Annotated[int | None, option("Actors of --ray, 1 or more. Default: one for each GPU, or CPU.", metavar="N")]
Truths = Annotated[list[str] | None, option(TRUTHS_HELP, "--gt", metavar="FILE")]
MoreTruths = Annotated[list[str] | None, argument("Ground truth of more annotators.", metavar="FILE")]
Plots = Annotated[
    list[str] | None,
    option("What happens in clips: ordinary, crossing, ...; may be repeated.", "--plot", metavar="PLOT"),
]
Method = Annotated[TrackMethod, option("How; auto: association. tracker needs a video model.")]
VideoFolders = Annotated[list[Path] | None, option("Where file_names start; may be repeated.", metavar="DIR")]
PictureFolders = Annotated[list[Path] | None, option("Where a file_name starts; may be repeated.", metavar="DIR")]


def read_corpus(
    sources: Sequence[str] | None, file_format: str | None = None, column: str | None = None, counts: str | None = None
) -> "PromptCorpus":
    """The prompts of the sources, or the bundled corpus where none is named; guesses go to standard error."""
    from litetext.prompts.corpus import PromptCorpus, bundled_corpus
    from litetext.prompts.readers import ReadOptions, read_prompts

    options = ReadOptions(file_format, column, counts)
    if not sources:
        return bundled_corpus()
    read_as, warnings = dict[str, str](), dict[str, str]()
    corpus = PromptCorpus.build(read_prompts(sources, options, read_as, warnings), read_as, warnings)
    tell_reading(read_as, warnings)
    return corpus


def tell_reading(read_as: Mapping[str, str], warnings: Mapping[str, str]) -> None:
    """One line for all sources that were read in one way, none where nothing was guessed; and the warnings."""
    from litetext.prompts.readers import FORMATS

    names: dict[str, list[str]] = {}
    for name, reading in read_as.items():
        if reading not in FORMATS:
            names.setdefault(reading, []).append(name)
    for reading, (first, *others) in list(names.items())[:_READING_LINES]:
        echo(f"{first}{f' and {len(others)} more' if others else ''}: {reading}", err=True)
    if len(names) > _READING_LINES:
        echo(f"... and {len(names) - _READING_LINES} other ways to read sources (see litetext audit --json)", err=True)
    for name, warning in list(warnings.items())[:_READING_LINES]:
        echo(f"warning: {name}: {warning}", err=True)


def choose_phrases(
    phrases: Sequence[str] | None, sources: Sequence[str] | None, model: str, text_encoder: str | None
) -> list[str]:
    """What to look for: phrases as typed, then those of sources; without either all that a bank has, which is told."""
    if phrases or sources:
        chosen = [*(phrases or ()), *(read_corpus(sources).texts if sources else ())]
        hint_at_lists(chosen)
        return chosen
    from litetext.export.segment_bundle import BANK
    from litetext.features.bank import PromptBank
    from litetext.features.store import is_bank

    bank = str(Path(model) / BANK) if text_encoder is None else text_encoder
    if not is_bank(bank):
        raise typer.BadParameter("give -p PHRASE, or --prompts SOURCE for a list", param_hint="'-p' / '--prompt'")
    found = list(PromptBank.open(bank).phrases)
    echo(f"no phrase was given: all {len(found):,} of {bank} are looked for", err=True)
    return found


def hint_at_lists(prompts: Sequence[str]) -> None:
    """Refuse a file that is given as a phrase; say on standard error where a phrase looks like several, or like one."""
    from litetext.prompts.readers import format_of_name
    from litetext.storage import names_file

    hints = []
    for prompt in prompts:
        name, parts = prompt.removeprefix("@"), [part.strip() for part in _BETWEEN.split(prompt) if part.strip(" .")]
        looks_like_a_file = name != prompt or format_of_name(name) is not None
        if names_file(name) or (looks_like_a_file and os.path.isfile(name)):  # noqa: PTH113 - as in `names_file`
            hint = f"for the phrases in it: --prompts {shortened(name)}"
            raise OptionError("a file where a phrase is to be", where=f"-p {prompt}", hint=hint)
        if looks_like_a_file:
            hints.append(f"'{shortened(prompt)}' is looked for as a phrase; for a file: --prompts FILE")
        elif len(parts) > 1:
            listed = " ".join(f"-p '{part}'" for part in parts)
            hints.append(f"'{shortened(prompt)}' is one phrase; for several (or a line each): {shortened(listed)}")
    _tell_of_phrases("hint", hints, "look like that")


def warn_of_phrases(prompts: Sequence[str], encoder: "TextEncoder") -> None:
    """Say on standard error which phrases the encoder reads the beginning of only, or whose words it does not have."""
    from litetext.tokenizer.bpe import clip_tokenizer

    encoder = getattr(encoder, "source", encoder)
    context, tokenizer = encoder.context_length, getattr(encoder, "text_tokenizer", clip_tokenizer())
    read = whole = clip_tokenizer().encode(prompts).lengths.tolist()
    if tokenizer is not clip_tokenizer():
        read = tokenizer.encode(prompts).lengths.tolist()
    listed = list(zip(prompts, whole, read, strict=True))
    faults = [
        f"only {context} of {own} tokens are read of '{shortened(one)}'" for one, _, own in listed if own > context
    ]
    faults += [
        f"words of '{shortened(one)}' are not among those of {encoder.name}, which is pruned: they are read in pieces"
        for one, clip, own in listed
        if own > clip
    ]
    _tell_of_phrases("warning", faults, "are too long or have such words")


def _tell_of_phrases(kind: str, lines: Sequence[str], others: str) -> None:
    """The first lines on standard error, and how many other phrases are like them."""
    for line in lines[:_PHRASE_LINES]:
        echo(f"{kind}: {line}", err=True)
    if len(lines) > _PHRASE_LINES:
        echo(f"{kind}: {len(lines) - _PHRASE_LINES} other phrases {others}", err=True)


def split_files(specs: Sequence[str]) -> list[Path]:
    """The files of every ``A,B,C``; a file whose name has a comma is itself."""
    files: list[Path] = []
    for spec in specs:
        whole = Path(spec)
        files += [whole] if whole.exists() else [Path(part.strip()) for part in spec.split(",") if part.strip()]
    return files


def integers(text: str, name: str, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers of a comma-separated list."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"'{text}' is not a list of whole numbers", where=name, hint="for example 8,16") from None
    if count is not None and len(values) != count:
        raise OptionError(f"{len(values)} numbers where {count} are needed", where=name, hint="for example 10,20")
    return values


def open_encoder(
    spec: str,
    positions: PositionTable,
    context_length: int | None,
    device: str,
    dtype: str = "auto",
    engine: str | None = None,
) -> "TextEncoder":
    """A text encoder, exported or not, or a bank; those of this package run in ONNX Runtime with another engine.

    The engine of None is PyTorch, where it is installed.
    """
    from litetext.export.runtime import is_served, open_served

    if engine is None:
        engine = "onnx" if find_spec("torch") is None and device in ("auto", "cpu") else "torch"
    if engine != "torch" and positions == "auto" and context_length is None:
        from litetext.export.segment_runtime import shipped_text

        if (shipped := shipped_text(spec)) is not None:
            return shipped  # type: ignore[no-any-return]

    if is_served(spec):
        _refuse_positions(spec, positions, context_length)
        return open_served(spec)
    if find_spec("torch") is None:
        raise MissingExtraError("a text encoder that is not exported", "sam3")
    from litetext.checkpoints.load import load_encoder

    return load_encoder(spec, positions=positions, context_length=context_length, dtype=dtype, device=device)


def measure(spec: str, encoder: "TextEncoder") -> "EncoderSize":
    """The size of what `open_encoder` gave."""
    from litetext.checkpoints.inspection import EncoderSize, measure_encoder
    from litetext.features.encode import AsTextEncoder

    if isinstance(encoder, AsTextEncoder):
        return EncoderSize(spec, encoder.parameters, encoder.bytes)
    return measure_encoder(spec, encoder)


def check_workers(
    ray: str | None,
    workers: int | None,
    needed: object = True,
    lacking: str = "no place for the parts",
    hint: str = "give -o DIR, on storage that all nodes see",
) -> bool:
    """Whether a command is to run on a cluster; then what is needed there must not be None."""
    if ray is None:
        if workers is not None:
            raise OptionError("workers without a cluster", where=f"--workers {workers}", hint="give --ray")
        return False
    if needed is None:
        raise OptionError(lacking, where="--ray", hint=hint)
    return True


@contextmanager
def _without_torchao() -> Iterator[None]:
    """Let transformers believe that torchao is not installed: it takes half a second to import, for nothing."""
    if "torchao" in sys.modules:
        yield
        return
    sys.modules["torchao"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torchao"]
        if sys.modules.get("transformers") is not None:
            from transformers.utils.import_utils import is_torchao_available

            is_torchao_available.cache_clear()


@dataclass(frozen=True)
class ModelChoice:
    """A SAM3 model and its text encoder, as the command line names them.

    ``positions`` and ``context_length`` are of ``text_encoder``, or of ``fallback`` where that is a bank.
    """

    model: str
    text_encoder: str | None = None
    positions: PositionTable = "auto"
    context_length: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    fallback: str | None = None
    engine: str = "auto"
    threads: int | None = None
    no_calibration: bool = False

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if self.text_encoder is None and (self.context_length is not None or self.positions != "auto"):
            raise OptionError("a context length or positions without a text encoder", hint="give --text-encoder")
        if self.fallback is not None and self.text_encoder is None:
            raise OptionError("--fallback without a prompt bank", where=self.fallback, hint="give --text-encoder BANK")

    def load(self, options: "SegmentOptions", phrases: Sequence[str] = (), *, video: bool = False) -> "Segmenter":
        """Load the encoder, if there is one, and the model around it; a bank without the phrases is refused before.

        ``video`` loads the model's tracker too.
        """
        from litetext._face import Segmenter, choose_engine

        placed: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        engine = choose_engine(self.model, self.engine, video=video, **placed)
        with _without_torchao():
            encoder = self._load_encoder(phrases, engine)
            placed |= {"engine": engine, "video": video, "threads": self.threads, "calibrated": False}
            segmenter = Segmenter.from_pretrained(self.model, encoder, options=options, **placed)
        segmenter.calibration = self.calibration
        return segmenter

    @cached_property
    def calibration(self) -> "Calibration | None":
        """What shifts the scores of this encoder in this model, which is told; None where nothing does."""
        from litetext.sam3.score_shift import find_calibration

        if self.no_calibration:
            return None
        tell = partial(echo, err=True)
        loaded = {"positions": self.positions, "context_length": self.context_length}
        found = find_calibration(self.model, self.text_encoder, tell, **loaded)
        if found is not None:
            tell(f"scores are calibrated: {found} (--no-calibration: as they are)")
        return found

    def on_an_actor(self, *, video: bool = False) -> "ModelChoice":
        """The same for an actor of a cluster, which has one core unless threads are given."""
        from litetext._face import choose_engine

        engine = choose_engine(self.model, self.engine, video=video, device=self.device, dtype=self.dtype)
        return self if engine == "torch" else replace(self, threads=self.threads or 1)

    def describe(self) -> dict[str, str]:
        """What predictions depend on, name by name; where they are computed is not among it."""
        from litetext.checkpoints.hub import name_source

        described = {"model": name_source(self.model), "dtype": self.dtype}
        if self.text_encoder is not None:
            described |= {
                "text_encoder": name_source(self.text_encoder),
                "positions": self.positions,
                "context_length": str(self.context_length),
            }
        if self.fallback is not None:
            described["fallback"] = name_source(self.fallback)
        if self.calibration is not None:
            described["shift"] = str(self.calibration)
        return described

    def _load_encoder(self, phrases: Sequence[str], engine: str) -> "TextEncoder | None":
        from litetext.export.runtime import is_served, open_served

        spec, fallback = self.text_encoder, self.fallback
        if spec is None:
            return None
        if not is_served(spec):
            if fallback is not None:
                raise OptionError("--fallback for what is no prompt bank", where=spec, hint="leave it out")
            return self._load(spec, engine)
        if fallback is None:
            _refuse_positions(spec, self.positions, self.context_length)
            return open_served(spec, asked=phrases)
        return open_served(spec, lambda: self._load(fallback, engine))

    def _load(self, spec: str, engine: str) -> "TextEncoder":
        return open_encoder(spec, self.positions, self.context_length, self.device, self.dtype, engine)


def _refuse_positions(spec: str, positions: PositionTable, context_length: int | None) -> None:
    if context_length is not None or positions != "auto":
        raise OptionError("a context length or positions for what has its own", where=spec, hint="leave them out")
