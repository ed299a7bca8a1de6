"""Where a training starts from, what its optimizer and average do, and that no row of the token table is lost."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from torch.optim.swa_utils import AveragedModel  # noqa: E402

from litetext.checkpoints.load import read_student_tensors  # noqa: E402
from litetext.distillation.recipe import DistillRecipe  # noqa: E402
from litetext.distillation.state import (  # noqa: E402
    ema_update,
    make_optimizer,
    prune_table,
    restore_table,
    start_student,
    start_tokens,
)
from litetext.encoders.encoder import prepare_rows  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.features.protocol import TextFeatures  # noqa: E402
from litetext.tokenizer.bpe import clip_tokenizer  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.encoders.synthetic import TINY, TINY_TEACHER, Student, Teacher, every_format  # noqa: E402

pytestmark = pytest.mark.torch
SIZES = {"vocabulary": 49_408, "width": 16, "rank": 2, "output": 8, "encoder_blocks": 1}


@pytest.fixture(scope="module")
def mobileclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Apple's file, with 77 rows of positions and no projector."""
    formats = every_format(Student.make(TINY), Teacher.make(TINY_TEACHER))
    return formats["mobileclip"](tmp_path_factory.mktemp("apple"))


def test_from_a_mobileclip_all_but_the_projector_is_taken(mobileclip: Path) -> None:
    recipe = DistillRecipe(preset="tiny", init=str(mobileclip))
    student, given = start_student(recipe, 8), read_student_tensors(mobileclip)[1]
    fresh = start_student(DistillRecipe(preset="tiny"), 8).state_dict()
    assert len(given["positions"]) == 77
    for name, tensor in student.state_dict().items():
        expected = fresh[name] if name.startswith("projector") else given[name]
        assert torch.equal(tensor, expected[:16].float() if name == "positions" else expected), name
    stretched = start_student(DistillRecipe(preset="tiny", init=str(mobileclip), positions="interpolate"), 8)
    assert not torch.equal(stretched.positions, student.positions)


def test_a_whole_table_becomes_the_nearest_of_a_rank(mobileclip: Path) -> None:
    student = start_student(DistillRecipe(preset="tiny", rank=4, init=str(mobileclip)), 8)
    whole = read_student_tensors(mobileclip)[1]["token_table.weight"].float()
    left = (student.token_table(torch.arange(len(whole))) - whole).square().sum()
    assert left.item() == pytest.approx(torch.linalg.svdvals(whole)[4:].square().sum().item(), rel=1e-3)


def test_other_sizes_are_refused(mobileclip: Path) -> None:
    with pytest.raises(EncoderError, match=r"tiny .* micro-s"):
        start_student(DistillRecipe(preset="micro-s", init=str(mobileclip)), 8)


@pytest.mark.parametrize("padding", ["masked", "attended"])
def test_a_pruned_table_changes_no_features_and_is_restored(padding: str) -> None:
    start = tiny_student(padding, **SIZES)
    texts = ["red dog", "the man to the left of the old tree"]
    pruned = prune_table(start, texts)
    assert pruned.config.vocabulary == len(pruned.token_table.weight) < 1000
    found, expected = (StudentEncoder(student, "").encode(texts).values for student in (pruned, start))
    assert torch.equal(found, expected)
    before = start.token_table.weight.clone()
    with torch.no_grad():
        pruned.token_table.weight += 1
        pruned.projector.bias += 1
    restored = restore_table(pruned, start)
    assert restored.config == start.config
    assert torch.equal(restored.projector.bias, start.projector.bias + 1)
    moved = restored.token_table.weight - before
    assert (moved != 0).all(dim=1).sum() == pruned.config.vocabulary
    assert torch.equal(start.token_table.weight, before)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_is_exponential_and_has_running_statistics(decay: float) -> None:
    student = tiny_student("masked", **SIZES)
    averaged = AveragedModel(student, multi_avg_fn=ema_update(decay), use_buffers=True)
    bias, mean = student.projector.bias, student.blocks[0].mixer_norm.running_mean
    expected, expected_mean = bias.detach().clone(), mean.clone()
    for step in range(4):
        with torch.no_grad():
            bias += 1
            mean += 2
        averaged.update_parameters(student)
        used = min(decay, (1 + step) / (10 + step)) if step else 0.0  # the first weights are copied
        expected.lerp_(bias.detach(), 1 - used)
        expected_mean.lerp_(mean, 1 - used)
    torch.testing.assert_close(averaged.module.projector.bias.detach(), expected)
    torch.testing.assert_close(averaged.module.blocks[0].mixer_norm.running_mean, expected_mean)


def test_what_decays() -> None:
    student = tiny_student("masked", **SIZES)
    groups = make_optimizer(student, DistillRecipe(weight_decay=0.1)).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    by_name = {name: decays[id(parameter)] for name, parameter in student.named_parameters()}
    assert {name for name, decay in by_name.items() if decay == 0} == {
        name for name in by_name if name.endswith(("bias", "norm.weight", "scale", "skip.weight"))
    } | {"token_table.weight", "token_table.up.weight", "positions"}
    assert by_name["blocks.0.mixer_conv.weight"] == by_name["blocks.1.qkv.weight"] == by_name["projector.weight"] == 0.1


class Meanings:
    """A teacher's features that say what each word means, and a little of how it is spelled."""

    width = 8
    words: ClassVar = {"dog": 0, "hound": 0, "cup": 1, "mug": 1, "red": 2}

    def features(self, texts: Sequence[str]) -> TextFeatures:
        tokens = prepare_rows(texts, DistillRecipe(preset="tiny").student_config(self.width))
        values = np.broadcast_to(0.01 * np.sin(tokens.ids)[..., None], (*tokens.ids.shape, self.width)).copy()
        for word, place in self.words.items():
            values[tokens.ids == token_of(word), place] += 1
        return TextFeatures(torch.from_numpy(values).float(), torch.from_numpy(tokens.mask))


def token_of(word: str) -> int:
    return int(clip_tokenizer().encode([word]).ids[1])


def test_words_that_mean_the_same_to_the_teacher_begin_side_by_side() -> None:
    student = start_student(DistillRecipe(preset="tiny", rank=3), 8)
    unseen = student.token_table.weight[5000].clone()
    start_tokens(student, Meanings(), ["dog", "hound", "cup", "mug", "red dog", "red cup"])  # type: ignore[arg-type]
    table = student.token_table.weight.detach()
    rows = {word: table[token_of(word)] for word in Meanings.words}

    def alike(first: torch.Tensor, second: torch.Tensor) -> float:
        return float(torch.cosine_similarity(first, second, dim=0))

    assert min(alike(rows["dog"], rows["hound"]), alike(rows["cup"], rows["mug"])) > 0.99
    assert max(alike(rows["dog"], rows["cup"]), alike(rows["dog"], rows["red"])) < 0.9
    assert torch.equal(table[5000], unseen)  # random as before
    seen = torch.stack(list(rows.values()))
    assert 0.5 < float(seen.std() / table.std()) < 2
