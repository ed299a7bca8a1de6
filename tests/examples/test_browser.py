"""The page in `examples/browser`: in headless Chromium, from 127.0.0.1 alone, it answers as Python does."""

import base64
import html.entities
import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from PIL import Image

from litetext.export.segment_exporter import export_segmenter
from litetext.export.segment_runtime import open_segmenter
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.prompts.corpus import bundled_corpus
from litetext.sam3.pixels import resize
from litetext.sam3.segmenter import Segmenter, SegmentOptions
from litetext.tokenizer.bpe import clip_tokenizer

pytestmark = [pytest.mark.torch, pytest.mark.slow]
BROWSER = Path(__file__).parents[2] / "examples" / "browser"
CHROMIUM = Path("/usr/bin/chromium")
# The size of each scene and what is cut out of it, so that sides differ and both ways of resizing occur.
SHAPES = [(160, (160, 160)), (333, (333, 251)), (96, (80, 96)), (480, (300, 480))]
STRANGE = [
    "Café crème", "cafe\u0301", "ÉCOLE", "naïve façade", "Straße", "ΟΔΟΣ", "İstanbul", "ŉ ĳs ﬁre ﬂag", "red　car",
    "ＲＥＤ car", "红色的汽车", "赤い車", "빨간 자동차", "красная машина", "سيارة حمراء", "लाल कार", "รถสีแดง", "ｶﾞﾗｽ",
    "🚗", "👩‍👩‍👧 family", "❤️ heart", "🇬🇧 flag", "dog's bowl", "dog’s “bowl”", "they'll we're i'd", "it''s",
    "3 cars, 2½ m²", "№ 5", "Ⅻ", "a  b\t c\u00a0d\u2003e\u2028f\u0085g", "\ufeffred", "zero\u200bwidth",
    "soft\u00adhyphen", "\u0000null\u001b[31mred\u001b[0m", "\u0093quoted\u0094", "<start_of_text> cat",
    "<end_of_text>", "<b>bold</b> & more", "&", "a&b", "&lt;b&gt;", "&amp;amp;", "&#233;t&#xe9;", "salt&amp", "!!!",
    "---", "a" * 200, " ".join(["word"] * 60), "",
]  # fmt: skip
NODE = """
import { readFileSync } from "node:fs";
import { resize, Tokenizer } from "./litetext.js";
const { file, texts, pictures } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = new Tokenizer(JSON.parse(readFileSync(file, "utf8")));
const bytes = (text) => Buffer.from(text, "base64");
const resized = pictures.map(({ data, width, height, size }) => resize({ data: bytes(data), width, height }, ...size));
console.log(JSON.stringify({
  ids: texts.map((text) => tokenizer.encode(text)),
  resized: resized.map((pixels) => Buffer.from(pixels).toString("hex")),
}));
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "bundle"
    export_segmenter(Segmenter.from_pretrained("micro", device="cpu"), folder, ["red car"], name="micro")
    return folder


class Handler(SimpleHTTPRequestHandler):
    """The example below ``/0/``, ``/1/`` and so on, each with the bundle of that number."""

    server: "Server"

    def translate_path(self, path: str) -> str:
        number, _, name = path.partition("?")[0].lstrip("/").partition("/")
        if name.startswith("bundle/"):
            return str(self.server.bundles[int(number)] / name.removeprefix("bundle/"))
        return str(BROWSER / (name or "index.html"))

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bundles: list[Path] = []


class Browser:
    """A browser, and what its pages asked for."""

    def __init__(self, chromium: Any, server: Server) -> None:
        self.context = chromium.new_context(viewport={"width": 1100, "height": 800})
        self.server = server
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def open(self, bundle: Path) -> Any:
        """The page with a bundle."""
        self.server.bundles.append(bundle)
        page = self.context.new_page()
        page.goto(f"http://127.0.0.1:{self.server.server_port}/{len(self.server.bundles) - 1}/")
        return page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, in which the names of other machines cannot be looked up."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip(f"no {CHROMIUM} (apt-get install chromium)")
    if not (BROWSER / "node_modules").is_dir():
        pytest.skip("no onnxruntime-web (npm ci in examples/browser)")
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with Server() as server, playwright.sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=[*arguments, rules])
        yield Browser(chromium, server)
        chromium.close()
        server.shutdown()


@pytest.fixture(scope="module")
def page(browser: Browser, bundle: Path) -> Any:
    page = browser.open(bundle)
    wait(page, "Found 6 instances of 4 phrases.")
    return page


def wait(page: Any, status: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text(status, timeout=60_000)


def wait_error(page: Any, message: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#error")).to_have_text(message, timeout=60_000)


def scenes() -> list[tuple[Image.Image, list[str]]]:
    """Twenty pictures and the phrases that were made for each."""
    found = []
    for seed, (side, (width, height)) in enumerate(SHAPES * 5):
        pairs = list(make_pairs(seed, 3, SceneOptions(size=side, split="test", pairs=3)))
        picture = Image.fromarray(pairs[0].scene.pixels).crop((0, 0, width, height))
        found.append((picture, list(dict.fromkeys(pair.phrase.text for pair in pairs))))
    return found


def ask(page: Any, content: bytes, phrases: list[str]) -> dict[str, Any]:
    """What the page saves for a PNG file and phrases."""
    page.fill("#phrases", "\n".join(phrases))
    page.set_input_files("#file", {"name": "scene.png", "mimeType": "image/png", "buffer": content})
    wait(page, re.compile(rf"^Found \d+ instances? of {len(phrases)} phrase"))
    if page.is_disabled("#save"):
        return {"annotations": [], "categories": [{"id": 1 + place, "name": one} for place, one in enumerate(phrases)]}
    with page.expect_download() as download:
        page.click("#save")
    return json.loads(download.value.path().read_text())


def as_png(picture: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "png", **options)
    return stream.getvalue()


def decode(segmentation: dict[str, Any]) -> np.ndarray:
    """A mask from run lengths down its columns."""
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    assert all(counts[1:])
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def test_masks(page: Any, bundle: Path) -> None:
    """On twenty scenes: every mask pixel for pixel, boxes and scores to a thousandth."""
    segmenter = Segmenter(open_segmenter(bundle, threads=1))
    count = 0
    for picture, phrases in scenes():
        saved = ask(page, as_png(picture), phrases)
        assert [category["name"] for category in saved["categories"]] == phrases
        for place, want in enumerate(segmenter(picture, phrases), 1):
            found = [one for one in saved["annotations"] if one["category_id"] == place]
            assert len(found) == len(want), want.prompt
            for annotation, (mask, (left, top, right, bottom), score) in zip(found, want, strict=True):
                assert (decode(annotation["segmentation"]) == mask).all(), want.prompt
                assert annotation["area"] == mask.sum()
                assert np.allclose(annotation["bbox"], [left, top, right - left, bottom - top], atol=1e-3)
                assert abs(annotation["score"] - score) < 1e-3
            count += len(want)
    assert count > 30


def test_thresholds(page: Any, bundle: Path) -> None:
    """They act without another run of the model."""
    picture, phrases = scenes()[1]
    ask(page, as_png(picture), phrases)
    page.evaluate("() => { document.getElementById('times').textContent = ''; }")
    for threshold, mask_threshold in ((0.05, 0.5), (0.05, 0.9), (0.5, 0.2)):
        for name, value in (("threshold", threshold), ("mask-threshold", mask_threshold)):
            page.fill(f"#{name}", str(value))
        with page.expect_download() as download:
            page.click("#save")
        annotations = json.loads(download.value.path().read_text())["annotations"]
        options = SegmentOptions(threshold=threshold, mask_threshold=mask_threshold)
        results = Segmenter(open_segmenter(bundle, threads=1), options=options)(picture, phrases)
        assert [one["area"] for one in annotations] == [mask.sum() for result in results for mask in result.masks]
    assert page.inner_text("#times") == ""
    page.fill("#threshold", "0.99")
    page.fill("#threshold", "0.5")
    page.fill("#mask-threshold", "0.5")


def run_node(bundle: Path, texts: list[str], pictures: list[dict[str, Any]]) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    given = json.dumps({"file": str(bundle / "tokenizer.json"), "texts": texts, "pictures": pictures})
    command = [node, "--input-type=module", "-e", NODE]
    result = subprocess.run(command, cwd=BROWSER, input=given, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_tokens(bundle: Path) -> None:
    """Three thousand phrases of the corpus and of other scripts, in Node.js."""
    corpus = [prompt.text for prompt in bundled_corpus()]
    texts = [*corpus[:: max(1, len(corpus) // 3000)][:3000], *STRANGE]
    assert len(texts) >= 3000
    found = run_node(bundle, texts, [])["ids"]
    want = [ids.tolist() for ids in clip_tokenizer().encode(texts)]
    assert [text for text, one, other in zip(texts, found, want, strict=True) if one != other] == []


def test_tokens_of_named_characters(page: Any) -> None:
    """The browser's own parser reads what HTML calls by name, but two that Python takes for a wrong encoding."""
    names = sorted(name for name in html.entities.html5 if name.endswith(";") and name not in ("Acirc;", "Atilde;"))
    texts = [*(f"a &{name} b" for name in names), "caf&eacute caf&eacutes", *STRANGE]
    script = """async (texts) => {
      const { Tokenizer } = await import("./litetext.js");
      const tokenizer = new Tokenizer(await (await fetch("bundle/tokenizer.json")).json());
      return texts.map((text) => tokenizer.encode(text));
    }"""
    want = [ids.tolist() for ids in clip_tokenizer().encode(texts)]
    pairs = zip(texts, page.evaluate(script, texts), want, strict=True)
    assert [text for text, one, other in pairs if one != other] == []


