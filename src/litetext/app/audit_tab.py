"""Audit: what prompts use of a text encoder, figure by figure, and a student that is pruned for them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from litetext.app.workbench import MAX_CHARACTERS, Workbench, check_upload, messages, safe_html
from litetext.auditing.rendering import write_report
from litetext.auditing.run import AuditReport, audit
from litetext.errors import EncoderError, MissingExtraError, OptionError
from litetext.prompts.corpus import Prompt, PromptCorpus
from litetext.prompts.readers import read_prompts

MAX_PROMPTS = 200_000
FEWEST = 3  # distinct prompts whose geometry can be measured
SAMPLE = 1000  # prompts whose features are computed: a report is to come in seconds
NOTHING = "nothing"  # as a text encoder: geometry and word order are left out


def open_corpus(text: str, path: str | None = None) -> PromptCorpus:
    """Prompts that were pasted, one a line, and those of an upload, as `litetext audit` reads them."""
    if len(text or "") > MAX_CHARACTERS:
        raise OptionError(f"{len(text):,} characters of prompts", hint="upload them as a file")
    prompts: list[Prompt | str] = [line for line in (text or "").splitlines() if line.strip()]
    read_as: dict[str, str] = {}
    if path:
        file = check_upload(path, "file of prompts")
        read = islice(read_prompts([file], read_as=read_as), MAX_PROMPTS + 1)
        prompts += [replace(prompt, source=file.name) for prompt in read]
    if not prompts:
        raise OptionError("no prompts", hint="paste some, one a line, or upload a file")
    if len(prompts) > MAX_PROMPTS:
        raise OptionError(f"more than {MAX_PROMPTS:,} prompts", hint="litetext audit reads any number")
    return PromptCorpus.build(prompts, {Path(name).name: how for name, how in read_as.items()})


def reports(
    bench: Workbench, corpus: PromptCorpus, encoder: str = NOTHING, progress: Callable[[str, float], None] | None = None
) -> Iterator[AuditReport]:
    """The audit as it comes: first what needs no encoder, then with geometry and word order."""
    reader = None if encoder == NOTHING else bench.reader(encoder)
    yield audit(corpus, progress=progress)
    if reader is not None and len(corpus) >= FEWEST:
        yield audit(corpus, encoder=reader.segmenter.encoder, sample=SAMPLE, progress=progress)


def prune(bench: Workbench, corpus: PromptCorpus, encoder: str) -> tuple[Path, list[str]]:
    """A student with the token rows that prompts need: its file, and what it comes to, line by line."""
    reader = bench.reader(encoder)
    try:
        from litetext.checkpoints.load import load_encoder
        from litetext.export.compress import Student
    except ModuleNotFoundError as error:
        raise MissingExtraError("pruning", "sam3") from error
    if reader.spec is None:
        raise EncoderError("the model's own text encoder is no student", hint="choose a student, or distill one")
    small = Student.of(load_encoder(reader.spec)).prune(corpus)
    path = bench.new_folder() / "pruned.safetensors"
    small.save(path)
    return path, small.report.lines()


def frame(page: Path) -> str:
    """A report on the page: a document of its own, with its own style."""
    return safe_html(
        f'<iframe class="lt-report" title="Audit report" srcdoc="{escape(page.read_text("utf-8"))}"></iframe>'
    )


def add_audit(bench: Workbench, guard: Any) -> None:
    """Put the tab on the page that is being built."""
    import gradio as gr

    names = [reader.name for reader in bench.readers]
    students = [reader.name for reader in bench.readers if reader.spec is not None]
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            text = gr.Textbox(label="Prompts, one a line (thousands: as a file)", lines=10, max_lines=10)
            file = guard(gr.File(label="Or a file: txt, csv, json, COCO, ..."))
            encoder = gr.Dropdown([NOTHING, *names], value=names[-1], label="Measure geometry and word order of")
            start = gr.Button("Audit", variant="primary")
            student = gr.Dropdown(students, value=students[0] if students else None, label="Student to prune")
            cut = gr.Button("Prune for these prompts", interactive=bool(students))
            pruned, said = gr.File(label="Pruned student", visible=False, interactive=False), gr.HTML(elem_id="pruned")
        with gr.Column(scale=3, min_width=300):
            view = gr.HTML("<p>Paste prompts or upload them, then choose Audit.</p>", elem_id="report")
            files = gr.Files(label="Report as a page and as JSON", visible=False, interactive=False)
    answer, api = gr.JSON(visible=False), gr.Button(visible=False)

    def run(text: str, path: str | None, name: str, progress: Any = gr.Progress()) -> Any:  # noqa: B008
        with messages():
            found = reports(bench, open_corpus(text, path), name, lambda stage, share: progress(share, desc=stage))
            for report in found:
                page = write_report(report, bench.new_folder())
                kept = [str(page), str(page.with_name("report.json"))]
                yield frame(page), gr.Files(kept, visible=True)

    def shrink(text: str, path: str | None, name: str) -> Any:
        with messages():
            made, lines = prune(bench, open_corpus(text, path), name)
            return gr.File(str(made), visible=True), safe_html(
                f'<div class="lt"><pre>{escape(chr(10).join(lines))}</pre></div>'
            )

    def api_audit(prompts: str, file: str | None, encoder: str) -> Any:
        """Audit prompts (one a line, or a file), and the text encoder of that name: the report as JSON."""
        with messages():
            *_, report = reports(bench, open_corpus(prompts, file), encoder)
            return report.to_json()

    model: Any = {"concurrency_id": "audits", "concurrency_limit": 1}
    hidden: Any = {"api_visibility": "private"}
    start.click(run, [text, file, encoder], [view, files], **model, **hidden)
    cut.click(shrink, [text, file, student], [pruned, said], **model, **hidden)
    api.click(api_audit, [text, file, encoder], answer, api_name="audit", **model)
