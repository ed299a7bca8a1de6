"""Tables of scores, on standard output."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from litetext.evaluation.subsets import GoldScores, SubsetScores

_LABELS = {
    "cgf1": "cgF1",
    "pmf1": "pmF1",
    "pm_precision": "pm precision",
    "f1": "F1",
    "positive_macro_f1": "positive macro F1",
    "mcc": "IL_MCC",
    "fpr": "IL FPR",
}
_AP_LABELS = {"ap_small": "AP small", "ap_medium": "AP medium", "ap_large": "AP large", "ar100": "AR"}
_SHOWN = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


def print_scores(result: "GoldScores") -> None:
    """One table: scores of masks to 100, averaged and at two IoU thresholds; scores of presence to 1."""
    from dataclasses import asdict

    from rich.console import Console

    found = result.cgf1
    counted = found.to_json()["pairs"]
    table = score_table("score", "IoU 0.50:0.95", "0.50", "0.75", caption=f"{counted['all']} (image, phrase) pairs")
    levels = [asdict(one) for one in (found.mean, found.at_50, found.at_75)]
    for name in levels[0]:
        table.add_row(_LABELS.get(name, name), *(_percent(level[name]) for level in levels))
    if result.ap is not None:
        table.add_section()
        scores = result.ap.to_json()
        table.add_row("AP", *(_percent(scores[name]) for name in ("ap", "ap50", "ap75")))
        for name, label in _AP_LABELS.items():
            table.add_row(label, _percent(scores[name]), "", "")
    table.add_section()
    for name, value in asdict(found.presence).items():
        label = "IL F1" if name == "f1" else _LABELS.get(name, f"IL {name}")
        table.add_row(label, f"{value:.4f}", "", "")
    Console().print(table)


def print_subsets(result: "SubsetScores") -> None:
    """The papers' table: a row for each subset and one for their average; cgF1, pmF1 and AP to 100."""
    from rich.console import Console

    from litetext.evaluation.subsets import SUBSETS

    caption = f"{len(result.scores)} of {len(SUBSETS)} subsets of SA-Co Gold"
    average = result.ap
    precisions = list(_SHOWN.values()) if average is not None else []
    table = score_table("subset", "cgF1", "IL_MCC", "pmF1", *precisions, caption=caption)
    for subset, one in result.scores.items():
        scores = None if one.ap is None else one.ap.to_json()
        table.add_row(subset.title, *_cells(one.cgf1.cgf1, one.cgf1.il_mcc, one.cgf1.pmf1, scores))
    table.add_section()
    table.add_row("average", *_cells(result.cgf1, result.il_mcc, result.pmf1, average))
    Console().print(table)


def score_table(*columns: str, caption: str) -> "Table":
    """A table whose columns but the first are flush right."""
    from rich.table import Table

    table = Table(*columns, caption=caption)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _cells(cgf1: float, il_mcc: float, pmf1: float, precisions: Mapping[str, float] | None) -> list[str]:
    listed = [] if precisions is None else [_percent(precisions[name]) for name in _SHOWN]
    return [f"{cgf1:.2f}", f"{il_mcc:.4f}", f"{pmf1:.2f}", *listed]


def _percent(share: float) -> str:
    """A share to 100; a dash where it is undefined (-1)."""
    return "-" if share == -1 else f"{100 * share:.2f}"
