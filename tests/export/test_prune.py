"""Pruned students: the same features bit for bit, the same refusals, and what they lose elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.export.prune import compare_features, cover, prune_checkpoint, split_rows  # noqa: E402

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.encoders.config import StudentConfig  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export import prune  # noqa: E402
from litetext.prompts.bundled import bundled_corpus  # noqa: E402
from litetext.tokenizer.batch import TokenBatch  # noqa: E402
from litetext.tokenizer.bpe import clip_tokenizer  # noqa: E402
from litetext.tokenizer.pruned import KeptTokens  # noqa: E402
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE  # noqa: E402
from tests.encoders.synthetic import TINY, Student, save_pt  # noqa: E402
from tests.export.students import student_file  # noqa: E402

pytestmark = pytest.mark.torch
PHRASES = list(bundled_corpus().texts)
KNOWN = PHRASES[::2]
KINDS = [("masked", {}), ("attended", {}), ("masked", {"rank": 8}), ("masked", {"folded": True})]


def encoder(path: Path) -> StudentEncoder:
    found = load_encoder(path)
    assert isinstance(found, StudentEncoder)
    return found


@pytest.mark.parametrize(("padding", "changes"), KINDS)
def test_features_are_the_same_bit_for_bit(tmp_path: Path, padding: str, changes: dict[str, Any]) -> None:
    source, target = student_file(tmp_path, padding, **changes), tmp_path / "pruned.safetensors"
    done = prune_checkpoint(str(source), KNOWN, target)
    before, after = encoder(source), encoder(target)
    for start in range(0, len(KNOWN), 500):
        some = KNOWN[start : start + 500]
        one, other = before.encode(some), after.encode(some)
        assert torch.equal(one.mask, other.mask)
        assert torch.equal(one.values, other.values)
    assert after.module.config.vocabulary == done.rows[1] < 6000
    assert done.rows[0] == VOCABULARY_SIZE
    saved = (done.rows[0] - done.rows[1]) * after.module.token_table.weight.shape[1]
    assert done.parameters[0] - done.parameters[1] == saved
    assert done.bytes == (source.stat().st_size, target.stat().st_size)
    assert done.to_json()["rows"] == {"before": VOCABULARY_SIZE, "after": done.rows[1]}


def test_a_released_student_is_pruned_as_it_is(tmp_path: Path) -> None:
    """Upstream's file has 77 rows of positions; which of them are read is said when it is loaded."""
    source = save_pt(Student.make(TINY).upstream(), tmp_path / "s0_ctx16.pt")
    done = prune_checkpoint(str(source), KNOWN, tmp_path / "pruned.safetensors")
    before, after = (load_encoder(path, positions="slice", context_length=16) for path in (source, done.target))
    assert torch.equal(before.encode(KNOWN[:200]).values, after.encode(KNOWN[:200]).values)


def test_other_phrases_are_read_in_smaller_pieces(tmp_path: Path) -> None:
    source, target = student_file(tmp_path), tmp_path / "pruned.safetensors"
    prune_checkpoint(str(source), ["a white dog", "two cars"], target)
    before, after = encoder(source), encoder(target)
    assert after.encode(["dogs"]).mask.sum() == 5
    kept = KeptTokens.of_texts(["a white dog", "two cars"])
    found = cover(kept, ["white dog", "black dogs", "dogs on two dogs", "cars"], context_length=6)
    assert (found.phrases, found.split) == (4, 2)
    assert found.tokens == (4 + 4 + 6 + 3, 4 + (2 + 5 + 3) + (2 + 3 + 2 + 1 + 3) + 3)
    assert found.truncated == (0, 2)
    assert found.words == (("dogs", 2), ("black", 1), ("on", 1))
    assert split_rows(kept, ["dogs", "dog"]) == [0]
    assert split_rows(kept, []) == []
    cosine = compare_features(before, after, ["black dogs", "white dog"])
    assert cosine is not None
    assert cosine["min"] < cosine["mean"] < 1
    same = compare_features(before, after, ["white dog"])
    assert same is not None
    assert same["min"] == pytest.approx(1, abs=1e-6)
    assert compare_features(before, after, []) is None


def test_tokens_that_are_given_are_clips(tmp_path: Path) -> None:
    source, target = student_file(tmp_path), tmp_path / "pruned.safetensors"
    prune_checkpoint(str(source), KNOWN, target)
    after = encoder(target)
    batch = TokenBatch.of_texts(KNOWN[:20], 16)
    assert torch.equal(after.encode(batch).values, after.encode(KNOWN[:20]).values)
    lost = int(clip_tokenizer().encode(["xylophone"]).ids[1])
    with pytest.raises(OptionError, match=f"the token {lost}, which was pruned"):
        after.encode(TokenBatch.of_texts(["xylophone"], 16))


def test_no_pruning_is_taken_on_faith(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = KeptTokens.of_texts([])
    monkeypatch.setattr(prune.KeptTokens, "of_texts", lambda _: nothing)
    with pytest.raises(EncoderError, match="the pruned tokenizer gives other tokens, phrase 0"):
        prune_checkpoint(str(student_file(tmp_path)), ["dog"], tmp_path / "pruned.safetensors")
    assert not (tmp_path / "pruned.safetensors").exists()


def test_refused(tmp_path: Path) -> None:
    source, target = student_file(tmp_path), tmp_path / "pruned.safetensors"
    with pytest.raises(OptionError, match="the output is the input"):
        prune_checkpoint(str(source), KNOWN, source)
    prune_checkpoint(str(source), KNOWN, target)
    with pytest.raises(EncoderError, match="pruned already"):
        prune_checkpoint(str(target), KNOWN, tmp_path / "again.safetensors")
    with pytest.raises(EncoderError, match="a teacher, not a student"):
        prune_checkpoint("micro", KNOWN, tmp_path / "again.safetensors")
    with pytest.raises(EncoderError, match="nowhere"):
        prune_checkpoint(str(tmp_path / "nowhere"), KNOWN, tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_a_configuration_whose_tokens_do_not_fit() -> None:
    kept = KeptTokens.of_texts(["dog"])
    config = StudentConfig.of("tiny", padding="masked", vocabulary=len(kept))
    good = StudentConfig(**{**vars(config), "kept": kept.to_text()})
    assert StudentConfig.from_json(good.to_json()) == good
    with pytest.raises(OptionError, match=f"{len(kept)} tokens are kept, in a token table of {len(kept) + 1} rows"):
        StudentConfig(**{**vars(good), "vocabulary": len(kept) + 1})
    with pytest.raises(OptionError, match="not base64"):
        StudentConfig(**{**vars(good), "kept": "?"})


def test_a_hundred_thousand_phrases_of_known_words(tmp_path: Path) -> None:
    """They need not be in the corpus: a word that keeps its tokens keeps them everywhere."""
    source, target = student_file(tmp_path), tmp_path / "pruned.safetensors"
    prune_checkpoint(str(source), KNOWN, target)
    rng = np.random.default_rng(0)
    words = sorted({word for text in KNOWN for word in text.split(" ")})
    before, after = encoder(source), encoder(target)
    for _ in range(50):
        texts = [" ".join(words[index] for index in row) for row in rng.integers(len(words), size=(2000, 3))]
        assert torch.equal(before.encode(texts).values, after.encode(texts).values)
