"""Every page in headless Chromium, wide and narrow, light and dark: nothing is cut off, hidden or hard to read."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from litetext.auditing.rendering import write_report
from litetext.checkpoints.inspection import EncoderSize
from litetext.cli import run
from litetext.evaluation.comparison import compare, compare_clips, report_retention
from litetext.evaluation.worst_cases import write_retention
from litetext.micro import demo
from litetext.micro.demo import DemoOptions, run_demo
from tests.auditing.injected import some_report
from tests.evaluation.contests import Scripted, known

pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")
AXE = Path(__file__).parents[1] / "examples/browser/node_modules/axe-core/axe.min.js"
LONG = "the " + "very " * 30 + "long-" * 30 + "phrase"  # a word of 150 letters, too
SIZES = (EncoderSize("facebook/sam3", 353_721_344, 1_414_885_376), EncoderSize(f"run/{'a' * 90}/s0.pt", 42_572_544, 1))
# What does not fit, and which texts lie over each other, as sentences.
FAULTS = """() => {
  const faults = [], name = one => `${one.tagName} "${one.textContent.trim().slice(0, 30)}"`;
  const shown = one => one.checkVisibility() && !one.closest(".wide thead") || innerWidth > 900;
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`the page is ${wide} pixels wide`);
  for (const one of document.querySelectorAll("body *:not(svg *)")) {
    if (!shown(one) || getComputedStyle(one).display === "inline") continue;
    if (one.scrollWidth > one.clientWidth + 1) faults.push(`${name(one)} is cut off`);
    const box = one.getBoundingClientRect(), outer = one.parentElement.getBoundingClientRect();
    if (box.width > 1 && box.right > outer.right + 1) faults.push(`${name(one)} sticks out`);
  }
  const boxes = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const parent = node.parentElement;
    if (!node.data.trim() || !shown(parent) || parent.closest("script, style, option")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of parent.closest("svg") ? [parent.getBoundingClientRect()] : range.getClientRects())
      if (box.width && box.height) boxes.push([node.data.trim().slice(0, 30), box]);
  }
  boxes.forEach(([text, a], place) => {
    if (a.left < 0 || a.right > innerWidth) faults.push(`"${text}" is beyond the edge`);
    for (const [other, b] of boxes.slice(place + 1)) {
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (width > 3 && height > 6) faults.push(`"${text}" lies over "${other}"`);
    }
  });
  return faults;
}"""
RULES = """async () => (await axe.run({ runOnly: ["wcag2a", "wcag2aa", "best-practice"] })).violations.flatMap(
  found => found.nodes.map(node => `${found.id}: ${node.html.slice(0, 120)}`))"""


def audit_page(folder: Path) -> Path:
    return write_report(some_report(), folder)


def retention_page(folder: Path) -> Path:
    pairs = [known(90, LONG, [(0, 20), (50, 70)]), known(200, "cat", [(0, 20)])]
    teacher, student = Scripted({(90, LONG): [(0, 20)], (200, "cat"): [(0, 20)]}), Scripted({(90, LONG): [(50, 70)]})
    found = compare(teacher, student, pairs, worst=12)  # type: ignore[arg-type]
    return write_retention(report_retention(found, *SIZES), found.worst, folder / "kept")


def video_page(folder: Path) -> Path:
    pytest.importorskip("trackeval")
    from tests.evaluation.films import Replay, film

    makers = [Replay, partial(Replay, script={"dog": [(0, 3, 6, 9, 12, 15)], "cat": [], "bus": []})]
    found = compare_clips(makers, [film(), film(name=LONG)], 2)
    return write_retention(report_retention(found, *SIZES, resamples=20), found.worst, folder / "kept")


def demo_page(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "find_spec", lambda _: None)  # as without PyTorch: nothing is distilled
        options = DemoOptions(pictures=2, size=160, pairs=6, plots=("crossing",), frames=8)
        return run_demo(folder, options, lambda *_: None).page


def sheet_page(folder: Path) -> Path:
    scene, found = folder / f"{'scene' * 20}.png", folder / "found"
    assert run(["micro", "scene", "-o", str(scene), "--seed", "187", "--split", "test"]) == 0
    phrases = [word for one in ("car", "red car", "vehicle", LONG) for word in ("-p", one)]
    assert run(["segment", str(scene), *phrases, "--model", "micro", "--engine", "onnx", "-o", str(found)]) == 0
    return found / "index.html"


PAGES: list[Callable[[Path], Path]] = [audit_page, retention_page, video_page, demo_page, sheet_page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.is_file() or not AXE.is_file():
        pytest.skip(f"no {CHROMIUM} or no axe-core (make browser)")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=PAGES, ids=lambda make: make.__name__)
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return request.param(tmp_path_factory.mktemp("page")).as_uri()


def look(browser: Any, address: str, width: int, scheme: str, style: str = "") -> tuple[list[str], list[str]]:
    """The faults of a page, and the rules that it breaks; ``style`` is added to its own."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page.goto(address)
        page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
        if style:
            page.add_style_tag(content=style)
        faults = page.evaluate(FAULTS)
        page.add_script_tag(path=str(AXE))
        return faults, page.evaluate(RULES)
    finally:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_a_page_can_be_read(browser: Any, address: str, width: int, scheme: str) -> None:
    assert look(browser, address, width, scheme) == ([], [])


def test_faults_are_found(browser: Any, tmp_path: Path) -> None:
    """The check itself: with a style that does what the pages once did it fails."""
    address = audit_page(tmp_path).as_uri()
    assert any(
        "cut off" in one or "sticks out" in one
        for one in look(browser, address, 390, "light", "th, td { white-space: nowrap; }")[0]
    )
    assert any("lies over" in one for one in look(browser, address, 1300, "light", "h2 { margin-bottom: -2rem; }")[0])
    assert any("pixels wide" in one for one in look(browser, address, 390, "dark", "main { width: 60rem; }")[0])
    rules = look(browser, address, 1300, "dark", ":root { --soft: #444444; }")[1]
    assert {one.partition(":")[0] for one in rules} == {"color-contrast"}
