"""`litetext evaluate`: scores of segmentations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from litetext.cli.app import Debug, Json, app, print_json, show_progress

if TYPE_CHECKING:
    from litetext.evaluate.cgf1 import CgF1

evaluate_app = typer.Typer(rich_markup_mode=None)
app.add_typer(evaluate_app, name="evaluate", help="Score segmentations: cgF1 on SA-Co Gold.")


@evaluate_app.callback()
def _root() -> None:
    """Score segmentations: cgF1 on SA-Co Gold."""


@evaluate_app.command(
    epilog="\b\nExamples:\n  litetext evaluate gold --gt gold_a.json --pred found.json\n"
    "  litetext evaluate gold --gt a.json b.json c.json --pred found.json --json\n"
    "  litetext evaluate gold --gt a.json,b.json,c.json --pred found.json"
)
def gold(
    truths: Annotated[
        list[str],
        typer.Option(
            "--gt",
            metavar="FILE",
            show_default=False,
            help="Ground truth of an annotator (COCO JSON). Of several: one after another, --gt again, or with commas.",
        ),
    ],
    predictions: Annotated[
        Path,
        typer.Option("--pred", metavar="FILE", show_default=False, help="Predictions: COCO results, bbox optional."),
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", show_default=False, help="Ground truth of more annotators."),
    ] = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """CgF1, pmF1 and IL_MCC of predictions on SA-Co Gold, as the official evaluator counts them."""
    try:
        from litetext.evaluate.cgf1 import evaluate_gold
    except ImportError as error:
        from litetext.errors import MissingExtraError

        raise MissingExtraError("evaluation", "sam3") from error

    files = [path for spec in (*truths, *(more or ())) for path in _split(spec)]
    with show_progress() as progress:
        result = evaluate_gold(files, predictions, progress)
    if result.tally.misfits:
        count = result.tally.misfits
        typer.echo(f"warning: predictions of another size than the true mask, which match nothing: {count}", err=True)
    if json:
        print_json(result.to_json())
    else:
        print_scores(result)


def _split(spec: str) -> list[Path]:
    """The files of ``A,B,C``; a file whose name has a comma is itself."""
    return [Path(spec)] if Path(spec).exists() else [Path(part.strip()) for part in spec.split(",") if part.strip()]


def print_scores(result: "CgF1") -> None:
    """One table: scores of masks to 100, averaged and at two IoU thresholds; scores of presence to 1."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    counted = result.to_json()["pairs"]
    table = Table("score", "IoU 0.50:0.95", "0.50", "0.75", caption=f"{counted['all']} (image, phrase) pairs")
    for column in table.columns[1:]:
        column.justify = "right"
    levels = [asdict(one) for one in (result.mean, result.at_50, result.at_75)]
    labels = {"cgf1": "cgF1", "pmf1": "pmF1", "pm_precision": "pm precision", "f1": "F1"}
    labels |= {"positive_macro_f1": "positive macro F1"}
    for name in levels[0]:
        undefined = name == "positive_macro_f1" and not counted["true_positive"]
        cells = ["-" if undefined else f"{100 * level[name]:.2f}" for level in levels]
        table.add_row(labels.get(name, name), *cells)
    table.add_section()
    presence = {"mcc": "IL_MCC", "f1": "IL F1", "fpr": "IL FPR"}
    for name, value in asdict(result.presence).items():
        table.add_row(presence.get(name, f"IL {name}"), f"{value:.4f}", "", "")
    Console().print(table)