def test_resize(bundle: Path) -> None:
    """Bit for bit, up and down, on odd sides and on a single pixel."""
    rng = np.random.default_rng(5)
    sizes = [(37, 133), (160, 160), (251, 333), (480, 640), (1, 1), (2, 700), (159, 161)]
    targets = [(160, 160), (97, 31), (333, 200)]
    pictures, want = [], []
    for height, width in sizes:
        pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        pixels[: height // 2] = np.where(pixels[: height // 2] > 127, 255, 0)
        for size in targets:
            data = base64.b64encode(pixels.tobytes()).decode()
            pictures.append({"data": data, "width": width, "height": height, "size": size})
            want.append(resize(np.ascontiguousarray(pixels[..., :3]), size).tobytes().hex())
    assert run_node(bundle, [], pictures)["resized"] == want


def test_upright(page: Any, bundle: Path) -> None:
    """A photograph that lies on its side in the file is turned, as Python turns it; what is transparent is white."""
    picture, phrases = scenes()[1]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    clear = picture.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 100, 80))
    segmenter = Segmenter(open_segmenter(bundle, threads=1))
    for one, options in ((picture.rotate(90, expand=True), {"exif": exif}), (clear, {})):
        content = as_png(one, **options)
        (bundle.parent / "one.png").write_bytes(content)
        want = segmenter(bundle.parent / "one.png", phrases)
        found = ask(page, content, phrases)["annotations"]
        masks = [mask for result in want for mask in result.masks]
        assert len(found) == len(masks) > 0
        assert all((decode(a["segmentation"]) == mask).all() for a, mask in zip(found, masks, strict=True))


