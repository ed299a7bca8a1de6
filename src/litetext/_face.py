"""Public names that join several stages; prompts, encoders and folders are taken as users have them."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from litetext.errors import EncoderError, MissingExtraError, OptionError, check_names
from litetext.features import protocol
from litetext.sam3 import segmenter
from litetext.sam3.score_shift import find_calibration
from litetext.sam3.segmenter import SegmentOptions

if TYPE_CHECKING:
    import torch

    from litetext.auditing.run import AuditReport
    from litetext.checkpoints.load import Positions
    from litetext.distillation.recipe import DistillRecipe
    from litetext.distillation.validation import Host
    from litetext.export.compress import Student
    from litetext.features.compare import Fidelity
    from litetext.features.encode import Encoder
    from litetext.features.store import FeatureStore
    from litetext.prompts.corpus import Prompt, PromptCorpus
    from litetext.video.methods import Tracking

Progress = Callable[[str, float], None]


class TextEncoder(protocol.TextEncoder, Protocol):
    """What turns texts into features: a student, a teacher, a Hugging Face model, a bank, an exported program.

    It has ``name``, ``context_length``, ``width`` and ``encode(text or texts)``, which gives `TextFeatures`.
    """

    def __new__(cls, *names: Any, **_: Any) -> Self:
        """Of a class of the user's; this one has no instances."""
        if cls is TextEncoder:
            hint = f"TextEncoder.from_pretrained({', '.join(map(repr, names))})"
            raise OptionError("no encoder is made like this", hint=hint)
        return super().__new__(cls)

    @staticmethod
    def from_pretrained(
        path_or_id: str | Path,
        *,
        positions: "Positions" = "auto",
        context_length: int | None = None,
        dtype: "str | torch.dtype | None" = None,
        device: "str | torch.device | None" = None,
    ) -> "protocol.TextEncoder | Student":
        """Load any text encoder; a student has ``prune``, ``fold``, ``low_rank``, ``quantize`` and ``export``.

        Args:
            path_or_id: a checkpoint or its folder, a name on the Hugging Face hub, the name of a model in this package
                ("micro", "micro-student", ...), a prompt bank, or a folder that `litetext export` wrote.
            positions: how to make the position table fit the context length: "auto", "slice", "interpolate", "keep".
            context_length: tokens that the encoder reads; None: its own.
            dtype: what to compute in; None: float32.
            device: where; None: the CPU, or an accelerator where there is one.

        Raises:
            EncoderError: nothing there, or it cannot be loaded.
        """
        from litetext.export.runtime import is_served, open_served

        if is_served(str(path_or_id)):
            return open_served(str(path_or_id))
        if find_spec("torch") is None and positions == "auto" and context_length is None:
            from litetext.export.segment_runtime import shipped_text

            if (shipped := shipped_text(str(path_or_id))) is not None:
                return shipped  # type: ignore[no-any-return]
        from litetext.checkpoints.load import load_encoder
        from litetext.encoders.student import StudentEncoder
        from litetext.export.compress import Student

        options: Any = {"positions": positions, "context_length": context_length, "dtype": dtype, "device": device}
        encoder = load_encoder(path_or_id, **options)
        return Student.of(encoder) if isinstance(encoder, StudentEncoder) else encoder


