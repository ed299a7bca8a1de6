import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from litetext.auditing.advice import Advice
from litetext.auditing.figures import draw_figures
from litetext.auditing.rendering import evidence, factor, number, print_report, write_report
from litetext.auditing.run import AuditReport, audit
from litetext.prompts.corpus import Prompt, PromptCorpus
from tests.auditing.injected import some_report


@pytest.fixture(scope="module")
def report() -> AuditReport:
    return some_report()


@pytest.fixture(scope="module")
def page(report: AuditReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report, tmp_path_factory.mktemp("report") / "new" / "folder")


class Tags(HTMLParser):
    """Checks that tags close in order; void elements do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in {"meta", "br", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert all(link.startswith(("#", "data:")) for link in tags.links)
    assert not re.search(r"@import|url\((?!#)", html)
    assert "width=device-width" in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<svg") == 8


def test_the_page_says_figures_in_words(page: Path, report: AuditReport) -> None:
    html = page.read_text(encoding="utf-8")
    assert "`" not in html
    assert "<code>litetext compress" in html
    assert not re.search(r"(vocabulary|semantics|geometry|order|attenuation)\.\w+", html)
    assert f"token rows to keep: {report.vocabulary.closure:,}" in html
    assert re.search(r"need a context of \d+ tokens .* and [\d,]+ of 49,408 token rows", html)
    assert html.count("<table") == html.count("<caption>") == 7
    assert html.count("<th ") == html.count("<th scope=")


def test_evidence() -> None:
    figures = {"truncated at 8": 0.0125, "vocabulary.closure": 1486.0, "order.sensitivity": 0.5, "other": 0.01234}
    said = evidence(Advice("x", "", figures, {}))
    assert said == "truncated at 8: 1.2 %; token rows to keep: 1,486; sensitivity to word order: 50.0 %; other: 0.0123"


def test_axes_of_figures(report: AuditReport) -> None:
    """Numbers as they are written, what is logarithmic is named, and letters are large enough for a small screen."""
    for figure in draw_figures(report):
        assert not re.search(r"10\^|mathdefault|>10<tspan", figure.svg)
        assert ("(log scale)" in figure.svg) == (figure.name in {"vocabulary", "spectrum", "attenuation"})
        width = float(re.search(r'viewBox="0 0 (\d+)', figure.svg)[1])  # type: ignore[index]
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: ?(\d+\.?\d*)px", figure.svg)]
        assert sizes
        assert min(sizes) * 330 / width >= 9, figure.name


def test_names_of_files_cannot_inject_anything(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_what_hardly_is_prompts_is_said_on_the_page(tmp_path: Path) -> None:
    prompts = [Prompt("a", 1, "x.csv"), Prompt("dog", 1, "y.csv")]
    report = audit(PromptCorpus.build(prompts, warnings={"x.csv": "numbers <b> in column 'a'"}))
    html = write_report(report, tmp_path).read_text(encoding="utf-8")
    assert "x.csv: numbers &lt;b&gt; in column" in html
    assert "y.csv:" not in html


def test_ids_of_inline_figures_do_not_clash(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    clips = re.findall(r'<clipPath id="([^"]+)"', html)
    assert len(clips) == len(set(clips))
    for reference in re.findall(r"url\(#([^)]+)\)", html):
        assert f'id="{reference}"' in html


def test_the_json_beside_it_is_the_report(page: Path, report: AuditReport) -> None:
    written = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(report.to_json()))


def test_figures_are_valid_svg_and_reproducible(page: Path, report: AuditReport) -> None:
    names = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert names == [
        "attenuation.svg", "context.svg", "lengths.svg", "order.svg", "positions.svg", "spectrum.svg", "twonn.svg",
        "vocabulary.svg",
    ]  # fmt: skip
    for figure in draw_figures(report):
        written = (page.parent / "figures" / f"{figure.name}.svg").read_text(encoding="utf-8")
        assert written == figure.svg
        ElementTree.fromstring(written)
        assert "#010203" not in written
        assert "currentColor" in written


def test_figures_without_data_are_left_out() -> None:
    report = audit(PromptCorpus.build([Prompt("dog")]))
    assert [figure.name for figure in draw_figures(report)] == ["lengths", "context", "vocabulary"]


def test_terminal(report: AuditReport) -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"), highlight=False)  # noqa: SIM115, PTH123
    print_report(report, console)
    console.file.close()
    text = console.export_text()
    assert "12 distinct; start and end tokens are counted" in text
    assert "intrinsic dimension, TwoNN" in text
    assert "[bold]犬.txt" in text
    assert "3 pairs of 3 images, 2 phrases (1 truncated)" in " ".join(text.split())
    factors = next(line for line in text.splitlines() if "features to mask logits" in line)
    assert factors.split()[-2:] == ["5.00x", "20.0x"]
    for topic in ("context", "vocabulary", "rank", "order", "attenuation", "student"):
        assert f"{topic}: " in text


def test_numbers_for_people() -> None:
    assert [number(value) for value in (1234567, 2.5, 3.0)] == ["1,234,567", "2.50", "3"]
    assert [factor(value) for value in (0.123, 9.99, 12.34, 1234.5, None)] == [
        "0.12x",
        "9.99x",
        "12.3x",
        "1,234.5x",
        "–",
    ]
