"""Track, Audit and Encoders without a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from litetext.app import track_tab
from litetext.app.audit_tab import NOTHING, frame, open_corpus, prune, reports
from litetext.app.encoders_tab import compare_encoders, cosines
from litetext.app.encoders_tab import render as render_encoders
from litetext.app.workbench import Workbench
from litetext.auditing.rendering import write_report
from litetext.errors import EncoderError, ImageError, OptionError, PromptError
from litetext.features.encode import pooled_features

PROMPTS = "red car\nwhite dog\nnot a cat\na man with a hat\nthree red apples\nred car"


def test_track_gives_what_python_gives(bench: Workbench) -> None:
    pytest.importorskip("av")
    path, phrases = track_tab.draw_clip(bench)
    summary, rows, files = track_tab.track(bench, path, phrases)
    assert [Path(file).name for file in files] == ["overlay.mp4", "masklets.json", "tracks.csv", "counts.csv"]
    from litetext.video.frames import open_clip
    from litetext.video.methods import make_tracker
    from litetext.video.tracking import track_frames

    listed = phrases.splitlines()
    with open_clip(path) as clip:
        wanted = list(track_frames(make_tracker(bench.readers[0].segmenter, listed), clip))
    ids = {number: prompt for one in wanted for number, prompt in zip(one.ids.tolist(), one.prompts, strict=True)}
    assert {int(row[0]): row[1] for row in rows} == ids
    assert summary["frames"] == len(wanted)
    with open_clip(files[0]) as drawn:
        assert len(list(drawn)) == len(wanted)
    masklets = json.loads(Path(files[1]).read_text("utf-8"))
    assert str(bench.folder) not in json.dumps(masklets["info"])
    html = track_tab.render(summary, rows)
    assert html.count("<tr>") == len(rows) + bool(rows)


def test_track_takes_the_first_frames(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(track_tab, "MAX_FRAMES", 3)
    clip = tmp_path / "clip.gif"
    frames = [Image.new("RGB", (48, 48), (40 * number, 0, 0)) for number in range(5)]
    frames[0].save(clip, save_all=True, append_images=frames[1:])
    summary, rows, _ = track_tab.track(bench, str(clip), "<b>cat</b>")
    assert summary["frames"] == 3
    html = track_tab.render(summary, rows)
    assert "only the first 3" in html
    assert "<b>cat" not in html
    text = tmp_path / "clip.mp4"
    text.write_text("no clip")
    for path, phrases, kind in (
        (str(text), "cat", ImageError),
        (None, "cat", ImageError),
        (str(clip), "", OptionError),
    ):
        with pytest.raises(kind):
            track_tab.track(bench, path, phrases)
    with pytest.raises(OptionError):
        track_tab.track(bench, str(clip), "cat", encoder="other")


def test_the_audit_comes_in_steps(bench: Workbench, tmp_path: Path) -> None:
    corpus = open_corpus(PROMPTS)
    first, second = reports(bench, corpus, "micro-student")
    assert (first.geometry, first.order) == (None, None)
    assert second.geometry is not None
    assert second.order is not None
    assert first.whole.total == 6
    assert len(list(reports(bench, corpus, NOTHING))) == 1
    assert len(list(reports(bench, open_corpus("a\nb"), "micro"))) == 1
    html = frame(write_report(second, tmp_path))
    assert html.startswith("<iframe")
    assert "&lt;svg" in html
    assert html.count("<") == 2


def test_prompts_of_an_upload(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("prompt\nred car\nblue car\n")
    corpus = open_corpus("white dog", str(table))
    assert list(corpus.texts) == ["white dog", "red car", "blue car"]
    assert "table.csv" in corpus.sources
    assert not any(str(tmp_path) in name for name in (*corpus.sources, *corpus.read_as))
    (tmp_path / "x.txt").write_bytes(b"\0\1\2" * 99)
    with pytest.raises(PromptError):
        open_corpus("", str(tmp_path / "x.txt"))
    for text in ("", "a" * 2**21):
        with pytest.raises(OptionError):
            open_corpus(text)


@pytest.mark.torch
def test_a_student_is_pruned_for_the_prompts(bench: Workbench) -> None:
    from litetext.checkpoints.load import load_encoder

    path, lines = prune(bench, open_corpus(PROMPTS), "micro-student")
    small, whole = load_encoder(path), load_encoder("micro-student")
    one, other = (pooled_features(encoder, ["red car"]) for encoder in (small, whole))
    assert np.array_equal(one, other)
    assert path.stat().st_size < 2e6
    assert any("prune" in line for line in lines)
    with pytest.raises(EncoderError, match="student"):
        prune(bench, open_corpus(PROMPTS), "micro")


def test_encoders_are_compared(bench: Workbench) -> None:
    found = compare_encoders(bench, "red car\na red car\nwhite dog\na cat and a dog\na dog and a cat")
    own = found["encoders"][0]
    matrix = np.array(own["cosines"])
    assert np.allclose(np.diag(matrix), 1)
    assert np.array_equal(matrix, matrix.T)
    assert own["nearest"][3:] == ["a dog and a cat", "a cat and a dog"]
    features = pooled_features(bench.readers[1].segmenter.encoder, ["red car", "white dog"]).astype(np.float64)
    wanted = features[0] @ features[1] / np.linalg.norm(features, axis=1).prod()
    assert cosines(bench.readers[1], ["red car", "white dog"])[0, 1] == pytest.approx(wanted)
    assert 0.5 < found["fidelity"]["mean"] < 1
    assert own["order"]["sampled"] >= 2
    html = render_encoders(bench, found)
    assert html.count('<table class="lt-heat">') == 2
    json.dumps(found, allow_nan=False)
    assert "<b>" not in render_encoders(bench, compare_encoders(bench, "<b>\n{{x}}"))
    with pytest.raises(OptionError, match="alone"):
        compare_encoders(bench, "red car")
