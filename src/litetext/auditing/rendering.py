"""An audit for people: on a terminal, and as an HTML page that works offline with its JSON and figures beside it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from litetext.auditing import paper
from litetext.auditing.advice import Advice, percent
from litetext.auditing.attenuation import AttenuationStats
from litetext.auditing.counting import VocabularyUse
from litetext.auditing.geometry import GeometryStats
from litetext.auditing.run import AuditReport, SourceReport
from litetext.auditing.semantics import load_rules
from litetext.checkpoints.schema import count_parameters
from litetext.encoders.config import PRESETS
from litetext.errors import shortened
from litetext.storage import to_json, write_text

_TERMINAL_SOURCES, _PAGE_SOURCES = 12, 100  # rows of the tables of sources
_TERMINAL_CUT = 5  # truncated prompts
GEOMETRY_ROWS = {
    "twonn": "intrinsic dimension, TwoNN",
    "mle": "intrinsic dimension, MLE",
    "effective_rank": "effective rank",
    "rank_95": "directions for 95 % of variance",
    "rank_99": "directions for 99 % of variance",
    "participation_ratio": "participation ratio",
}

_CONTEXT = ("L", "density", "padding", "truncated", "lost tokens", "wasted attention")
_TRUNCATED = ("prompt", "what is left", "tokens", "times")
_SEMANTICS = ("class", "prompts", "share", "examples", "instead")
_SOURCES = ("source", "prompts", "distinct", "mean", "p95", "max")
_WORDS = {
    "vocabulary.closure": "token rows to keep:",
    "vocabulary.used": "token ids used:",
    "vocabulary.unseen": "tokens of further prompts that will be new:",
    **{f"semantics.classes.{name}.share": f"{name}:" for name in load_rules().instead},
    "geometry.rank_99.value": "directions for 99 % of the variance:",
    "geometry.ambient": "directions in all:",
    "geometry.twonn.value": "intrinsic dimension (TwoNN):",
    "order.sensitivity": "sensitivity to word order:",
    "attenuation.errors.student.factor.value": "attenuation factor of the student's error:",
    "attenuation.errors.noise.factor.value": "of noise:",
    "attenuation.errors.student.features": "error of the student's text features:",
    "attenuation.errors.student.masks_factor": "from there to the mask logits:",
    "attenuation.errors.noise.masks_factor": "of noise:",
}
_SHARES = (
    "vocabulary.unseen",
    "order.sensitivity",
    "truncated",
    "padding",
    "semantics",
)  # how the names of shares begin


def number(value: float) -> str:
    """A number with thousands separated, decimals only where there are any."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def factor(value: float | None) -> str:
    """A factor of attenuation, a dash where there is none."""
    return "–" if value is None else f"{value:,.1f}x" if value >= 10 else f"{value:.2f}x"


def evidence(advice: Advice) -> str:
    """The figures that advice rests on, in words."""
    said = []
    for name, value in advice.figures.items():
        figure = percent(value) if name.startswith(_SHARES) else number(value) if value >= 1 else f"{value:.3g}"
        said.append(f"{_WORDS.get(name, f'{name}:')} {figure}")
    return "; ".join(said)


def verdict(report: AuditReport) -> str:
    """The whole report in a sentence."""
    advice = {one.topic: one for one in report.advice}
    length, teacher = round(advice["context"].saves["context"]), PRESETS["teacher"]
    longer = advice["context"].figures[f"truncated at {length}"]
    fewer = advice["student"].saves["parameters_pruned"] / count_parameters(teacher)
    return (
        f"These prompts need a context of {length} tokens (SAM3 reads {teacher.context_length}; {percent(longer)} are "
        f"longer than {length}) and {report.vocabulary.closure:,} of {report.vocabulary.size:,} token rows: a student "
        f"of the size of S0, pruned for them, has {percent(fewer)} fewer parameters than SAM3's text encoder."
    )


