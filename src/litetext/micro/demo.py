"""The demonstration: audit, a student taught live, segmentation and scores with teacher and student, and one page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from litetext.auditing.figures import draw_figures
from litetext.auditing.rendering import write_report
from litetext.auditing.run import AuditReport, audit
from litetext.checkpoints.hub import SHIPPED
from litetext.checkpoints.inspection import measure_encoder
from litetext.checkpoints.load import load_encoder
from litetext.distillation.training_report import STUDENT, DistillReport
from litetext.micro.evaluation import MicroScores, evaluate_pairs, overlaps
from litetext.micro.live_distillation import Lesson, teach
from litetext.micro.phrases import Pair, make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.pages import page_environment
from litetext.prompts.bundled import bundled_corpus
from litetext.sam3.masks import Masks, draw_all
from litetext.sam3.segmenter import Segmenter
from litetext.storage import atomic_file, to_json, write_text

PAGE = "index.html"
_FIGURES = 2  # of the audit, on the page itself
_GOOD = 0.5  # IoU from which a mask counts as found

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class DemoOptions:
    """How much is shown.

    Attributes:
        model: what segments, as `Segmenter.from_pretrained` takes it.
        pictures: pictures on the page.
        size: pixels a side of these; the model reads what its processor makes of them.
        pairs: (picture, phrase) pairs that are scored, at the model's own size.
        seed: of the pictures and pairs, all of the test split.
        lesson: how the student is taught.
    """

    model: str = "micro"
    pictures: int = 8
    size: int = 320
    pairs: int = 300
    seed: int = 2
    lesson: Lesson = field(default_factory=Lesson)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was asked of a picture and what came of it.

    Attributes:
        phrase: the words.
        there: instances that the phrase names.
        found: masks that came out.
        right: those of them that lie on an instance of their own, IoU 0.5 or more.
    """

    phrase: str
    there: int
    found: int
    right: int

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.there:
            return "absent, and nothing found" if not self.found else f"absent, but {self.found} found"
        wrong = self.found - self.right
        return f"{self.right} of {self.there} found" + (f", {wrong} wrong" if wrong else "")

    @property
    def is_perfect(self) -> bool:
        """Whether nothing is missing and nothing too much."""
        return self.there == self.found == self.right


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture on the page with what one text encoder led to: its file and the answers to its phrases."""

    file: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class Contestant:
    """A text encoder, and the scores of the embedded model with it.

    Attributes:
        name: for people.
        parameters: of the text encoder, token table included.
        scores: on the pairs.
    """

    name: str
    parameters: int
    scores: MicroScores

    def kept(self, teacher: "Contestant") -> float | None:
        """Percent of the teacher's cgF1; None if that is 0."""
        whole = teacher.scores.overall.cgf1
        return 100 * self.scores.overall.cgf1 / whole if whole else None


@dataclass(frozen=True, eq=False)
class DemoReport:
    """What a demonstration left.

    Attributes:
        page: to open in a browser.
        contestants: the model's own text encoder, the student taught live, and the one of the package, if it fits.
        shots: the pictures on the page, each with the teacher and with the student that was taught.
        taught: how the student came to be.
        audit: of the bundled corpus.
    """

    page: Path
    contestants: tuple[Contestant, ...]
    shots: tuple[tuple[Shot, Shot], ...]
    taught: DistillReport
    audit: AuditReport

    @property
    def scores(self) -> MicroScores:
        """Of the model with its own text encoder."""
        return self.contestants[0].scores

    def to_json(self) -> dict[str, Any]:
        """The scores, and where the page is."""
        teacher = self.contestants[0]
        students = [
            {"name": one.name, "parameters": one.parameters, "cgf1": one.scores.overall.cgf1, "kept": one.kept(teacher)}
            for one in self.contestants[1:]
        ]
        return {
            "page": str(self.page),
            "pictures": len(self.shots),
            **self.scores.to_json(),
            "parameters": teacher.parameters,
            "students": students,
        }


