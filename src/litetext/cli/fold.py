"""`litetext fold`."""

from litetext.cli.app import Debug, Json, app, echo, print_json, show_progress
from litetext.cli.corpora import read_corpus
from litetext.cli.models import Context, Positions
from litetext.cli.students import CHECKED, Check, Output, Sources, Student, student_files, warn_if_far


@app.command(
    epilog="\b\nExamples:\n  litetext fold micro-student -o folded.safetensors\n"
    "  litetext fold s0_ctx16.pt prompts.txt -o folded.safetensors --positions slice --context 16"
)
def fold(
    file: Student,
    output: Output,
    sources: Sources = None,
    check: Check = CHECKED,
    positions: Positions = "auto",
    context: Context = None,
    json: Json = False,
    debug: Debug = False,  # noqa: ARG001 - read by `run`
) -> None:
    """Fold RepMixer blocks and their batch norms for inference, and leave out tensors that nobody reads.

    The features are the same up to rounding; how far they move is measured on the phrases.
    """
    from litetext.export.compress_io import draw_texts
    from litetext.export.fold import fold_checkpoint
    from litetext.prompts.readers import ReadOptions

    files = student_files(file, output, positions, context, sources)
    texts = draw_texts(read_corpus(sources, ReadOptions()).texts, check)
    with show_progress() as progress:
        done = fold_checkpoint(files, texts, lambda share: progress("comparing", share))
    warn_if_far(done.fidelity)
    if json:
        print_json(done.to_json())
    else:
        echo("\n".join(done.lines()))
