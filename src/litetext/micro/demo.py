"""The demo: audit, a student distilled live, pictures, clips and scores with teacher and student, and one page.

Without PyTorch nothing is distilled, and the student is the one that comes with the package.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import groupby, islice
from pathlib import Path
from shlex import quote
from shutil import copyfile
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from PIL import Image

from litetext.auditing.figures import draw_figures, draw_sizes
from litetext.auditing.rendering import write_report
from litetext.auditing.run import AuditReport, audit
from litetext.checkpoints.hub import SHIPPED
from litetext.checkpoints.inspection import measure_encoder
from litetext.errors import MissingExtraError
from litetext.evaluation.cgf1 import Progress, match
from litetext.evaluation.veval import compare_masks
from litetext.evaluation.veval_files import Masklet
from litetext.export.segment_runtime import open_segmenter, shipped_text
from litetext.micro.clips import Clip, Plot, make_clip
from litetext.micro.evaluation import MicroScores, evaluate_pairs, label_clip, overlaps
from litetext.micro.phrases import Pair, make_pairs, sample_phrases
from litetext.micro.scenes import SceneOptions
from litetext.pages import page_environment
from litetext.prompts.corpus import Prompt, PromptCorpus, bundled_corpus
from litetext.sam3.drawing import draw_masks, palette
from litetext.sam3.segmenter import Segmenter
from litetext.storage import atomic_file, to_json, write_text
from litetext.video.masklets import Totals, read_masklets, to_record
from litetext.video.methods import make_tracker
from litetext.video.overlay import draw_tracked
from litetext.video.tracking import Frame, track_frames

if TYPE_CHECKING:
    from litetext.distillation.training_report import DistillReport

FIGURES = 2  # of the audit, on the page itself
FEW = 600  # phrases that int8 is calibrated on
FOUND = 0.5  # IoU from which a mask, or a masklet, counts as found
FRAME_MS = 120  # that a frame of a clip is shown
OWN, SHIPPED_STUDENT = "its own text encoder", "student of the package"
Named = tuple[str, str, Segmenter]  # a segmenter with one of the text encoders: what to call that, and its spec


@dataclass(frozen=True)
class DemoOptions:
    """How much is shown.

    Attributes:
        model: what segments, as `Segmenter.from_pretrained` takes it.
        pictures: pictures on the page.
        size: pixels a side of these; the model reads what its processor makes of them.
        pairs: (picture, phrase) pairs that are scored, at the model's own size.
        plots: of the clips on the page.
        frames: of each clip; None: as many as its plot has.
        seed: of the pictures, pairs and clips, all of the test split.
        preset: size of the student.
        phrases: of the micro world, that it learns from.
        out_of_domain: of these, how many name nothing of it.
        epochs: passes over the phrases.
    """

    model: str = "micro"
    pictures: int = 8
    size: int = 320
    pairs: int = 300
    plots: tuple[Plot, ...] = ("crossing", "returning")
    frames: int | None = None
    seed: int = 2
    preset: str = "micro-s"
    phrases: int = 10_000
    out_of_domain: int = 600
    epochs: int = 16


@dataclass(frozen=True)
class Answer:
    """Of a phrase, how many instances it names, how many masks or masklets came out, and how many are right."""

    phrase: str
    instances: int
    masks: int
    right: int

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.instances:
            return "absent, and nothing found" if not self.masks else f"absent, but {self.masks} found"
        wrong = self.masks - self.right
        return f"{self.right} of {self.instances} found" + (f", {wrong} wrong" if wrong else "")

    @property
    def is_perfect(self) -> bool:
        """Whether nothing is missing and nothing is wrong."""
        return self.instances == self.masks == self.right


@dataclass(frozen=True, eq=False)
class Contestant:
    """A text encoder, its number of parameters, token table included, their bytes, and the model's scores with it."""

    name: str
    parameters: int
    bytes: int
    scores: MicroScores

    def kept(self, teacher: "Contestant") -> float | None:
        """Percent of the teacher's cgF1; None if that is 0."""
        whole = teacher.scores.overall.cgf1
        return 100 * self.scores.overall.cgf1 / whole if whole else None


@dataclass(frozen=True, eq=False)
class Followed:
    """The answers to the phrases of each clip with a text encoder, and the milliseconds that tracking a frame took."""

    name: str
    answers: tuple[list[Answer], ...]
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """How many masklets there are, were found, and are right."""
        every = [answer for answers in self.answers for answer in answers]
        counts = {name: sum(getattr(one, name) for one in every) for name in ("instances", "masks", "right")}
        return {"name": self.name, **counts, "milliseconds_a_frame": self.milliseconds}


