"""An exam asks every encoder the same, and needs no text encoder of the host's own."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocotools")

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.evaluation.host_eval import HostEvaluator, NullTextEncoder  # noqa: E402
from litetext.micro.evaluation import evaluate_pairs, known_pairs  # noqa: E402
from litetext.micro.phrases import make_pairs  # noqa: E402
from litetext.micro.scenes import SceneOptions  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402

pytestmark = pytest.mark.torch
WIDTH = 64


def test_the_scores_are_those_of_the_host_with_the_encoder_in_it() -> None:
    pairs = list(make_pairs(5, 18, SceneOptions(split="test")))
    exam = HostEvaluator(Segmenter.from_pretrained("micro", NullTextEncoder(WIDTH)), list(known_pairs(pairs)))
    teacher = load_encoder("micro")
    wanted = evaluate_pairs(Segmenter.from_pretrained("micro"), pairs).overall
    assert wanted.cgf1 > 0
    assert exam.score(teacher).cgf1 == pytest.approx(wanted.cgf1, abs=0.5)
    figures = exam.figures(teacher)
    assert figures == exam.figures(teacher), "pairs can be gone through again"
    assert (figures["il_mcc"], figures["pmf1"]) == (exam.score(teacher).il_mcc, exam.score(teacher).pmf1)


def test_nothing_reads_for_a_host_without_an_encoder() -> None:
    with pytest.raises(EncoderError, match="2 texts for a host without a text encoder; give it one"):
        NullTextEncoder(WIDTH).encode(["a", "b"])
