"""The Segment tab: what Python's segmenter finds, from what is kept."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import litetext as lt
from litetext.app.segment_tab import Kept, ask, differences, draw_scene, look, read_boxes, render, save
from litetext.app.workbench import Workbench
from litetext.errors import ImageError, LiteTextError, OptionError
from litetext.sam3.masks import decode_masks
from litetext.sam3.segmenter import Exemplars, Segmenter
from tests.app.conftest import ASKED

THRESHOLDS = ((0.5, 0.5), (0.06, 0.5), (0.94, 0.2), (0.3, 0.9))
EVIL = "<img src=x onerror=alert(1)>\n\x1b[31mred\n{{value}} ${alert(1)}\nred car"


@pytest.fixture(scope="module")
def kept(bench: Workbench, scene: Path) -> Kept:
    return ask(bench, str(scene), ASKED)


@pytest.mark.parametrize(("threshold", "mask_threshold"), THRESHOLDS)
def test_masks_are_those_of_python(kept: Kept, scene: Path, threshold: float, mask_threshold: float) -> None:
    for name, masks in zip((None, "micro-student"), kept.masks(threshold, mask_threshold), strict=True):
        options = {"threshold": threshold, "mask_threshold": mask_threshold, "threads": 1}
        wanted = lt.Segmenter.from_pretrained("micro", name, **options)(scene, ASKED.splitlines())
        assert [one.prompt for one in masks] == ASKED.splitlines()
        for one, other in zip(masks, wanted, strict=True):
            assert np.array_equal(one.masks, other.masks)
            assert np.array_equal(one.scores, other.scores)
            assert np.array_equal(one.boxes, other.boxes)
    assert sum(map(len, kept.masks(0.06, 0.5)[0])) > sum(map(len, kept.masks(0.94, 0.5)[0])) > 0


def test_exemplars_go_with_the_phrases(bench: Workbench, scene: Path) -> None:
    found = ask(bench, str(scene), "car", "10, 20, 60, 70\nnot 80,80,100,120").masks(0.5, 0.5)[0]
    boxes = Exemplars([[10, 20, 60, 70], [80, 80, 100, 120]], [True, False])
    wanted = bench.readers[0].segmenter(scene, "car", boxes)
    assert np.array_equal(found[0].masks, wanted[0].masks)
    assert read_boxes(" \n") is None
    for text in ("1,2,3", "a,b,c,d", "5,5,1,1", "nan,1,2,3", "1,2,3,4\n" * 17):
        with pytest.raises(OptionError):
            read_boxes(text)


def test_another_phrase_does_not_embed_again(
    bench: Workbench, scene: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = type(bench.readers[0].segmenter.engine)
    monkeypatch.setattr(engine, "embed", lambda *_: pytest.fail("embedded again"))
    again = ask(bench, str(scene), "white dog", kept=kept)
    assert again.embedding is kept.embedding
    assert "embed the picture" not in again.times
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64)).save(other)
    with pytest.raises(pytest.fail.Exception, match="embedded again"):
        look(bench, str(other), kept)


def test_a_slider_computes_nothing_again(bench: Workbench, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(bench.readers[0].segmenter.engine), "run", lambda *_: pytest.fail("computed again"))
    monkeypatch.setattr(Segmenter, "rows", lambda *_: pytest.fail("read again"))
    assert render(bench, kept, 0.5, 0.5) != render(bench, kept, 0.06, 0.5)
    with pytest.raises(OptionError):
        kept.masks(2.0, 0.5)


def test_sessions_share_no_features(bench: Workbench, scene: Path) -> None:
    one, other = ask(bench, str(scene), "red car"), ask(bench, str(scene), "white dog")
    assert not {id(part) for part in one.segmenters} & {id(part) for part in other.segmenters}
    assert set(one.segmenters[0]._features) == {"red car"}
    assert "red car" not in other.segmenters[0]._features


def test_the_page_shows_what_was_found(bench: Workbench, kept: Kept) -> None:
    html = render(bench, kept, 0.5, 0.5)
    found = kept.masks(0.5, 0.5)
    assert html.count("<path ") == sum(len(one) for masks in found for one in masks)
    for one in found[0]:
        for score in one.scores:
            assert f"<title>{one.prompt} {score:.2f}</title>" in html
    assert "nothing found" in html
    for part in ("embed the picture", "micro-student: find", "5.21 M", 'type="range"', "data:image/png;base64,"):
        assert part in html


def test_phrases_are_text(bench: Workbench, scene: Path) -> None:
    html = render(bench, ask(bench, str(scene), EVIL), 0.05, 0.5)
    assert "&lt;img src=x" in html
    assert not any(mark in html for mark in ("<img src=x", "\x1b", "{{", "${"))
    assert r"\x1b[31mred" in html


def test_differences_of_two_encoders(kept: Kept) -> None:
    masks = kept.masks(0.5, 0.5)
    rows = differences([masks[0], masks[0]])
    assert [row[1:] for row in rows] == [
        [str(len(one))] * 3 + (["1.000", "0.000"] if len(one) else ["–", "–"]) for one in masks[0]
    ]
    assert differences([masks[0]]) == []
    apart = kept.masks(0.06, 0.5)[0]
    assert int(differences([masks[0], apart])[1][2]) > int(differences([masks[0], apart])[1][1])


def test_files(bench: Workbench, kept: Kept, scene: Path) -> None:
    *files, archive = map(Path, save(bench, kept, 0.5, 0.5))
    assert [file.name for file in files] == [
        "overlay-micro.png",
        "annotations-micro.json",
        "overlay-micro-student.png",
        "annotations-micro-student.json",
    ]
    masks = bench.readers[0].segmenter(scene, ASKED.splitlines())
    assert np.array_equal(np.asarray(Image.open(files[0])), np.asarray(masks.draw()))
    data: dict[str, Any] = json.loads(files[1].read_text("utf-8"))
    every = [mask for one in masks for mask in one.masks]
    codes = [one["segmentation"] for one in data["annotations"]]
    assert np.array_equal(decode_masks(codes, (160, 160)), np.array(every))
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.testzip() is None
        cuts = [name for name in zipped.namelist() if name.startswith("micro/cutouts/")]
        assert len(cuts) == len(every)
        with zipped.open(cuts[0]) as file:
            cut = np.asarray(Image.open(file))
    rows, columns = np.flatnonzero(every[0].any(axis=1)), np.flatnonzero(every[0].any(axis=0))
    inside = every[0][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert np.array_equal(cut[..., 3] > 0, inside)
    whole = np.asarray(Image.open(scene))[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert np.array_equal(cut[..., :3][inside], whole[inside])
    with pytest.raises(OptionError, match="nothing to save"):
        save(bench, None, 0.5, 0.5)


def test_another_scene(bench: Workbench) -> None:
    (path, phrases), (other, _) = draw_scene(bench), draw_scene(bench)
    assert Path(path).read_bytes() != Path(other).read_bytes()
    assert 2 <= len(phrases.splitlines()) <= 4
    assert ask(bench, path, phrases).masks(0.5, 0.5)


def test_mistakes(bench: Workbench, scene: Path) -> None:
    for path, text, kind in ((None, "a", ImageError), (str(scene), "", OptionError), (str(scene), "a\n" * 2, None)):
        if kind is None:
            assert len(ask(bench, path, text).phrases) == 1
        else:
            with pytest.raises(kind):
                ask(bench, path, text)
    assert issubclass(OptionError, LiteTextError)
