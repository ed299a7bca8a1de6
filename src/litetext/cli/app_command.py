"""`litetext app`."""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from litetext.cli import _options as opt
from litetext.cli._app import Result, command
from litetext.cli._options import measure, open_encoder, option
from litetext.cli._output import echo
from litetext.device import resident_bytes
from litetext.errors import CacheError, OptionError

if TYPE_CHECKING:
    from litetext.app.workbench import Workbench

LOCAL = "127.0.0.1"


@command(
    "Segmenting",
    "litetext app",
    "litetext app --text-encoder micro --text-encoder micro-student-xs --port 8080",
    "litetext app --model facebook/sam3 --text-encoder s0.safetensors",
    "litetext app --host 0.0.0.0 --auth me:secret",
)
def app(
    model: opt.Model = "micro",
    text_encoder: Annotated[
        list[str] | None,
        option(
            "Encoder or bank in place of the model's own; give two to compare them.",
            "--text-encoder",
            metavar=opt.PATH_OR_HUB,
        ),
    ] = None,
    host: Annotated[str, option("Address to listen at; by default only this machine reaches it.")] = LOCAL,
    port: Annotated[int | None, option("Default: the first free one from 7860 on.", min=1, max=65535)] = None,
    auth: Annotated[str | None, option("Ask for a user and a password.", metavar="USER:PASSWORD")] = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    engine: opt.Engine = "auto",
    threads: Annotated[int | None, option("To compute with, without PyTorch. Default: one for each core.")] = None,
) -> Result | None:
    """Serve a page in the browser.

    It segments, tracks, audits and compares text encoders. It stays on this machine: it loads nothing from elsewhere
    and sends nothing. Ctrl-C ends it. Without --text-encoder: the model's own, for micro beside its student.
    """
    from litetext.app.server import import_gradio, serving, temporary_folder

    user, colon, password = (auth or "").partition(":")
    if auth is not None and not (user and colon and password):
        raise OptionError("no user and password", where="--auth", hint="give USER:PASSWORD")
    import_gradio()
    sys.argv[1:] = ["app"]  # reports say at their foot which command made them: not with this password
    with temporary_folder() as folder:
        bench = open_bench(model, text_encoder, folder, device=device, dtype=dtype, engine=engine, threads=threads)
        stop = _asked_to_end()  # before anybody can reach the page
        with serving(bench, host, port, (user, password) if auth else None) as address:
            if host != LOCAL and auth is None:
                echo(f"warning: whoever reaches {host} can use the page; --auth asks for a password", err=True)
            echo(f"LiteText: {address} (Ctrl-C ends it)", err=True)
            threading.Thread(target=_warm, args=(bench,)).start()
            while not stop.wait(3600):
                pass
    return None


def open_bench(model: str, names: list[str] | None, folder: Path, **loaded: Any) -> "Workbench":
    """Load the text encoders and the model around them, and see what each encoder takes."""
    from litetext._face import Segmenter, choose_engine
    from litetext.app.workbench import Reader, Workbench
    from litetext.export.segment_runtime import shipped_text

    chosen: list[str | None] = list(names) if names else [None]
    if names is None and model == "micro":
        chosen.append("micro-student")
    if len(set(chosen)) < len(chosen) or len(chosen) > 2:
        raise OptionError("more than two text encoders, or one twice", where="--text-encoder", hint="give one or two")
    device, dtype, threads = (loaded.get(name) for name in ("device", "dtype", "threads"))
    engine = choose_engine(model, loaded.get("engine", "auto"), device=device, dtype=dtype)
    shipped_text("micro-student-xs").encode(["red car"])  # what all encoders share is loaded before memory is measured
    if engine == "torch":
        import_module("torch")
    kind, placed = "torch" if engine == "torch" else "onnx", (device or "auto", dtype or "auto")
    opened = {spec: _measured(lambda spec=spec: open_encoder(spec, "auto", None, *placed, kind))  # type: ignore[misc]
              for spec in chosen if spec is not None}  # fmt: skip
    encoder = None if chosen[0] is None else opened[chosen[0]][0]
    placing: dict[str, Any] = {"device": device, "dtype": dtype} if engine == "torch" else {}
    first = Segmenter.from_pretrained(model, encoder, engine=engine, threads=threads, calibrated=False, **placing)
    readers = []
    for spec in chosen:
        name = spec or model
        if spec is not None:
            own, grown = opened[spec]
        elif engine == "torch":
            own, grown = first.encoder, measure(name, first.encoder).bytes
        else:
            own, grown = _measured(first.engine.own_encoder)
        segmenter, size = first.with_encoder(own), measure(name, own)
        segmenter.calibration = opt.ModelChoice(model, spec).calibration
        readers.append(Reader(name, segmenter, size.parameters, size.bytes, spec, grown))
    return Workbench(model, readers, folder)


def _measured(load: Callable[[], Any]) -> tuple[Any, int | None]:
    """A text encoder, and the memory that the process took to load it and to read a first phrase."""
    before = resident_bytes(trim=True)
    encoder = load()
    with suppress(CacheError):  # a bank may not have this phrase
        encoder.encode(["red car"])
    after = resident_bytes(trim=True)
    return encoder, None if before is None or after is None else max(0, after - before)


def _warm(bench: "Workbench") -> None:
    """Open the programs that would be opened for the first picture."""
    from PIL import Image

    segmenter = bench.readers[0].segmenter
    if segmenter.engine.name != "torch":
        segmenter.run(segmenter.embed(Image.new("RGB", (160, 160))), segmenter.rows(["red car"]))


def _asked_to_end() -> threading.Event:
    """Set by Ctrl-C, or when the process is asked to end: both let the folder of uploads be removed."""
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return stop