def notebook_page(report: AuditReport) -> str:
    """HTML of what a notebook shows: the verdict, the advice and the use of each context length."""
    from litetext.pages import html_table, mark_code

    advice = "".join(f"<p><b>{one.topic}</b>: {mark_code(one.text)}</p>" for one in report.advice)
    lengths = f"Context lengths L, of {report.whole.total:,} prompts, {report.whole.distinct:,} of them distinct"
    table = html_table(lengths, _CONTEXT, _context_rows(report.whole))
    return f"<p>{mark_code(verdict(report))}</p>{advice}{table}"


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
    environment.filters |= {"number": number, "evidence": evidence}
    html = environment.get_template("report.html").render(
        report=report,
        verdict=verdict(report),
        figures=figures,
        paper=paper,
        tables=_page_tables(report),
        shown=_PAGE_SOURCES,
    )
    page = folder / "report.html"
    write_text(page, html)
    return page


def _page_tables(report: AuditReport) -> Mapping[str, tuple[str, Sequence[str], list[list[str]]]]:
    """The caption, the columns and the rows of the tables that the page shows."""
    lengths = [str(use.length) for use in report.whole.context]
    dimension = " – ".join(map(str, paper.INTRINSIC_DIMENSION))
    noted = {"twonn": dimension, "mle": dimension, "effective_rank": f"about {paper.EFFECTIVE_RANK} of {paper.AMBIENT}"}
    caption = "All prompts, weighted by occurrence. Wasted attention: pairs of tokens of which one is padding."
    papers = [[_noted(paper.PADDING, length), _noted(paper.TRUNCATED, length)] for length in map(int, lengths)]
    context = [[*row, *theirs] for row, theirs in zip(_context_rows(report.whole), papers, strict=True)]
    sources = _largest(report.sources, _PAGE_SOURCES)
    cut = [[source.read_as or "–", *(percent(use.truncated) for use in source.context)] for source in sources]
    tables = {
        "context": (caption, [*_CONTEXT, "paper: padding", "paper: truncated"], context),
        "vocabulary": (
            "Use of the token ids",
            ["measure", "these prompts", "paper"],
            _vocabulary_rows(report.vocabulary),
        ),
        "sources": (
            "Prompts and their tokens, and the share that a context length truncates",
            [*_SOURCES, "read as", *(f"truncated at {length}" for length in lengths)],
            [[*row, *more] for row, more in zip(_source_rows(sources), cut, strict=True)],
        ),
    }
    if (truncated := report.truncated)["examples"]:
        caption = "The most frequent of {distinct:,} prompts longer than {context_length} tokens".format(**truncated)
        tables["truncated"] = (caption, list(_TRUNCATED), truncated_rows(truncated, 200))
    if rows := semantics_rows(report.semantics):
        caption = f"{percent(report.semantics['share'])} of the prompts are in a class; a prompt may be in several"
        tables["semantics"] = (caption, list(_SEMANTICS), rows)
        per_source = [[name, *map(number, counts.values())] for name, counts in report.semantics["sources"].items()]
        kept = {source.name for source in sources}
        tables["semantic_sources"] = (
            "Prompts of each class, by source",
            ["source", *report.semantics["classes"]],
            [row for row in per_source if row[0] in kept],
        )
    if report.geometry is not None:
        named = zip(GEOMETRY_ROWS, _geometry_rows(report.geometry), strict=True)
        rows = [[*row, noted.get(name, "–")] for name, row in named]
        tables["geometry"] = ("Sizes of the cloud of points", ["measure", "value", "interval", "paper"], rows)
    if report.attenuation is not None:
        columns = ["measure", *report.attenuation.errors]
        tables["attenuation"] = ("Relative squared errors", columns, attenuation_rows(report.attenuation))
    return tables


def _noted(shares: Mapping[int, float], length: int) -> str:
    return percent(shares[length]) if length in shares else "–"


