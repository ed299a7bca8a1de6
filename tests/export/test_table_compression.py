"""Pruned tables: the same features bit for bit, and what they lose elsewhere; tables of low rank: where they lose."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.encoders.config import EncoderConfig  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export import table_compression  # noqa: E402
from litetext.export.table_compression import (  # noqa: E402
    UNSEEN,
    choose_rank,
    count_rows,
    coverage,
    factorized,
    lower_rank,
    prune_table,
    share_kept,
    split_rows,
    whole_table,
)
from litetext.prompts.corpus import Prompt, PromptCorpus, bundled_corpus  # noqa: E402
from litetext.tokenizer.bpe import TokenBatch, clip_tokenizer  # noqa: E402
from litetext.tokenizer.pruned import KeptTokens  # noqa: E402
from litetext.tokenizer.vocabulary import END_ID, START_ID, VOCABULARY_SIZE  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402

pytestmark = pytest.mark.torch
PHRASES = list(bundled_corpus().texts)
KNOWN = PHRASES[::8]
KINDS = [("masked", {}), ("attended", {}), ("masked", {"rank": 8})]
CORPUS = PromptCorpus.build([Prompt("white dog", 3), Prompt("red dog"), Prompt("a small house", 2)])


def student(padding: Any = "masked", **changes: Any) -> StudentEncoder:
    return StudentEncoder(tiny_student(padding, vocabulary=VOCABULARY_SIZE, **changes), "tiny")


def pruned(whole: StudentEncoder, texts: list[str]) -> StudentEncoder:
    return StudentEncoder(prune_table(whole.module, texts)[0], "pruned")


@pytest.mark.parametrize(("padding", "changes"), KINDS)
def test_features_are_the_same_bit_for_bit(padding: str, changes: dict[str, Any]) -> None:
    before = student(padding, **changes)
    after = pruned(before, KNOWN)
    for start in range(0, len(KNOWN), 500):
        first, second = (encoder.encode(KNOWN[start : start + 500]) for encoder in (before, after))
        assert torch.equal(first.mask, second.mask)
        assert torch.equal(first.values, second.values)
    assert after.module.config.vocabulary == len(after.module.token_table.weight) < 4000


def test_other_phrases_with_known_words() -> None:
    """They need not be in the corpus: a word that keeps its tokens keeps them everywhere."""
    before = student()
    after, rng = pruned(before, KNOWN), np.random.default_rng(0)
    words = sorted({word for text in KNOWN for word in text.split(" ")})
    texts = [" ".join(words[index] for index in row) for row in rng.integers(len(words), size=(500, 3))]
    assert torch.equal(before.encode(texts).values, after.encode(texts).values)


def test_other_phrases_are_read_in_smaller_pieces() -> None:
    before = student(context_length=6)
    after = pruned(before, ["a white dog", "two cars"])
    assert after.encode(["dogs"]).mask.sum() == 5
    result = coverage(before, after, ["white dog", "black dogs", "dogs on two dogs", "cars"])
    assert (result["phrases"], result["split"]) == (4, 2)
    assert result["tokens"] == {"before": 4 + 4 + 6 + 3, "after": 4 + (2 + 5 + 3) + (2 + 3 + 2 + 1 + 3) + 3}
    assert result["truncated"] == {"before": 0, "after": 2}
    assert result["words"] == [["dogs", 2], ["black", 1], ["on", 1]]
    assert result["cosine"]["phrases"] == 2
    assert result["cosine"]["min"] < 0.999
    kept = KeptTokens.of_texts(["a white dog", "two cars"])
    assert split_rows(kept, ["dogs", "dog"]) == [0]
    assert split_rows(kept, []) == []
    assert coverage(before, after, ["two cars"])["cosine"] is None
    with pytest.raises(EncoderError, match="not pruned"):
        coverage(before, before, ["dog"])


def test_given_tokens_are_those_of_clip() -> None:
    after = pruned(student(), KNOWN)
    batch = TokenBatch.of_texts(KNOWN[:20], 16)
    assert torch.equal(after.encode(batch).values, after.encode(KNOWN[:20]).values)
    lost = int(clip_tokenizer().encode(["xylophone"]).ids[1])
    with pytest.raises(OptionError, match=str(lost)):
        after.encode(TokenBatch.of_texts(["xylophone"], 16))


def test_tokens_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = KeptTokens.of_texts([])
    monkeypatch.setattr(table_compression.KeptTokens, "of_texts", lambda *_: nothing)
    with pytest.raises(EncoderError, match="other tokens"):
        prune_table(student().module, ["dog"])


def test_a_configuration_whose_tokens_do_not_fit() -> None:
    kept = KeptTokens.of_texts(["dog"])
    config = EncoderConfig.of("tiny", padding="masked", vocabulary=len(kept))
    good = EncoderConfig(**{**vars(config), "kept": kept.to_text()})
    assert EncoderConfig.from_json(good.to_json()) == good
    with pytest.raises(OptionError, match=f"{len(kept) + 1} rows"):
        EncoderConfig(**{**vars(good), "vocabulary": len(kept) + 1})
    with pytest.raises(OptionError, match="base64"):
        EncoderConfig(**{**vars(good), "kept": "?"})


def test_rows_are_counted_as_often_as_they_are_read() -> None:
    dog = int(clip_tokenizer().encode(["dog"]).ids[1])
    counts = count_rows(EncoderConfig.of("tiny", padding="masked"), CORPUS)
    assert (counts[dog], counts[START_ID], counts[END_ID], counts.sum()) == (4, 6, 6, 3 * 4 + 4 + 2 * 5)
    attended = count_rows(EncoderConfig.of("tiny", padding="attended"), CORPUS)
    assert attended.sum() == 6 * 16  # padding is read as well
    assert attended[dog] == 4
    short = count_rows(EncoderConfig.of("tiny", 3, padding="masked"), CORPUS)
    assert (short[dog], short.sum()) == (0, 6 * 3)  # cut off, and so never read


def test_the_smallest_rank_that_keeps_a_share() -> None:
    variances = np.array([6.0, 3.0, 0.9, 0.1, 0.0])
    assert [choose_rank(variances, share) for share in (0.1, 0.6, 0.61, 0.9, 0.99, 1.0)] == [1, 1, 2, 2, 3, 4]
    assert share_kept(variances, 2) == pytest.approx(0.9)
    assert share_kept(np.zeros(3), 1) == 1


def test_what_prompts_need_is_kept_better() -> None:
    module = student().module
    table, counts = whole_table(module), count_rows(module.config, CORPUS)
    weights = torch.from_numpy(np.maximum(counts, UNSEEN))

    def error(smaller: Any) -> float:
        return float(((whole_table(smaller) - table).square().sum(1) * weights).sum())

    assert error(factorized(module, 8, weights)) <= error(factorized(module, 8)) * 1.000001
    smaller, note = lower_rank(module, CORPUS, 8)
    share = 1 - error(smaller) / float((table.square().sum(1) * weights).sum())
    plain = 1 - float((whole_table(smaller) - table).square().sum() / table.square().sum())
    assert note.startswith(f"rank 8 of 32: {share:.2%}")
    assert f"{plain:.2%} with all tokens alike" in note


@pytest.mark.parametrize(("padding", "folded"), [("masked", True), ("attended", False)])
def test_the_rank_of_a_share(padding: str, folded: bool) -> None:
    module = student(padding).module
    smaller, _ = lower_rank(module.fold() if folded else module, CORPUS, 0.7)
    assert smaller.config.rank is not None
    assert 1 < smaller.config.rank < 32
    assert smaller.config.folded == folded


def test_of_a_rank_a_lower_one() -> None:
    module = tiny_student("masked", rank=5)
    lower = factorized(module, 3)
    assert lower.config.rank == 3
    variances = torch.linalg.svdvals(whole_table(module)).square()
    lost = (whole_table(lower) - whole_table(module)).square().sum()
    torch.testing.assert_close(lost.float(), variances[3:].sum().float(), rtol=1e-3, atol=1e-4)
    assert lower.token_table.weight.dtype == torch.float32
    with pytest.raises(EncoderError, match="rank 5"):
        lower_rank(student(rank=5).module, CORPUS, 5)
