"""Folded students: fewer tensors, the same features, the same number types."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from litetext.export.compress_io import StudentFiles, draw_texts  # noqa: E402
from litetext.export.fold import fold_checkpoint  # noqa: E402

from litetext.checkpoints.load import load_encoder  # noqa: E402
from litetext.checkpoints.summary import summarize_checkpoint  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.prompts.bundled import bundled_corpus  # noqa: E402
from tests.encoders.synthetic import TINY, Student, save_pt  # noqa: E402
from tests.export.students import student_file  # noqa: E402

pytestmark = pytest.mark.torch
PHRASES = draw_texts(bundled_corpus().texts, 100)


@pytest.mark.parametrize(("padding", "changes"), [("masked", {}), ("attended", {}), ("masked", {"rank": 8})])
def test_the_features_are_the_same(tmp_path: Path, padding: str, changes: dict[str, Any]) -> None:
    source, target = student_file(tmp_path, padding, **changes), tmp_path / "folded.safetensors"
    shares: list[float] = []
    done = fold_checkpoint(StudentFiles(str(source), target), PHRASES, shares.append)
    assert done.fidelity.phrases == 100
    assert done.fidelity.largest < 1e-4
    assert done.fidelity.is_close
    assert shares[-1] == 1
    assert done.bytes == (source.stat().st_size, target.stat().st_size)
    assert done.bytes[1] < done.bytes[0]
    assert done.parameters[1] == summarize_checkpoint(str(target)).parameters < done.parameters[0]
    assert done.to_json()["bytes"] == {"before": done.bytes[0], "after": done.bytes[1]}
    assert done.lines()[1] == done.fidelity.line()
    one, other = (load_encoder(path, device="cpu").encode(PHRASES[:9]) for path in (source, target))
    torch.testing.assert_close(one.values, other.values, atol=1e-4, rtol=1e-4)


def test_halves_stay_halves(tmp_path: Path) -> None:
    source, target = student_file(tmp_path, number=torch.float16), tmp_path / "folded.safetensors"
    done = fold_checkpoint(StudentFiles(str(source), target), PHRASES)
    assert summarize_checkpoint(str(target)).dtypes.keys() == {"float16"}
    assert 0 < done.fidelity.largest < 0.1
    assert done.bytes[1] < done.bytes[0]


def test_a_released_student_is_folded_as_it_is_read(tmp_path: Path) -> None:
    """Its 77 rows of positions become those that are read, so that the folded one needs no word on them."""
    source, target = save_pt(Student.make(TINY).upstream(), tmp_path / "s0_ctx16.pt"), tmp_path / "folded.safetensors"
    done = fold_checkpoint(StudentFiles(str(source), target, "slice", 16), PHRASES)
    assert done.fidelity.largest < 1e-4
    found = summarize_checkpoint(str(target))
    assert (found.rows, found.parts["unused_projection"], found.faults) == (16, 0, "")
    with pytest.raises(EncoderError, match="a position table of 77 rows without a context said"):
        fold_checkpoint(StudentFiles(str(source), target), PHRASES)


def test_refused(tmp_path: Path) -> None:
    source, target = student_file(tmp_path), tmp_path / "folded.safetensors"
    with pytest.raises(OptionError, match="the output is the input"):
        fold_checkpoint(StudentFiles(str(source), source), PHRASES)
    with pytest.raises(OptionError, match="no phrases to compare"):
        fold_checkpoint(StudentFiles(str(source), target), [])
    assert not target.exists()
    fold_checkpoint(StudentFiles(str(source), target), PHRASES)
    again = tmp_path / "again.safetensors"
    with pytest.raises(EncoderError, match="folded already"):
        fold_checkpoint(StudentFiles(str(target), again), PHRASES)
    with pytest.raises(EncoderError, match="a teacher, not a student"):
        fold_checkpoint(StudentFiles("micro", again), PHRASES)
    with pytest.raises(EncoderError, match="nowhere"):
        fold_checkpoint(StudentFiles(str(tmp_path / "nowhere"), again), PHRASES)
    assert not again.exists()


def test_which_phrases_are_drawn_does_not_depend_on_their_order() -> None:
    assert draw_texts(PHRASES[::-1], 7) == draw_texts(PHRASES, 7)
    assert sorted(draw_texts(PHRASES, 1000)) == sorted(PHRASES)
    with pytest.raises(OptionError, match="0 phrases"):
        draw_texts(PHRASES, 0)
