"""Errors in a segmenter that was never there: chosen sums, and what an audit makes of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from litetext.auditing.advice import recommend
from litetext.auditing.attenuation import AttenuationStats, ErrorPath, trace_errors
from litetext.auditing.run import AuditReport, audit
from litetext.prompts.corpus import Prompt, PromptCorpus
from tests.auditing.fakes import FakeEncoder

SOURCE = "<script>alert(1)</script>[bold]犬.txt"
LAYERS = ("encoder.0", "decoder.0", "masks")


def trace(errors: Sequence[object], images: Sequence[int], sizes: object = 1.0, seed: int = 0) -> dict[str, ErrorPath]:
    """Paths of errors [P, 2 + S, E] of pairs, where the references have sums of squares ``sizes``."""
    relative = np.array(errors, dtype=float)
    scale = np.broadcast_to(np.asarray(sizes, dtype=float), relative.shape[:2])
    cosines = np.full(relative.shape[2], 0.9)
    return trace_errors(LAYERS, relative * scale[..., None], scale, cosines=cosines, images=np.array(images), seed=seed)


def some_attenuation(student: float = 0.02, noise: float = 0.005, student_name: str = "s.pt") -> AttenuationStats:
    """Errors of 0.1 of which a tenth is left in the weights, and in the masks what the arguments say."""
    pair = [[0.1, 0.1], *([0.01, 0.01] for _ in LAYERS), [student, noise]]
    return AttenuationStats("micro", student_name, 3, 3, 2, 1, 0, trace([pair] * 3, [0, 1, 2]))


def some_report() -> AuditReport:
    """A report that has every part, with names that a page has to escape."""
    texts = [
        f"{a} {b} beside the {c}" for a in ("red", "white") for b in ("dog", "car", "cup") for c in ("hill", "lamp")
    ]
    prompts = [Prompt(text, 1 + index, SOURCE if index % 3 else "b.txt") for index, text in enumerate(texts)]
    encoder = FakeEncoder(whole=True, width=48)
    report = audit(PromptCorpus.build(prompts), encoder=encoder, positions=np.eye(16, dtype=np.float32), sample=12)
    stats = some_attenuation(student_name=SOURCE)
    advice = recommend(report.whole.histogram, 0.01, report.vocabulary, geometry=report.geometry, attenuation=stats)
    return replace(report, attenuation=stats, advice=(*report.advice, *advice[-2:-1]))
