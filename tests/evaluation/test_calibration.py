"""Calibration on pairs whose scores are known, its file, and what a segmenter makes of it."""

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")
pytest.importorskip("scipy")
from litetext.cli import run
from litetext.errors import EncoderError, EvaluationError
from litetext.evaluation.calibration import (
    ScoredPair,
    calibrate,
    count_cgf1,
    draw_reliability,
    draw_scores,
    reliability,
    score_pairs,
)
from litetext.evaluation.cgf1 import THRESHOLDS, PairCounts, Tally, score
from litetext.evaluation.labeled_pairs import LabeledPair
from litetext.sam3.masks import RawMasks, encode_masks
from litetext.sam3.score_shift import SUFFIX, Calibration, find_calibration, shift_scores
from litetext.sam3.segmenter import Engine, Segmenter, SegmentOptions
from litetext.video.association import AssociationOptions, Associator
from litetext.video.tracking import Frame
from tests.cli.helpers import failure

ALL = len(THRESHOLDS)


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(logits)))


def world(shift: float = 0.0, presence: float = 0.0, count: int = 100) -> list[ScoredPair]:
    """Two pairs a picture, of two candidates each: logits 3 and -3 of the class, of presence 3 where it is, else -3.

    All with noise, and shifted. The first candidate is right where the phrase is there.
    """
    rng = np.random.default_rng(5)
    pairs = []
    for number in range(count):
        for is_there in (1, 0):
            classes = np.array([3.0, -3.0]) + rng.normal(size=2) + shift
            hits = np.full(ALL, is_there)
            counts = [PairCounts(0 * hits, 0, is_there), PairCounts(hits, 1, is_there), PairCounts(hits, 2, is_there)]
            there = float(sigmoid(6 * is_there - 3 + rng.normal() + presence))
            pairs.append(ScoredPair(f"{number}", sigmoid(classes).astype(np.float32), there, counts))
    return pairs


def test_draws_are_scored_as_an_evaluation_is() -> None:
    pairs = world(count=30)
    scores, draws = draw_scores(pairs, [(0.0, 0.0), (-4.0, 1.0)], 0, 3)
    tally = Tally.of(pair.counts[int((pair.scores((-4.0, 1.0)) >= 0.5).sum())] for pair in pairs)
    assert scores[1].cgf1 == score(tally).cgf1
    whole = [getattr(tally, field.name) for field in fields(Tally)]
    assert count_cgf1(*(np.asarray(value)[None] for value in whole)) == pytest.approx([scores[1].cgf1], abs=1e-9)
    assert draws.shape == (3, 2)


@cache
def as_it_is() -> dict[str, Any]:
    return calibrate(world(), seed=1)


@pytest.mark.parametrize(("shift", "presence"), [(-4.0, 0.0), (3.0, 0.0), (0.0, -4.0), (0.0, 4.0), (-3.0, -3.0)])
def test_shifted_scores_come_back(shift: float, presence: float) -> None:
    whole, report = as_it_is(), calibrate(world(shift, presence), seed=1)
    assert (whole["shift"], whole["presence"]) == (0, 0)  # what needs none gets none
    assert [report["shift"], report["presence"]] == pytest.approx([-shift, -presence], abs=1.5)
    lost = whole["before"]["cgf1"] - report["before"]["cgf1"]
    assert lost > 10
    assert report["change"]["cgf1"] >= 0.9 * lost
    low, high = report["change"]["interval"]
    assert 0 < low < report["change"]["cgf1"] < high
    assert report["pairs"] == [100, 100]


def test_few_pictures_are_refused() -> None:
    with pytest.raises(EvaluationError, match="19 pictures"):
        calibrate(world(count=19))


def test_reliability_by_hand() -> None:
    none, one = np.zeros(ALL, int), np.ones(ALL, int)
    counts = [PairCounts(none, 0, 1), PairCounts(none, 1, 1), PairCounts(one, 2, 1), PairCounts(one, 3, 1)]
    rows = reliability([ScoredPair("a", np.array([0.95, 0.93, 0.12], np.float32), 1.0, counts)])
    assert [row["candidates"] for row in rows] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert rows[9]["right"] == 0.5
    assert rows[9]["score"] == pytest.approx(0.94)
    assert (rows[1]["right"], rows[0]["right"]) == (0.0, None)


