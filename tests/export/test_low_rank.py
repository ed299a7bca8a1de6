"""Token tables of low rank: where they lose, and that they do not lose where the prompts are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from litetext.checkpoints.load import load_stored_student  # noqa: E402
from litetext.checkpoints.summary import summarize_checkpoint  # noqa: E402
from litetext.encoders.config import StudentConfig  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.compress_io import StudentFiles  # noqa: E402
from litetext.export.low_rank import (  # noqa: E402
    UNSEEN,
    LowRankOptions,
    choose_rank,
    count_rows,
    factorized,
    lower_rank,
    share_kept,
    whole_table,
)
from litetext.export.prune import prune_checkpoint  # noqa: E402
from litetext.prompts.corpus import Prompt, PromptCorpus  # noqa: E402
from litetext.tokenizer.bpe import clip_tokenizer  # noqa: E402
from litetext.tokenizer.vocabulary import END_ID, START_ID  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.export.students import student_file  # noqa: E402

pytestmark = pytest.mark.torch
CORPUS = PromptCorpus.build([Prompt("white dog", 3), Prompt("red dog"), Prompt("a small house", 2)])


def test_rows_are_counted_as_often_as_they_are_read() -> None:
    dog = int(clip_tokenizer().encode(["dog"]).ids[1])
    counts = count_rows(StudentConfig.of("tiny", padding="masked"), CORPUS)
    assert (counts[dog], counts[START_ID], counts[END_ID], counts.sum()) == (4, 6, 6, 3 * 4 + 4 + 2 * 5)
    attended = count_rows(StudentConfig.of("tiny", padding="attended"), CORPUS)
    assert attended.sum() == 6 * 16  # padding is read as well
    assert attended[dog] == 4
    short = count_rows(StudentConfig.of("tiny", 3, padding="masked"), CORPUS)
    assert (short[dog], short.sum()) == (0, 6 * 3)  # cut off, and so never read


def test_the_smallest_rank_that_keeps_a_share() -> None:
    variances = np.array([6.0, 3.0, 0.9, 0.1, 0.0])
    assert [choose_rank(variances, share) for share in (0.1, 0.6, 0.61, 0.9, 0.99, 1.0)] == [1, 1, 2, 2, 3, 4]
    assert share_kept(variances, 2) == pytest.approx(0.9)
    assert share_kept(np.zeros(3), 1) == 1


def test_what_prompts_need_is_kept_better(tmp_path: Path) -> None:
    source = student_file(tmp_path)
    student = load_stored_student(source)
    table, counts = whole_table(student), count_rows(student.config, CORPUS)
    weights = torch.from_numpy(np.maximum(counts, UNSEEN))

    def error(smaller: Any) -> float:
        return float(((whole_table(smaller) - table).square().sum(1) * weights).sum())

    assert error(factorized(student, 8, weights)) <= error(factorized(student, 8)) * 1.000001
    done = lower_rank(StudentFiles(str(source), tmp_path / "low.safetensors"), CORPUS, LowRankOptions(8))
    total = float((table.square().sum(1) * weights).sum())
    assert done.share == pytest.approx(1 - error(factorized(student, 8, weights)) / total, abs=1e-6)
    plain = (whole_table(factorized(student, 8, weights)) - table).square().sum() / table.square().sum()
    assert done.plain_share == pytest.approx(1 - float(plain), abs=1e-5)
    assert done.reduction.fidelity.phrases == 3


@pytest.mark.parametrize(("padding", "changes"), [("masked", {"folded": True}), ("attended", {}), ("masked", {})])
def test_the_rank_is_chosen(tmp_path: Path, padding: str, changes: dict[str, Any]) -> None:
    source, target = student_file(tmp_path, padding, **changes), tmp_path / "low.safetensors"
    done = lower_rank(StudentFiles(str(source), target), CORPUS, LowRankOptions(share=0.7))
    found = summarize_checkpoint(str(target))
    assert (found.rank, found.faults) == (done.rank, "")
    assert done.rank < done.width == 32
    assert done.share >= 0.7
    assert done.reduction.bytes[1] < done.reduction.bytes[0]
    assert done.to_json()["fidelity"]["mean"] == done.reduction.fidelity.mean
    assert done.lines()[1].startswith(f"rank {done.rank} of 32: ")


def test_a_table_of_that_rank_is_kept_as_it_is(tmp_path: Path) -> None:
    """From a whole table that is of rank 5 nothing is lost; from a factorized one a lower rank can be made."""
    student = tiny_student("masked", rank=5)
    lower = factorized(student, 3)
    assert lower.config.rank == 3
    variances = torch.linalg.svdvals(whole_table(student)).square()
    lost = (whole_table(lower) - whole_table(student)).square().sum()
    torch.testing.assert_close(lost.float(), variances[3:].sum().float(), rtol=1e-3, atol=1e-4)
    assert lower.token_table.weight.dtype == torch.float32


def test_a_pruned_student_in_halves(tmp_path: Path) -> None:
    source, pruned = student_file(tmp_path, number=torch.float16), tmp_path / "pruned.safetensors"
    prune_checkpoint(str(source), CORPUS.texts, pruned)
    done = lower_rank(StudentFiles(str(pruned), tmp_path / "low.safetensors"), CORPUS, LowRankOptions(16))
    found = summarize_checkpoint(done.reduction.target)
    assert (found.rank, found.is_pruned, list(found.dtypes)) == (16, True, ["float16"])


def test_refused(tmp_path: Path) -> None:
    source, target = student_file(tmp_path), tmp_path / "low.safetensors"
    files = StudentFiles(str(source), target)
    with pytest.raises(
        OptionError, match=r"a rank of 32 saves nothing of a token table \[49408, 32\]; give at most 31"
    ):
        lower_rank(files, CORPUS, LowRankOptions(32))
    assert not target.exists()
    lower_rank(files, CORPUS, LowRankOptions(4))
    with pytest.raises(EncoderError, match="its token table is of rank 4 already"):
        lower_rank(StudentFiles(str(target), tmp_path / "x.safetensors"), CORPUS, LowRankOptions(4))
    for options in ({"rank": 0}, {"share": 0.0}, {"share": 1.1}, {"check": 0}):
        with pytest.raises(OptionError):
            LowRankOptions(**options)  # type: ignore[arg-type]