def test_wrong_input(page: Any) -> None:
    """One line each, and the page goes on."""
    page.click("#example")
    wait(page, "Found 6 instances of 4 phrases.")
    pictures = {
        "notes.png": (b"no picture", "notes.png is not a picture that this browser reads"),
        "cut.png": (as_png(scenes()[0][0])[:100], "cut.png is not a picture that this browser reads"),
        "large.png": (
            as_png(Image.new("L", (10_000, 10_000))),
            "large.png has 100 million pixels: scale it down to 50 million",
        ),
    }
    for name, (content, message) in pictures.items():
        page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
        wait_error(page, message)
    page.set_input_files(
        "#file", {"name": "one.png", "mimeType": "image/png", "buffer": as_png(Image.new("L", (1, 1)))}
    )
    wait(page, re.compile(r"^Found \d+ instances? of 4 phrases"))
    page.fill("#phrases", " \n\t\n")
    page.click("#segment")
    wait_error(page, "an empty phrase: say what to look for")
    page.fill("#phrases", "\n".join(f"dog {number}" for number in range(101)))
    page.click("#segment")
    wait_error(page, "101 phrases: give at most 100")
    markup = '<img src="x" onerror="document.title = 1"><b>dog</b>'
    page.fill("#phrases", f"{markup}\n{markup}\n  ambulance ")
    page.press("#phrases", "Control+Enter")
    wait(page, re.compile(r"of 2 phrases\.$"))
    assert page.is_hidden("#error")
    assert markup in page.inner_text("#legend")
    assert page.locator("#legend img, #legend b").count() == 0
    assert page.title() == "Segment by phrase"


def test_wrong_bundle(browser: Browser, bundle: Path, tmp_path: Path) -> None:
    """None there, one of text alone, and one that was cut off."""
    page = browser.open(tmp_path)
    wait_error(page, "no bundle/litetext.json (HTTP 404): export a model to that folder first")
    page.close()
    (tmp_path / "litetext.json").write_text('{"litetext": 1, "target": "onnx"}')
    page = browser.open(tmp_path)
    wait_error(page, re.compile("^not a whole segmenter with its weights: "))
    page.close()
    shutil.copytree(bundle, tmp_path / "cut")
    file = tmp_path / "cut" / "decoder.onnx.data"
    file.write_bytes(file.read_bytes()[:-4096])
    page = browser.open(tmp_path / "cut")
    wait_error(page, re.compile("^bundle/decoder.onnx.data has .* bytes, not the "))
    assert page.is_disabled("#segment")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens(page: Any, scheme: str) -> None:
    """Nothing is cut off at 390 pixels; the page can be used with the keyboard."""
    page.click("#example")
    wait(page, "Found 6 instances of 4 phrases.")
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.focus("#phrases")
    order = []
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(page.evaluate("() => document.activeElement.id"))
    assert order == ["threshold", "mask-threshold", "segment", "save"]
    unnamed = "() => [...document.querySelectorAll('input, textarea')].filter((one) => !one.labels.length).length"
    assert page.evaluate(unnamed) == 0
    page.set_viewport_size({"width": 1100, "height": 800})


def test_requests(browser: Browser, page: Any) -> None:
    """Of all pages of this file: only to 127.0.0.1, and no script failed; others the page's policy forbids."""
    assert len(browser.requests) > 20
    assert [url for url in browser.requests if not re.match(r"http://127\.0\.0\.1:\d+/|blob:|data:", url)] == []
    assert browser.errors == []
    forbidden = "async (url) => { try { await fetch(url); return 'fetched'; } catch (error) { return String(error); } }"
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    assert "TypeError" in page.evaluate(forbidden, "http://127.0.0.2/")
    assert any("Content Security Policy" in text for text in refused)
