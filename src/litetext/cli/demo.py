"""`litetext demo`."""

from pathlib import Path
from typing import Annotated

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.outputs import check_ours, check_target
from litetext.storage import only_writer


@app.command(epilog="\b\nExamples:\n  litetext demo\n  litetext demo -o shown --model micro-run/weights")
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Write the page there.")] = Path("demo"),
    model: Annotated[str, typer.Option(metavar="micro|PATH", help="What segments.")] = "micro",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Run the whole pipeline on the embedded micro model and write a page with pictures."""
    try:
        from litetext.micro.demo import DemoOptions, run_demo
    except ImportError as error:
        from litetext.errors import MissingExtraError

        raise MissingExtraError("the demonstration", "sam3") from error

    check_target(output, models=[model], folder=True)
    check_ours(output / "index.html", "<title>LiteText")
    with only_writer(output, "to this folder"), show_progress() as progress:
        report = run_demo(output, DemoOptions(model=model), progress)
    if json:
        print_json(report.to_json())
        return
    for one in report.contestants:
        scores, kept = one.scores.overall, one.kept(report.contestants[0])
        share = "" if kept is None else f" ({kept:.1f} % kept)"
        echo(
            f"{one.name}, {one.parameters / 1e6:.2f} M parameters: cgF1 {scores.cgf1:.1f}{share}, "
            f"IL_MCC {scores.il_mcc:.2f}, pmF1 {scores.pmf1:.1f}"
        )
    echo(f"Open {report.page} in a browser. Then try: litetext audit YOUR_PROMPTS.txt -o report")
