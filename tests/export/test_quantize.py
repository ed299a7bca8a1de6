"""Quantized students: smaller files, features that stay what they were, and what cannot be quantized."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from litetext.export.compress_io import StudentFiles, draw_texts  # noqa: E402
from litetext.export.fold import fold_checkpoint  # noqa: E402
from litetext.export.low_rank import LowRankOptions, lower_rank  # noqa: E402
from litetext.export.prune import prune_checkpoint  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.checkpoints.summary import summarize_checkpoint  # noqa: E402
from litetext.checkpoints.writer import save_student  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.quantize import Quantization, QuantizeOptions, part_texts, quantize_checkpoint  # noqa: E402
from litetext.prompts.bundled import bundled_corpus  # noqa: E402
from litetext.prompts.corpus import Prompt, PromptCorpus  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.export.students import student_file  # noqa: E402

pytestmark = pytest.mark.torch
PHRASES = draw_texts(bundled_corpus().texts, 300)


def quantize(source: Path, target: Path, texts: Any = PHRASES, **options: Any) -> Quantization:
    return quantize_checkpoint(StudentFiles(str(source), target), texts, QuantizeOptions(**options))


def alike(one: Path, other: Path) -> bool:
    """The same tensors; safetensors writes its metadata in any order."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize(
    ("options", "dtypes", "mean"),
    [
        ({"activations": "float"}, ["float32", "int8"], 0.9998),
        ({}, ["float32", "int8"], 0.999),
        ({"table": "int4", "activations": "float"}, ["float32", "int8", "uint8"], 0.98),
        ({"table": "fp16", "activations": "float"}, ["float16", "float32", "int8"], 0.9998),
        ({"weights": "fp16"}, ["float16"], 0.999999),
        ({"weights": "bf16", "table": "same"}, ["bfloat16", "float32"], 0.9999),
        ({"weights": "fp32", "table": "int8"}, ["float32", "int8"], 0.9999),
    ],
    ids=str,
)
def test_smaller_and_true(
    tmp_path: Path, padding: str, options: dict[str, Any], dtypes: list[str], mean: float
) -> None:
    source, target = student_file(tmp_path, padding), tmp_path / "small.safetensors"
    done = quantize(source, target, **options)
    found, fidelity = summarize_checkpoint(str(target)), done.reduction.fidelity
    assert set(found.dtypes) == set(dtypes)
    assert found.faults == ""
    assert mean <= fidelity.mean < 1
    assert fidelity.min > 0.9
    assert done.reduction.bytes == (source.stat().st_size, target.stat().st_size)
    assert done.reduction.bytes[1] < done.reduction.bytes[0]
    assert done.to_json()["bytes"]["after"] == target.stat().st_size
    calibrated = not options
    assert (done.calibrated, done.held_out, fidelity.phrases) == ((150, True, 150) if calibrated else (0, True, 300))
    assert ("calibrated on 150 phrases, compared on others" in done.lines()[1]) == calibrated
    twice = tmp_path / "twice.safetensors"
    quantize(source, twice, PHRASES[::-1], **options)
    assert alike(twice, target)


def test_all_steps_after_one_another(tmp_path: Path) -> None:
    """Pruned, folded, of low rank, quantized: the tokens that were kept are kept, and each step says what it lost."""
    corpus = PromptCorpus.build(Prompt(text) for text in PHRASES)
    source = student_file(tmp_path)
    steps = [tmp_path / f"{name}.safetensors" for name in ("pruned", "folded", "low", "small")]
    prune_checkpoint(str(source), PHRASES, steps[0])
    fold_checkpoint(StudentFiles(str(steps[0]), steps[1]), PHRASES)
    lower_rank(StudentFiles(str(steps[1]), steps[2]), corpus, LowRankOptions(24))
    done = quantize(steps[2], steps[3], table="int4")
    found = summarize_checkpoint(str(steps[3]))
    assert (found.is_pruned, found.rank) == (True, 24)
    assert found.quantized == "int8 weights, int8 activations, int4 token table"
    assert done.reduction.fidelity.mean > 0.98
    sizes = [path.stat().st_size for path in (source, *steps)]
    assert sizes == sorted(sizes, reverse=True)
    encoder = load_encoder(steps[3], device="cpu")
    assert isinstance(encoder, StudentEncoder)
    assert encoder.encode(["xylophone"]).values.isfinite().all()


def test_folded_first_or_not_is_the_same(tmp_path: Path) -> None:
    source, folded = student_file(tmp_path), tmp_path / "folded.safetensors"
    fold_checkpoint(StudentFiles(str(source), folded), PHRASES[:5])
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    quantize(source, one)
    quantize(folded, other)
    assert alike(one, other)


def test_phrases_are_parted() -> None:
    options = QuantizeOptions(calibrate=100, check=50)
    learn, check = part_texts(PHRASES, options)
    assert (len(learn), len(check), set(learn) & set(check)) == (100, 50, set())
    learn, check = part_texts(PHRASES[:120], options)
    assert (len(learn), len(check)) == (70, 50)
    learn, check = part_texts(PHRASES[:5], options)
    assert (len(learn), len(check)) == (3, 2)
    assert part_texts(PHRASES[:1], options) == (PHRASES[:1], PHRASES[:1])
    assert part_texts(PHRASES, QuantizeOptions(activations="float", check=20))[0] == []


def test_one_phrase_is_said_to_be_the_same(tmp_path: Path) -> None:
    done = quantize(student_file(tmp_path), tmp_path / "small.safetensors", ["dog"])
    assert not done.held_out
    assert done.lines()[1].endswith("calibrated on 1 phrases, compared on the same, there are too few")


def test_refused(tmp_path: Path) -> None:
    source, target = student_file(tmp_path), tmp_path / "small.safetensors"
    with pytest.raises(OptionError, match="no phrases"):
        quantize(source, target, [])
    with pytest.raises(OptionError, match="no phrases"):
        quantize(source, target, [], activations="float")
    with pytest.raises(OptionError, match="the output is the input"):
        quantize(source, source)
    assert not target.exists()
    quantize(source, target)
    again = tmp_path / "again.safetensors"
    with pytest.raises(EncoderError, match=r"a quantized student \(int8 weights, int8 activations, int8 token table\)"):
        quantize(target, again)
    with pytest.raises(EncoderError, match=r"a quantized student, .*; prune first, then quantize"):
        prune_checkpoint(str(target), PHRASES, again)
    with pytest.raises(EncoderError, match="a teacher, not a student"):
        quantize(Path("micro"), again)
    odd = tmp_path / "odd.safetensors"
    save_student(tiny_student("masked", rank=7, vocabulary=49_408), odd)
    with pytest.raises(OptionError, match="7 columns"):
        quantize(odd, again, table="int4")
    large = tiny_student("masked", vocabulary=49_408)
    with torch.no_grad():
        large.projector.bias[0] = 1e6
    save_student(large, odd)
    with pytest.raises(EncoderError, match=r"'projector.bias' is too large for torch.float16, .*; give bf16 or fp32"):
        quantize(odd, again, weights="fp16")
    assert not again.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weights": "int7"}, "--weights 'int7'; give int8, fp16"),
        ({"activations": "int4"}, "--activations 'int4'; give auto, int8, float"),
        ({"table": "int2"}, "--table 'int2'; give auto"),
        ({"weights": "bf16", "activations": "int8"}, "int8 activations with bf16 weights; give --weights int8 too"),
        ({"calibrate": 0}, "0 and 1000 phrases"),
        ({"check": 0}, "1000 and 0 phrases"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        QuantizeOptions(**options)