def test_shifted_scores() -> None:
    scores = np.array([0, 0.2, 0.5, 1], np.float32)
    assert np.array_equal(shift_scores(scores, 0.0), scores)
    shifted = shift_scores(scores, 1.5)
    assert shifted.dtype == np.float32
    assert shifted[[0, 3]].tolist() == [0, 1]
    assert np.log(shifted[1] / (1 - shifted[1])) == pytest.approx(np.log(0.2 / 0.8) + 1.5, abs=1e-6)


def test_scores_of_a_pair_under_several_shifts() -> None:
    pair = ScoredPair("a", np.array([0.9, 0.2], np.float32), 0.7, [])
    expected = [
        [shift_scores(one, a) * shift_scores(0.7, b) for one in (0.9, 0.2)] for a, b in ((0.0, 0.0), (1.0, -2.0))
    ]
    assert np.allclose(pair.scores([(0, 0), (1, -2)]), expected, atol=1e-6)
    assert pair.scores([(0, 0), (0, 0)]).shape == (2, 2)


class TinyEngine(Engine):
    """Two candidates for any phrase, the left and the right half of 4 x 8 pixels; features are their scores."""

    name, width = "tiny", 2

    def __init__(self, presence: float = 1.0) -> None:
        self.presence = presence

    def own_encoder(self) -> Any:
        return Fixed([0.9, 0.1])

    def embed(self, picture: Any) -> None:
        return None

    def run(self, embedding: Any, rows: Any, exemplars: Any = None) -> RawMasks:
        halves = np.where(np.arange(8) < 4, 9.0, -9.0) * np.array([[1], [-1]])
        masks = np.broadcast_to(halves[None, :, None], (len(rows), 2, 4, 8)).astype(np.float32)
        classes, presence = np.array([row[0] for row in rows]), np.full((len(rows), 1), self.presence, np.float32)
        return RawMasks(classes, np.zeros((len(rows), 2, 4), np.float32), masks, presence)


class Fixed:
    """An encoder that says the same of every text."""

    name, context_length, width = "fixed", 4, 2

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def encode(self, texts: Any) -> Any:
        return np.array([[self.values]] * len(texts), np.float32), np.ones((len(texts), 1), bool)


PIXELS = np.zeros((4, 8, 3), np.uint8)


def test_a_segmenter_shifts_scores() -> None:
    plain = Segmenter(TinyEngine(), Fixed([0.3, 0.05]))
    assert len(plain(PIXELS, "dog")[0]) == 0
    shifted = Segmenter(TinyEngine(), Fixed([0.3, 0.05]), calibration=Calibration(2.0, "m", "e"))
    (found,) = shifted.with_options(SegmentOptions(threshold=0.5))(PIXELS, "dog")
    assert found.scores.tolist() == pytest.approx([shift_scores(0.3, 2.0)])
    assert "scores +2.00" in repr(shifted)
    assert shifted.with_encoder(Fixed([0.3, 0.05])).calibration is None


def test_class_and_presence_are_shifted_apart() -> None:
    engine, calibration = TinyEngine(0.2), Calibration(1.0, "m", "e", presence=3.0)
    (found,) = Segmenter(engine, Fixed([0.6, 0.05]), calibration=calibration)(PIXELS, "dog")
    assert found.scores.tolist() == pytest.approx([shift_scores(0.6, 1.0) * shift_scores(0.2, 3.0)])
    (pair,) = score_pairs(Segmenter(engine, Fixed([0.6, 0.0])), [LabeledPair("a", PIXELS, "dog", ((),))])
    assert (pair.classes.tolist(), pair.presence) == (pytest.approx([0.6]), pytest.approx(0.2))
    assert [(count.predictions, count.truths) for count in pair.counts] == [(0, 0), (1, 0)]


def test_tracks_begin_with_shifted_scores() -> None:
    frame, options = Frame(0, 0.0, PIXELS), AssociationOptions(hits=1, delay=0)
    found = []
    for calibration in (None, Calibration(2.0, "m", "e")):
        tracker = Associator(Segmenter(TinyEngine(), Fixed([0.3, 0.05]), calibration=calibration), "dog", options)
        found.append([score for tracked in tracker.step(frame) for score in tracked.scores.tolist()])
    assert found[0] == []
    assert found[1] == pytest.approx([shift_scores(0.3, 2.0)])


