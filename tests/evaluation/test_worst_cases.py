"""Pictures of disagreements and the page that shows them: everything is there, nothing is fetched."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.checkpoints.inspection import EncoderSize
from litetext.errors import OutputError
from litetext.evaluation import worst_cases as module
from litetext.evaluation.comparison import Answers, Comparison, compare, report_retention
from litetext.evaluation.labeled_pairs import LabeledPair
from litetext.evaluation.worst_cases import draw_answers, write_retention
from tests.evaluation.contests import Scripted, Stripes, known

A, B = (0, 20), (50, 70)
ODD = "a <b>bold</b> \u201cd\u00f6g\u201d"


def contest(student: Stripes, phrase: str = ODD) -> Comparison:
    pairs = [known(90, phrase, [A, B], [A]), known(90, "cat", [])]
    teacher = Scripted({(90, phrase): [A]})
    return compare(teacher, Scripted({(90, phrase): student}), pairs, worst=12)  # type: ignore[arg-type]


def report(comparison: Comparison) -> dict[str, Any]:
    return report_retention(comparison, EncoderSize("big & slow", 1000, 4000), EncoderSize("small", 120, 480))


def write(folder: Path, student: Stripes, phrase: str = ODD) -> Path:
    comparison = contest(student, phrase)
    return write_retention(report(comparison), comparison.worst, folder)


def test_three_panels() -> None:
    (answers,) = contest([B]).worst
    drawn = np.asarray(draw_answers(answers))
    assert drawn.shape[2] == 3
    # Panels of 320 pixels, 12 apart; rows 0 and 1 of ten are A, 5 and 6 are B.
    body = drawn[60:380]
    panels = [body[:, 12 + number * 332 :][:, :320] for number in range(3)]
    tinted = [(panel != 90).any(axis=2).mean(axis=1).reshape(10, 32).mean(axis=1) > 0.5 for panel in panels]
    rows = [np.flatnonzero(one).tolist() for one in tinted]
    assert rows == [[0, 1, 5, 6], [0, 1], [5, 6]]  # the first annotator's, the teacher's, the student's
    assert (drawn[:30] < 128).any()  # a heading


@pytest.mark.parametrize(("size", "panel"), [((100, 50), (320, 160)), ((1280, 3), (640, 2)), ((500, 400), (500, 400))])
def test_sizes_of_panels(size: tuple[int, int], panel: tuple[int, int]) -> None:
    pair = LabeledPair("x", Image.new("RGB", size), "dog " * 90, ((),))
    drawn = draw_answers(Answers(pair, (), (), 0.0))
    assert (drawn.width - 4 * 12) / 3 == panel[0]
    assert drawn.height - 60 - 12 == panel[1]


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = write(tmp_path / "new" / "folder", [B])
    folder = tmp_path / "new" / "folder"
    assert page == folder / "index.html"
    html = page.read_text("utf-8")
    assert re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', html) == []
    assert html.count("data:image/jpeg;base64,") == 1
    assert "a &lt;b&gt;bold&lt;/b&gt; \u201cd\u00f6g\u201d" in html
    assert "big &amp; slow" in html
    assert "<b>88.0 %</b>fewer parameters" in html
    assert json.loads((folder / "retention.json").read_text("utf-8")) == report(contest([B]))
    with Image.open(folder / "disagreements" / "01.png") as image:
        assert image.width == 3 * 320 + 4 * 12
    assert sorted(path.name for path in folder.iterdir()) == ["disagreements", "index.html", "retention.json"]


def test_a_page_without_a_disagreement(tmp_path: Path) -> None:
    page = write(tmp_path, [A])
    assert "No disagreement" in page.read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "retention.json"]


def test_a_page_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    write(folder, [B])
    write(folder, [A])  # without a disagreement
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "retention.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_stopped_while_it_is_written_the_old_page_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kept"
    write(folder, [B])
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "page_environment", stop)
    with pytest.raises(KeyboardInterrupt):
        write(folder, [(0, 5)])
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


@pytest.mark.parametrize("name", ["notes.txt", "disagreements/mine.png", "index.html"])
def test_what_is_not_ours_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "kept" / name).parent.mkdir(parents=True)
    (tmp_path / "kept" / name).write_text("mine")
    with pytest.raises(OutputError, match=r"something else is there, .*kept"):
        write(tmp_path / "kept", [B])
    assert (tmp_path / "kept" / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_the_working_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="working folder"):
        write(Path(), [B])


@pytest.mark.parametrize("phrase", ["two\nlines", "\x1b[31mred", "dog " * 100_000])
def test_odd_phrases_are_drawn(tmp_path: Path, phrase: str) -> None:
    page = write(tmp_path, [B], phrase)
    assert "\x1b" not in page.read_text("utf-8")


def test_a_page_of_an_undefined_ratio(tmp_path: Path) -> None:
    pairs = [known(1, "dog", [A])]
    comparison = compare(Scripted({}), Scripted({}), pairs)  # type: ignore[arg-type]
    size = EncoderSize("x", 1, 1)
    html = write_retention(report_retention(comparison, size, size), [], tmp_path).read_text("utf-8")
    assert "<b>undefined</b>" in html
