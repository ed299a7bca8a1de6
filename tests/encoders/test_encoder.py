"""Texts and token batches reach an encoder in one shape, and a module is left as it was found."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litetext.encoders.config import EncoderConfig, Padding
from litetext.errors import OptionError, OutputError
from litetext.tokenizer.bpe import TokenBatch
from litetext.tokenizer.vocabulary import END_ID, VOCABULARY_SIZE

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.encoders.encoder import encode_batch, evaluating, prepare_rows  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402

pytestmark = pytest.mark.torch
TEXTS = ["dog", "a white dog on the left of a red car", ""]  # 3, 12 and 2 tokens
CONFIG = EncoderConfig.of("tiny", padding="masked")


def prepare(texts: Any, context_length: int, *, to_longest: bool, vocabulary: int = VOCABULARY_SIZE) -> TokenBatch:
    padding: Padding = "masked" if to_longest else "attended"
    config = replace(CONFIG, context_length=context_length, padding=padding, vocabulary=vocabulary)
    return prepare_rows(texts, config)


@pytest.mark.parametrize(
    ("context_length", "to_longest", "length"), [(16, True, 12), (16, False, 16), (5, True, 5), (5, False, 5)]
)
def test_the_length_is_the_context_or_that_of_the_longest(context_length: int, to_longest: bool, length: int) -> None:
    batch = prepare(TEXTS, context_length, to_longest=to_longest)
    want = TokenBatch.of_texts(TEXTS, length)
    np.testing.assert_array_equal(batch.ids, want.ids)
    np.testing.assert_array_equal(batch.mask, want.mask)


@pytest.mark.parametrize("given", [12, 16, 77])
@pytest.mark.parametrize("context_length", [4, 12, 32])
@pytest.mark.parametrize("to_longest", [True, False])
def test_tokens_are_as_good_as_their_texts(given: int, context_length: int, to_longest: bool) -> None:
    got = prepare(TokenBatch.of_texts(TEXTS, given), context_length, to_longest=to_longest)
    want = prepare(TEXTS, context_length, to_longest=to_longest)
    np.testing.assert_array_equal(got.ids, want.ids)
    np.testing.assert_array_equal(got.mask, want.mask)
    assert got.ids[1, min(context_length, 12) - 1] == END_ID


def batch(ids: list[list[int]], mask: list[list[int]]) -> TokenBatch:
    return TokenBatch(np.array(ids, np.int64), np.array(mask, np.bool_))


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ([], "no texts to encode"),
        (TokenBatch.of_texts([], 8), "no texts to encode"),
        (["dog", None], "NoneType"),
        (["dog", b"dog"], "bytes"),
        (batch([[1, 2], [1, 2]], [[1, 1], [0, 0]]), "row 1"),
        (batch([[1, 2, 3]], [[1, 0, 1]]), "padding before a token"),
        (batch([[1, 50]], [[1, 1]]), "the token 50 for an encoder of 50 tokens"),
        (batch([[1, -1]], [[1, 1]]), "the token -1 for an encoder of 50 tokens"),
    ],
)
def test_what_is_no_batch_of_texts_is_refused(texts: Any, complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        prepare(texts, 16, to_longest=True, vocabulary=50)
    assert complaint in str(caught.value)


class Echo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2, dtype=torch.bfloat16)
        self.modes: list[bool] = []

    def forward(self, ids: Any, mask: Any) -> Any:
        self.modes.append(self.training or self.layer.training)
        return self.layer(ids[..., None].to(self.layer.weight.dtype))


def test_a_module_runs_in_eval_mode_and_comes_back_as_it_was() -> None:
    module = Echo().train()
    module.layer.eval()
    features = encode_batch(module, prepare(TEXTS, 16, to_longest=False))
    assert features.values.shape == (3, 16, 2)
    assert features.values.dtype is torch.bfloat16
    assert features.mask.sum(1).tolist() == [3, 12, 2]
    assert not features.values.requires_grad
    assert module.modes == [False]
    assert module.training
    assert not module.layer.training
    with pytest.raises(ZeroDivisionError), evaluating(module):
        raise ZeroDivisionError
    assert module.training


def test_features_may_be_used_in_training() -> None:
    features = encode_batch(Echo(), prepare(TEXTS, 16, to_longest=True))
    head = nn.Linear(2, 1, dtype=torch.bfloat16)
    head(features.values).sum().backward()
    assert head.weight.grad is not None


def test_a_string_is_a_batch_of_one() -> None:
    batch, want = prepare("dog", 16, to_longest=True), prepare(["dog"], 16, to_longest=True)
    np.testing.assert_array_equal(batch.ids, want.ids)


def test_a_student_is_saved_and_loaded_as_a_folder(tmp_path: Path) -> None:
    encoder = StudentEncoder(tiny_student("masked", vocabulary=VOCABULARY_SIZE), "tiny")
    encoder.save_pretrained(tmp_path / "s")
    encoder.save_pretrained(tmp_path / "s")
    loaded = load_encoder(tmp_path / "s", device="cpu")
    assert torch.equal(loaded.encode("a red car").values, encoder.encode("a red car").values)
    assert loaded.module.config == encoder.module.config
    (tmp_path / "s" / "precious.txt").touch()
    with pytest.raises(OutputError):
        encoder.save_pretrained(tmp_path / "s")
