"""Banks of real encoders and of caches, and that what is read back is compared."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import CacheError, EncoderError, OptionError  # noqa: E402
from litetext.features import bank_making  # noqa: E402
from litetext.features.bank import PromptBank  # noqa: E402
from litetext.features.bank_making import FeatureSource, compare, make_bank  # noqa: E402
from litetext.features.embed import embed  # noqa: E402
from litetext.features.manifest import Teacher  # noqa: E402
from litetext.prompts.bundled import bundled_corpus  # noqa: E402
from litetext.prompts.corpus import Prompt, PromptCorpus  # noqa: E402
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.export.banks import PHRASES, make, rows_of  # noqa: E402

pytestmark = pytest.mark.torch
TEXTS = list(bundled_corpus().texts[:300])


def student(padding: str) -> StudentEncoder:
    return StudentEncoder(tiny_student(padding, vocabulary=VOCABULARY_SIZE), "tiny")  # type: ignore[arg-type]


@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize("number", ["fp16", "int8"])
def test_a_bank_of_a_student(tmp_path: Path, padding: str, number: str) -> None:
    encoder = student(padding)
    report = make_bank(tmp_path / "bank.safetensors", TEXTS, FeatureSource.of_encoder(encoder), number)
    assert report.checked == len(report.bank) == 300
    assert report.cosine["mean"] >= report.cosine["min"] > (0.999999 if number == "fp16" else 0.9995)
    expected = encoder.encode(TEXTS)
    features, mask = PromptBank.open(tmp_path / "bank.safetensors").encode(TEXTS)
    length = mask.shape[1]
    assert torch.equal(torch.from_numpy(mask), expected.mask[:, :length])
    assert not expected.mask[:, length:].any()
    values = expected.values[:, :length].numpy()
    largest = np.abs(values[mask]).max()
    assert np.abs(features - values)[mask].max() < largest * (1e-3 if number == "fp16" else 5e-3)
    said = report.to_json()
    assert said["encoder"]["fingerprint"] == Teacher.of(encoder).fingerprint
    assert said["tokens"] == int(mask.sum())
    assert said["bytes"] == (tmp_path / "bank.safetensors").stat().st_size


def test_a_bank_of_a_cache(tmp_path: Path) -> None:
    encoder = student("masked")
    embed(PromptCorpus.build(map(Prompt, TEXTS)), encoder, tmp_path / "cache")
    source = FeatureSource.of_cache(tmp_path / "cache")
    report = make_bank(tmp_path / "all.safetensors", None, source)
    assert set(report.bank.phrases) == set(TEXTS)
    assert report.cosine["min"] == pytest.approx(1, abs=1e-12)  # both are fp16
    assert report.bank.header.fingerprint == Teacher.of(encoder).fingerprint
    some = make_bank(tmp_path / "some.safetensors", TEXTS[:5], source)
    assert list(some.bank.phrases) == TEXTS[:5]
    with pytest.raises(CacheError, match="no features of 'a phrase of nobody'"):
        make_bank(tmp_path / "more.safetensors", [*TEXTS[:5], "a phrase of nobody"], source)
    assert not (tmp_path / "more.safetensors").exists()
    with pytest.raises(OptionError, match="no phrases"):
        make_bank(tmp_path / "none.safetensors", None, FeatureSource.of_encoder(encoder))


def test_of_many_phrases_some_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_making, "MOST_CHECKED", 10)
    report = make_bank(tmp_path / "bank.safetensors", TEXTS, FeatureSource.of_encoder(student("masked")))
    assert (report.checked, len(report.bank)) == (10, 300)


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    bank = make(tmp_path / "bank.safetensors")
    features = {text: rows_of(text) for text in PHRASES}
    assert compare(bank, features)["min"] > 0.999999
    features["tree"] = rows_of("tree") * np.float32(1.001)
    with pytest.raises(EncoderError, match="other features of 'tree' than were written"):
        compare(bank, features)