class Segmenter(segmenter.Segmenter):
    """A SAM3 model and a text encoder that find every instance of a phrase in an image; see `from_pretrained`."""

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        text_encoder: Any = None,
        *,
        engine: str = "auto",
        video: bool = False,
        threads: int | None = None,
        calibrated: bool = True,
        **options: Any,
    ) -> Self:
        """Load a SAM3 model; its own text tower only if no text encoder is given.

        Args:
            model: a folder, a name on the Hugging Face hub, ``micro`` (the small model in this package), or a folder
                that `litetext export MODEL` wrote.
            text_encoder: an encoder, or what `TextEncoder.from_pretrained` takes: an exported folder or a bank too.
            engine: "torch", "onnx" or "openvino"; "auto": see `choose_engine`.
            video: load the model's tracker too, for ``track(..., method="tracker")``; PyTorch only.
            threads: that "onnx" or "openvino" computes with; None: one for each core.
            calibrated: shift scores as `litetext evaluate calibrate` found for this encoder, given by its path, in this
                model; the answer's attribute ``calibration`` says how.
            options: ``device``, ``dtype`` (PyTorch only) and ``options``, as `litetext.sam3.segmenter.Segmenter` has
                them; or what `SegmentOptions` has: ``threshold``, ``mask_threshold``, ``prompt_batch``.

        Raises:
            EncoderError: the model or the encoder cannot be loaded, or they do not fit together; no tracker in it.
            OptionError: an unknown engine, one that has no other device or dtype, or an unknown option.
        """
        own = list(asdict(SegmentOptions()))
        named = [name for name in inspect.signature(Segmenter.from_pretrained).parameters if name != "options"]
        check_names(options, [*named, "device", "dtype", "options", *own])
        changed = {name: options.pop(name) for name in own if name in options}
        options["options"] = replace(options.get("options") or SegmentOptions(), **changed)
        chosen = choose_engine(model, engine, video=video, device=options.get("device"), dtype=options.get("dtype"))
        found = None
        if calibrated and isinstance(text_encoder, str | Path | None):
            found = find_calibration(model, text_encoder, partial(warnings.warn, stacklevel=3))
        if chosen != "torch":
            from litetext.export.segment_runtime import open_segmenter, shipped_text

            programs = open_segmenter(model, chosen, threads)
            reader = shipped_text(str(text_encoder), threads) if isinstance(text_encoder, str | Path) else None
            return cls(programs, reader or _encoder(text_encoder), None, options["options"], found)
        if threads is not None:
            raise OptionError("threads of PyTorch", hint='set OMP_NUM_THREADS, or give engine="onnx"')
        encoder, options["calibration"] = _encoder(text_encoder), found
        if not video:
            return super().from_pretrained(model, encoder, **options)
        from litetext.micro.tracker_model import load_video_host
        from litetext.sam3.host import load_processor

        placed = {name: options.pop(name) for name in ("device", "dtype") if name in options}
        host = load_video_host(model, text_tower=encoder is None, **placed)
        return cls(host, encoder, load_processor(model, host), **options)

    def track(
        self,
        clip: Any = None,
        prompts: str | Iterable[str] = (),
        *,
        method: str = "auto",
        every: int = 1,
        start: int | str | None = None,
        stop: int | str | None = None,
        camera: int | None = None,
        threshold: float | None = None,
        options: Any = None,
    ) -> "Tracking":
        """Follow the things that phrases name through a clip: iterate over the answer for its `TrackedFrame`s.

        Memory does not grow with the length of the clip. While it runs, ``add`` and ``drop`` change the phrases.

        Args:
            clip: a video, GIF, WebP, folder or glob of frames, "-" for standard input, or an iterable of images.
            prompts: a phrase or several.
            method: "association", "tracker" (the model was loaded with ``video=True``), or "auto": association.
            every: take every Nth frame.
            start: the first frame: a number, or a time such as "12.5s" or "1:02.5".
            stop: the frame before which to end, in the same way.
            camera: the number of a camera, instead of a clip.
            threshold: things are followed from a detection with a higher score on; None: as the method has it.
            options: `AssociationOptions` or `TrackerOptions`, instead of a threshold.

        Raises:
            ImageError: not a clip.
            OptionError: what makes no sense, no phrase at all among it.
            EncoderError: "tracker", and there is none in the model.
        """
        from litetext.video.frames import open_clip
        from litetext.video.methods import Tracking, make_tracker

        frames = open_clip(clip, every=every, start=start, stop=stop, camera=camera)
        return Tracking(frames, make_tracker(self, prompts, method, threshold=threshold, options=options))


class SegmentRuntime(Segmenter):
    """A `Segmenter` of programs, which needs no PyTorch; see `open`."""

    @classmethod
    def open(cls, path: str | Path, text_encoder: Any = None, *, engine: str | None = None, **options: Any) -> Self:
        """Open what `litetext export MODEL` wrote, once its checksums are right, or ``micro``.

        Args:
            path: the folder, or one of a SAM3 checkpoint whose programs come with this package.
            text_encoder: in place of the folder's own: an exported encoder, a bank, or any other encoder.
            engine: "onnx" or "openvino"; None: what it was exported for, else "onnx".
            options: ``threads`` and ``options``, as `Segmenter.from_pretrained` has them.

        Raises:
            EncoderError: no such folder, or a damaged one; an encoder of another width.
        """
        from litetext.export.segment_bundle import is_segment_bundle

        chosen = engine or ("auto" if is_segment_bundle(Path(path)) else "onnx")
        return cls.from_pretrained(path, text_encoder, engine=chosen, **options)


