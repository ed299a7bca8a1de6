"""An audit for people: on a terminal, and as an HTML page that works offline with its JSON and figures beside it."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from litetext.auditing import paper
from litetext.auditing.advice import percent
from litetext.auditing.attenuation import AttenuationStats
from litetext.auditing.geometry import GeometryStats
from litetext.auditing.run import AuditReport, SourceReport
from litetext.storage import to_json, write_text

_TERMINAL_SOURCES, _PAGE_SOURCES = 12, 100  # rows of the tables of sources
GEOMETRY_ROWS = {
    "twonn": "intrinsic dimension, TwoNN",
    "mle": "intrinsic dimension, MLE",
    "effective_rank": "effective rank",
    "rank_95": "directions for 95 % of variance",
    "rank_99": "directions for 99 % of variance",
    "participation_ratio": "participation ratio",
}


def number(value: float) -> str:
    """A number with thousands separated, decimals only where there are any."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def factor(value: float | None) -> str:
    """A factor of attenuation, a dash where there is none."""
    return "–" if value is None else f"{value:,.1f}x" if value >= 10 else f"{value:.2f}x"


def write_report(report: AuditReport, folder: Path) -> Path:
    """Write ``report.html``, ``report.json`` and ``figures/*.svg`` into a folder, and return the page's path."""
    # Matplotlib and Jinja, which the terminal does without.
    from litetext.auditing.figures import draw_figures
    from litetext.pages import page_environment

    figures = list(draw_figures(report))
    for figure in figures:
        write_text(folder / "figures" / f"{figure.name}.svg", figure.svg)
    write_text(folder / "report.json", to_json(report.to_json()) + "\n")
    environment = page_environment("litetext.auditing")
    environment.filters |= {"percent": percent, "number": number, "factor": factor}
    html = environment.get_template("report.html").render(
        report=report,
        figures=figures,
        paper=paper,
        sources=_largest(report.sources, _PAGE_SOURCES),
        geometry_rows=GEOMETRY_ROWS,
        attenuation_rows=None if report.attenuation is None else attenuation_rows(report.attenuation),
    )
    page = folder / "report.html"
    write_text(page, html)
    return page


def attenuation_rows(stats: AttenuationStats) -> list[list[str]]:
    """What a table says of each kind of error, after the name of a row."""
    paths = list(stats.errors.values())
    factors = [None if path.factor is None else path.factor.value for path in paths]
    return [
        ["cosine with the teacher's features", *(f"{path.cosine:.3f}" for path in paths)],
        ["error of the text features", *(f"{path.features:.3g}" for path in paths)],
        *(
            [f"error of the weights of {layer}", *(f"{path.layers[layer]:.3g}" for path in paths)]
            for layer in paths[0].layers
        ),
        ["error of the mask logits", *(f"{path.masks:.3g}" for path in paths)],
        ["attenuation factor", *map(factor, factors)],
        ["features to mask logits", *(factor(path.masks_factor) for path in paths)],
    ]


def print_report(report: AuditReport, console: Console | None = None) -> None:
    """Print a compact account of the report."""
    console = console or Console(highlight=False)
    whole, distinct, vocabulary = report.whole, report.by_distinct, report.vocabulary
    console.print(
        f"[bold]{whole.total:,}[/] prompts, [bold]{whole.distinct:,}[/] distinct; {whole.tokens.counting}; "
        f"mean {whole.tokens.mean:.2f} ({distinct.tokens.mean:.2f} over distinct ones), "
        f"median {whole.tokens.median:g}, p95 {whole.tokens.p95:g}, max {whole.tokens.max}"
    )
    console.print(_context(whole))
    if len(report.sources) > 1:
        console.print(_sources(report.sources))
    console.print(
        f"Vocabulary: {vocabulary.used:,} of {vocabulary.size:,} token ids ({percent(vocabulary.coverage)}), the top "
        f"100 make {percent(vocabulary.top['100'])} of all tokens ({percent(vocabulary.top_content['100'])} without "
        f"start and end); a lossless pruning keeps {vocabulary.closure:,}\n"
    )
    if report.geometry is not None:
        console.print(_geometry(report.geometry))
    if report.positions is not None:
        table = report.positions
        console.print(f"Positions: {table.rows} rows x {table.width}, effective rank {table.effective_rank:.1f}\n")
    order = report.order
    if order is not None and order.cosine is not None and order.baseline is not None:
        console.print(
            f"Word order: cosine {order.cosine:.3f} to {order.permutations:,} permutations of {order.sampled:,} "
            f"prompts, {order.baseline:.3f} between unrelated ones ({escape(order.encoder)})\n"
        )
    if report.attenuation is not None:
        stats = report.attenuation
        console.print(
            f"Attenuation of the error of {escape(stats.student)} in {escape(stats.host)}: {stats.pairs:,} pairs of "
            f"{stats.images:,} images, {stats.phrases:,} phrases ({stats.truncated:,} truncated)"
        )
        console.print(_table("relative squared error", *stats.errors, rows=attenuation_rows(stats)))
    for advice in report.advice:
        console.print(f"[bold]{advice.topic}[/]: ", advice.text, sep="", markup=True, soft_wrap=False)


def _table(*columns: str, rows: list[list[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _context(whole: SourceReport) -> Table:
    rows = [
        [
            str(use.length),
            f"{use.density:.3f}",
            percent(use.padding),
            percent(use.truncated),
            f"{use.lost_tokens:,}",
            percent(use.wasted_attention),
        ]
        for use in whole.context
    ]
    return _table("L", "density", "padding", "truncated", "lost tokens", "wasted attention", rows=rows)


def _sources(sources: tuple[SourceReport, ...]) -> Table:
    rows = [
        [
            escape(source.name),
            f"{source.total:,}",
            f"{source.distinct:,}",
            f"{source.tokens.mean:.2f}",
            f"{source.tokens.p95:g}",
            str(source.tokens.max),
        ]
        for source in _largest(sources, _TERMINAL_SOURCES)
    ]
    if len(sources) > _TERMINAL_SOURCES:
        rows.append([f"... and {len(sources) - _TERMINAL_SOURCES} more (see --json)"])
    return _table("source", "prompts", "distinct", "mean", "p95", "max", rows=rows)


def _geometry(geometry: GeometryStats) -> Table:
    estimates = ((title, getattr(geometry, name)) for name, title in GEOMETRY_ROWS.items())
    rows = [[title, number(found.value), f"{number(found.low)} - {number(found.high)}"] for title, found in estimates]
    return _table("geometry", "value", "interval", rows=rows)


def _largest(sources: tuple[SourceReport, ...], most: int) -> list[SourceReport]:
    return sorted(sources, key=lambda source: -source.total)[:most]
