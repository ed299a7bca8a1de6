"""`litetext evaluate gold`: what a user types, what is printed, what fails and how."""

import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")

from litetext.cli import run
from tests.cli.helpers import failure
from tests.evaluation.files import stripe, write_predictions, write_truth
from tests.evaluation.synthetic import rectangle, rle

A, B = stripe(0, 20), stripe(50, 70)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three annotators (the second agrees with the predictions) and the predictions."""
    truths = [write_truth(tmp_path / f"{name}.json", {1: [mask], 2: []}) for name, mask in zip("abc", (B, A, B))]  # noqa: B905
    return [str(path) for path in (*truths, write_predictions(tmp_path / "p.json", [(1, A, 0.9)]))]


def test_one_json_object(capsys: pytest.CaptureFixture[str], files: list[str]) -> None:
    assert run(["evaluate", "gold", "--gt", files[1], "--pred", files[3], "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert found["cgf1"] == pytest.approx(100, abs=0.02)
    assert found["pmf1"] == pytest.approx(100, abs=0.02)
    assert found["il_mcc"] == pytest.approx(1, abs=1e-5)
    assert found["pairs"]["all"] == 2


@pytest.mark.parametrize("manner", ["one after another", "repeated", "commas"])
def test_three_annotators_in_any_manner(capsys: pytest.CaptureFixture[str], files: list[str], manner: str) -> None:
    a, b, c, predictions = files
    typed = {
        "one after another": ["--gt", a, b, c],
        "repeated": ["--gt", a, "--gt", b, "--gt", c],
        "commas": ["--gt", f"{a},{b}, {c}"],
    }[manner]
    assert run(["evaluate", "gold", *typed, "--pred", predictions, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cgf1"] == pytest.approx(100, abs=0.02)


def test_a_comma_in_a_name(capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path) -> None:
    odd = tmp_path / "a,b.json"
    odd.write_bytes(Path(files[1]).read_bytes())
    assert run(["evaluate", "gold", "--gt", str(odd), "--pred", files[3], "--json"]) == 0


def test_one_table(capsys: pytest.CaptureFixture[str], files: list[str]) -> None:
    assert run(["evaluate", "gold", "--gt", files[1], "--pred", files[3]]) == 0
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if cells}
    assert rows["cgF1"] == ["99.98", "99.98", "99.98"]
    assert rows["IL_MCC"] == ["1.0000", "", ""]
    assert {
        "pmF1",
        "precision",
        "recall",
        "F1",
        "positive macro F1",
        "IL precision",
        "IL recall",
        "IL F1",
        "IL FPR",
    } <= (rows.keys())


def test_an_undefined_score_is_a_dash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth, predictions = write_truth(tmp_path / "a.json", {1: []}), write_predictions(tmp_path / "p.json", [])
    assert run(["evaluate", "gold", "--gt", str(truth), "--pred", str(predictions)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "macro" in line)
    assert line.count("-") == 3


def test_masks_of_another_size_are_told(capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path) -> None:
    small = write_predictions(tmp_path / "small.json", [(1, rle(rectangle((5, 5), 0, 0, 5, 5)), 0.9)])
    assert run(["evaluate", "gold", "--gt", files[1], "--pred", str(small), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: predictions of another size than the true mask, which match nothing: 1\n"
    assert json.loads(captured.out)["misfits"] == 1


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], files: list[str], tmp_path: Path) -> None:
    message = failure(capsys, "evaluate", "gold", "--gt", "nowhere.json", "--pred", files[3])
    assert message == "error: no such file, nowhere.json; check the path\n"
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    assert "not JSON" in failure(capsys, "evaluate", "gold", "--gt", files[0], "--pred", str(broken))
    unknown = write_predictions(tmp_path / "unknown.json", [(5, A, 0.9)])
    assert "one is 5" in failure(capsys, "evaluate", "gold", "--gt", files[0], "--pred", str(unknown))
    assert "--pred" in failure(capsys, "evaluate", "gold", "--gt", files[0], status=2)
    assert "--gt" in failure(capsys, "evaluate", "gold", "--pred", files[3], status=2)


@pytest.mark.parametrize(
    ("size", "counts"),
    [([10, 10], "f0820000000000000`1"), ([10, 10], "!!!!"), ([0, 160], "0"), ([2 * 10**9] * 2, "T3"), ([10, 10], "é")],
)
@pytest.mark.parametrize("damaged", ["truth", "predictions"])
def test_a_damaged_mask_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, size: list[int], counts: str, damaged: str
) -> None:
    mask = {"size": size, "counts": counts}
    truth = write_truth(tmp_path / "a.json", {1: [mask if damaged == "truth" else A]})
    found = write_predictions(tmp_path / "p.json", [(1, A if damaged == "truth" else mask, 0.9)])
    message = failure(capsys, "evaluate", "gold", "--gt", str(truth), "--pred", str(found))
    assert ("a.json" if damaged == "truth" else "p.json") in message
    assert "pair 1;" in message


def test_compressed_files(capsys: pytest.CaptureFixture[str], files: list[str]) -> None:
    packed = [Path(f"{name}.gz") for name in (files[1], files[3])]
    for path in packed:
        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
    assert run(["evaluate", "gold", "--gt", str(packed[0]), "--pred", str(packed[1]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cgf1"] == pytest.approx(100, abs=0.02)


def test_without_a_command_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "evaluate", status=2).startswith("error: Missing command")


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "gold", "--help"]) == 0
    assert "litetext evaluate gold --gt a.json b.json c.json --pred found.json" in capsys.readouterr().out


def test_plain_coco(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    size = {"height": 10, "width": 10}
    document = {
        "images": [{"id": 3, "file_name": "a.jpg", **size}, {"id": 4, "file_name": "b.jpg", **size}],
        "categories": [{"id": 1, "name": "stop_sign"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "segmentation": A},
            {"id": 2, "image_id": 4, "category_id": 2, "segmentation": [[0, 0, 10, 0, 10, 5, 0, 5]]},
        ],
    }
    (tmp_path / "gt.json").write_text(json.dumps(document), encoding="utf-8")
    found = [{**one, "image_id": one["image_id"] - 2, "score": 0.9} for one in document["annotations"]]
    # As `litetext segment` writes it: pictures and phrases by their names, whatever their numbers.
    images = [{"id": 1, "file_name": "photos/a.jpg"}, {"id": 2, "file_name": "photos/b.jpg"}]
    categories = [{"id": 1, "name": "stop sign"}, {"id": 2, "name": "dog"}]
    ours = {"images": images, "categories": categories, "annotations": found}
    results = [{**one, "image_id": one["image_id"] + 2} for one in found]
    for name, predictions in (("annotations.json", ours), ("results.json", results)):
        (tmp_path / name).write_text(json.dumps(predictions), encoding="utf-8")
        typed = ["evaluate", "gold", "--gt", str(tmp_path / "gt.json"), "--pred", str(tmp_path / name), "--json"]
        assert run(typed) == 0
        captured = capsys.readouterr()
        scores = json.loads(captured.out)
        assert scores["pairs"] | {"all": 4, "true_positive": 2, "true_negative": 2} == scores["pairs"]
        assert scores["cgf1"] == pytest.approx(100, abs=0.02)
        assert "4 pairs of 2 pictures" in captured.err
        assert run([*typed, "--no-exhaustive"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["pairs"]["all"] == 2
        assert "warning" in captured.err
    assert "--exhaustive" in failure(capsys, "evaluate", "gold", "--gt", str(tmp_path), "--pred", "x", "--exhaustive")
