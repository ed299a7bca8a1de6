"""The server of the page: what it is made of, and what keeps it safe."""

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from litetext.app.workbench import MAX_BYTES, Workbench
from litetext.errors import MissingExtraError, OptionError

SWEEP_SECONDS, KEPT_SECONDS = 60, 1800  # how often files that were uploaded or given out are removed, at which age
SESSIONS = 32  # that are kept; of more, the one that was not used for longest is forgotten
WAITING = 64  # calls in the queue; of more, the newest is refused
_ENVELOPE = 2**20  # bytes of a request beside the file in it
# The browser itself refuses whatever would come from elsewhere. Gradio has scripts in its page and makes functions.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

Message = MutableMapping[str, Any]


class Limits:
    """ASGI middleware: a request that is too large is refused while it comes in, and answers say what is allowed."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BYTES + _ENVELOPE:
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"too large"})
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message: Message = await receive()
            taken += len(message.get("body", b""))
            return {"type": "http.disconnect"} if taken > MAX_BYTES + _ENVELOPE else message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        await self.app(scope, counted, with_headers)


def guard(component: Any) -> Any:
    """A component that takes files: uploads alone, which Gradio neither fetches from elsewhere nor decodes."""
    import gradio

    move, folder = component.async_move_resource_to_block_cache, Path(component.GRADIO_CACHE).resolve()

    async def only_files(path: Any) -> Any:
        if "://" in str(path):
            raise gradio.Error("not an upload", print_exception=False)
        return await move(path)

    def path_of(payload: Any) -> str | None:
        if payload is None:
            return None
        # Gradio checks the path only where the caller says that it is one of a file.
        path = Path(payload.path or "/").resolve()
        if folder not in path.parents:
            raise gradio.Error("not an upload", print_exception=False)
        return str(path)

    component.async_move_resource_to_block_cache = only_files
    component.preprocess = path_of
    return component


def build(bench: Workbench) -> Any:
    """The page as `gradio.Blocks`; without their server."""
    gr = import_gradio()
    from litetext.app.audit_tab import add_audit
    from litetext.app.encoders_tab import add_encoders
    from litetext.app.segment_tab import add_segment
    from litetext.app.track_tab import add_track

    tabs = {"Segment": add_segment, "Track": add_track, "Audit": add_audit, "Encoders": add_encoders}
    with gr.Blocks(
        title="LiteText", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS), fill_width=False
    ) as page:
        gr.Markdown(f"# LiteText\n\nModel: {bench.model}.")
        for name, add in tabs.items():
            with gr.Tab(name):
                add(bench, guard)
    page.queue(max_size=WAITING, api_open=False)
    return page


def import_gradio() -> Any:
    """Gradio with its telemetry off; a `MissingExtraError` where it is not installed."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        import gradio
    except ImportError as error:
        raise MissingExtraError("the page", "app") from error
    return gradio


def _theme(gr: Any) -> Any:
    """Fonts of the system, and colors with the contrast that WCAG 2.2 asks for."""
    fonts: Any = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    theme = gr.themes.Default(primary_hue="blue", secondary_hue="blue", neutral_hue="slate", **fonts)
    soft = ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color", "block_label_text_color")
    return theme.set(
        **dict.fromkeys(soft, "*neutral_600"),
        **{f"{name}_dark": "*neutral_400" for name in soft},
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Where uploads and files that are given out lie; it goes when the server ends."""
    with tempfile.TemporaryDirectory(prefix="litetext-app-") as name:
        os.environ["GRADIO_TEMP_DIR"] = name
        yield Path(name)


@contextmanager
def serving(
    bench: Workbench, host: str = "127.0.0.1", port: int | None = None, auth: tuple[str, str] | None = None
) -> Iterator[str]:
    """Serve the page while the block runs; its address.

    Args:
        bench: what it works with.
        host: the address to listen at; by default this machine alone can reach it.
        port: None: the first free one from 7860 on.
        auth: a user and the password.

    Raises:
        OptionError: the port is in use.
        MissingExtraError: Gradio is not installed.
    """
    gr = import_gradio()
    page = build(bench)
    folder = Path(__file__).parent
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            auth=auth,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            inbrowser=False,
            show_error=False,
            max_file_size=MAX_BYTES,
            state_session_capacity=SESSIONS,
            max_threads=8,
            footer_links=["api"],
            run_history=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            ssr_mode=False,
            theme=_theme(gr),
            css_paths=folder / "page.css",
            head=f"<script>{(folder / 'page.js').read_text('utf-8')}</script>",
            app_kwargs={"middleware": [(Limits, (), {})]},
        )
    except OSError as error:
        raise OptionError(f"port {port} cannot be used", hint="give another --port, or none") from error
    try:
        yield str(address)
    finally:
        page.close(verbose=False)