def test_pairs_are_scored_against_labels_or_the_teacher() -> None:
    right = np.zeros((1, 4, 8), bool)
    right[:, :, 4:] = True
    pair = LabeledPair("a", PIXELS, "dog", (tuple(encode_masks(right)),))
    student, teacher = Segmenter(TinyEngine(), Fixed([0.4, 0.02])), Segmenter(TinyEngine())
    (labeled,) = score_pairs(student, [pair])
    assert labeled.classes.tolist() == pytest.approx([0.4, 0.02])
    assert labeled.right.tolist() == [False, True]
    (taught,) = score_pairs(student, [pair], teacher)
    assert taught.right.tolist() == [True, False]  # the teacher finds the left half only


def test_a_calibration_is_of_one_encoder_in_one_model(tmp_path: Path) -> None:
    student, model, told = tmp_path / "s.safetensors", tmp_path / "model", list[str]()
    student.write_bytes(b"weights")
    model.mkdir()
    (model / "a").write_bytes(b"1")
    Calibration.of(1.5, model, student, positions="slice", context_length=16).write(tmp_path / f"s.safetensors{SUFFIX}")

    def find(encoder: Path, **loaded: Any) -> Calibration | None:
        return find_calibration(model, encoder, told.append, **{"positions": "slice", "context_length": 16, **loaded})

    found = find(student)
    assert found is not None
    assert (found.shift, told) == (1.5, [])
    assert find(student, context_length=32) is None
    (model / "a").write_bytes(b"2")
    assert find(student) is None
    assert len(told) == 2
    assert "not used" in told[0]
    assert find_calibration("micro", "micro-student", told.append) is None  # known by name: no place beside it
    (tmp_path / f"s.safetensors{SUFFIX}").write_text('{"shift": "x"}')
    with pytest.raises(EncoderError, match="not a calibration"):
        find(student)


def test_a_file_of_one_shift_is_read_as_it_was_meant(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"shift": 2.0, "model": "m", "text_encoder": "e"}')
    old = Calibration.read(tmp_path / "old.json")
    assert old == Calibration(2.0, "m", "e")
    classes, presence = old.apply(np.array([0.6]), np.array([[0.5]]))
    assert (classes * presence).tolist() == [pytest.approx([shift_scores(0.3, 2.0)])]
    Calibration(2.0, "m", "e", presence=-1.0).write(tmp_path / "new.json")
    assert Calibration.read(tmp_path / "new.json").presence == -1.0
    assert shift_scores(np.array([0.6], np.float32), 2).dtype == np.float32  # as JSON may have it
    for wrong in ("1000", "NaN", '"x"'):
        (tmp_path / "new.json").write_text(f'{{"shift": 2, "model": "m", "text_encoder": "e", "presence": {wrong}}}')
        with pytest.raises(EncoderError, match="not a calibration"):
            Calibration.read(tmp_path / "new.json")


def test_a_picture_of_reliability() -> None:
    assert "share that is right" in draw_reliability({"reliability": {"before": reliability(world(2.0, count=20))}}).svg


@pytest.mark.torch
def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    student = tmp_path / "s.safetensors"
    student.write_bytes(b"weights")
    (tmp_path / f"s.safetensors{SUFFIX}").write_text("mine")
    command = ["evaluate", "calibrate", "--model", "micro"]
    assert "--no-labels" in failure(capsys, *command, "--no-labels")
    assert "SVG" in failure(capsys, *command, "-o", "x.png")
    assert "not a calibration" in failure(capsys, *command, "--text-encoder", str(student))


@pytest.mark.torch
@pytest.mark.slow
def test_from_calibrate_to_segment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from litetext.checkpoints.hub import shipped_folder

    student = tmp_path / "s.safetensors"
    student.write_bytes((shipped_folder("micro-student") or tmp_path).joinpath("student.safetensors").read_bytes())
    typed = ["--model", "micro", "--text-encoder", str(student), "--json"]
    assert run(["evaluate", "calibrate", *typed, "--pairs", "120", "--no-labels"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == f"{student}{SUFFIX}"
    kept = Calibration.read(Path(report["file"]))
    Calibration(4.0, kept.model, kept.text_encoder).write(Path(report["file"]))
    assert run(["micro", "scene", "-o", str(tmp_path / "a.png")]) == 0
    capsys.readouterr()
    counts = []
    for more in ([], ["--no-calibration"]):
        assert run(["segment", str(tmp_path / "a.png"), "-p", "thing", *typed, "--threshold", "0.05", *more]) == 0
        captured = capsys.readouterr()
        counts.append([one["score"] for one in json.loads(captured.out)["annotations"]])
        assert ("scores +4.00 logits" in captured.err) == (not more)
    assert len(counts[0]) >= len(counts[1])
