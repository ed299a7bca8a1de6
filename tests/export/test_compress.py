"""Smaller students: each step says what it lost against the student that went in."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402

from litetext.checkpoints.load import load_encoder, load_stored_student  # noqa: E402
from litetext.encoders.student import StudentEncoder, TextStudent  # noqa: E402
from litetext.errors import EncoderError, OptionError, PromptError  # noqa: E402
from litetext.export.compress import Student, compress, draw_texts  # noqa: E402
from litetext.export.exporter import read_origin  # noqa: E402
from litetext.features.fingerprint import fingerprint_encoder  # noqa: E402
from litetext.prompts.corpus import bundled_corpus  # noqa: E402
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.encoders.synthetic import TINY, save_pt  # noqa: E402
from tests.encoders.synthetic import Student as UpstreamStudent  # noqa: E402

pytestmark = pytest.mark.torch
PHRASES = draw_texts(bundled_corpus().texts, 300)
PAIRS = [("masked", {}), ("attended", {}), ("masked", {"rank": 8})]


def student(padding: Any = "masked", **changes: Any) -> StudentEncoder:
    return StudentEncoder(tiny_student(padding, vocabulary=VOCABULARY_SIZE, **changes), "tiny")


def equal(first: TextStudent, second: TextStudent) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("padding", "changes"), PAIRS)
def test_pruned_and_folded_features_are_the_same(padding: str, changes: dict[str, Any]) -> None:
    before, stages = student(padding, **changes), []
    after = compress(before, PHRASES, prune=True, fold=True, progress=lambda *stage: stages.append(stage))
    whole, pruned, folded = after.report.steps
    assert (pruned.name, folded.name) == ("prune", "fold")
    assert pruned.fidelity is not None
    assert pruned.fidelity.largest == 0
    assert 0 < after.report.fidelity.largest < 1e-4
    assert after.report.is_close
    assert (after.report.fidelity.phrases, after.report.fidelity.skipped) == (300, 0)
    rows = VOCABULARY_SIZE - after.module.config.vocabulary
    assert whole.parameters - pruned.parameters == rows * before.module.token_table.weight.shape[1]
    assert whole.bytes > pruned.bytes > folded.bytes
    assert stages[-1] == ("after fold", 1.0)
    assert f"{after.module.config.vocabulary:,} of 49,408 token rows" in "\n".join(after.report.lines())
    assert not before.module.config.folded  # it stays as it was
    assert before.module.config.vocabulary == VOCABULARY_SIZE


@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize(
    ("kind", "mean"),
    [
        ("int8", 0.999),
        ("int8-weight-only", 0.9998),
        ("int4", 0.98),
        ("int4-weight-only", 0.98),
        ("fp16", 0.999999),
        ("bf16", 0.9999),
    ],
)
def test_quantized_students_are_smaller_and_close(padding: str, kind: str, mean: float) -> None:
    before = student(padding)
    after = compress(before, PHRASES, quantize=kind, calibrated=100, check=150)
    report, calibrated = after.report, kind in {"int8", "int4"}
    assert mean <= report.fidelity.mean < 1
    assert report.fidelity.min > 0.9
    assert report.steps[1].bytes < report.steps[0].bytes / 1.9
    assert (report.calibrated, report.fidelity.phrases) == (100 if calibrated else 0, 150)
    folded = compress(before, PHRASES, fold=True, check=9)
    assert equal(after.module, compress(folded, PHRASES, quantize=kind, calibrated=100, check=9).module)


def test_all_steps_one_after_another(tmp_path: Path) -> None:
    """As methods, as options, and from the file: the same student, compared with the one that went in."""
    before = student()
    after = Student.of(before).prune(PHRASES).fold().low_rank(24).quantize("int4")
    assert [step.name for step in after.report.steps] == ["input", "prune", "fold", "low rank 24", "int4"]
    sizes = [step.bytes for step in after.report.steps]
    assert sizes == sorted(sizes, reverse=True)
    assert after.report.fidelity.mean > 0.9
    at_once = compress(before, PHRASES, prune=True, fold=True, low_rank=24, quantize="int4")
    assert equal(at_once.module, after.module)
    after.save(tmp_path / "small.safetensors")
    loaded = load_encoder(tmp_path / "small.safetensors", device="cpu")
    assert isinstance(loaded, StudentEncoder)
    assert equal(loaded.module, after.module)
    assert loaded.encode(["xylophone"]).values.isfinite().all()
    origin = read_origin(str(tmp_path / "small.safetensors"))
    assert origin is not None
    assert (origin.name, origin.fingerprint) == ("tiny", fingerprint_encoder(before))
    assert origin.fidelity == after.report.fidelity


def test_an_origin_that_makes_no_sense(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    for origin in ("{", "[]", '{"name": 3}'):
        save_file({"x": torch.zeros(1)}, path, {"origin": origin})
        with pytest.raises(EncoderError, match="origin"):
            read_origin(str(path))
    assert read_origin(str(tmp_path / "missing.safetensors")) is None
    save_file({"x": torch.zeros(1)}, path)
    assert read_origin(str(path)) is None


def test_halves_stay_halves(tmp_path: Path) -> None:
    before = student()
    before.module.half()
    after = compress(before, PHRASES[:50], prune=True, fold=True, low_rank=16)
    after.save(tmp_path / "low.safetensors")
    with safe_open(tmp_path / "low.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert after.report.steps[2].bytes < after.report.steps[1].bytes
    assert after.report.steps[2].fidelity is not None
    assert 0 < after.report.steps[2].fidelity.largest < 0.1


def test_a_released_student_as_it_is_read(tmp_path: Path) -> None:
    """Its 77 rows of positions become those that are read."""
    source = save_pt(UpstreamStudent.make(TINY).upstream(), tmp_path / "s0_ctx16.pt")
    module = load_stored_student(source, positions="slice", context_length=16)
    after = compress(StudentEncoder(module, "s0"), PHRASES[:50], prune=True, fold=True)
    assert after.report.fidelity.largest < 1e-4
    after.save(tmp_path / "small.safetensors")
    loaded, before = (
        load_encoder(tmp_path / "small.safetensors"),
        load_encoder(source, positions="slice", context_length=16),
    )
    assert loaded.context_length == 16
    values = [encoder.encode(PHRASES[:9]).values for encoder in (loaded, before)]
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)


def test_phrases_to_calibrate_and_to_compare() -> None:
    before = student()
    for count, calibrated, compared in ((300, 100, 50), (120, 70, 50), (5, 3, 2)):
        report = compress(before, PHRASES[:count], quantize="int8", calibrated=100, check=50).report
        assert (report.calibrated, report.fidelity.phrases) == (calibrated, compared)
    report = compress(before, ["dog"], quantize="int8").report
    assert (report.calibrated, report.fidelity.phrases) == (1, 1)


def test_which_phrases_are_drawn_does_not_depend_on_their_order() -> None:
    assert draw_texts(PHRASES[::-1], 7) == draw_texts(PHRASES, 7)
    assert sorted(draw_texts(PHRASES, 1000)) == sorted(PHRASES)
    with pytest.raises(OptionError, match="0 phrases"):
        draw_texts(PHRASES, 0)


def test_phrases_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("white dog\nred car\n", encoding="utf-8")
    first = Student.of(student()).prune(str(tmp_path / "prompts.txt"))
    second = first.fold()  # on the same phrases
    assert (first.report.fidelity.phrases, second.report.fidelity.phrases) == (2, 2)
    with pytest.raises(PromptError):
        first.fold([])


def test_pruned_again_it_keeps_the_tokens_that_it_gave() -> None:
    once = compress(student(), PHRASES[:90], prune=True)
    texts = [*PHRASES[:9], "zyzzyva"]  # in pieces, of which each student knows the single letters
    twice = compress(once, texts, prune=True)
    assert twice.report.fidelity.largest == 0
    assert twice.module.config.vocabulary < once.module.config.vocabulary
    assert "zyzzyva" not in PHRASES[:90]
    torch.testing.assert_close(*(one.encode(texts).values for one in (once, twice)), rtol=0, atol=0, equal_nan=True)


def test_refused() -> None:
    before, small = student(), compress(student(), PHRASES[:9], prune=True, quantize="int8")
    for options, fact in (
        ({}, "nothing to do"),
        ({"quantize": "int7"}, "int7"),
        ({"fold": True, "check": 0}, "0 phrases"),
        ({"low_rank": 32}, "rank of 32"),
        ({"low_rank": 0}, "rank of 0"),
        ({"low_rank": 1.5}, "rank of 1.5"),
    ):
        with pytest.raises(OptionError, match=fact):
            compress(before, PHRASES, **options)
    with pytest.raises(EncoderError, match="int8 weights"):
        compress(small, fold=True)
    with pytest.raises(EncoderError, match="not a student"):
        compress(load_encoder("micro"), PHRASES, fold=True)  # type: ignore[arg-type]
    with torch.no_grad():
        before.module.projector.bias[0] = 1e6
    with pytest.raises(EncoderError, match=r"projector.bias.*float16"):
        compress(before, PHRASES, quantize="fp16")
