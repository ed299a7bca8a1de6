"""The audit as a page: one HTML file that works offline, its JSON, and its figures as SVG files."""

from pathlib import Path

from litetext.auditing import paper
from litetext.auditing.attenuation import DEFINITIONS, STAGES
from litetext.auditing.figures import draw_figures
from litetext.auditing.run import AuditReport
from litetext.pages import page_environment
from litetext.storage import to_json, write_text

_MOST_SOURCES = 100  # rows of the page's table


def write_report(report: AuditReport, folder: Path) -> Path:
    """Write ``report.html``, ``report.json`` and ``figures/*.svg`` into a folder, and return the page's path.

    Raises:
        OSError: the folder cannot be made or written.
    """
    figures = list(draw_figures(report))
    for figure in figures:
        write_text(folder / "figures" / f"{figure.name}.svg", figure.svg)
    write_text(folder / "report.json", to_json(report.to_json()) + "\n")
    environment = page_environment("litetext.auditing")
    environment.filters |= {"percent": percent, "number": number, "factor": factor}
    environment.globals |= {"definitions": DEFINITIONS, "stages": STAGES}
    page = folder / "report.html"
    largest = sorted(report.sources, key=lambda source: -source.total)[:_MOST_SOURCES]
    html = environment.get_template("report.html").render(report=report, figures=figures, paper=paper, sources=largest)
    write_text(page, html)
    return page


def percent(share: float) -> str:
    """A share as per cent with one decimal, two below one per cent."""
    value = 100 * share
    return f"{value:.2f} %" if 0 < value < 1 else f"{value:.1f} %"


def number(value: float) -> str:
    """A number with thousands separated, decimals only where there are any."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def factor(value: float | None) -> str:
    """A factor of attenuation, a dash where there is none."""
    return "–" if value is None else f"{value:,.1f}x" if value >= 10 else f"{value:.2f}x"
