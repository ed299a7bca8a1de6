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
from litetext.evaluation.worst_cases import draw_panels, verdict, write_retention
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
    panels = draw_panels(answers)
    assert list(panels) == ["ground truth", "teacher", "student"]
    # Rows 0 and 1 of ten are A, 5 and 6 are B.
    drawn = [np.asarray(panel.convert("RGB")) for panel in panels.values()]
    assert {one.shape for one in drawn} == {(320, 320, 3)}
    tinted = [(one != 90).any(axis=2).mean(axis=1).reshape(10, 32).mean(axis=1) > 0.5 for one in drawn]
    rows = [np.flatnonzero(one).tolist() for one in tinted]
    assert rows == [[0, 1, 5, 6], [0, 1], [5, 6]]  # the first annotator's, the teacher's, the student's
    truth, teacher, student = drawn
    assert (truth[:64] == teacher[:64]).all()  # a thing has its color in all three
    assert (truth[160:224] == student[160:224]).all()


@pytest.mark.parametrize(("size", "panel"), [((100, 50), (320, 160)), ((1280, 3), (640, 2)), ((500, 400), (500, 400))])
def test_sizes_of_panels(size: tuple[int, int], panel: tuple[int, int]) -> None:
    pair = LabeledPair("x", Image.new("RGB", size), "dog " * 90, ((),))
    assert {one.size for one in draw_panels(Answers(pair, (), (), 0.0)).values()} == {panel}


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = write(tmp_path / "new" / "folder", [B])
    folder = tmp_path / "new" / "folder"
    assert page == folder / "index.html"
    html = page.read_text("utf-8")
    assert re.findall(r'(?:src|href)="(?!data:image/webp;base64,|#)', html) == []
    assert html.count("data:image/webp;base64,") == 3
    seen = [re.sub(".*, ", "", text) for text in re.findall(r'alt="([^"]+)"', html)]
    assert seen == re.findall("<figcaption>([^<]+)</figcaption></figure>", html)[1:]
    assert seen == ["ground truth: 2 masks", "teacher: 1 mask", "student: 1 mask"]
    assert "The student keeps" in html or "The student has" in html
    assert "a &lt;b&gt;bold&lt;/b&gt; \u201cd\u00f6g\u201d" in html
    assert "big &amp; slow" in html
    assert "<b>88.0 %</b>fewer parameters" in html
    assert json.loads((folder / "retention.json").read_text("utf-8")) == report(contest([B]))
    with Image.open(folder / "disagreements" / "01.png") as image:
        assert image.width == 3 * 320 + 2 * 8
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


def test_the_verdict() -> None:
    found = report(contest([A]))
    assert verdict(found).startswith("The student keeps 100.0 % of the teacher's cgF1 with 88.0 % fewer parameters")
    found["retention"] |= {"cgf1": 98.76, "interval": [95.04, 101.0]}
    found["parameters"] |= {"reduction": -4.0}
    said = verdict(found)
    assert "98.8 % of the teacher's cgF1 (95 % interval 95.0 to 101.0) with 4.0 % more parameters" in said
    assert "undefined" in verdict(found | {"retention": None})


def test_of_equal_disagreements_other_pictures_come_first() -> None:
    pairs = [known(number, phrase, [A]) for number in (1, 2) for phrase in ("dog", "cat", "cow")]
    teacher = {(number, phrase): [A] for number in (1, 2) for phrase in ("dog", "cat", "cow")}
    student = {(1, "cow"): [(0, 15)]}
    worst = compare(Scripted(teacher), Scripted(student), pairs, worst=4).worst  # type: ignore[arg-type]
    named = [(one.pair.picture, one.pair.phrase) for one in worst]
    assert named == [("1.png", "dog"), ("2.png", "dog"), ("1.png", "cat"), ("2.png", "cat")]
