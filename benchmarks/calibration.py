"""What a calibration brings back of cgF1: students of the micro model as they are, in int4, and shifted on purpose.

python -m benchmarks.calibration [--pairs N] [--seeds N ...] [--only STUDENT ...]
"""

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from litetext import Segmenter, TextEncoder
from litetext.evaluation.calibration import ScoredPair, calibrate, draw_scores, halve, score_pairs
from litetext.evaluation.predict import options_for
from litetext.features.protocol import TextFeatures
from litetext.micro.evaluation import known_pairs
from litetext.micro.model import SIZE
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.score_shift import shift_scores


class Scaled:
    """An encoder whose features are multiplied."""

    def __init__(self, encoder: Any, factor: float) -> None:
        self.encoder, self.factor, self.name = encoder, factor, f"{encoder.name} x {factor}"
        self.context_length, self.width = encoder.context_length, encoder.width

    def encode(self, texts: Sequence[str]) -> TextFeatures:
        """See `TextEncoder`."""
        features = self.encoder.encode(texts)
        return TextFeatures(features.values * self.factor, features.mask)


CHANGES: dict[str, Callable[[ScoredPair], ScoredPair]] = {
    "": lambda pair: pair,
    ", class -3": lambda pair: pair._replace(classes=shift_scores(pair.classes, -3.0)),
    ", class +3": lambda pair: pair._replace(classes=shift_scores(pair.classes, 3.0)),
    ", presence -4": lambda pair: pair._replace(presence=shift_scores(pair.presence, -4.0)),
    ", presence +4": lambda pair: pair._replace(presence=shift_scores(pair.presence, 4.0)),
    ", both -3": lambda pair: pair._replace(
        classes=shift_scores(pair.classes, -3.0), presence=shift_scores(pair.presence, -3.0)
    ),
    ", product -3": lambda pair: pair._replace(classes=shift_scores(pair.classes * pair.presence, -3.0), presence=1.0),
    ", product +3": lambda pair: pair._replace(classes=shift_scores(pair.classes * pair.presence, 3.0), presence=1.0),
}


def rows(pairs: int, seed: int, only: Collection[str]) -> Iterator[dict[str, Any]]:
    """Judged by labels on the half that was not fitted on; "lost" is against the student as it ships.

    ``no_labels``, of the first student, is what a fit on the teacher's masks makes of it, judged by labels as well.
    """
    student: Any = TextEncoder.from_pretrained("micro-student")
    encoders = {
        "micro-student": student,
        "micro-student-xs": TextEncoder.from_pretrained("micro-student-xs"),
        "int4": student.quantize("int4"),
        "features x 0.7": Scaled(student, 0.7),
        "features x 1.5": Scaled(student, 1.5),
    }
    model = Segmenter.from_pretrained("micro", options=options_for(0.5), engine="onnx")
    whole: float | None = None
    for name, encoder in encoders.items():
        if only and name not in only:
            continue
        scored, *taught = (
            score_pairs(
                model.with_encoder(encoder),
                known_pairs(make_pairs(seed, pairs, SceneOptions(size=SIZE, split="test"))),
                one,
            )
            for one in (None, model)[: 1 + (encoder is student)]
        )
        for change, make in CHANGES.items() if encoder is student else [("", CHANGES[""])]:
            report = calibrate([make(pair) for pair in scored], seed)
            before = report["before"]["cgf1"]
            whole = before if whole is None else whole
            row = {
                "seed": seed,
                "student": name + change,
                "shift": [report["shift"], report["presence"]],
                "before": before,
                "after": report["after"]["cgf1"],
                "change": report["change"],
                "lost": whole - before,
            }
            for other in taught:
                found = calibrate([make(pair) for pair in other], seed)
                shifts = found["shift"], found["presence"]
                (judged,), _ = draw_scores([make(pair) for pair in halve(scored, seed)[1]], [shifts], seed, 1)
                row["no_labels"] = {"shift": shifts, "after": judged.cgf1}
            yield row


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[401, 402, 403])
    parser.add_argument("--only", nargs="+", default=[], help="students; the first is what the others have lost of")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for row in rows(arguments.pairs, seed, arguments.only):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
