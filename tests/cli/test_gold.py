"""`litetext evaluate gold` with a model, with all subsets, with average precision: on a tiny random host."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pycocotools")
from litetext.cli import run
from litetext.evaluation import predict as predicting
from litetext.sam3.segmenter import Segmenter
from litetext.storage import only_writer
from tests.cli.helpers import failure
from tests.evaluation.files import stripe, write_predictions, write_truth
from tests.evaluation.worlds import write_world

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]

A, B = stripe(0, 20), stripe(50, 70)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``gold.json`` and ``images/`` in the folder in which the user works."""
    write_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(host_folder: Path) -> list[str]:
    return [
        "evaluate",
        "gold",
        "--gt",
        "gold.json",
        "--model",
        str(host_folder),
        "--images",
        "images",
        "--device",
        "cpu",
    ]


@pytest.fixture
def subsets(tmp_path: Path) -> Path:
    """Two of the seven, one with three annotators, and their predictions."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    for letter, mask in zip("abc", (B, A, B), strict=True):
        write_truth(folder / f"gold_fg_food_merged_{letter}_release_test.json", {1: [mask], 2: []})
    write_truth(folder / "gold_sa1b_merged_a_release_test.json", {1: [A], 2: []})
    (tmp_path / "found").mkdir()
    write_predictions(tmp_path / "found" / "food.json", [(1, A, 0.9)])
    write_predictions(tmp_path / "found" / "sa1b.json", [(1, B, 0.9)])
    return folder


def count_pictures(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """The pictures that are predicted from now on; the user presses Ctrl-C at the n-th."""
    seen: list[str] = []
    real = predicting.find_instances

    def counted(segmenter: Any, picture: Any) -> Any:
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(picture.name)
        return real(segmenter, picture)

    monkeypatch.setattr(predicting, "find_instances", counted)
    return seen


def test_predict_and_score(capsys: pytest.CaptureFixture[str], world: Path, typed: list[str]) -> None:
    assert run([*typed, "--threshold", "0.05", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "Predictions: predictions.json\n"
    scores = json.loads(captured.out)
    assert scores["pairs"]["all"] == 6
    found = json.loads((world / "predictions.json").read_bytes())
    assert found
    assert all(one["score"] >= 0.05 for one in found)
    # Scored alone, they say the same.
    assert run(["evaluate", "gold", "--gt", "gold.json", "--pred", "predictions.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == scores


def test_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], world: Path, typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*typed, "--threshold", "0.05", "--pred", "out/found.json"]
    with monkeypatch.context() as patch:
        count_pictures(patch, stop_at=2)
        assert run(arguments) == 130
        assert capsys.readouterr().err.startswith("Predictions: out/found.json\n")
    assert [path.name for path in (world / "out").iterdir()] == ["found.json.journal"]
    seen = count_pictures(monkeypatch)
    assert run(arguments) == 0
    assert "resuming after 2 of 3 pictures" in capsys.readouterr().err
    assert seen == ["c.png"]
    assert run([*typed, "--threshold", "0.05", "--pred", "whole.json"]) == 0
    assert (world / "whole.json").read_bytes() == (world / "out" / "found.json").read_bytes()


def test_what_is_done_is_only_scored(
    capsys: pytest.CaptureFixture[str], world: Path, typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([*typed, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(Segmenter, "from_pretrained", None)  # is not called
    shutil.rmtree(world / "images" / "sub")  # nor are the pictures needed
    assert run([*typed, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "Predictions: predictions.json (complete already)\n"
    assert json.loads(captured.out) == scores
    assert "threshold was 0.5, and is 0.1 now" in failure_after(capsys, [*typed, "--threshold", "0.1"])


def failure_after(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The last line of standard error of a command that fails."""
    assert run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_wrong_model_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], world: Path, typed: list[str]) -> None:
    wrong = [*typed[:5], str(world / "images"), *typed[6:]]
    assert "no config.json" in failure_after(capsys, wrong)
    assert sorted(path.name for path in world.iterdir()) == ["gold.json", "images"]
    assert run(typed) == 0  # the right one is not refused