def run_demo(folder: Path, options: DemoOptions, progress: Progress) -> DemoReport:
    """Audit the bundled prompts, teach a student, segment pictures that nobody saw, score, and write a page.

    Args:
        folder: gets ``index.html``, ``pictures/``, ``student/``, ``audit/`` and ``scores.json``.
        options: how much is shown.
        progress: told of each stage.

    Raises:
        EncoderError: the model cannot be loaded.
    """
    progress("auditing", 0.0)
    report = audit(bundled_corpus())
    audited = write_report(report, folder / "audit")
    progress("auditing", 1.0)
    teacher = Segmenter.from_pretrained(options.model)
    taught = teach(folder / "student", teacher, options.lesson, progress)
    student = teacher.with_encoder(load_encoder(folder / "student" / STUDENT))
    shots = tuple(_shots((teacher, student), folder, options, progress))
    world = SceneOptions(size=teacher.processor.size["height"], split="test")
    pairs = list(make_pairs(options.seed + 1, options.pairs, world))
    contestants = [
        _judge("its own text encoder", options.model, teacher, pairs, progress),
        _judge("student, taught just now", str(folder / "student" / STUDENT), student, pairs, progress),
    ]
    if options.model in SHIPPED:
        name = f"{options.model}-student"
        contestants.append(
            _judge("student of the package", name, teacher.with_encoder(load_encoder(name)), pairs, progress)
        )
    made = DemoReport(folder / PAGE, tuple(contestants), shots, taught, report)
    write_text(folder / "scores.json", to_json(made.to_json()))
    write_text(made.page, _render(made, audited.relative_to(folder)))
    return made


def _judge(name: str, spec: str, segmenter: Segmenter, pairs: Sequence[Pair], progress: Progress) -> Contestant:
    """Score a text encoder on pairs."""
    scores = evaluate_pairs(segmenter, pairs, lambda _, done: progress(f"scoring: {name}", done / len(pairs)))
    return Contestant(name, measure_encoder(spec, segmenter.encoder).parameters, scores)


def _shots(
    segmenters: tuple[Segmenter, Segmenter], folder: Path, options: DemoOptions, progress: Progress
) -> Iterator[tuple[Shot, Shot]]:
    """Segment and draw each picture, with the one and with the other."""
    pairs = make_pairs(options.seed, 6 * options.pictures, SceneOptions(size=options.size, split="test"))
    for number, group in groupby(pairs, key=lambda pair: pair.picture):
        some = _choose(list(group))
        names = f"pictures/{number:02d}.png", f"pictures/{number:02d}-student.png"
        first, second = (
            _shoot(segmenter, some, folder, name) for segmenter, name in zip(segmenters, names, strict=True)
        )
        yield first, second
        progress("segmenting", (number + 1) / options.pictures)


def _shoot(segmenter: Segmenter, pairs: Sequence[Pair], folder: Path, name: str) -> Shot:
    """Ask about one picture, and draw what is found."""
    pixels = pairs[0].scene.pixels
    found = segmenter(pixels, [pair.phrase.text for pair in pairs])
    with atomic_file(folder / name) as file:
        draw_all(pixels, found).save(file, "PNG")
    return Shot(name, tuple(_answer(pair, masks) for pair, masks in zip(pairs, found, strict=True)))


def _choose(pairs: Sequence[Pair]) -> list[Pair]:
    """Of the phrases of a picture: two that are there, one nearly so, one that is not."""
    wanted = {"present": 2, "hard": 1, "absent": 1}
    return [pair for kind, count in wanted.items() for pair in _of_kind(pairs, kind)[:count]]


def _of_kind(pairs: Sequence[Pair], kind: str) -> list[Pair]:
    return [pair for pair in pairs if pair.phrase.kind == kind]


def _answer(pair: Pair, masks: Masks) -> Answer:
    from litetext.evaluation.cgf1 import match

    matched = match(overlaps(masks.masks, pair))
    return Answer(pair.phrase.text, len(pair.phrase.indices), len(masks), int((matched >= _GOOD).sum()))


def _render(report: DemoReport, audited: Path) -> str:
    template = page_environment("litetext.micro").get_template("demo.html")
    figures = list(islice(draw_figures(report.audit), _FIGURES))
    return template.render(demo=report, audited=audited.as_posix(), figures=figures)