def choose_engine(
    model: str | Path, engine: str = "auto", *, video: bool = False, device: Any = None, dtype: Any = None
) -> str:
    """What runs a model: "torch", "onnx" or "openvino".

    "auto" is what an exported folder was exported for; ONNX Runtime for ``micro``, unless its tracker, another device
    or another dtype than float32 is asked for; PyTorch for any other model, or where it is not installed ONNX Runtime
    if programs for the model come with this package.

    Raises:
        OptionError: an unknown engine, or a device or dtype that only PyTorch has, with another.
        EncoderError: PyTorch, or a tracker, for an exported folder.
    """
    from litetext.export.programs import ENGINES
    from litetext.export.segment_bundle import is_segment_bundle, read_segment_bundle
    from litetext.export.segment_runtime import shipped_programs

    if engine not in ("auto", "torch", *ENGINES):
        raise OptionError(f"no engine is called '{engine}'", hint=f"give auto, torch, {' or '.join(ENGINES)}")
    exported = is_segment_bundle(Path(model))
    plain = not video and str(device or "auto") in ("auto", "cpu")
    plain = plain and str(dtype or "auto").removeprefix("torch.") in ("auto", "fp32", "float32")
    if exported and engine == "auto":
        engine = read_segment_bundle(Path(model)).target
    if exported and (engine == "torch" or video):
        what = "no tracker in an exported model" if video else "an exported model, which PyTorch does not run"
        raise EncoderError(what, where=str(model), hint="give the model that it was exported from")
    if engine == "auto":
        prefers = str(model) == "micro" or find_spec("torch") is None
        engine = "onnx" if plain and prefers and shipped_programs(model) is not None else "torch"
    elif engine != "torch" and not plain:
        what = "the tracker of a video model" if video else f"device '{device}' and dtype '{dtype}'"
        raise OptionError(f"{what} with the engine {engine}", hint="leave them out, or give the engine torch")
    return engine


