"""`litetext micro scene` and `litetext micro world`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from litetext.cli.app import Debug, Json, app, print_json, show_progress
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.micro.phrases import Pair

micro = typer.Typer(help="Draw the world of the embedded micro model.", rich_markup_mode=None)
app.add_typer(micro, name="micro")

Seed = Annotated[int, typer.Option(help="The same seed gives the same world.")]
Size = Annotated[int, typer.Option(help="Pixels a side, 48 to 1024.")]
SplitName = Annotated[str, typer.Option(help="train, validation or test; held-out words are not in train.")]


@micro.command(epilog="\b\nExample:\n  litetext micro scene -o scene.png --seed 7")
def scene(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Write the picture there (PNG).")],
    seed: Seed = 0,
    size: Size = 160,
    split: SplitName = "train",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Draw one scene and print phrases about it with the number of instances that each names."""
    _need_pillow()
    from PIL import Image

    from litetext.micro.phrases import phrases_of
    from litetext.micro.scenes import SceneOptions, Split, generator, make_scene
    from litetext.storage import atomic_file

    if output.suffix.lower() != ".png":
        raise OptionError(f"a picture as '{output.suffix}'", where=str(output), mend="give a name that ends in .png")
    options = SceneOptions(size=size, split=cast("Split", split))  # refuses any other word
    drawn = make_scene(seed, options)
    phrases = phrases_of(drawn, generator(seed, options.split, 2), options.split)
    with atomic_file(output) as file:
        Image.fromarray(drawn.pixels).save(file, "PNG")
    counts = {text: len(indices) for text, indices in phrases.items()}
    if json:
        print_json({"file": str(output), "instances": len(drawn.instances), "phrases": counts})
        return
    for text, count in counts.items():
        typer.echo(f"{count}  {text}")


@micro.command(epilog="\b\nExample:\n  litetext micro world -o world --pairs 600 --seed 1 --split test")
def world(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Write images/ and gold.json there.")],
    pairs: Annotated[int, typer.Option(help="(Picture, phrase) pairs, six of each picture; half are absent.")] = 100,
    seed: Seed = 0,
    size: Size = 160,
    split: SplitName = "test",
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Write pictures and pairs in the format of SA-Co Gold."""
    _need_pillow()
    from litetext.micro.phrases import make_pairs
    from litetext.micro.saco import ANNOTATIONS, write_saco
    from litetext.micro.scenes import SceneOptions, Split

    if pairs < 1:
        raise OptionError(f"{pairs} pairs", where="--pairs", mend="ask for 1 or more")
    options = SceneOptions(size=size, split=cast("Split", split))  # refuses any other word
    with show_progress() as progress:
        made = make_pairs(seed, pairs, options)
        counted = (_tell(progress, pair, (number + 1) / pairs) for number, pair in enumerate(made))
        gold = write_saco(counted, output)
    entries: list[dict[str, Any]] = gold["images"]
    report = {
        "file": str(output / ANNOTATIONS),
        "pictures": len({entry["file_name"] for entry in entries}),
        "pairs": len(entries),
        "absent": sum(entry["kind"] != "present" for entry in entries),
        "hard": sum(entry["kind"] == "hard" for entry in entries),
        "held_out": sum(entry["is_held_out"] for entry in entries),
        "annotations": len(gold["annotations"]),
    }
    if json:
        print_json(report)
    else:
        typer.echo("\n".join(f"{name}: {value}" for name, value in report.items()))


def _tell(progress: Callable[[str, float], None], pair: "Pair", share: float) -> "Pair":
    """Pass a pair on and move the bar."""
    progress("drawing", share)
    return pair


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("drawing scenes", "sam3") from error
