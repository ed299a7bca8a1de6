"""What `import litetext` offers: the example of the README, on the micro model."""

import html
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import litetext as lt
from litetext.pages import html_table
from litetext.sam3.images import read_image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"
TUTORIAL = NOTEBOOK.parents[1] / "docs" / "tutorials" / "notebook.md"
COLORS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey", "pink", "orange")
THINGS = ("circle", "square", "dog", "star", "apple", "tree", "cup", "car", "cat", "fish", "bird", "house")
PHRASES = [f"{color} {thing}" for color in COLORS for thing in THINGS]


def test_few_names_each_documented() -> None:
    names = dir(lt)
    assert len(names) <= 40
    assert lt.__all__ == sorted(set(names) - {"__version__"})
    assert lt.__version__.count(".") == 2
    for name in lt.__all__:
        value = getattr(lt, name)
        assert value.__name__ == name
        assert value.__doc__


def test_the_reference_has_each_name() -> None:
    page = (NOTEBOOK.parents[1] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: litetext\.(\w+)$", page, re.MULTILINE)) == lt.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        lt.nothing  # noqa: B018


def test_importing_does_no_work() -> None:
    code = "import sys, litetext; print(sorted({'numpy', 'torch', 'tokenizers', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_audit_needs_no_torch() -> None:
    code = "import sys, litetext; litetext.audit(['white dog']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_an_audit_in_a_notebook() -> None:
    report = lt.audit([lt.Prompt("<b>white</b> dog", 3), lt.Prompt("red car", 1, "<i>")])
    assert repr(report).startswith("AuditReport(4 prompts, 2 distinct.")
    assert "\n" not in repr(report)
    shown = report._repr_html_()
    assert shown.count("<table") == 1
    for advice in report.advice:
        assert advice.text.replace("`", "") in html.unescape(re.sub("</?code>", "", shown))
    assert '<td data-label="truncated">0.0 %' in shown
    assert "&lt;i&gt;" in html_table("<i>", ("a", "b"), [("<i>", 1 / 3)])
    assert "<i>" not in html_table("<i>", ("a", "b"), [("<i>", 1 / 3)])


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A red car, in a file."""
    from litetext.micro.scenes import SceneOptions, make_scene

    Image.fromarray(make_scene(187, SceneOptions(split="test")).pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def test_the_tutorial_runs(scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks[0].replace("\n\n", "\n").splitlines()) == 6  # from the import to the masks
    monkeypatch.chdir(scene.parent)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert "red car [0.99" in capsys.readouterr().out
    with Image.open("found.png") as saved:
        assert saved.width == 160
    car, dog = masks = names["masks"]
    assert (repr(car), len(dog)) == ("Masks('red car': 1 found, best score 1.00, 160 x 160 pixels)", 0)
    shown, before = Image.open(io.BytesIO(masks._repr_png_())), np.asarray(read_image(scene))
    assert shown.tobytes() == masks.draw(scene).tobytes()
    left, top, right, bottom = car.boxes[0].astype(int)
    changed = np.asarray(shown)[:160, :160] != before
    assert changed[top:bottom, left:right].mean() > 0.3
    scene.unlink()
    assert car._repr_png_() is None  # the notebook shows the text then


def test_images_as_users_have_them(scene: Path) -> None:
    sam = lt.Segmenter.from_pretrained("micro", "micro-student", threshold=0.999999)
    picture = Image.open(scene)
    assert len(sam(scene, "red car")[0]) == 0
    several = sam([scene, str(scene), picture, np.asarray(picture)], "red car", threshold=0.4)
    assert [one[0].scores.tolist() for one in several] == [
        sam(scene, ["red car"], threshold=0.4)[0].scores.tolist()
    ] * 4
    assert [type(one) for one in several] == [lt.ImageMasks] * 4
    assert several[2][0].image is picture  # no copy
    assert sam([], "red car") == []
    with pytest.raises(lt.LiteTextError, match="least 0"):
        sam(scene, "red car", threshold=-1)
    with pytest.raises(lt.LiteTextError, match="not known"):
        lt.ImageMasks().draw()


def test_names_where_objects_are_needed() -> None:
    for wrong, right in (
        (lambda: lt.Segmenter("micro", "micro-student"), "Segmenter.from_pretrained"),
        (lambda: lt.TextEncoder("micro-student"), r"TextEncoder.from_pretrained\('micro-student'\)"),
        (lambda: lt.Segmenter.from_pretrained("micro", thresold=0.4), "'threshold'"),
        (lambda: lt.embed(["dog"], "micro", "nowhere", dtyp="fp16"), "'dtype'"),
        (lambda: lt.audit(["dog"], encoder="micro"), "'text_encoder'"),
        (lambda: lt.distill("nowhere", output_dir="nowhere", epoch=3), "'epochs'"),
    ):
        with pytest.raises(lt.LiteTextError, match=right):
            wrong()

    class Own(lt.TextEncoder):  # a class of the user's still is one
        name = "own"

    assert Own().name == "own"


def test_what_needs_pytorch_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litetext._face.find_spec", lambda _name: None)
    for work in (lambda: lt.embed(["dog"], "micro", tmp_path), lambda: lt.distill(tmp_path, output_dir=tmp_path)):
        with pytest.raises(lt.LiteTextError, match=r"litetext.\w+ needs the extra 'sam3'"):
            work()


@pytest.mark.slow
@pytest.mark.torch
def test_an_audit_takes_names(scene: Path) -> None:
    pytest.importorskip("transformers")
    names = {"text_encoder": "micro-student", "student": "micro-student", "model": "micro"}
    report = lt.audit(PHRASES[:20], images=scene, pairs=4, **names)
    assert report.order is not None
    assert report.attenuation is not None


@pytest.mark.torch
def test_encoders_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(lt.LiteTextError, match=r"TextEncoder.from_pretrained\('micro'\)"):
        lt.make_bank(tmp_path / "b.safetensors", PHRASES, "micro")  # type: ignore[arg-type]
    bank = lt.make_bank(tmp_path / "b.safetensors", PHRASES, lt.TextEncoder.from_pretrained("micro"))
    assert repr(bank) == f"PromptBank('{bank.path}': 120 phrases, 480 tokens, 0.1 MB; fp16 features of 'micro')"
    assert np.array_equal(bank.encode("red circle")[0], bank.encode(["red circle"])[0])
    host = lt.load_host("micro", device="cpu")
    with pytest.raises(lt.LiteTextError, match=r"TextEncoder.from_pretrained\('micro'\)"):
        lt.swap_text_encoder(host, "micro")  # type: ignore[arg-type]
    with lt.swap_text_encoder(host, lt.TextEncoder.from_pretrained(tmp_path / "b.safetensors")):
        encoder = lt.Segmenter(host).encoder
    assert repr(encoder) == repr(bank)
    texts = lt.TextEncoder.from_pretrained("micro-student")
    assert repr(texts) == "Student('micro-student', context length 16, width 64)"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phrases, and the pictures and truths of some of them."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from litetext.cli import run

    folder = tmp_path_factory.mktemp("face")
    (folder / "prompts.txt").write_text("\n".join(PHRASES), encoding="utf-8")
    assert run(["micro", "world", "-o", str(folder / "world"), "--pairs", "12", "--seed", "1"]) == 0
    return folder


@pytest.mark.torch
def test_from_prompts_to_masks(world: Path) -> None:
    """Every line of the example in the design, video apart."""
    prompts = world / "prompts.txt"
    for source in (prompts, PHRASES):
        assert lt.audit(source).to_json()["prompts"]["total"] == len(PHRASES)

    teacher = lt.TextEncoder.from_pretrained("micro", device="cpu")
    features = lt.embed(prompts, teacher, cache_dir=world / "features")
    assert len(features) == len(PHRASES)

    student = lt.distill(features, preset="micro-xs", context_length=16, epochs=1, output_dir=world / "run")
    assert student.report.best["epoch"] in {0, 1}
    assert student.report.path == world / "run"
    dog = student.encode("white dog")
    assert dog.values.shape[0] == dog.mask.shape[0] == 1
    assert dog.values.shape[2] == teacher.width
    assert dog.values.equal(student.encode(["white dog"]).values)

    small = student.prune(prompts).quantize("int8")
    assert small.report is not None
    assert small.report.steps[-1].parameters < small.report.steps[0].parameters

    runtime = small.export(world / "onnx", target="onnx")
    assert isinstance(runtime, lt.TextRuntime)
    assert np.array_equal(runtime.encode("white dog")[0], runtime.encode(["white dog"])[0])
    served = lt.compare(student, runtime, PHRASES)
    assert served.mean > 0.9
    assert lt.compare(student, world / "onnx", prompts).mean == pytest.approx(served.mean)

    sam = lt.Segmenter.from_pretrained("micro", text_encoder=runtime, device="cpu")
    picture = next((world / "world" / "images").iterdir())
    masks = sam(picture, ["white dog", "leash"])
    assert [one.prompt for one in masks] == ["white dog", "leash"]
    by_path = lt.Segmenter.from_pretrained("micro", text_encoder=world / "onnx", device="cpu")
    assert [one.scores.tolist() for one in by_path(picture, ["white dog", "leash"])] == [
        one.scores.tolist() for one in masks
    ]
    scores = lt.evaluate(sam, world / "world" / "gold.json", images=[world / "world"])
    assert -1 <= scores.il_mcc <= 1
    assert scores.cgf1 <= 100
    assert sam.track([picture], "white dog").clip.name in repr(sam.track([picture], "white dog"))
    told = (teacher, features, student, student.report, small, small.report, runtime, served, sam, *masks, scores)
    for one in (*told, dog, lt.bundled_corpus()):
        assert repr(one).startswith(type(one).__name__)
        assert "\n" not in repr(one)
        assert len(repr(one)) < 300
    assert f"cgf1 {scores.cgf1:.4g}" in repr(scores)
    tables = [one._repr_html_() for one in (student.report, small.report, scores)]
    assert [table.count("<table") for table in tables] == [1, 1, 1]
    assert "data:image/png" in tables[0]
    assert f"{small.report.steps[-1].bytes / 1e6:.4g}" in tables[1]
    assert f"{scores.pmf1:.4g}" in tables[2]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["micro", "micro-student"])
def test_encoders_take_a_text_or_several(name: str) -> None:
    pytest.importorskip("transformers")
    encoder = lt.TextEncoder.from_pretrained(name, device="cpu")
    assert encoder.encode("red circle").values.equal(encoder.encode(["red circle"]).values)


def code_cells(notebook: Path) -> list[str]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.torch
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in code_cells(NOTEBOOK):
        exec(compile(cell, str(NOTEBOOK), "exec"), names)
    assert names["scores"].cgf1 > 20
    assert len(names["several"][2][2]) > 1
    assert names["served"].mean > 0.99