@dataclass(frozen=True, eq=False)
class DemoReport:
    """What a demo found.

    Attributes:
        page: to open in a browser.
        contestants: the model's own text encoder, the student distilled live, where PyTorch is installed, the one of
            the package, if it fits, and the first of these pruned and in int8.
        shots: for each picture on the page, with the teacher and with the first student: its file and the answers.
        clips: for each clip on the page, the files of the animations with the teacher and with the first student.
        followed: what was found in these by the teacher and by the first student.
        distilled: how the student was trained; None without PyTorch.
        audit: of the bundled corpus.
    """

    page: Path
    contestants: tuple[Contestant, ...]
    shots: tuple[tuple[tuple[str, list[Answer]], ...], ...]
    clips: tuple[tuple[str, ...], ...]
    followed: tuple[Followed, ...]
    distilled: "DistillReport | None"
    audit: AuditReport

    @property
    def scores(self) -> MicroScores:
        """Of the model with its own text encoder."""
        return self.contestants[0].scores

    @property
    def verdict(self) -> str:
        """What the first student keeps, in a sentence."""
        teacher, student, *_ = self.contestants
        kept = student.kept(teacher)
        quality = "something of cgF1, where the model's own had none" if kept is None else f"{kept:.1f} % of cgF1"
        return (
            f"A text encoder of {student.parameters / 1e6:.2f} M parameters in place of one of "
            f"{teacher.parameters / 1e6:.2f} M keeps {quality} on {len(self.scores.counts)} pairs it was never shown."
        )

    def to_json(self) -> dict[str, Any]:
        """The scores, and where the page is."""
        teacher, *others = self.contestants
        students = [
            {"name": one.name, "parameters": one.parameters, "cgf1": one.scores.overall.cgf1, "kept": one.kept(teacher)}
            for one in others
        ]
        own = {"page": str(self.page), "pictures": len(self.shots), "parameters": teacher.parameters}
        clips = [one.to_json() for one in self.followed]
        return own | self.scores.to_json() | {"students": students, "clips": clips}


def run_demo(folder: Path, options: DemoOptions, progress: Progress) -> DemoReport:
    """Audit the bundled prompts, distill a student, segment pictures and follow clips, score, and write a page.

    The folder gets ``index.html``, ``pictures/``, ``clips/``, ``student/``, ``audit/`` and ``scores.json``. Without
    PyTorch there is no ``student/``: that of the package stands in for it.

    Raises:
        MissingExtraError: another model than micro, and PyTorch is not installed.
    """
    is_live = all(map(find_spec, ("torch", "transformers")))
    if not is_live and options.model != "micro":
        raise MissingExtraError("a demo of another model than micro", "sam3")
    progress("auditing", 0.0)
    report = audit(bundled_corpus())
    audited = write_report(report, folder / "audit")
    progress("auditing", 1.0)
    distilled = None
    if is_live:
        named, side, distilled = _open_live(folder, options, progress)
    else:
        named, side = _open_shipped()
    shots = tuple(_shots([one for _, _, one in named[:2]], folder, options, progress))
    clips, followed = _follow_clips([(name, one) for name, _, one in named[:2]], folder, options, progress)
    pairs = list(make_pairs(options.seed + 1, options.pairs, SceneOptions(size=side, split="test")))
    contestants = [_judge(name, spec, one, pairs, progress) for name, spec, one in named]
    demo = DemoReport(folder / "index.html", tuple(contestants), shots, clips, followed, distilled, report)
    write_text(folder / "scores.json", to_json(demo.to_json()))
    write_text(demo.page, _render(demo, audited.relative_to(folder).as_posix()))
    return demo