def test_two_commands_with_one_output(
    capsys: pytest.CaptureFixture[str], world: Path, typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is refused before it loads the model."""
    with only_writer(world / "predictions.json.journal", "it", folder=False), monkeypatch.context() as patch:
        patch.setattr(Segmenter, "from_pretrained", None)
        assert "another process writes these predictions" in failure(capsys, *typed)
    assert run(typed) == 0


def test_pictures_outside_their_folder(capsys: pytest.CaptureFixture[str], world: Path, typed: list[str]) -> None:
    content = (world / "gold.json").read_text("utf-8").replace('"c.png"', '"../images/c.png"')
    (world / "gold.json").write_text(content, encoding="utf-8")
    assert "'../images/c.png'" in failure(capsys, *typed)


def test_annotations_of_segment_are_predictions(
    capsys: pytest.CaptureFixture[str], world: Path, host_folder: Path
) -> None:
    """What `litetext segment -o` writes, end to end."""
    gold = json.loads((world / "gold.json").read_bytes())
    gold["images"] = gold["images"][:-1]  # it asks the first pair again
    (world / "gold.json").write_text(json.dumps(gold), encoding="utf-8")
    phrases = [option for phrase in ("dog", "cat", "white dog", "né") for option in ("-p", phrase)]
    pictures = ["images/a.png", "images/sub/b.png", "images/c.png"]
    options = ["--model", str(host_folder), "--device", "cpu", "--threshold", "0.05", "-o", "found"]
    assert run(["segment", *pictures, *phrases, *options]) == 0
    capsys.readouterr()
    command = ["evaluate", "gold", "--gt", "gold.json", "--pred", "found/annotations.json"]
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"]["all"] == 5
    assert run(["segment", "images/a.png", *phrases, *options[:-1], "less"]) == 0
    capsys.readouterr()
    assert "picture or phrase is not in it" in failure(capsys, *command[:-1], "less/annotations.json")


def test_missing_pictures(capsys: pytest.CaptureFixture[str], world: Path, typed: list[str]) -> None:
    (world / "images" / "c.png").unlink()
    assert "'c.png' of the pair 'x'" in failure(capsys, *typed)


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--gt", "gold.json", "--model", "m"], "--images", 2),
        (["--gt", "gold.json"], "--pred", 2),
        (["--gt", "gold.json", "--pred", "p.json", "--images", "images"], "give --model", 1),
        (["--gt", "gold.json", "--pred", "p.json", "--threshold", "0.1"], "give --model", 1),
        (["--gt", "gold.json", "--pred", "p.json", "--text-encoder", "s0.pt"], "give --model", 1),
        (["--gt", "gold.json", "--pred", "p.json", "--dtype", "bf16"], "give --model", 1),
        (
            ["--gt", "gold.json", "--model", "m", "--images", "images", "--context-length", "16"],
            "give --text-encoder",
            1,
        ),
        (["--gt", "gold.json", "--model", "m", "--images", "images", "--threshold", "0.7"], "give 0 to 0.5", 1),
        (["--gt", "gold.json", "--model", "m", "--images", "nowhere"], "no such folder, nowhere", 1),
        (["--gt", "gold.json", "images", "--pred", "p.json"], "a folder among several files", 1),
        (["--gt", "images", "--pred", "found"], "no annotations of SA-Co Gold, images", 1),
        (["--gt", "images", "--pred", "gold.json"], "one file for several subsets, --pred; give a folder", 1),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], world: Path, arguments: list[str], message: str, status: int
) -> None:
    assert message in failure(capsys, "evaluate", "gold", *arguments, status=status)


def test_the_table_of_subsets(capsys: pytest.CaptureFixture[str], subsets: Path, tmp_path: Path) -> None:
    assert run(["evaluate", "gold", "--gt", str(subsets), "--pred", str(tmp_path / "found"), "--ap"]) == 0
    captured = capsys.readouterr()
    lines = [line.split("│")[1:-1] for line in captured.out.splitlines()]
    rows = {cells[0].strip(): [float(cell) for cell in cells[1:]] for cells in lines if cells}
    # Against the first annotator the prediction of Food is wrong, and so its AP is 0.
    assert rows["Food"] == pytest.approx([100, 1, 100, 0, 0, 0], abs=0.02)
    assert rows["SA-1B"] == [0, 1, 0, 0, 0, 0]
    assert rows["average"] == pytest.approx([50, 1, 50, 0, 0, 0], abs=0.01)
    assert list(rows) == ["SA-1B", "Food", "average"]
    assert "2 of 7 subsets" in captured.out
    told = captured.err.splitlines()
    assert told[0] == "warning: SA-1B has 1 of 3 annotators: gold_sa1b_merged_a_release_test.json"
    assert told[1].startswith("warning: not in the average: MetaCLIP has no annotations in ")
    assert [line.split()[5] for line in told[1:]] == ["MetaCLIP", "Crowded", "Sport", "Attributes", "Wiki"]


def test_subsets_as_one_json_object(capsys: pytest.CaptureFixture[str], subsets: Path, tmp_path: Path) -> None:
    (tmp_path / "found" / "sa1b.json").unlink()
    arguments = ["evaluate", "gold", "--gt", str(subsets), "--pred", str(tmp_path / "found"), "--json"]
    assert run(arguments) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert list(found["subsets"]) == ["food"]
    assert found["cgf1"] == pytest.approx(100, abs=0.02)
    assert found["missing"] == ["metaclip", "sa1b", "crowded", "sport", "attributes", "wiki"]
    assert "SA-1B has no predictions" in captured.err
    (tmp_path / "found" / "food.json").unlink()
    assert "no predictions" in failure_after(capsys, arguments)


def test_subsets_with_a_model(
    capsys: pytest.CaptureFixture[str], world: Path, host_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world / "gold").mkdir()
    for stem in ("crowded", "wiki_common"):
        shutil.copy(world / "gold.json", world / "gold" / f"gold_{stem}_merged_a_release_test.json")
    arguments = ["evaluate", "gold", "--gt", "gold", "--model", str(host_folder), "--images", "images", "--json"]
    with monkeypatch.context() as patch:
        count_pictures(patch, stop_at=4)
        assert run([*arguments, "--device", "cpu"]) == 130
    assert sorted(path.name for path in (world / "predictions").iterdir()) == [
        "crowded.json",
        "crowded.json.run",
        "wiki.json.journal",
    ]
    capsys.readouterr()
    seen = count_pictures(monkeypatch)
    assert run([*arguments, "--device", "cpu"]) == 0
    assert len(seen) == 2
    captured = capsys.readouterr()
    assert "crowded.json (complete already)" in captured.err
    assert "wiki.json (resuming after 1 of 3 pictures)" in captured.err
    found = json.loads(captured.out)
    assert found["subsets"]["crowded"] == found["subsets"]["wiki"]


def test_average_precision_of_one_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "a.json", {1: [A], 2: [B]})
    found = write_predictions(tmp_path / "p.json", [(1, A, 0.9), (2, B, 0.1)])
    arguments = ["evaluate", "gold", "--gt", str(truth), "--pred", str(found), "--ap"]
    assert run([*arguments, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["ap"]
    assert (scores["ap"], scores["ap50"], scores["ap75"]) == (pytest.approx(1),) * 3
    assert run(arguments) == 0
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if cells}
    assert rows["AP"] == ["100.00", "100.00", "100.00"]
    assert rows["AP large"] == ["-", "", ""]
    assert rows["AR"] == ["100.00", "", ""]


def test_ap_wants_poor_predictions(capsys: pytest.CaptureFixture[str], world: Path, typed: list[str]) -> None:
    assert run([*typed, "--ap", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: AP is too low without poor predictions: give --threshold 0.01")
    assert json.loads(captured.out)["ap"]["ap"] == -1  # the world has no instance


def test_help_shows_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "gold", "--help"]) == 0
    assert "--model facebook/sam3 --images metaclip" in capsys.readouterr().out
