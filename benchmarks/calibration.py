"""What a calibration brings back of cgF1: students of the micro model as they are, in int4, and shifted on purpose.

python -m benchmarks.calibration [--pairs N] [--seeds N ...]
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

from litetext import Segmenter, TextEncoder
from litetext.evaluation.calibration import ScoredPair, calibrate, score_pairs
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


def rows(pairs: int, seed: int) -> Iterator[dict[str, Any]]:
    """Judged on the half that the shift was not fitted on; the first row is what the others have lost of."""
    student: Any = TextEncoder.from_pretrained("micro-student")
    encoders = {
        "micro-student": student,
        "micro-student-xs": TextEncoder.from_pretrained("micro-student-xs"),
        "micro-student, int4": student.quantize("int4"),
        "micro-student, features x 0.7": Scaled(student, 0.7),
        "micro-student, features x 1.5": Scaled(student, 1.5),
    }
    model = Segmenter.from_pretrained("micro", options=options_for(0.5), engine="onnx")
    whole: float | None = None

    def judge(name: str, scored: Sequence[ScoredPair]) -> dict[str, Any]:
        report = calibrate(scored, seed)
        figures = {"seed": seed, "student": name, "shift": report["shift"], "change": report["change"]}
        return figures | {when: report[when]["cgf1"] for when in ("before", "after")}

    for name, encoder in encoders.items():
        labeled = known_pairs(make_pairs(seed, pairs, SceneOptions(size=SIZE, split="test")))
        scored = score_pairs(model.with_encoder(encoder), labeled)
        row = judge(name, scored)
        whole = row["before"] if whole is None else whole
        yield row | {"lost": whole - row["before"]}
        if encoder is student:
            for shift in (-3.0, 3.0):
                moved = [pair._replace(scores=shift_scores(pair.scores, shift)) for pair in scored]
                row = judge(f"{name}, scores {shift:+g} logits", moved)
                yield row | {"lost": whole - row["before"]}


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for row in rows(arguments.pairs, seed):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