def _render(demo: DemoReport, audited: str) -> str:
    """The page; ``audited`` is the address of that of the audit."""
    teacher = demo.contestants[0]
    contestants = []
    for one in demo.contestants:
        kept = one.kept(teacher)
        sizes = [f"{one.parameters / 1e6:.2f} M", f"{one.bytes / 1e6:.2f}"]
        share = "–" if kept is None else f"{kept:.1f} %"
        contestants.append([one.name, *sizes, f"{one.scores.overall.cgf1:.1f}", share])
    followed = [
        [row["name"], row["instances"], row["right"], row["masks"] - row["right"], f"{row['milliseconds_a_frame']:.0f}"]
        for row in (one.to_json() for one in demo.followed)
    ]
    student = quote(str(demo.page.parent / "student/student.safetensors")) if demo.distilled else "micro-student"
    template = page_environment("litetext.micro").get_template("demo.html")
    return template.render(
        demo=demo,
        audited=audited,
        figures=list(islice(draw_figures(demo.audit), FIGURES)),
        sizes=draw_sizes([(one.name, one.bytes, one.scores.overall.cgf1) for one in demo.contestants]),
        colors=["#{:02x}{:02x}{:02x}".format(*color) for color in palette()],
        sides=[one.name for one in demo.followed],
        contestants=contestants,
        followed=followed,
        student=student,
    )


def _open_shipped() -> tuple[list[Named], int]:
    """The micro model in ONNX Runtime with its own text encoder and its student, and the pixels a side it reads."""
    engine = open_segmenter("micro")
    teacher = Segmenter(engine)
    shipped = teacher.with_encoder(shipped_text("micro-student"))
    return [(OWN, "micro", teacher), (SHIPPED_STUDENT, "micro-student", shipped)], engine.bundle.size[0]


def _open_live(folder: Path, options: DemoOptions, progress: Progress) -> "tuple[list[Named], int, DistillReport]":
    """The model in PyTorch with its own text encoder, a student that is distilled, the package's, and a small one."""
    from litetext.checkpoints.load import load_encoder
    from litetext.distillation.training_report import STUDENT
    from litetext.export.compress import Student

    teacher, file = Segmenter.from_pretrained(options.model), folder / "student" / STUDENT
    distilled = _distill(file.parent, teacher, options, progress)
    named = [(OWN, options.model, teacher)]
    named += [("student, distilled just now", str(file), teacher.with_encoder(load_encoder(file)))]
    if options.model in SHIPPED:
        shipped = f"{options.model}-student"
        named += [(SHIPPED_STUDENT, shipped, teacher.with_encoder(load_encoder(shipped)))]
    phrases = sample_phrases(0, options.phrases, options.out_of_domain)
    small, file = (
        Student.of(named[1][2].encoder).prune(phrases).quantize("int8", phrases[:FEW]),
        file.with_name("small.safetensors"),
    )
    small.save(file)
    named += [("student, pruned, int8", str(file), teacher.with_encoder(small))]
    return named, teacher.processor.size["height"], distilled


def _distill(folder: Path, host: Segmenter, options: DemoOptions, progress: Progress) -> "DistillReport":
    """Embed phrases with a host's own text encoder, and distill a student that the host can read."""
    from litetext.distillation.losses import LossWeights
    from litetext.distillation.recipe import DistillRecipe
    from litetext.distillation.train import train_student
    from litetext.distillation.training_report import CARD, PICTURE, STUDENT
    from litetext.distillation.validation import Host
    from litetext.features.embed import embed
    from litetext.sam3.text_projections import TextProjections

    texts = sample_phrases(0, options.phrases, options.out_of_domain)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        cache, run = Path(name, "features"), Path(name, "run")
        embed(PromptCorpus.build(map(Prompt, texts)), host.encoder, cache, progress=progress)
        recipe = DistillRecipe(
            features=str(cache),
            preset=options.preset,
            model="micro",
            losses=LossWeights(consistency=0.0, keys=1.0, values=1.0, scoring=1.0),  # consistency takes too long here
            epochs=options.epochs,
            batch_size=128,
            lr=6e-3,
            weight_decay=0.0,
            ema_decay=0.98,
            validation_phrases=400,
            monitor="loss",
            patience=0,
        )
        report = train_student(recipe, run, Host("micro", TextProjections(host.detector)), progress=progress)
        for file in (STUDENT, PICTURE, CARD):
            copyfile(run / file, folder / file)
    return report


def _judge(name: str, spec: str, segmenter: Segmenter, pairs: Sequence[Pair], progress: Progress) -> Contestant:
    """Score a text encoder on pairs."""
    scores = evaluate_pairs(segmenter, pairs, lambda _, done: progress(f"scoring: {name}", done / len(pairs)))
    size = measure_encoder(spec, segmenter.encoder)
    return Contestant(name, size.parameters, size.bytes, scores)


