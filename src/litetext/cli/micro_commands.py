"""The micro world: `litetext micro`, and `litetext demo`, which shows the whole pipeline in it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from litetext.cli import _options as opt
from litetext.cli._app import Result, app, command, make_group
from litetext.cli._options import argument, option
from litetext.cli._output import check_ours, check_target, echo, print_scores, show_progress
from litetext.errors import OptionError

if TYPE_CHECKING:
    from litetext.evaluation.labeled_pairs import LabeledClip
    from litetext.micro.phrases import Pair

STAGE = "Micro world"
Made = TypeVar("Made", "Pair", "LabeledClip")

micro_group = make_group("The embedded micro SAM3: its world and its scores.")
app.add_typer(micro_group, name="micro", rich_help_panel=STAGE)

Size = Annotated[int, option("Pixels a side, 48 to 1024.")]
SplitName = Annotated[opt.Split, option("Part of the world; held-out words are not in train.")]
MicroModel = Annotated[str, option("What segments.", metavar="micro|PATH|HF_ID")]
PairCount = Annotated[int, option("(Picture, phrase) pairs, six of each picture; half are absent.")]


@command(None, "litetext micro scene -o scene.png --seed 187 --split test", group=micro_group)
def scene(output: opt.OutputFile, seed: opt.Seed = 0, size: Size = 160, split: SplitName = "train") -> Result:
    """Draw one scene (PNG) and list phrases about it.

    Each phrase with the number of instances that it names.
    """
    from PIL import Image

    from litetext.micro.phrases import phrases_of
    from litetext.micro.scenes import SceneOptions, generator, make_scene
    from litetext.storage import atomic_file

    if output.suffix.lower() != ".png":
        raise OptionError(f"a picture as '{output.suffix}'", where=str(output), hint="give a name that ends in .png")
    check_target(output)
    options = SceneOptions(size=size, split=split)
    drawn = make_scene(seed, options)
    phrases = phrases_of(drawn, generator(seed, options.split, 2), options.split)
    with atomic_file(output) as file:
        Image.fromarray(drawn.pixels).save(file, "PNG")
    counts = {text: len(indices) for text, indices in phrases.items()}
    return Result(
        {"file": str(output), "instances": len(drawn.instances), "phrases": counts},
        "\n".join(f"{count}  {text}" for text, count in counts.items()),
    )


@command(None, "litetext micro world -o world --pairs 600 --seed 1 --split test", group=micro_group)
def world(
    output: opt.OutputFolder, pairs: PairCount = 100, seed: opt.Seed = 0, size: Size = 160, split: SplitName = "test"
) -> Result:
    """Write pictures and pairs in the format of SA-Co Gold.

    The folder gets images/ and gold.json.
    """
    from litetext.micro.phrases import make_pairs
    from litetext.micro.saco import ANNOTATIONS, is_world, write_saco
    from litetext.micro.scenes import SceneOptions
    from litetext.storage import atomic_folder

    if pairs < 1:
        raise OptionError(f"{pairs} pairs", where="--pairs", hint="ask for 1 or more")
    options = SceneOptions(size=size, split=split)
    check_target(output, folder=True)
    with atomic_folder(output, is_ours=is_world) as folder, show_progress() as progress:
        gold = write_saco(_with_progress(make_pairs(seed, pairs, options), pairs, progress), folder)
    entries = gold["images"]
    report = {
        "file": str(output / ANNOTATIONS),
        "pictures": len({entry["file_name"] for entry in entries}),
        "pairs": len(entries),
        "absent": sum(entry["kind"] != "present" for entry in entries),
        "hard": sum(entry["kind"] == "hard" for entry in entries),
        "held_out": sum(entry["is_held_out"] for entry in entries),
        "annotations": len(gold["annotations"]),
    }
    return Result(report, "\n".join(f"{name}: {value}" for name, value in report.items()))


@command(
    None,
    "litetext micro clips -o clips --count 40 --seed 1",
    "litetext micro clips -o clips --plot crossing --plot hidden --count 10 --length 12",
    group=micro_group,
)
def clips(
    output: opt.OutputFolder,
    plot: opt.Plots = None,
    count: Annotated[int, option("Clips of each plot.")] = 10,
    seed: opt.Seed = 0,
    size: Size = 160,
    length: Annotated[int | None, option("Frames of a clip, 8 or more. Default: the plot's.")] = None,
    split: SplitName = "test",
) -> Result:
    """Write clips with their masklets in the format of SA-Co VEval.

    The folder gets videos/ and veval.json.
    """
    from litetext.micro.clips import PLOTS
    from litetext.micro.evaluation import known_clips
    from litetext.micro.saco import CLIPS, VIDEOS, is_world, write_clips
    from litetext.storage import atomic_folder

    if count < 1:
        raise OptionError(f"{count} clips", where="--count", hint="ask for 1 or more")
    plots = tuple(dict.fromkeys(plot or PLOTS))
    check_target(output, folder=True)
    with (
        atomic_folder(output, is_ours=lambda path: is_world(path, CLIPS, VIDEOS)) as folder,
        show_progress() as progress,
    ):
        made = known_clips(seed, count, plots, size=size, length=length, split=split)
        written = write_clips(_with_progress(made, count * len(plots), progress), folder)
    counts = {"clips": "videos", "pairs": "video_np_pairs", "masklets": "annotations"}
    frames = sum(video["length"] for video in written["videos"])
    absent = sum(not pair["num_masklets"] for pair in written["video_np_pairs"])
    report = {"file": str(output / CLIPS), "frames": frames, "absent": absent}
    report |= {name: len(written[key]) for name, key in counts.items()}
    return Result(report, "\n".join(f"{name}: {value}" for name, value in report.items()))


@command(
    None,
    "litetext micro phrases -o phrases.txt --count 20000",
    "litetext embed phrases.txt -o features --teacher micro",
    group=micro_group,
)
def phrases(
    output: opt.OutputFile, count: Annotated[int, option("Different phrases.")] = 20_000, seed: opt.Seed = 0
) -> Result:
    """Write phrases of the micro world, one a line.

    To distill students from; held-out words are not among them.
    """
    from litetext.micro.phrases import sample_phrases
    from litetext.storage import write_text

    check_target(output)
    with show_progress() as progress:
        texts = sample_phrases(seed, count, progress=progress)
    write_text(output, "\n".join(texts) + "\n")
    return Result({"file": str(output), "phrases": len(texts)}, f"{output}: {len(texts):,} phrases")


@command(
    None,
    "litetext micro evaluate --pairs 1000 --seed 7",
    "litetext micro evaluate --model micro-run/weights --json",
    "litetext micro evaluate --text-encoder micro-student --shuffle",
    group=micro_group,
)
def evaluate(
    pairs: PairCount = 1000,
    seed: opt.Seed = 0,
    model: MicroModel = "micro",
    text_encoder: opt.TextEncoderOption = None,
    fallback: opt.Fallback = None,
    positions: opt.Positions = "auto",
    context_length: opt.ContextLength = None,
    engine: opt.Engine = "auto",
    split: SplitName = "test",
    shuffle: Annotated[
        bool, option("Ask again with the content words in another order, where they have one.", "--shuffle")
    ] = False,
) -> Result:
    """Score a model on fresh pairs: cgF1, IL_MCC, pmF1."""
    if pairs < 1:
        raise OptionError(f"{pairs} pairs", where="--pairs", hint="ask for 1 or more")
    from litetext.micro.evaluation import OUT_OF_DOMAIN, compare_orders, evaluate_pairs, refused_share
    from litetext.micro.model import SIZE
    from litetext.micro.phrases import make_pairs, out_of_domain
    from litetext.micro.scenes import SceneOptions
    from litetext.sam3.segmenter import SegmentOptions

    choice = opt.ModelChoice(model, text_encoder, positions, context_length, fallback=fallback, engine=engine)
    asked = list(make_pairs(seed, pairs, SceneOptions(size=SIZE, split=split)))
    segmenter = choice.load(SegmentOptions(), [*(pair.phrase.text for pair in asked), *out_of_domain("test")])
    with show_progress() as progress:
        scores = evaluate_pairs(segmenter, asked, lambda stage, done: progress(stage, done / pairs))
        order = compare_orders(segmenter, asked, scores, seed) if shuffle else None
        progress("out-of-domain phrases", 0)
        refused = refused_share(segmenter, OUT_OF_DOMAIN, seed, SIZE)

    def show() -> None:
        print_scores(scores.overall)
        for kind, share in scores.kinds.items():
            echo(f"presence right, {kind} phrases: {100 * share:.1f} %")
        if scores.held_out is not None:
            echo(f"held-out words: cgF1 {scores.held_out.cgf1:.1f}")
        if order is not None:
            normal, shuffled = order.normal.cgf1, order.shuffled.cgf1
            echo(f"words in another order, {order.pairs} pairs: cgF1 {normal:.1f}, then {shuffled:.1f}")
        echo(f"phrases of nothing in this world without a mask: {100 * refused:.1f} % of {OUT_OF_DOMAIN}")

    extra = {} if order is None else {"order": order.to_json()}
    return Result({**scores.to_json(), "out_of_domain_refused": refused, **extra}, show)


@command(None, "litetext micro export micro-sam3", group=micro_group)
def export(output: Annotated[Path, argument("The folder to write.", metavar="DIR")]) -> Result:
    """Write the micro model as a folder of Hugging Face transformers.

    With its processor, so that Sam3Model.from_pretrained(DIR) and Sam3Processor.from_pretrained(DIR) work.
    """
    from litetext.micro.model import export_micro

    check_target(output, folder=True)
    names = export_micro(output)
    return Result({"folder": str(output), "files": names}, f"{output}: {', '.join(names)}")


@command(STAGE, "litetext demo", "litetext demo -o shown --model micro-run/weights")
def demo(output: opt.OutputFolder = Path("demo"), model: MicroModel = "micro") -> Result:
    """Run the whole pipeline and write a page with pictures."""
    from litetext.micro.demo import DemoOptions, run_demo
    from litetext.storage import only_writer

    check_target(output, models=[model], folder=True)
    check_ours(output / "index.html", "<title>LiteText")
    with only_writer(output, "to this folder"), show_progress() as progress:
        report = run_demo(output, DemoOptions(model=model), progress)
    lines = []
    for contestant in report.contestants:
        scores, kept = contestant.scores.overall, contestant.kept(report.contestants[0])
        share = "" if kept is None else f" ({kept:.1f} % kept)"
        lines.append(
            f"{contestant.name}, {contestant.parameters / 1e6:.2f} M parameters: cgF1 {scores.cgf1:.1f}{share}, "
            f"IL_MCC {scores.il_mcc:.2f}, pmF1 {scores.pmf1:.1f}"
        )
    lines.append(f"Open {report.page} in a browser. Then try: litetext audit YOUR_PROMPTS.txt -o report")
    return Result(report.to_json(), "\n".join(lines))


def _with_progress(made: Iterable[Made], total: int, progress: Callable[[str, float], None]) -> Iterator[Made]:
    for number, one in enumerate(made, 1):
        progress("drawing", number / total)
        yield one
