"""Figures of an audit as SVG text that reads on light and dark pages alike."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from litetext.auditing import paper
from litetext.auditing.attenuation import AttenuationStats
from litetext.auditing.counting import use_of_context
from litetext.auditing.geometry import GeometryStats
from litetext.auditing.order import OrderStats
from litetext.auditing.position_rank import PositionStats
from litetext.auditing.run import AuditReport, SourceReport

_INK = "#010203"  # stands for the text's color until the SVG is written
_COLORS = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#64748b")
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), _INK),
    "axes.prop_cycle": cycler(color=_COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.fonttype": "none",
}
_SIZE = (4.4, 3.6)  # inches: letters of 10 points have 11 pixels where a screen of 390 shows it
_THEME = "<style>svg{color:#1f2937}@media(prefers-color-scheme:dark){svg{color:#e5e7eb}}</style>"

_CAPTIONS = {
    "lengths": (
        "Length of the prompts",
        "Share of prompts by tokens, start and end counted, for the largest sources. Dashed: context lengths.",
    ),
    "context": (
        "Waste and loss against context length",
        "Lines: these prompts. Circles: the paper's 404,796 prompts (arXiv 2602.12173).",
    ),
    "vocabulary": (
        "Rank and frequency of tokens",
        "Occurrences of the r-th most frequent token; start and end tokens come first.",
    ),
    "spectrum": (
        "Variance of the embeddings by direction",
        "Cumulated share of variance that the largest principal components hold.",
    ),
    "twonn": (
        "Intrinsic dimension (TwoNN)",
        "Ratio of the distances to the second and the first neighbor; the slope is the dimension.",
    ),
    "order": (
        "Sensitivity to word order",
        "Cosine between a prompt's pooled features and those of its content-word permutations.",
    ),
    "positions": ("Similarity of position rows", "Cosine similarity between the rows of the position table."),
    "attenuation": (
        "A student's error on its way to the masks",
        "Relative squared error of the text features, of the attention weights of each layer, and of the masks.",
    ),
}


@dataclass(frozen=True)
class ReportFigure:
    """One figure."""

    name: str  # file name without ending
    title: str  # what it shows
    caption: str  # how to read it
    svg: str  # a whole SVG document with transparent background

    @property
    def inline(self) -> str:
        """The SVG element for a page: no XML prolog, no style of its own, as wide as its box."""
        head, rest = self.svg[self.svg.index("<svg") :].replace(_THEME, "").split(">", 1)
        head = re.sub(r' (width|height)="[^"]*"', "", head)
        said = escape(f"{self.title}. {self.caption}")
        return f'{head} role="img" aria-label="{said}">{rest}'


def draw_figures(report: AuditReport) -> Iterator[ReportFigure]:
    """The figures that the report has data for, one after another."""
    drawn: dict[str, tuple[Any, Callable[[Axes, Any], None]]] = {
        "lengths": (report, _draw_lengths),
        "context": (report.whole, _draw_context),
        "vocabulary": (report.vocabulary.frequencies, _draw_vocabulary),
        "spectrum": (report.geometry, _draw_spectrum),
        "twonn": (report.geometry, _draw_twonn),
        "order": (report.order, _draw_order),
        "positions": (report.positions, _draw_positions),
        "attenuation": (report.attenuation, _draw_attenuation),
    }
    for name, (data, draw) in drawn.items():
        if data is not None:
            yield draw_figure(name, *_CAPTIONS[name], lambda axes, draw=draw, data=data: draw(axes, data))  # type: ignore[misc]


def draw_figure(name: str, title: str, caption: str, draw: Callable[[Axes], None]) -> ReportFigure:
    """A figure of one panel in the style of all; its legend stands above the panel, where it hides nothing."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser draws the letters, so that a glyph which matplotlib's own font lacks is no loss.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=_SIZE)
        axes = figure.subplots()
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter("{x:,g}")
                axis.set_minor_formatter(NullFormatter())
                axis.set_label_text(f"{axis.get_label_text()} (log scale)")
        if labels := axes.get_legend_handles_labels()[1]:
            figure.legend(loc="outside upper left", ncols=2 if len(labels) > 2 and max(map(len, labels)) < 20 else 1)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Title": title})
    svg = buffer.getvalue().replace(_INK, "currentColor")
    head, rest = svg.split("<defs>", 1)
    return ReportFigure(name, title, caption, f"{head}{_THEME}<defs>{rest}")


def draw_sizes(encoders: Sequence[tuple[str, int, float]]) -> ReportFigure:
    """The size of text encoders (name, bytes, cgF1) against what a segmenter finds with each."""

    def draw(axes: Axes) -> None:
        for name, size, score in encoders:
            axes.plot([size / 1e6], [score], "o", markersize=9, label=f"{_short(name, 32)}: {score:.1f}")
        axes.set(xlabel="text encoder in MB", ylabel="cgF1", xscale="log")
        axes.set(xlim=(axes.get_xlim()[0] / 1.5, axes.get_xlim()[1] * 1.5))
        axes.set_ylim(0, max(1.0, *(1.15 * score for *_, score in encoders)))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))

    caption = "Further left is smaller, higher is better; the legend has the cgF1 of each."
    return draw_figure("sizes", "Size against quality", caption, draw)


