"""The demonstration: audit, segmentation and evaluation on the embedded model, and one page that shows them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from litetext.anatomy.audit import AuditReport, audit
from litetext.anatomy.figures import draw_figures
from litetext.anatomy.report import write_report
from litetext.micro.evaluation import MicroScores, evaluate_pairs, overlaps
from litetext.micro.phrases import Pair, make_pairs
from litetext.micro.scenes import SceneOptions
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
        model: what segments, as `Segmenter.load` takes it.
        pictures: pictures on the page.
        size: pixels a side of these; the model reads what its processor makes of them.
        pairs: (picture, phrase) pairs that are scored, at the model's own size.
        seed: of the pictures and pairs, all of the test split.
    """

    model: str = "micro"
    pictures: int = 8
    size: int = 320
    pairs: int = 300
    seed: int = 2


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
    """A picture on the page: its file and the answers to its phrases."""

    file: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class DemoReport:
    """What a demonstration left.

    Attributes:
        page: to open in a browser.
        scores: of the embedded model on the pairs.
        shots: the pictures on the page.
        audit: of the bundled corpus.
    """

    page: Path
    scores: MicroScores
    shots: tuple[Shot, ...]
    audit: AuditReport

    def to_json(self) -> dict[str, Any]:
        """The scores, and where the page is."""
        return {"page": str(self.page), "pictures": len(self.shots), **self.scores.to_json()}


def run_demo(folder: Path, options: DemoOptions, progress: Progress) -> DemoReport:
    """Audit the bundled prompts, segment pictures that the model never saw, score it, and write a page.

    Args:
        folder: gets ``index.html``, ``pictures/``, ``audit/`` and ``scores.json``.
        options: how much is shown.
        progress: told of each stage.

    Raises:
        EncoderError: the model cannot be loaded.
    """
    progress("auditing", 0.0)
    report = audit(bundled_corpus())
    audited = write_report(report, folder / "audit")
    progress("auditing", 1.0)
    segmenter = Segmenter.load(options.model)
    shots = tuple(_shots(segmenter, folder, options, progress))
    world = SceneOptions(size=segmenter.processor.size["height"], split="test")
    scores = evaluate_pairs(
        segmenter,
        make_pairs(options.seed + 1, options.pairs, world),
        lambda _, done: progress("scoring", done / options.pairs),
    )
    write_text(folder / "scores.json", to_json(scores.to_json()))
    made = DemoReport(folder / PAGE, scores, shots, report)
    write_text(made.page, _render(made, audited.relative_to(folder)))
    return made


def _shots(segmenter: Segmenter, folder: Path, options: DemoOptions, progress: Progress) -> list[Shot]:
    """Segment and draw each picture."""
    pairs = make_pairs(options.seed, 6 * options.pictures, SceneOptions(size=options.size, split="test"))
    shots = []
    for number, group in groupby(pairs, key=lambda pair: pair.picture):
        some = _choose(list(group))
        found = segmenter.segment(some[0].scene.pixels, [pair.phrase.text for pair in some])
        name = f"pictures/{number:02d}.png"
        with atomic_file(folder / name) as file:
            draw_all(some[0].scene.pixels, found).save(file, "PNG")
        shots.append(Shot(name, tuple(_answer(pair, masks) for pair, masks in zip(some, found, strict=True))))
        progress("segmenting", (number + 1) / options.pictures)
    return shots


def _choose(pairs: Sequence[Pair]) -> list[Pair]:
    """Of the phrases of a picture: two that are there, one nearly so, one that is not."""
    wanted = {"present": 2, "hard": 1, "absent": 1}
    return [pair for kind, count in wanted.items() for pair in _of_kind(pairs, kind)[:count]]


def _of_kind(pairs: Sequence[Pair], kind: str) -> list[Pair]:
    return [pair for pair in pairs if pair.phrase.kind == kind]


def _answer(pair: Pair, masks: Masks) -> Answer:
    from litetext.evaluate.matching import match

    matched = match(overlaps(masks.masks, pair))
    return Answer(pair.phrase.text, len(pair.phrase.indices), len(masks), int((matched >= _GOOD).sum()))


def _render(report: DemoReport, audited: Path) -> str:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("litetext.micro", "templates")
    template = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        "demo.html"
    )
    rows = [("all pairs", report.scores.overall)]
    if report.scores.held_out is not None:
        rows.append(("words never shown in training", report.scores.held_out))
    figures = list(islice(draw_figures(report.audit), _FIGURES))
    return template.render(demo=report, rows=rows, audited=audited.as_posix(), figures=figures)
