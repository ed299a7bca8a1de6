"""An exam asks every encoder the same, and needs no text encoder of the host's own."""

import pytest

pytest.importorskip("pycocotools")

from litetext.errors import EncoderError
from litetext.evaluation.labeled_pairs import NullTextEncoder, score_encoder
from litetext.export.segment_runtime import open_segmenter
from litetext.micro.evaluation import evaluate_pairs, known_pairs
from litetext.micro.phrases import make_pairs
from litetext.micro.scenes import SceneOptions
from litetext.sam3.segmenter import Segmenter

WIDTH = 64


def test_the_scores_are_those_of_the_host_with_the_encoder_in_it() -> None:
    pairs = list(make_pairs(5, 18, SceneOptions(split="test")))
    engine = open_segmenter("micro", threads=1)
    host, labeled = Segmenter(engine, NullTextEncoder(WIDTH)), list(known_pairs(pairs))
    wanted = evaluate_pairs(Segmenter(engine), pairs).overall
    assert wanted.cgf1 > 0
    assert score_encoder(host, engine.own_encoder(), labeled).cgf1 == pytest.approx(wanted.cgf1, abs=0.5)


def test_nothing_reads_for_a_host_without_an_encoder() -> None:
    with pytest.raises(EncoderError, match="2 texts"):
        NullTextEncoder(WIDTH).encode(["a", "b"])
