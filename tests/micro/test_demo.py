"""The demonstration on the shipped weights: a page that stands on its own, and says what was found."""

import html
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.cli import run
from litetext.evaluation.cgf1 import Tally, count_pair, score
from litetext.micro import demo
from litetext.micro.demo import Answer, Contestant, DemoOptions, DemoReport, run_demo
from litetext.micro.evaluation import MicroScores
from litetext.prompts.corpus import PromptCorpus, bundled_corpus

pytestmark = pytest.mark.torch
OPTIONS = DemoOptions(
    pictures=2,
    size=200,
    pairs=12,
    plots=("crossing",),
    frames=8,
    preset="micro-xs",
    phrases=600,
    out_of_domain=50,
    epochs=1,
)


def list_commands(page: Path) -> list[list[str]]:
    """The commands of a page as words."""
    blocks = re.findall(r"<pre>(.*?)</pre>", page.read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in html.unescape(block).splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("litetext ")]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoReport, list[str]]:
    folder = tmp_path_factory.mktemp("demo")
    stages: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        few = PromptCorpus.build(bundled_corpus().texts[:400])
        patch.setattr(demo, "bundled_corpus", lambda: few)  # an audit of all takes half of the time
        return folder, run_demo(folder, OPTIONS, lambda stage, _: stages.append(stage)), stages


def test_the_page_has_everything_that_it_names(shown: tuple[Path, DemoReport, list[str]]) -> None:
    folder, report, stages = shown
    page = report.page.read_text("utf-8")
    assert report.page == folder / "index.html"
    links = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert links
    for link in links:
        assert not link.startswith("http")
        assert (folder / link).is_file(), link
    assert f"{report.verdict}</p>" in page
    assert "54.1" not in page[: page.index("What prompts use")]  # SAM3's cgF1, of other data, is not set beside it
    for file, answers in (shot for both in report.shots for shot in both):
        with Image.open(folder / file) as image:
            assert image.size == (200, 200)
        assert {len(answers)} <= {3, 4}
        for answer in answers:
            assert answer.phrase in page
            assert answer.verdict in page
    order = list(dict.fromkeys(stages))
    assert order[0] == "auditing"
    assert order.index("segmenting") < order.index("tracking") < order.index("scoring: its own text encoder")
    assert order[-1] == "scoring: student, pruned, int8"


def test_pictures_say_what_is_in_them(shown: tuple[Path, DemoReport, list[str]]) -> None:
    _, report, _ = shown
    page = html.unescape(report.page.read_text("utf-8"))
    texts = re.findall(r'<img src="[^"]+" alt="([^"]+)"', page)
    assert len(texts) == len(set(texts)) == 2 * (len(report.shots) + len(report.clips))
    sides = [one.name for one in report.followed]
    for number, pair in enumerate(report.shots):
        for side, (_, answers) in enumerate(pair):
            said = "; ".join(f"{answer.phrase}: {answer.verdict}" for answer in answers)
            assert texts[2 * number + side] == f"picture {number + 1}, {sides[side]}. {said}"


@pytest.mark.slow
def test_the_commands_on_the_page(
    shown: tuple[Path, DemoReport, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each works, and what they are asked to find is there."""
    _, report, _ = shown
    monkeypatch.chdir(tmp_path)
    commands = list_commands(report.page)
    assert len(commands) >= 6
    found = {}
    for words in commands:
        assert run([*words[1:], "--json"]) == 0, words
        found[words[1]] = json.loads(capsys.readouterr().out)
    (car,) = [one for one in found["segment"]["annotations"] if one["score"] > 0.5]
    assert car["area"] > 0
    assert found["track"]["phrases"][0]["tracks"] > 0
    assert found["evaluate"]["pairs"] == 200


def test_the_scores_on_the_page_are_those_of_the_report(shown: tuple[Path, DemoReport, list[str]]) -> None:
    folder, report, _ = shown
    written = json.loads((folder / "scores.json").read_text("utf-8"))
    assert written["cgf1"] == pytest.approx(report.scores.overall.cgf1)
    assert report.to_json()["cgf1"] == written["cgf1"]
    assert written["pairs"]["all"] == 12
    assert [one["name"] for one in written["students"]] == [
        "student, distilled just now", "student of the package", "student, pruned, int8",
    ]  # fmt: skip
    first, _, small = report.contestants[1:]
    assert small.parameters < first.parameters
    assert small.bytes < first.bytes / 2
    assert all(0 < one["parameters"] < 0.12 * written["parameters"] for one in written["students"])
    assert f"{report.scores.overall.cgf1:.1f}" in report.page.read_text("utf-8")


def test_the_clips_are_followed_by_both(shown: tuple[Path, DemoReport, list[str]]) -> None:
    folder, report, _ = shown
    page = report.page.read_text("utf-8")
    (files,) = report.clips
    for file in files:
        assert f'src="{file}"' in page
        with Image.open(folder / file) as animation:
            assert animation.n_frames == 8
            assert animation.width == animation.height
    teacher, student = report.followed
    assert [one.phrase for one in teacher.answers[0]] == [one.phrase for one in student.answers[0]]
    row = teacher.to_json()
    assert row["instances"] >= 2  # the twins that cross
    assert row["right"] >= 1
    assert row["right"] <= min(row["instances"], row["masks"])
    assert json.loads((folder / "scores.json").read_text("utf-8"))["clips"] == [row, student.to_json()]


def test_verdicts() -> None:
    assert Answer("dog", 0, 0, 0).verdict == "absent, and nothing found"
    assert Answer("dog", 0, 2, 0).verdict == "absent, but 2 found"
    assert Answer("dog", 3, 3, 2).verdict == "2 of 3 found, 1 wrong"
    assert Answer("dog", 3, 2, 2).verdict == "2 of 3 found"
    assert [Answer("dog", *one).is_perfect for one in ((0, 0, 0), (2, 2, 2), (2, 2, 1), (1, 2, 1), (0, 1, 0))] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_is_kept() -> None:
    scores = MicroScores(score(Tally.of([count_pair(np.ones((1, 1)))])), (), {}, None)
    nothing = MicroScores(score(Tally.of([count_pair(np.zeros((1, 1)))])), (), {}, None)
    teacher = Contestant("teacher", 100, 400, scores)
    assert Contestant("student", 10, 40, nothing).kept(teacher) in {0, None}
    assert teacher.kept(Contestant("nothing", 1, 4, nothing)) is None
