"""`litetext micro`: the world of the embedded model and its scores."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.models import Context, Fallback, ModelChoice, Positions, Text
from litetext.cli.outputs import check_target
from litetext.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    from litetext.micro.phrases import Pair

micro = typer.Typer(help="The embedded micro SAM3: its world and its scores.", rich_markup_mode=None)
app.add_typer(micro, name="micro")

Seed = Annotated[int, typer.Option(help="The same seed gives the same world.")]
Size = Annotated[int, typer.Option(help="Pixels a side, 48 to 1024.")]
SplitName = Annotated[str, typer.Option(help="train, validation or test; held-out words are not in train.")]


@micro.command(epilog="\b\nExample:\n  litetext micro scene -o scene.png --seed 187 --split test")
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
        raise OptionError(f"a picture as '{output.suffix}'", where=str(output), hint="give a name that ends in .png")
    check_target(output)
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
        echo(f"{count}  {text}")


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
    from litetext.micro.saco import ANNOTATIONS, is_world, write_saco
    from litetext.micro.scenes import SceneOptions, Split
    from litetext.storage import atomic_folder

    if pairs < 1:
        raise OptionError(f"{pairs} pairs", where="--pairs", hint="ask for 1 or more")
    options = SceneOptions(size=size, split=cast("Split", split))  # refuses any other word
    check_target(output, folder=True)
    with atomic_folder(output, is_ours=is_world) as folder, show_progress() as progress:
        made = make_pairs(seed, pairs, options)
        counted = (_tell(progress, pair, (number + 1) / pairs) for number, pair in enumerate(made))
        gold = write_saco(counted, folder)
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
        echo("\n".join(f"{name}: {value}" for name, value in report.items()))


@micro.command(
    epilog="\b\nExample:\n  litetext micro phrases -o phrases.txt --count 20000\n"
    "  litetext embed phrases.txt -o features --model micro"
)
def phrases(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Write them there, one a line.")],
    count: Annotated[int, typer.Option(help="Different phrases.")] = 20_000,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Write phrases of the micro world, to distill students from; held-out words are not among them."""
    _need_transformers()
    from litetext.micro.phrases import sample_phrases
    from litetext.storage import write_text

    check_target(output)
    with show_progress() as progress:
        texts = sample_phrases(seed, count, progress=progress)
    write_text(output, "\n".join(texts) + "\n")
    if json:
        print_json({"file": str(output), "phrases": len(texts)})
    else:
        echo(f"{output}: {len(texts):,} phrases")


@micro.command(
    epilog="\b\nExamples:\n  litetext micro evaluate --pairs 1000 --seed 7\n"
    "  litetext micro evaluate --model micro-run/weights --json\n"
    "  litetext micro evaluate --text micro-student --shuffle"
)
def evaluate(
    pairs: Annotated[int, typer.Option(help="(Picture, phrase) pairs, six of each picture; half are absent.")] = 1000,
    seed: Seed = 0,
    model: Annotated[str, typer.Option(metavar="micro|PATH|HF_ID", help="What segments.")] = "micro",
    text: Text = None,
    fallback: Fallback = None,
    positions: Positions = "auto",
    context: Context = None,
    split: SplitName = "test",
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Ask again with the content words in another order, where they have one.")
    ] = False,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Score a model on fresh pairs of the micro world: cgF1, IL_MCC, pmF1."""
    if pairs < 1:
        raise OptionError(f"{pairs} pairs", where="--pairs", hint="ask for 1 or more")
    _need_transformers()
    from litetext.micro.evaluation import OUT_OF_DOMAIN, compare_orders, evaluate_pairs, refused_share
    from litetext.micro.model import SIZE
    from litetext.micro.phrases import make_pairs, out_of_domain
    from litetext.micro.scenes import SceneOptions, Split
    from litetext.sam3.segmenter import SegmentOptions

    options = SceneOptions(size=SIZE, split=cast("Split", split))  # refuses any other word
    choice = ModelChoice(model, text, positions, context, fallback=fallback)
    asked = list(make_pairs(seed, pairs, options))
    phrases = [pair.phrase.text for pair in asked]
    segmenter = choice.load(SegmentOptions(), [*phrases, *out_of_domain("test")])
    with show_progress() as progress:
        scores = evaluate_pairs(segmenter, asked, lambda stage, done: progress(stage, done / pairs))
        order = compare_orders(segmenter, asked, scores, seed) if shuffle else None
        progress("strange phrases", 0)
        refused = refused_share(segmenter, OUT_OF_DOMAIN, seed, SIZE)
    if json:
        shuffled = {} if order is None else {"order": order.to_json()}
        print_json({**scores.to_json(), "out_of_domain_refused": refused, **shuffled})
        return
    from litetext.cli.scores import print_scores
    from litetext.evaluation.subsets import GoldScores

    print_scores(GoldScores(scores.overall))
    for kind, share in scores.kinds.items():
        echo(f"presence right, {kind} phrases: {100 * share:.1f} %")
    if scores.held_out is not None:
        echo(f"held-out words: cgF1 {scores.held_out.cgf1:.1f}")
    if order is not None:
        echo(
            f"words in another order, {order.pairs} pairs: cgF1 {order.normal.cgf1:.1f}, then {order.shuffled.cgf1:.1f}"
        )
    echo(f"phrases of nothing in this world without a mask: {100 * refused:.1f} % of {OUT_OF_DOMAIN}")


def _tell(progress: Callable[[str, float], None], pair: "Pair", share: float) -> "Pair":
    """Pass a pair on and move the bar."""
    progress("drawing", share)
    return pair


def _need_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("the micro model", "sam3") from error


def _need_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("drawing scenes", "sam3") from error
