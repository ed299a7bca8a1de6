"""An exam asks every encoder the same, and needs no text encoder of the host's own."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("pycocotools")

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.evaluation.labeled_pairs import NullTextEncoder, score_encoder  # noqa: E402
from litetext.micro.evaluation import evaluate_pairs, known_pairs  # noqa: E402
from litetext.micro.phrases import make_pairs  # noqa: E402
from litetext.micro.scenes import SceneOptions  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402

pytestmark = pytest.mark.torch
WIDTH = 64


def test_the_scores_are_those_of_the_host_with_the_encoder_in_it() -> None:
    pairs = list(make_pairs(5, 18, SceneOptions(split="test")))
    host, labeled = Segmenter.from_pretrained("micro", NullTextEncoder(WIDTH)), list(known_pairs(pairs))
    wanted = evaluate_pairs(Segmenter.from_pretrained("micro"), pairs).overall
    assert wanted.cgf1 > 0
    assert score_encoder(host, load_encoder("micro"), labeled).cgf1 == pytest.approx(wanted.cgf1, abs=0.5)


def test_nothing_reads_for_a_host_without_an_encoder() -> None:
    with pytest.raises(EncoderError, match="2 texts"):
        NullTextEncoder(WIDTH).encode(["a", "b"])