def _draw_lengths(axes: Axes, report: AuditReport) -> None:
    largest = sorted(report.sources, key=lambda source: -source.total)[: len(_COLORS) - 1]
    shown = [report.whole] if len(report.sources) == 1 else [*largest, report.whole]
    right = max(20, int(report.whole.tokens.p95) + 6)
    for source in shown:
        bold, missing = source is report.whole, max(0, right - len(source.histogram))
        axes.plot(
            np.arange(right),
            np.pad(source.histogram[:right], (0, missing)) / source.total,
            marker="." if bold else None,
            linewidth=2.4 if bold else 1.2,
            label=_short(source.name),
        )
    for use in report.whole.context:
        if use.length < right:
            axes.axvline(use.length, color=_INK, linewidth=0.8, linestyle="--", alpha=0.5)
    axes.set(xlabel="tokens", ylabel="share of prompts", xlim=(2, right - 1), ylim=(0, None))


def _draw_context(axes: Axes, whole: SourceReport) -> None:
    lengths = np.arange(4, max(41, *(use.length + 1 for use in whole.context if use.length <= 96)))
    uses = [use_of_context(whole.histogram, int(length)) for length in lengths]
    axes.plot(lengths, [use.padding for use in uses], label="padding")
    axes.plot(lengths, [use.truncated for use in uses], label="truncated prompts")
    axes.plot(lengths, [use.wasted_attention for use in uses], label="wasted attention")
    for color, name, shares in zip(_COLORS, ("padding", "truncated"), (paper.PADDING, paper.TRUNCATED), strict=False):
        axes.plot(*zip(*shares.items(), strict=True), "o", color=color, markerfacecolor="none", label=f"paper: {name}")
    axes.set(xlabel="context length L (tokens)", ylabel="share", ylim=(-0.02, 1.02))


def _draw_vocabulary(axes: Axes, frequencies: npt.NDArray[np.int64]) -> None:
    axes.loglog(np.arange(1, len(frequencies) + 1), frequencies, label="tokens of these prompts")
    axes.axvline(100, color=_INK, linewidth=0.8, linestyle="--", alpha=0.5, label="rank 100")
    axes.set(xlabel="rank r", ylabel="occurrences")


def _draw_spectrum(axes: Axes, geometry: GeometryStats) -> None:
    cumulated = np.cumsum(geometry.variance_shares)
    axes.plot(np.arange(1, len(cumulated) + 1), cumulated, label="these embeddings")
    for share, rank in ((0.95, geometry.rank_95), (0.99, geometry.rank_99)):
        axes.plot([rank.value], [share], "o", label=f"{share:.0%} at rank {rank.value:.0f}")
    axes.set(xlabel="directions", ylabel="share of variance", ylim=(0, 1.02), xscale="log")


def _draw_twonn(axes: Axes, geometry: GeometryStats) -> None:
    x = np.array(geometry.twonn_log_mu)
    axes.plot(x, geometry.twonn_log_survival, ".", markersize=3, label="points")
    axes.plot(x, geometry.twonn.value * x, color=_COLORS[1], label=f"slope {geometry.twonn.value:.1f}")
    axes.set(xlabel="log of the ratio", ylabel="-log of the share above")


def _draw_order(axes: Axes, order: OrderStats) -> None:
    groups = {f"{words}\nwords": group for words, group in order.by_length.items()}
    groups |= {"relations": order.relational, "no\nrelation": order.plain}
    shown = {name: group["cosine"] for name, group in groups.items() if group["cosine"] is not None}
    axes.bar(list(shown), list(shown.values()), label="permuted")
    if order.baseline is not None:
        axes.axhline(order.baseline, color=_COLORS[1], label="unrelated prompts")
    axes.set(ylabel="mean cosine", ylim=(0, 1.02))


def _draw_positions(axes: Axes, positions: PositionStats) -> None:
    image = axes.imshow(positions.cosine, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="nearest")
    axes.set(xlabel="position", ylabel="position")
    axes.figure.colorbar(image, ax=axes, label="cosine")


def _draw_attenuation(axes: Axes, stats: AttenuationStats) -> None:
    for kind, path in stats.errors.items():
        errors = np.array([path.features, *path.layers.values(), path.masks])
        axes.plot(np.where(errors > 0, errors, np.nan), marker="o", label=kind)  # no place for 0 on this axis
    names = ["text features", *(layer.replace(".", " ") for layer in stats.errors["student"].layers), "mask logits"]
    axes.set(ylabel="relative squared error", yscale="log", xticks=range(len(names)), xticklabels=names)
    axes.tick_params(axis="x", rotation=90)


def _short(name: str, most: int = 40) -> str:
    """The end of a long name, which tells files apart."""
    return name if len(name) <= most else "…" + name[1 - most :]