def audit(
    prompts: "PromptCorpus | str | Path | Iterable[Prompt | Path | str]",
    *,
    text_encoder: "protocol.TextEncoder | str | Path | None" = None,
    student: "protocol.TextEncoder | str | Path | None" = None,
    model: Any = None,
    images: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> "AuditReport":
    """Measure what prompts use of a text encoder, and what size is enough.

    Args:
        prompts: a file, folder or pattern; `Path` objects; a list of strings, which are prompts; or a corpus.
        text_encoder: measures word order, and the geometry when no embeddings are given: an encoder, or what
            `TextEncoder.from_pretrained` takes.
        student: a text encoder, taken in the same way, whose error is followed through ``model`` on ``images``.
        model: a `Segmenter` in PyTorch with its own text encoder, or the name of one.
        images: an image, several, or tuples of an image and phrases of its own.
        progress: called with a stage's name and the share of it that is done, 0..1.
        options: ``contexts``, ``limit``, ``embeddings``, ``positions``, ``pairs``, ``sample``, ``discard``,
            ``neighbors`` and ``seed``, as `litetext.auditing.run.audit` has them.
    """
    from litetext.auditing.run import audit as measure

    _check_options(options, audit, measure)
    if isinstance(model, str | Path):
        model = Segmenter.from_pretrained(model, engine="torch")
    if isinstance(images, str | Path):
        images = [images]
    encoders = {"encoder": _encoder(text_encoder), "student": _encoder(student)}
    return measure(prompts, model=model, images=images, progress=progress, **encoders, **options)


def embed(
    prompts: "PromptCorpus | str | Path | Iterable[Prompt | Path | str]",
    teacher: "protocol.TextEncoder | str | Path",
    cache_dir: str | Path,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> "FeatureStore":
    """Compute a teacher's features of prompts once, into a store on disk; an interrupted run resumes.

    Args:
        prompts: a file, several, a list of phrases, or a corpus.
        teacher: an encoder, or what `TextEncoder.from_pretrained` takes.
        cache_dir: the folder of the store.
        progress: called with the stage and the share of it that is done, 0..1.
        options: ``dtype``, ``batch_tokens`` and ``shard_tokens``, as `litetext.features.embed.embed` has them.
    """
    _need_torch("embed")
    from litetext.features.embed import embed as fill_store
    from litetext.prompts.readers import as_corpus

    _check_options(options, embed, fill_store)
    return fill_store(as_corpus(prompts), _encoder(teacher), cache_dir, progress=progress, **options)


def distill(
    features: "FeatureStore | str | Path",
    *,
    output_dir: str | Path,
    device: "str | torch.device | None" = None,
    progress: Progress | None = None,
    **recipe: Any,
) -> "Student":
    """Train a student on a teacher's features; an interrupted run resumes.

    Args:
        features: what `embed` gave or wrote.
        output_dir: the folder of the run.
        device: where to train; None: the best that is there.
        progress: called with the stage and the share of it that is done, 0..1.
        recipe: keys of a recipe that differ from the defaults: ``preset="s0"``, ``context_length=16``, ``epochs=20``.
    """
    _need_torch("distill")
    from litetext.checkpoints.load import load_encoder
    from litetext.device import choose_device
    from litetext.distillation.recipe import DistillRecipe
    from litetext.distillation.train import train_student
    from litetext.distillation.training_report import STUDENT
    from litetext.export.compress import Student

    target = choose_device(device)
    whole = DistillRecipe.of(recipe | {"features": str(getattr(features, "path", features))})
    report = train_student(whole, Path(output_dir), open_host(whole, target), target, progress or (lambda *_: None))
    encoder: Any = load_encoder(report.path / STUDENT, device=target)
    return Student(encoder.module, encoder.name, report)


def open_host(recipe: "DistillRecipe", device: "torch.device") -> "Host | None":
    """The model that a recipe names for losses and validation; nothing is loaded of one that nothing needs."""
    from litetext.distillation.validation import Host

    name, gold = recipe.model, recipe.gold
    if not name:
        if gold:
            raise OptionError("pairs for validation, but no model that segments", hint="give a model")
        return None
    if not recipe.losses.kinds and not gold:
        return Host(name)
    from litetext.evaluation.labeled_pairs import GoldPairs, NullTextEncoder, score_encoder
    from litetext.features.store import FeatureStore
    from litetext.sam3.segmenter import Segmenter
    from litetext.sam3.text_projections import TextProjections

    paths = [Path(path) for path in recipe.images]
    pairs = GoldPairs.read([Path(path) for path in gold], paths) if gold else None  # before anything large is loaded
    segmenter = Segmenter.from_pretrained(
        name, NullTextEncoder(FeatureStore.open(recipe.features).width), device=device
    )
    projections = TextProjections(segmenter.detector) if recipe.losses.kinds else None
    figures = None if pairs is None else lambda encoder: score_encoder(segmenter, encoder, pairs).headline
    return Host(name, projections, figures)


def compare(reference: "Encoder | str | Path", other: "Encoder | str | Path", prompts: Any = None) -> "Fidelity":
    """Compare two encoders on the same phrases, token by token: what was trained against what is served.

    Args:
        reference: an encoder, or what `TextEncoder.from_pretrained` takes.
        other: another of the same width.
        prompts: as `embed` takes them; None: 1,000 phrases of the bundled corpus.
    """
    from litetext.features.compare import compare as compare_encoders
    from litetext.prompts.readers import as_corpus

    texts = None if prompts is None else as_corpus(prompts).texts
    return compare_encoders(_encoder(reference), _encoder(other), texts)


def _need_torch(function: str) -> None:
    if find_spec("torch") is None:
        raise MissingExtraError(f"litetext.{function}", "sam3")


def _check_options(options: Iterable[str], *functions: Callable[..., Any]) -> None:
    """Refuse options that are keywords of none of the functions; ``encoder`` is called ``text_encoder`` here."""
    signatures = [inspect.signature(function).parameters.values() for function in functions]
    known = [one.name for each in signatures for one in each if one.kind is one.KEYWORD_ONLY]
    check_names(options, [name for name in dict.fromkeys(known) if name != "encoder"])


def _encoder(encoder: Any) -> Any:
    return TextEncoder.from_pretrained(encoder) if isinstance(encoder, str | Path) else encoder