def _shots(
    segmenters: Sequence[Segmenter], folder: Path, options: DemoOptions, progress: Progress
) -> Iterator[tuple[tuple[str, list[Answer]], ...]]:
    """Segment and draw each picture with each segmenter: two phrases that are there, a hard one, an absent one."""
    pairs = make_pairs(options.seed, 6 * options.pictures, SceneOptions(size=options.size, split="test"))
    for number, group in groupby(pairs, key=lambda pair: pair.picture):
        every = list(group)
        chosen = [
            pair
            for kind, count in (("present", 2), ("hard", 1), ("absent", 1))
            for pair in [pair for pair in every if pair.phrase.kind == kind][:count]
        ]
        names = f"pictures/{number:02d}.png", f"pictures/{number:02d}-student.png"
        yield tuple(
            (name, _segment(segmenter, chosen, folder / name))
            for segmenter, name in zip(segmenters, names, strict=True)
        )
        progress("segmenting", (number + 1) / options.pictures)


def _segment(segmenter: Segmenter, pairs: Sequence[Pair], path: Path) -> list[Answer]:
    """Segment one picture, and draw its masks; the page says in words what they are of."""
    pixels = pairs[0].scene.pixels
    found = segmenter(pixels, [pair.phrase.text for pair in pairs])
    with atomic_file(path) as file:
        colors = [number for number, masks in enumerate(found) for _ in masks.masks]
        drawn = draw_masks(Image.fromarray(pixels), [mask for masks in found for mask in masks.masks], colors)
        drawn.save(file, "PNG")
    right = [int((match(overlaps(masks.masks, pair)) >= FOUND).sum()) for masks, pair in zip(found, pairs, strict=True)]
    return [
        Answer(pair.phrase.text, len(pair.phrase.indices), len(masks), count)
        for pair, masks, count in zip(pairs, found, right, strict=True)
    ]


def _follow_clips(
    named: Sequence[tuple[str, Segmenter]], folder: Path, options: DemoOptions, progress: Progress
) -> tuple[tuple[tuple[str, ...], ...], tuple[Followed, ...]]:
    """Follow the phrases of each clip with each segmenter, and draw what they found."""
    names, segmenters = zip(*named, strict=True)
    files: list[tuple[str, ...]] = []
    answers: list[list[list[Answer]]] = [[] for _ in segmenters]
    seconds, frames = [0.0] * len(segmenters), 0
    for plot in options.plots:
        clip = make_clip(options.seed, plot, size=options.size, length=options.frames, split="test")
        files.append((f"clips/{plot}.webp", f"clips/{plot}-student.webp"))
        for place, segmenter in enumerate(segmenters):
            progress("tracking", (len(files) - 1 + place / len(segmenters)) / len(options.plots))
            drawn, answer, took = _follow(segmenter, clip)
            _animate(drawn, folder / files[-1][place])
            answers[place].append(answer)
            seconds[place] += took
        frames += len(clip)
    progress("tracking", 1.0)
    rows = zip(names, answers, seconds, strict=True)
    return tuple(files), tuple(Followed(name, tuple(every), 1000 * took / frames) for name, every, took in rows)


def _follow(segmenter: Segmenter, clip: Clip) -> tuple[list[Image.Image], list[Answer], float]:
    """Follow the phrases of a clip: its frames with what was found, an answer a phrase, and the seconds of tracking."""
    tracker = make_tracker(segmenter, [phrase.text for phrase in clip.phrases])
    frames = [Frame(number, number * FRAME_MS / 1000, pixels) for number, (pixels, _) in enumerate(clip)]
    begun = perf_counter()
    tracked = list(track_frames(tracker, frames))
    seconds = perf_counter() - begun
    places = {phrase.text: place for place, phrase in enumerate(clip.phrases)}
    records, totals = [to_record(one, places) for one in tracked], Totals(list(places))
    for record in records:
        totals.add(record)
    masklets, truths = list(read_masklets(partial(iter, records), totals)), label_clip(clip, 0, clip.plot).truths
    answers = []
    for text, place in places.items():
        found = [Masklet.of(one.masks) for one in masklets if one.prompt == text]
        ious, _ = compare_masks(truths[place], found)
        answers.append(Answer(text, len(truths[place]), len(found), int((match(ious) >= FOUND).sum())))
    return [draw_tracked(frame.pixels, one) for frame, one in zip(frames, tracked, strict=True)], answers, seconds


def _animate(frames: Sequence[Image.Image], path: Path) -> None:
    """Write frames as a WebP that repeats itself."""
    with atomic_file(path) as file:
        frames[0].save(
            file, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=70, method=2
        )