def _vocabulary_rows(use: VocabularyUse) -> list[list[str]]:
    cut = [
        [f"ids only in tails cut off at {length}", number(count), "–"] for length, count in use.only_truncated.items()
    ]
    return [
        ["token ids used", number(use.used), number(paper.USED_TOKENS)],
        ["share of the vocabulary", percent(use.coverage), percent(paper.COVERAGE)],
        ["top 100 ids, share of occurrences", percent(use.top["100"]), percent(paper.TOP_100)],
        ["top 100 ids without start and end", percent(use.top_content["100"]), "–"],
        ["ids that occur once", number(use.singletons), "–"],
        ["tokens of further prompts expected to be new (Good-Turing)", percent(use.unseen), "–"],
        *cut,
        ["ids that a lossless pruning keeps", number(use.closure), "–"],
    ]


def truncated_rows(truncated: Mapping[str, Any], longest: int) -> list[list[str]]:
    """What a table says of truncated prompts, the examples; longer texts are shortened."""
    return [
        [*(shortened(one[key], longest) for key in ("text", "kept")), number(one["tokens"]), number(one["count"])]
        for one in truncated["examples"]
    ]


def semantics_rows(semantics: Mapping[str, Any]) -> list[list[str]]:
    """What a table says of the classes of prompts that were found, the largest first."""
    found = sorted(semantics["classes"].items(), key=lambda item: -item[1]["count"])
    return [
        [
            name,
            number(one["count"]),
            percent(one["share"]).replace(" ", "\u00a0"),  # not broken
            " | ".join(shortened(text, 60) for text in one["examples"]),
            one["instead"],
        ]
        for name, one in found
        if one["examples"]
    ]


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
    console.print(_table(*_CONTEXT, rows=_context_rows(whole)))
    if (cut := report.truncated)["examples"]:
        console.print(f"\nPrompts that the advised context of {cut['context_length']} truncates: {cut['distinct']:,}")
        rows = [list(map(escape, row)) for row in truncated_rows(cut, 60)[:_TERMINAL_CUT]]
        console.print(_table(*_TRUNCATED, rows=rows))
    if rows := semantics_rows(report.semantics):
        console.print(f"\nPrompts that SAM3 hardly honors: {percent(report.semantics['share'])}")
        console.print(_table(*_SEMANTICS[:-1], rows=[[*row[:3], escape(shortened(row[3], 80))] for row in rows]), "")
    if len(report.sources) > 1:
        rows = [[escape(name), *rest] for name, *rest in _source_rows(_largest(report.sources, _TERMINAL_SOURCES))]
        if (more := len(report.sources) - _TERMINAL_SOURCES) > 0:
            rows.append([f"... and {more} more (see --json)"])
        console.print(_table(*_SOURCES, rows=rows))
    console.print(
        f"Vocabulary: {vocabulary.used:,} of {vocabulary.size:,} token ids ({percent(vocabulary.coverage)}), the top "
        f"100 make {percent(vocabulary.top['100'])} of all tokens ({percent(vocabulary.top_content['100'])} without "
        f"start and end); a lossless pruning keeps {vocabulary.closure:,}\n"
    )
    if report.geometry is not None:
        console.print(_table("geometry", "value", "interval", rows=_geometry_rows(report.geometry)))
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
        text = escape(advice.text.replace("`", ""))  # marks of code, for pages
        console.print(f"[bold]{advice.topic}[/]: ", text, sep="", markup=True, soft_wrap=False)


def _table(*columns: str, rows: list[list[str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _context_rows(whole: SourceReport) -> list[list[str]]:
    return [
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


def _source_rows(sources: Iterable[SourceReport]) -> list[list[str]]:
    return [
        [
            source.name,
            f"{source.total:,}",
            f"{source.distinct:,}",
            f"{source.tokens.mean:.2f}",
            f"{source.tokens.p95:g}",
            str(source.tokens.max),
        ]
        for source in sources
    ]


def _geometry_rows(geometry: GeometryStats) -> list[list[str]]:
    estimates = ((title, getattr(geometry, name)) for name, title in GEOMETRY_ROWS.items())
    return [[title, number(found.value), f"{number(found.low)} – {number(found.high)}"] for title, found in estimates]


def _largest(sources: tuple[SourceReport, ...], most: int) -> list[SourceReport]:
    return sorted(sources, key=lambda source: -source.total)[:most]
