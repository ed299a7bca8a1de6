"""The audit on a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from litetext.auditing.attenuation import DEFINITIONS, AttenuationStats
from litetext.auditing.counting import COUNTING
from litetext.auditing.geometry import Estimate, GeometryStats
from litetext.auditing.page import factor, number, percent
from litetext.auditing.run import AuditReport, SourceReport

_MOST_SOURCES = 12


def print_report(report: AuditReport, console: Console | None = None) -> None:
    """Print a compact account of the report."""
    console = console or Console(highlight=False)
    whole, distinct = report.whole, report.by_distinct
    console.print(
        f"[bold]{whole.total:,}[/] prompts, [bold]{whole.distinct:,}[/] distinct; {COUNTING}; "
        f"mean {whole.tokens.mean:.2f} ({distinct.tokens.mean:.2f} over distinct ones), "
        f"median {whole.tokens.median:g}, p95 {whole.tokens.p95:g}, max {whole.tokens.max}"
    )
    console.print(_context(whole))
    if len(report.sources) > 1:
        console.print(_sources(report.sources))
    vocabulary = report.vocabulary
    console.print(
        f"Vocabulary: {vocabulary.used:,} of {vocabulary.size:,} token ids ({percent(vocabulary.coverage)}), the top "
        f"100 make {percent(vocabulary.top[100])} of all tokens ({percent(vocabulary.top_content[100])} without start "
        f"and end); a lossless pruning keeps {vocabulary.closure:,}\n"
    )
    if report.geometry is not None:
        console.print(_geometry(report.geometry))
    if report.positions is not None:
        found = report.positions
        console.print(f"Positions: {found.rows} rows x {found.width}, effective rank {found.effective_rank:.1f}\n")
    order = report.order
    if order is not None and order.cosine is not None and order.baseline is not None:
        console.print(
            f"Word order: cosine {order.cosine:.3f} to {order.permutations:,} permutations of {order.sampled:,} "
            f"prompts, {order.baseline:.3f} between unrelated ones ({escape(order.encoder)})\n"
        )
    if report.attenuation is not None:
        for table in _attenuation(report.attenuation):
            console.print(table)
    for advice in report.advice:
        console.print(f"[bold]{advice.topic}[/]: ", advice.text, sep="", markup=True, soft_wrap=False)


def _context(whole: SourceReport) -> Table:
    table = Table(
        *("L", "density", "padding", "truncated", "lost tokens", "wasted attention"), box=None, pad_edge=False
    )
    for use in whole.context:
        table.add_row(
            str(use.length),
            f"{use.density:.3f}",
            percent(use.padding),
            percent(use.truncated),
            f"{use.lost_tokens:,}",
            percent(use.wasted_attention),
        )
    return table


def _sources(sources: tuple[SourceReport, ...]) -> Table:
    table = Table("source", "prompts", "distinct", "mean", "p95", "max", box=None, pad_edge=False)
    for source in sorted(sources, key=lambda source: -source.total)[:_MOST_SOURCES]:
        tokens = source.tokens
        table.add_row(
            escape(source.name),
            f"{source.total:,}",
            f"{source.distinct:,}",
            f"{tokens.mean:.2f}",
            f"{tokens.p95:g}",
            str(tokens.max),
        )
    if len(sources) > _MOST_SOURCES:
        table.add_row(f"... and {len(sources) - _MOST_SOURCES} more (see --json)")
    return table


def _attenuation(stats: AttenuationStats) -> tuple[str, Table, Table]:
    """What was injected, the way of the student's error, and the factors of all errors by every definition."""
    student = stats.errors["student"]
    head = (
        f"Attenuation of the error of {escape(stats.student)} in {escape(stats.host)}: {stats.pairs:,} pairs of "
        f"{stats.images:,} images, {stats.phrases:,} phrases ({stats.truncated:,} truncated); student-teacher cosine "
        f"{student.cosine:.3f}, relative squared error of the text features {student.features:.3g}"
    )
    way = Table(*("student's error", "logits", "weights", "output", "layer output", "factor"), box=None, pad_edge=False)
    for layer in student.layers:
        errors = [f"{layer.errors[stage]:.3g}" for stage in ("logits", "weights", "output", "layer_output")]
        way.add_row(layer.layer, *errors, factor(layer.factor))
    for name, error in student.results.items():
        way.add_row(f"{name} (logits)", "", "", "", f"{error:.3g}", "")
    kinds = list(stats.errors)
    factors = Table("attenuation", *kinds, box=None, pad_edge=False)
    for name, definition in DEFINITIONS.items():
        factors.add_row(definition.title, *(factor(stats.errors[kind].definitions[name]) for kind in kinds))
    return head, way, factors


def _geometry(geometry: GeometryStats) -> Table:
    table = Table("geometry", "value", "interval", box=None, pad_edge=False)
    rows: dict[str, Estimate] = {
        "intrinsic dimension, TwoNN": geometry.twonn,
        "intrinsic dimension, MLE": geometry.mle,
        "effective rank": geometry.effective_rank,
        "directions for 95 % of variance": geometry.rank_95,
        "directions for 99 % of variance": geometry.rank_99,
        "participation ratio": geometry.participation_ratio,
    }
    for name, estimate in rows.items():
        table.add_row(name, number(estimate.value), f"{number(estimate.low)} - {number(estimate.high)}")
    return table
